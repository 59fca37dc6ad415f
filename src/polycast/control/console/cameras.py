"""The search for cameras in the network: its request and its results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from polycast.control.errors import RequestError

MAXIMUM_HOSTS: Final = 64
"""Addresses of one search."""
MAXIMUM_TEXT: Final = 255
"""Characters of an address, a user or a password: the longest name in the DNS."""


class CameraStreamItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """A stream of a camera."""

    path: Annotated[str, Meta(description="A name for its path.")]
    description: Annotated[str, Meta(description="Name, codec and size.")]
    source: Annotated[str, Meta(description="The `source` of its path, with the credentials of the request.")]


class CameraItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """A camera."""

    address: str
    name: Annotated[str, Meta(description="The name that it reports; empty if unknown.")]
    error: Annotated[str, Meta(description="Why its streams could not be listed; empty if they were.")]
    streams: list[CameraStreamItem]


def read_search(body: Mapping[str, Any]) -> tuple[list[str], str, str]:
    """Return addresses, user and password of a request. Raises RequestError."""
    hosts = body.get("hosts", [])
    if not isinstance(hosts, list) or len(hosts) > MAXIMUM_HOSTS or not all(_is_text(host) and host for host in hosts):
        raise RequestError(400, f"hosts: a list of at most {MAXIMUM_HOSTS} addresses is needed")
    user, password = body.get("user", ""), body.get("password", "")
    for key, value in (("user", user), ("password", password)):
        if not _is_text(value):
            raise RequestError(400, f"{key}: a text of at most {MAXIMUM_TEXT} characters is needed")
    return hosts, user, password


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAXIMUM_TEXT and value.isprintable()
