"""A request as HLS needs it: its address taken apart, and who the client is."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from polycast.config.values import IPNetwork
from polycast.hub.access import PlainCredentials
from polycast.net.address import plain_host
from polycast.wire.hls.directives import NO_DIRECTIVES, DeliveryDirectives, parse_directives
from polycast.wire.hls.resource import Refusal
from polycast.wire.http.message import Request

FILE_SUFFIXES: Final = (".m3u8", ".ts", ".mp4", ".m4s")

# Characters of the longest URL path that is looked at: a path name and a file name are far shorter.
MAXIMUM_PATH: Final = 2048

# Addresses of a chain of proxies that are looked at, from the nearest one on.
MAXIMUM_PROXIES: Final = 32


# Bytes of the longest target that is remembered: a path, a file name, three directives and a token.
REMEMBERED_SIZE: Final = 512

Question = tuple[str, DeliveryDirectives | Refusal]
"""What a muxer is asked for: the name of a file, and for a playlist what it shall have."""


class Target:
    """What a request asks for. One object stands for all requests for the same."""

    __slots__ = ("folder", "path", "query", "question")

    def __init__(self, target: bytes) -> None:
        path, _, query = target.partition(b"?")
        if not path.startswith(b"/"):
            path = _path_of_absolute_form(path)
        if b"%" in path:
            path = unquote_to_bytes(path)
        self.path = path.decode("utf-8", "replace")
        """Decoded, with its leading slash."""
        self.query = query.decode("latin-1")
        self.folder, _, name = self.path.lstrip("/").rpartition("/")
        """The path without the file; for a muxer's file, the name of the stream's path."""
        self.question: Question | None = None
        """None when it is no file of a muxer."""
        if self.folder and name.endswith(FILE_SUFFIXES) and len(self.path) <= MAXIMUM_PATH:
            is_playlist = name.endswith(".m3u8")
            self.question = (name, parse_directives(self.query) if is_playlist else NO_DIRECTIVES)


# All viewers of a stream ask for the same at about the same time.
_remembered_target = lru_cache(maxsize=1024)(Target)


def read_target(target: bytes) -> Target:
    """Return what a request target means."""
    return _remembered_target(target) if len(target) <= REMEMBERED_SIZE else Target(target)


def client_of(request: Request, peer: str, trusted_proxies: Sequence[IPNetwork]) -> str:
    """Return the IP address of the client, as trusted proxies tell it; ``peer`` is where the connection comes from."""
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


def credentials_of(request: Request) -> PlainCredentials:
    """Return user and password of HTTP Basic; empty when there are none."""
    scheme, _, value = request.fields.get(b"authorization", b"").decode("latin-1").partition(" ")
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
