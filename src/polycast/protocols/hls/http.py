"""HTTP as HLS needs it: from an ASGI scope to a request, from a file to a response."""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from polycast.config.values import IPNetwork
from polycast.hub.access import PlainCredentials
from polycast.net.address import plain_host
from polycast.net.http import Scope, Send

# Characters of the longest URL path that is looked at: a path name and a file name are far shorter.
MAXIMUM_PATH: Final = 2048

# Bytes under which compressing a playlist saves nothing.
MINIMUM_GZIP_SIZE: Final = 512

_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)

Header = tuple[bytes, bytes]

IMMUTABLE: Final = "max-age=31536000, immutable"
VOLATILE: Final = "no-cache"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The parts of a request that matter here."""

    method: str
    path: str
    """Decoded, with its leading slash."""
    query: str
    headers: dict[str, str]
    """By lower-case name."""
    address: str
    """IP address of the client, as trusted proxies tell it."""
    peer: str
    """IP address of the connection."""

    @property
    def credentials(self) -> PlainCredentials:
        """User and password of HTTP Basic; empty when there are none."""
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return PlainCredentials()
        try:
            text = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return PlainCredentials()
        user, _, password = text.partition(":")
        return PlainCredentials(user, password)


def parse_request(scope: Scope, trusted_proxies: Sequence[IPNetwork]) -> HttpRequest:
    """Return the request of an ASGI scope."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers[name.decode("latin-1").lower()] = value.decode("latin-1")
    client = scope.get("client")
    peer = plain_host(str(client[0])) if client else "127.0.0.1"
    return HttpRequest(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        address=client_address(peer, headers, trusted_proxies),
        peer=peer,
    )


def client_address(peer: str, headers: dict[str, str], trusted_proxies: Sequence[IPNetwork]) -> str:
    """Return who the client is: the nearest address that is not a trusted proxy."""
    if not trusted_proxies or not _is_trusted(peer, trusted_proxies):
        return peer
    forwarded = [part.strip() for part in headers.get("x-forwarded-for", "").split(",") if part.strip()]
    for address in reversed(forwarded):
        if not _is_address(address):
            return peer
        if not _is_trusted(address, trusted_proxies):
            return address
    if forwarded:
        return forwarded[0]
    real = headers.get("x-real-ip", "").strip()
    return real if _is_address(real) else peer


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_trusted(text: str, networks: Sequence[IPNetwork]) -> bool:
    address = ipaddress.ip_address(text)
    return any(address in network for network in networks)


@dataclass(frozen=True, slots=True)
class HttpFile:
    """Something to answer with."""

    body: bytes
    content_type: str
    cache: str = VOLATILE
    """The Cache-Control header."""
    is_text: bool = False
    """Whether it is worth compressing."""
    headers: Sequence[Header] = field(default=())


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response, whole."""

    status: int
    headers: list[Header]
    body: bytes = b""


def text_response(status: int, text: str, headers: Sequence[Header] = ()) -> HttpResponse:
    """Return a response with one line of text for people."""
    body = f"{text}\n".encode()
    return HttpResponse(
        status,
        [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"), *headers],
        body,
    )


def file_response(file: HttpFile, request: HttpRequest) -> HttpResponse:
    """Return a file: whole, a range of it, or only that it has not changed (RFC 9110 sections 13 and 14)."""
    etag = entity_tag(file.body)
    headers: list[Header] = [
        (b"content-type", file.content_type.encode()),
        (b"cache-control", file.cache.encode()),
        (b"etag", etag),
        (b"accept-ranges", b"bytes"),
        *file.headers,
    ]
    if file.is_text:
        headers.append((b"vary", b"accept-encoding"))
    if _matches(request.headers.get("if-none-match", ""), etag.decode()):
        return HttpResponse(304, headers)
    span = request.headers.get("range")
    if span is not None and request.headers.get("if-range", etag.decode()) == etag.decode():
        found = _parse_range(span, len(file.body))
        if found == (0, 0):
            return HttpResponse(416, [*headers, (b"content-range", b"bytes */%d" % len(file.body))])
        if found is not None:
            start, end = found
            headers.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, len(file.body))))
            return HttpResponse(206, headers, file.body[start:end])
    if file.is_text and len(file.body) >= MINIMUM_GZIP_SIZE and "gzip" in request.headers.get("accept-encoding", ""):
        headers.append((b"content-encoding", b"gzip"))
        return HttpResponse(200, headers, _compress(file.body))
    return HttpResponse(200, headers, file.body)


@lru_cache(maxsize=256)
def _compress(body: bytes) -> bytes:
    return gzip.compress(body, compresslevel=3, mtime=0)


@lru_cache(maxsize=256)
def _digest(body: bytes) -> bytes:
    return b'"%s"' % hashlib.blake2b(body, digest_size=12).hexdigest().encode()


def entity_tag(body: bytes) -> bytes:
    """Return the ETag of a body."""
    # Large bodies are files that never change under their name: their size and ends tell them apart.
    if len(body) > 65_536:
        return _digest(b"%d:" % len(body) + body[:64] + body[-64:])
    return _digest(body)


def _matches(condition: str, etag: str) -> bool:
    if not condition:
        return False
    return condition.strip() == "*" or any(
        candidate.strip().removeprefix("W/") == etag for candidate in condition.split(",")
    )


def _parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Return (start, end) of the one range that is asked for; (0, 0) for an impossible one, None to ignore it."""
    match = _RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        return (size - length, size) if length else (0, 0)
    start = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    return (start, end) if start < size and start < end else (0, 0)


async def send_response(send: Send, response: HttpResponse, *, head: bool = False) -> None:
    """Send a response; without its body for HEAD."""
    headers = [*response.headers, (b"content-length", b"%d" % len(response.body))]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else response.body})
