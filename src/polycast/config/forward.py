"""Forwarding: the servers that the stream of a path is sent to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct

from polycast.config.declarations import destination_kinds
from polycast.config.kinds import URL
from polycast.config.redact import HIDDEN, redact
from polycast.config.spelling import yaml_key
from polycast.config.struct_lists import StructListKind
from polycast.config.urls import split_url, with_examples
from polycast.errors import ConfigurationError

_EXAMPLE: Final = '{"dest": "rtmp://example.com/live#streamKey"}'
PATH_NAME: Final = "$MTX_PATH"
"""Stands for the name of the path in an address."""


class ForwardDestination(Struct, frozen=True, kw_only=True, rename=yaml_key):
    """One server."""

    dest: Annotated[
        str,
        URL,
        Meta(
            description=(
                "Address to publish to. $MTX_PATH in it is the name of the path, $G1, $G2... are the groups of its "
                "regular expression. What follows # in an RTMP address is the stream key, which is never logged."
            )
        ),
    ] = ""
    dest_fingerprint: Annotated[
        str,
        Meta(
            description=(
                "SHA-256 fingerprint (hexadecimal) of the certificate of an encrypted destination. When it is set, "
                "only this certificate is accepted, even if it is self-signed; certificate authorities are ignored."
            )
        ),
    ] = ""
    whip_bearer_token: Annotated[
        str, Meta(description="Bearer token sent to a whip or whips destination instead of user and password.")
    ] = ""

    def __repr__(self) -> str:
        token = HIDDEN if self.whip_bearer_token else ""
        return f"ForwardDestination({without_credentials(self.dest)!r}, {self.dest_fingerprint!r}, {token!r})"


FORWARD: Final = StructListKind(ForwardDestination, lambda _: None, _EXAMPLE)


def without_credentials(dest: str) -> str:
    """Return an address for logs and the API: without user, password, stream key and secrets in the query."""
    scheme, separator, rest = dest.partition("#")[0].partition("://")
    end = next((index for index, character in enumerate(rest) if character in "/?"), len(rest))
    _, _, host = rest[:end].rpartition("@")
    return redact(scheme + separator + host + rest[end:])


def forward_errors(destinations: Sequence[ForwardDestination]) -> Iterator[ConfigurationError]:
    """Yield an error for each destination that cannot work; the texts begin with those of MediaMTX."""
    for number, destination in enumerate(destinations):
        error = _error_of(destination.dest)
        if error:
            yield ConfigurationError(f"invalid 'forward': entry {number}: {error}", ("forward",))


def _error_of(dest: str) -> str:
    if not dest:
        return f"destination is empty (write {_EXAMPLE})"
    parts = split_url(with_examples(dest.replace(PATH_NAME, "path")))
    if parts is None:
        return f"'{without_credentials(dest)}' is not a valid URL (write scheme://host/path)"
    kind = next((kind for kind in destination_kinds() if parts.scheme in kind.schemes), None)
    if kind is None:
        return f"unsupported scheme '{parts.scheme}', supported ones are {_supported()}"
    if bool(parts.username) != bool(parts.password) and not (kind.allows_token and parts.password):
        return "username and password must be both provided (write user:password@ before the host)"
    return ""


def _supported() -> str:
    *schemes, last = sorted(scheme for kind in destination_kinds() for scheme in kind.schemes)
    return f"{', '.join(schemes)} and {last}"
