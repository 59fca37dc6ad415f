"""Parses the requests of an HTTP/1.1 connection (RFC 9112) with httptools, the parser of Node.js."""

from __future__ import annotations

from collections import deque
from typing import Final, NoReturn

import httptools

from polycast.errors import RemoteProtocolError
from polycast.wire.http.message import (
    HEADER_COUNT_LIMIT,
    HEADERS_LIMIT,
    TARGET_LIMIT,
    Header,
    Request,
    is_authority,
)

# Bytes of a head: target, headers, and the syntax around them.
HEAD_LIMIT: Final = TARGET_LIMIT + HEADERS_LIMIT

# Bytes of the syntax around a body (chunk extensions, trailers) without any bytes of the body in between.
SYNTAX_LIMIT: Final = HEADERS_LIMIT

_TLS_HANDSHAKE: Final = 0x16  # the first byte of a TLS record with a handshake

# Bytes of a read that is cached with its request. Players' requests have a few hundred.
KNOWN_SIZE: Final = 2 * 1024

# Headers of a request that is cached; browsers send about fifteen.
KNOWN_HEADERS: Final = 32

# Cached requests. Viewers of a stream request a few files at a time, each kind of player with its own headers.
KNOWN_LIMIT: Final = 1024


class RequestCache:
    """Requests by the bytes in which they were received: viewers of a stream send the same ones, which are parsed once
    for all of them. Shared by the connections of a server. Requests with credentials are not cached.
    """

    __slots__ = ("by_bytes",)

    def __init__(self) -> None:
        self.by_bytes: dict[bytes, tuple[Request, bool]] = {}
        """Each is a whole request without a body, and True: its connection is kept alive."""

    def keep(self, data: bytes, event: tuple[Request, bool]) -> None:
        """Cache a read that contained exactly one request."""
        request = event[0]
        if len(data) > KNOWN_SIZE or len(request.headers) > KNOWN_HEADERS or request.has_secrets or request.body:
            return
        if len(self.by_bytes) >= KNOWN_LIMIT:
            self.by_bytes.clear()  # what is still requested is cached again at the next request
        self.by_bytes[data] = event


class _Message:
    """A request that is being received."""

    __slots__ = ("body", "headers", "request", "size", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[Header] = []
        self.request: Request | None = None
        """Set when the head is complete and the body is being received."""
        self.body = bytearray()
        self.size = 0
        """Bytes of the reads since the one in which it started, or since the last byte of its body."""


class RequestReader:
    """Parses one request after the other, until the last one of the connection."""

    __slots__ = (
        "_body_limit",
        "_known",
        "_message",
        "_parser",
        "_refusal",
        "error",
        "events",
        "has_ended",
        "is_incomplete",
        "wants_continue",
    )

    def __init__(self, known: RequestCache, body_limit: int) -> None:
        self._known = known
        self._body_limit = body_limit
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self.events: deque[tuple[Request, bool]] = deque()
        """Whole requests, each with whether the connection is kept alive after it."""
        self.has_ended = False
        """Whether the last request was received: everything after it is ignored."""
        self.is_incomplete = False
        """Whether a request has been received in part."""
        self.wants_continue = False
        """Whether the client waits for 100 (Continue) before it sends the body of the request (RFC 9110 section
        10.1.1)."""
        self.error: tuple[str, int] | None = None
        """The error that ended reading, and the status for it."""
        self._refusal: tuple[str, int] | None = None
        """The same, while httptools passes it on."""
        self._message = _Message()

    def receive_data(self, data: bytes) -> None:
        """Process the data of one read. Raises RemoteProtocolError, and again whenever more is received."""
        if self.is_incomplete or self.has_ended:
            self._receive(data)
            return
        event = self._known.by_bytes.get(data)
        if event is not None:  # the parser is between two requests, and would be again after this one
            self.events.append(event)
            return
        waiting = len(self.events)
        self._receive(data)
        if len(self.events) == waiting + 1 and not (self.is_incomplete or self.has_ended):
            self._known.keep(data, self.events[-1])

    def _receive(self, data: bytes) -> None:
        if self.error is not None:
            raise RemoteProtocolError(*self.error)
        if len(data) <= HEAD_LIMIT:
            self._feed(data)
            return
        for start in range(0, len(data), HEAD_LIMIT):
            self._feed(data[start : start + HEAD_LIMIT])

    def _feed(self, data: bytes) -> None:
        if self.has_ended:
            return
        self._message.size += len(data)
        is_first = not self.is_incomplete
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            if not self.has_ended:
                is_tls = is_first and data[0] == _TLS_HANDSHAKE
                problem = (
                    "the peer speaks TLS, but this port is not encrypted" if is_tls else f"not an HTTP request: {error}"
                )
                raise self.fail(*(self._refusal or (problem, 400))) from None
        message = self._message
        if self.is_incomplete and message.size > (HEAD_LIMIT if message.request is None else SYNTAX_LIMIT + HEAD_LIMIT):
            raise self.fail(*_too_long(message.target))

    def _parse(self, data: bytes) -> None:
        while data and self._parser is not None:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]  # continue with HTTP/1.1, as a server may (RFC 9110 section 7.8)
            else:
                return

    def fail(self, reason: str, status: int) -> RemoteProtocolError:
        """End reading with an error, and return it."""
        self.error = (reason, status)
        self.end()
        return RemoteProtocolError(reason, status)

    def end(self) -> None:
        """Accept no more requests."""
        self.has_ended = True
        self.is_incomplete = self.wants_continue = False
        self._message = _Message()

    def release(self) -> None:
        """Release memory: the connection is over."""
        self.end()
        self.events.clear()
        self._parser = None  # which refers to this object

    @property
    def held_size(self) -> int:
        """Number of bytes held of an incomplete request."""
        return len(self._message.body) + (self._message.size if self.is_incomplete else 0)

    # Callbacks of httptools.

    def on_message_begin(self) -> None:
        self.is_incomplete = not self.has_ended
        self._message = _Message()

    def on_url(self, url: bytes) -> None:
        self._message.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_incomplete or self._message.request is not None:  # ignored, or a trailer
            return
        headers = self._message.headers
        headers.append((name.lower(), value))
        if len(headers) > HEADER_COUNT_LIMIT:
            self._refuse(*_too_long(self._message.target))

    def on_headers_complete(self) -> None:
        if not self.is_incomplete or self._parser is None:
            return
        if len(self._message.target) > TARGET_LIMIT:
            self._refuse(*_too_long(self._message.target))
        request = Request(0, self._parser.get_method().decode("latin-1"), self._message.target, self._message.headers)
        version = self._parser.get_http_version()
        self._check(request, version)
        fields = request.fields
        length = fields.get(b"content-length", b"0").strip().lstrip(b"0") or b"0"
        if request.method == "CONNECT":
            self._give_up(request)
        elif length == b"0" and b"transfer-encoding" not in fields:
            # HTTP/1.0 connections could only be kept alive with an explicit header, which no player needs.
            self._complete(request, keeps_alive=version == "1.1" and self._parser.should_keep_alive())
        elif len(length) > len(str(self._body_limit)) or int(length) > self._body_limit:
            request.is_truncated = True
            self._give_up(request)
        else:
            self._message.request = request
            self._message.size = 0
            self.wants_continue = version == "1.1" and fields.get(b"expect", b"").lower() == b"100-continue"

    def _check(self, request: Request, version: str) -> None:
        fields = request.fields
        if request.target.startswith((b"rtsp://", b"rtsps://")):  # the parser also knows RTSP
            self._refuse("the peer speaks RTSP, but this is an HTTP port; that of RTSP is usually 8554", 505)
        if version != "1.1":
            if version != "1.0":
                self._refuse(f"HTTP version {version}", 505)
        elif b"host" not in fields:  # RFC 9112 section 3.2
            self._refuse("a request without a Host header", 400)
        if len(fields) != len(request.headers) and sum(name == b"host" for name, _ in request.headers) > 1:
            self._refuse("a request with several Host headers", 400)
        if not is_authority(fields.get(b"host", b"")):
            self._refuse("a request with an invalid Host header", 400)

    def on_body(self, body: bytes) -> None:
        request = self._message.request
        if request is None:
            return
        self._message.size = 0
        self._message.body += body
        if len(self._message.body) > self._body_limit:
            request.is_truncated = True
            self._give_up(request)

    def on_message_complete(self) -> None:
        request = self._message.request
        if request is not None and self._parser is not None:
            request.body = bytes(self._message.body)
            self._complete(
                request, keeps_alive=self._parser.get_http_version() == "1.1" and self._parser.should_keep_alive()
            )

    def _complete(self, request: Request, *, keeps_alive: bool) -> None:
        self.is_incomplete = self.wants_continue = False
        self._message = _Message()
        if not keeps_alive:
            self.has_ended = True
        self.events.append((request, keeps_alive))

    def _give_up(self, request: Request) -> None:
        """Answer a request without reading the rest of its body."""
        self._complete(request, keeps_alive=False)

    def _refuse(self, reason: str, status: int) -> NoReturn:
        self._refusal = (reason, status)
        raise RemoteProtocolError(reason, status)


def _too_long(target: bytes) -> tuple[str, int]:
    if len(target) > TARGET_LIMIT:
        return f"a request target longer than {TARGET_LIMIT} bytes", 414
    return "the headers of a request are too long", 431
