"""RTSP tunnelled over HTTP (QuickTime's form) and over WebSocket (ONVIF Streaming Specification section 5.1.1.6).

Over HTTP, a client opens two connections that have the same ``x-sessioncookie``: on that of a GET request it receives,
as the body of an endless response, and on that of a POST request it sends, in base64. There is no other framing. It may
close the POST connection and open another. Over WebSocket, binary messages carry the bytes of both directions.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.http.head import Head
from polycast.wire.http.websocket import accept_key, is_key

MEDIA_TYPE: Final = "application/x-rtsp-tunnelled"
SUBPROTOCOL: Final = "rtsp.onvif.org"

COOKIE_LIMIT: Final = 256
"""Bytes of the cookie; QuickTime's and live555's have 22, those of others are UUIDs."""

POST_LENGTH: Final = 32_767
"""The Content-Length of a POST request whose end is not known, as QuickTime sends it."""

_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/=]")
_BLANKS: Final = b" \t\r\n"
_PADDING: Final = re.compile(rb"=+")

_REASONS: Final = {
    400: "Bad Request",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}

_ADVICE: Final = (
    "This is the port of an RTSP server. Open it with a player, as rtsp://host:port/path, or as a tunnel:\n"
    "RTSP over HTTP (GET and POST with an x-sessioncookie), or over WebSocket (sub-protocol rtsp.onvif.org).\n"
)


@dataclass(frozen=True, slots=True)
class Download:
    """The GET request of a tunnel over HTTP: its connection carries what the server sends."""

    cookie: str
    response: bytes


@dataclass(frozen=True, slots=True)
class Upload:
    """The POST request of a tunnel over HTTP: its connection carries what the client sends."""

    cookie: str
    response: bytes


@dataclass(frozen=True, slots=True)
class WebSocket:
    """The upgrade to a tunnel over WebSocket."""

    response: bytes


def read_request(head: Head) -> Download | Upload | WebSocket:
    """Return what an HTTP request on an RTSP port means.

    Raises RemoteProtocolError (400) if it is no tunnel, or an invalid one.
    """
    fields = head.fields
    if head.method == "GET" and fields.get("upgrade", "").lower() == "websocket":
        return _read_upgrade(head)
    cookie = fields.get("x-sessioncookie")
    if cookie is None or head.method not in ("GET", "POST"):
        raise RemoteProtocolError("HTTP request on the RTSP port")
    if not cookie or len(cookie) > COOKIE_LIMIT:
        raise RemoteProtocolError(f"the x-sessioncookie of a tunnel must have 1 to {COOKIE_LIMIT} bytes")
    # The response to POST has no use in QuickTime's protocol; gortsplib waits for it, others never read it.
    response = (
        f"HTTP/{head.version} 200 OK\r\nServer: polycast\r\nConnection: close\r\nCache-Control: no-store\r\n"
        f"Pragma: no-cache\r\nContent-Type: {MEDIA_TYPE}\r\n\r\n"
    ).encode()
    return Download(cookie, response) if head.method == "GET" else Upload(cookie, response)


def _read_upgrade(head: Head) -> WebSocket:
    fields = head.fields
    key = fields.get("sec-websocket-key", "")
    if "upgrade" not in [word.lower() for word in head.words("connection")] or not is_key(key):
        raise RemoteProtocolError("invalid WebSocket upgrade")
    if fields.get("sec-websocket-version") != "13":
        raise RemoteProtocolError("unsupported version of WebSocket")
    if SUBPROTOCOL not in head.words("sec-websocket-protocol"):
        raise RemoteProtocolError(f"WebSocket without the sub-protocol {SUBPROTOCOL}")
    return WebSocket(
        (
            "HTTP/1.1 101 Switching Protocols\r\nServer: polycast\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept_key(key)}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
        ).encode()
    )


def refusal(status: int) -> bytes:
    """Return the response to an HTTP request that is no tunnel."""
    body = _ADVICE.encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS.get(status, _REASONS[400])}\r\nServer: polycast\r\nConnection: close\r\n"
        f"Sec-WebSocket-Version: 13\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


# The client's side


def _request(method: str, target: str, host: str, cookie: str, authorization: str | None, more: str) -> bytes:
    proof = f"Authorization: {authorization}\r\n" if authorization is not None else ""
    return (
        f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: polycast\r\nx-sessioncookie: {cookie}\r\n{proof}"
        f"Pragma: no-cache\r\nCache-Control: no-cache\r\n{more}\r\n"
    ).encode()


def download_request(target: str, host: str, cookie: str, authorization: str | None = None) -> bytes:
    """Return the GET request that opens a tunnel. ``host``: of the Host header, with the port."""
    return _request("GET", target, host, cookie, authorization, f"Accept: {MEDIA_TYPE}\r\n")


def upload_request(target: str, host: str, cookie: str, authorization: str | None = None) -> bytes:
    """Return the POST request that goes with a GET request."""
    # QuickTime's date, so that no proxy caches anything.
    more = f"Content-Type: {MEDIA_TYPE}\r\nContent-Length: {POST_LENGTH}\r\nExpires: Sun, 9 Jan 1972 00:00:00 GMT\r\n"
    return _request("POST", target, host, cookie, authorization, more)


def upgrade_request(target: str, host: str, key: str, authorization: str | None = None) -> bytes:
    """Return the request that opens a tunnel over WebSocket. ``key``: 16 random bytes in base64."""
    proof = f"Authorization: {authorization}\r\n" if authorization is not None else ""
    return (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: polycast\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n{proof}\r\n"
    ).encode()


def check_upgraded(head: Head, key: str) -> None:
    """Raise RemoteProtocolError unless a response with status 101 accepts the upgrade with this key."""
    fields = head.fields
    if fields.get("upgrade", "").lower() != "websocket" or fields.get("sec-websocket-accept") != accept_key(key):
        raise RemoteProtocolError("the server does not accept WebSocket")
    # Some servers accept the sub-protocol without naming it.
    if fields.get("sec-websocket-protocol", SUBPROTOCOL) != SUBPROTOCOL or "sec-websocket-extensions" in fields:
        raise RemoteProtocolError("the server chose a WebSocket protocol that was not offered")


# The bytes that a client sends over HTTP


def encode(data: bytes) -> bytes:
    """Return ``data`` in base64 for the POST connection."""
    return base64.b64encode(data)


class Base64Stream:
    """Decodes the base64 of a POST connection, cut anywhere: clients encode each message by itself, with padding or
    without line ends between them."""

    def __init__(self) -> None:
        self._left = b""
        """Up to three characters of an incomplete group."""

    @property
    def held_size(self) -> int:
        """Number of received bytes that are not decoded yet."""
        return len(self._left)

    def receive_data(self, data: bytes) -> bytes:
        """Return the bytes that are complete. Raises RemoteProtocolError (400) for anything but base64."""
        data = self._left + data.translate(None, _BLANKS)
        self._left = b""
        if _NOT_BASE64.search(data):
            raise RemoteProtocolError("the tunnel's POST request carries something other than base64")
        if b"=" not in data:
            return self._decode(data)
        found: list[bytes] = []
        start = 0
        for padding in _PADDING.finditer(data):
            # The padding completes a group of four; if it is cut, the rest of it follows with the next data.
            group_end = padding.start() + -(padding.start() - start) % 4
            if padding.end() < group_end and padding.end() == len(data):
                break
            if padding.end() != group_end or padding.end() - padding.start() > 2:
                raise RemoteProtocolError("invalid padding in the base64 of the tunnel's POST request")
            found.append(_decode_whole(data[start:group_end]))
            start = group_end
        found.append(self._decode(data[start:]))
        return b"".join(found)

    def _decode(self, data: bytes) -> bytes:
        end = len(data) if b"=" not in data else data.index(b"=")
        end -= end % 4
        self._left = data[end:]
        return _decode_whole(data[:end])


def _decode_whole(data: bytes) -> bytes:
    try:
        return binascii.a2b_base64(data)
    except binascii.Error as error:
        raise RemoteProtocolError(f"invalid base64 in the tunnel's POST request: {error}") from None
