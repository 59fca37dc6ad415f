"""The sender of a request: its address behind proxies, its credentials."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from polycast.net.address import plain_host
from polycast.security.addresses import IPNetwork, is_in_networks
from polycast.security.credentials import parse_basic
from polycast.wire.http.message import Request

# Fields of a query that are examined.
MAXIMUM_FIELDS: Final = 100

# Addresses of a chain of proxies that are examined, from the nearest one on.
MAXIMUM_PROXIES: Final = 32


def client_of(request: Request, peer: str, trusted_proxies: Sequence[IPNetwork]) -> str:
    """Return the client's IP address as forwarded by trusted proxies; ``peer`` is the address of the connection."""
    peer = plain_host(peer)
    if not trusted_proxies:
        return peer
    forwarded = [
        part.strip()
        for name, value in request.headers
        if name == b"x-forwarded-for"
        for part in value.decode("latin-1").split(",")
        if part.strip()
    ]
    real = request.fields.get(b"x-real-ip", b"").decode("latin-1").strip()
    return client_address(peer, forwarded, real, trusted_proxies)


def scheme_of(request: Request, peer: str, trusted_proxies: Sequence[IPNetwork], *, is_encrypted: bool) -> str:
    """Return the scheme of the URL that the client uses, ``http`` or ``https``, as forwarded by a trusted proxy.

    ``is_encrypted`` is that of the connection, whose address is ``peer``.
    """
    forwarded = request.fields.get(b"x-forwarded-proto", b"").decode("latin-1").strip().lower()
    if forwarded in ("http", "https") and is_in_networks(plain_host(peer), trusted_proxies):
        return forwarded
    return "https" if is_encrypted else "http"


def basic_credentials(request: Request) -> tuple[str, str] | None:
    """Return user and password of HTTP Basic (RFC 7617), both empty if they cannot be decoded; None without the
    header."""
    try:
        return parse_basic(request.fields.get(b"authorization", b"").decode("latin-1"))
    except ValueError:
        return "", ""


MAXIMUM_USER_AGENT: Final = 256
"""Characters of a client's name that are kept."""


class HttpCredentials(NamedTuple):
    """The credentials of a request, each empty if it is absent."""

    user: str = ""
    password: str = ""
    token: str = ""
    """A bearer token (RFC 6750)."""


def http_credentials(request: Request) -> HttpCredentials:
    """Return the credentials in the Authorization header: Basic, a bearer token, or ``user:password`` in its place, for
    WHIP clients that only have a field for a token."""
    basic = basic_credentials(request)
    if basic is not None:
        return HttpCredentials(*basic)
    scheme, _, value = request.fields.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer":
        return HttpCredentials()
    user, colon, password = value.strip().decode("utf-8", "replace").partition(":")
    return HttpCredentials(user, password) if colon else HttpCredentials(token=user)


def user_agent_of(request: Request) -> str:
    """Return what a client calls itself; empty if it does not."""
    return request.fields.get(b"user-agent", b"").decode("latin-1")[:MAXIMUM_USER_AGENT]


def client_address(peer: str, forwarded: Sequence[str], real: str, trusted_proxies: Sequence[IPNetwork]) -> str:
    """Return the client's address: the nearest one that is not a trusted proxy's.

    ``peer`` is the connection's address, ``forwarded`` what X-Forwarded-For lists, ``real`` X-Real-IP.
    """
    if not is_in_networks(peer, trusted_proxies):
        return peer
    nearest = peer
    for text in reversed(forwarded[-MAXIMUM_PROXIES:]):
        address = _parse_address(text)
        if address is None:
            return nearest
        if not is_in_networks(address, trusted_proxies):
            return address
        nearest = address
    if forwarded:
        return nearest
    return _parse_address(real) or peer


def _parse_address(text: str) -> str | None:
    host = plain_host(text)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return host


def query_field(query: bytes, name: str) -> str:
    """Return the first value of a field of a query, decoded; empty if there is none. Raises ValueError for too many
    fields."""
    fields = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAXIMUM_FIELDS)
    return next((value for key, value in fields if key == name), "")
