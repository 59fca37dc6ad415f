"""A request as HLS needs it: its address taken apart, and who the client is."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from polycast.config.values import IPNetwork
from polycast.hub.access import PlainCredentials
from polycast.net.address import plain_host
from polycast.wire.http.message import Request

# Addresses of a chain of proxies that are looked at, from the nearest one on.
MAXIMUM_PROXIES: Final = 32


class HttpRequest:
    """The parts of a request that matter here. What few requests need is worked out when it is asked for."""

    __slots__ = ("_fields", "_peer", "_trusted_proxies", "headers", "method", "path", "query", "stream")

    def __init__(self, request: Request, peer: str, trusted_proxies: Sequence[IPNetwork]) -> None:
        """``peer`` is the address that the connection comes from."""
        self._fields = request.headers
        self._peer = peer
        self._trusted_proxies = trusted_proxies
        self.stream = request.stream
        self.method = request.method
        path, _, query = request.target.partition(b"?")
        if not path.startswith(b"/"):
            path = _path_of_absolute_form(path)
        if b"%" in path:
            path = unquote_to_bytes(path)
        self.path = path.decode("utf-8", "replace")
        """Decoded, with its leading slash."""
        self.query = query.decode("latin-1")
        self.headers = request.fields
        """By lower-case name; of several with one name, the last."""

    def header(self, name: bytes) -> str:
        """Return a header's value, empty when there is none."""
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def address(self) -> str:
        """IP address of the client, as trusted proxies tell it."""
        peer = plain_host(self._peer)
        if not self._trusted_proxies:
            return peer
        forwarded = [
            part.strip()
            for name, value in self._fields
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


def _path_of_absolute_form(target: bytes) -> bytes:
    """Return the path of ``http://host/path``, as proxies ask for it (RFC 9112 section 3.2.2); else the target."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return target
    return b"/" + rest.partition(b"/")[2]


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
