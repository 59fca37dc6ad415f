"""A request as HLS needs it: what an ASGI scope tells, and who the client is."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Sequence
from typing import Final

from polycast.config.values import IPNetwork
from polycast.hub.access import PlainCredentials
from polycast.net.address import plain_host
from polycast.net.http import Scope

# Addresses of a chain of proxies that are looked at, from the nearest one on.
MAXIMUM_PROXIES: Final = 32


class HttpRequest:
    """The parts of a request that matter here. What few requests need is worked out when it is asked for."""

    __slots__ = ("_scope", "_trusted_proxies", "headers", "method", "path", "query")

    def __init__(self, scope: Scope, trusted_proxies: Sequence[IPNetwork]) -> None:
        self._scope = scope
        self._trusted_proxies = trusted_proxies
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        """Decoded, with its leading slash."""
        self.query: str = scope["query_string"].decode("latin-1")
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        """By lower-case name; of several with one name, the last."""

    def header(self, name: bytes) -> str:
        """Return a header's value, empty when there is none."""
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def address(self) -> str:
        """IP address of the client, as trusted proxies tell it."""
        client = self._scope.get("client")
        peer = plain_host(str(client[0])) if client else "127.0.0.1"
        if not self._trusted_proxies:
            return peer
        forwarded = [
            part.strip()
            for name, value in self._scope["headers"]
            if name == b"x-forwarded-for"
            for part in value.decode("latin-1").split(",")
            if part.strip()
        ]
        return client_address(peer, forwarded, self.header(b"x-real-ip").strip(), self._trusted_proxies)

    @property
    def credentials(self) -> PlainCredentials:
        """User and password of HTTP Basic; empty when there are none."""
        scheme, _, value = self.header(b"authorization").partition(" ")
        if scheme.lower() != "basic":
            return PlainCredentials()
        try:
            text = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, ValueError):
            return PlainCredentials()
        user, _, password = text.partition(":")
        return PlainCredentials(user, password)


def client_address(peer: str, forwarded: Sequence[str], real: str, trusted_proxies: Sequence[IPNetwork]) -> str:
    """Return who the client is: the nearest address that is not a trusted proxy.

    ``peer`` is the connection's address, ``forwarded`` what X-Forwarded-For lists, ``real`` X-Real-IP.
    """
    if not _is_trusted(peer, trusted_proxies):
        return peer
    nearest = peer
    for text in reversed(forwarded[-MAXIMUM_PROXIES:]):
        address = _parse_address(text)
        if address is None:
            return nearest
        if not _is_trusted(address, trusted_proxies):
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


def _is_trusted(text: str, networks: Sequence[IPNetwork]) -> bool:
    address = ipaddress.ip_address(text)
    return any(address in network for network in networks)
