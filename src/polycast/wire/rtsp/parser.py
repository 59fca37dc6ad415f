"""The incremental parser of an RTSP connection: requests, responses and interleaved frames in one byte stream.

Servers and clients use the same parser (RFC 2326 section 4; interleaved frames: section 10.12).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.interleaved import DOLLAR, HEADER, HEADER_SIZE, InterleavedRun, next_run, uniform_run
from polycast.wire.rtsp.message import VERSION, Headers, Request, Response
from polycast.wire.rtsp.resynchronization import Resynchronizer

# The limits of rtsp-simple-server; the longest values in practice (URLs with tokens, digest headers) are below half
# of them.
METHOD_LIMIT: Final = 64
"""Bytes of a method name."""
URL_LIMIT: Final = 2048
"""Bytes of a request URL."""
PROTOCOL_LIMIT: Final = 64
"""Bytes of the protocol version; also of a response's reason phrase."""
HEADER_COUNT_LIMIT: Final = 255
"""Headers in one message."""
HEADER_NAME_LIMIT: Final = 512
"""Bytes of a header's name."""
HEADER_VALUE_LIMIT: Final = 2048
"""Bytes of a header's value."""
HEAD_LIMIT: Final = 64 * 1024
"""Bytes of all headers of one message: limits the memory for a client that never completes one. The longest headers,
with tokens and digests, have about 4 KiB."""
BODY_LIMIT: Final = 128 * 1024
"""Bytes of a body: an SDP with dozens of tracks is a few KiB."""
INTERLEAVED_LIMIT: Final = 0xFFFF
"""Payload bytes of an interleaved frame: the maximum of its 16-bit length."""

_COLON: Final = 0x3A
_RTMP_VERSION: Final = 3  # the first byte of its handshake
_TLS_HANDSHAKE: Final = 0x16
_METHOD_BYTES: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_PADDING: Final = b" \t"
_PROXY_HEADER: Final = b"\x00\r\nQUIT\n"
"""The signature of version 2 of the PROXY protocol, after its line ends, which are skipped between requests."""
_LINE_ENDS: Final = re.compile(rb"[\r\n]+")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one message; the fields are the constants of this module, in bytes or headers."""

    method: int = METHOD_LIMIT
    url: int = URL_LIMIT
    protocol: int = PROTOCOL_LIMIT
    header_count: int = HEADER_COUNT_LIMIT
    header_name: int = HEADER_NAME_LIMIT
    header_value: int = HEADER_VALUE_LIMIT
    head: int = HEAD_LIMIT
    body: int = BODY_LIMIT


CLIENT_LIMITS: Final = Limits(header_value=16 * 1024)
"""For messages of servers: RTP-Info has the URL of each track, and recorders have dozens of tracks."""


class HttpRequestError(RemoteProtocolError):
    """An HTTP request on an RTSP connection: a browser, or RTSP tunnelled over HTTP or WebSocket."""

    def __init__(self) -> None:
        super().__init__("HTTP request on the RTSP port", 505)
        self.data = b""
        """The bytes from the start of the request on, as far as they were received."""


class MessageParser:
    """Splits the received bytes of an RTSP connection.

    Call :meth:`receive_data`, then :meth:`next_event` until it returns None. A RemoteProtocolError from
    :meth:`next_event` is final: the position in the stream is lost, so each further call raises it again.

    Stray bytes are such an error, unless the channels in use were set by :meth:`expect_frames`.
    """

    __slots__ = (
        "_body",
        "_body_missing",
        "_buffer",
        "_error",
        "_head_size",
        "_interleaved_limit",
        "_limits",
        "_message",
        "_position",
        "_resynchronizer",
        "is_tunnelled",
    )

    def __init__(
        self, limits: Limits = Limits(), interleaved_limit: int = INTERLEAVED_LIMIT, *, is_tunnelled: bool = False
    ) -> None:
        """``is_tunnelled``: the bytes come through HTTP or WebSocket; kept for the owner, the messages are the same."""
        self.is_tunnelled = is_tunnelled
        self._limits = limits
        self._interleaved_limit = interleaved_limit
        self._buffer = b""
        self._position = 0
        self._message: Request | Response | None = None
        self._body = bytearray()
        self._body_missing = -1
        """Missing bytes of the body; -1 while the headers are not complete."""
        self._head_size = 0
        """Bytes of the headers read so far."""
        self._error: RemoteProtocolError | None = None
        self._resynchronizer: Resynchronizer | None = None

    def expect_frames(self, channels: Collection[int]) -> None:
        """From now on, skip stray bytes up to the next message or frame of one of these channels.

        Without channels they are an error again.
        """
        self._resynchronizer = Resynchronizer(channels, self.skipped) if channels else None

    @property
    def skipped(self) -> int:
        """Stray bytes that were skipped since frames are expected."""
        return 0 if self._resynchronizer is None else self._resynchronizer.skipped

    @property
    def buffered(self) -> int:
        """Received bytes that are not part of an event yet."""
        return len(self._buffer) - self._position + len(self._body)

    @property
    def is_incomplete(self) -> bool:
        """Whether a message or frame is incomplete."""
        return self._message is not None or self._position < len(self._buffer)

    def receive_run(self, data: bytes) -> InterleavedRun | None:
        """Process the bytes of one read; return the run of frames at its start, if it begins with one: a shortcut for
        `receive_data` and `next_event`. None: call `next_event`."""
        if (
            self._buffer
            or self._message is not None
            or self._error is not None
            or len(data) < HEADER_SIZE
            or data[0] != DOLLAR
        ):
            self.receive_data(data)
            return None
        resynchronizer, limit = self._resynchronizer, self._interleaved_limit
        run = None
        if resynchronizer is None or (data[1] in resynchronizer.channels and not resynchronizer.has_skipped):
            run = uniform_run(data, 0, limit)
            if run is not None:
                return run
            run = next_run(data, 0, limit)
        if run is None or not run.is_last:
            self._buffer = data
            self._position = 0 if run is None else run.end
        return run

    def receive_data(self, data: bytes) -> None:
        """Process the bytes of one read. ``data`` is kept without a copy if nothing was left over."""
        if self._position == len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[self._position :] + data
        self._position = 0

    def next_event(self) -> Request | Response | InterleavedRun | None:
        """Return the next message or run of interleaved frames; None if more bytes are needed.

        Raises RemoteProtocolError: 413 for a body or frame over the limit, 414 for the URL, 505 for another RTSP
        version or HTTP, else 400.
        """
        if self._error is not None:
            raise self._error
        try:
            event = self._next_event()
        except RemoteProtocolError as error:
            self._error = error
            self._buffer = b""
            self._position = 0
            self._body.clear()
            raise
        if event is not None and self._resynchronizer is not None and self._resynchronizer.has_skipped:
            self._resynchronizer.on_event()
        return event

    def _next_event(self) -> Request | Response | InterleavedRun | None:
        while self._message is None:
            buffer = self._buffer
            position = self._position
            size = len(buffer)
            if position == size:
                self._buffer = b""
                self._position = 0
                return None
            is_frame = buffer[position] == DOLLAR
            resynchronizer = self._resynchronizer
            if is_frame and (resynchronizer is None or resynchronizer.is_usual(buffer, position)):
                return self._next_run()
            # Clients separate messages with stray line ends, and some keep a NAT open with them.
            if not is_frame and (line_ends := _LINE_ENDS.match(buffer, position)):
                self._position = line_ends.end()
                continue
            if resynchronizer is not None:
                begins = resynchronizer.begins(buffer, position, is_frame=is_frame)
                if begins is None:
                    return None
                if not begins:
                    self._position, found = resynchronizer.skip(buffer, position)
                    if not found:
                        return None
                    continue
            if is_frame:
                return self._next_run()
            try:
                self._message = self._begin_message()
            except RemoteProtocolError:
                if resynchronizer is None:
                    raise
                self._position, found = resynchronizer.skip(buffer, position)
                if not found:
                    return None
                continue
            if self._message is None:
                return None
        return self._continue_message(self._message)

    def _next_run(self) -> InterleavedRun | None:
        data = self._buffer
        position = self._position
        if len(data) - position < HEADER_SIZE:
            return None
        limit = self._interleaved_limit
        run = uniform_run(data, position, limit)
        if run is not None:
            self._buffer = b""
            self._position = 0
            return run
        run = next_run(data, position, limit)
        if run is None:
            if HEADER.unpack_from(data, position)[2] > limit:
                raise RemoteProtocolError(f"interleaved frame larger than {limit} bytes", 413)
            return None
        if run.is_last:
            self._buffer = b""
            self._position = 0
        else:
            self._position = run.end
        return run

    def _begin_message(self) -> Request | Response | None:
        """Parse the start line; None if it is incomplete."""
        buffer = self._buffer
        position = self._position
        line = self._take_line(self._limits.method + self._limits.url + self._limits.protocol + 2)
        if line is None:
            _check_method(buffer[position : position + self._limits.method + 1].partition(b" ")[0], self._limits)
            return None
        try:
            return _parse_start_line(line, self._limits)
        except HttpRequestError as error:
            error.data = buffer[position:]
            raise

    def _continue_message(self, message: Request | Response) -> Request | Response | None:
        limits = self._limits
        while self._body_missing < 0:
            line = self._take_line(limits.header_name + limits.header_value + 2)
            if line is None:
                return None
            self._head_size += len(line)
            if self._head_size > limits.head:
                raise RemoteProtocolError(f"headers larger than {limits.head} bytes")
            if not line:
                self._body_missing = _content_length(message.headers, limits.body)
            elif len(message.headers) >= limits.header_count:
                raise RemoteProtocolError(f"more than {limits.header_count} headers")
            elif not (isinstance(message, Response) and _is_no_header(line)):
                message.headers.add(*_parse_header(line, limits))
        if self._body_missing:
            part = self._buffer[self._position : self._position + self._body_missing]
            self._position += len(part)
            self._body_missing -= len(part)
            self._body += part
            if self._body_missing:
                return None
            message.body = bytes(self._body)
            self._body.clear()
        self._message = None
        self._body_missing = -1
        self._head_size = 0
        return message

    def _take_line(self, limit: int) -> bytes | None:
        """Remove one line from the buffer, without its line end; None if it is incomplete."""
        position = self._position
        end = self._buffer.find(b"\n", position, position + limit + 2)
        if end < 0:
            if len(self._buffer) - position >= limit + 2:
                _refuse_long_line(self._buffer[position : position + limit + 2], self._message is None, self._limits)
            return None
        self._position = end + 1
        line = self._buffer[position:end]
        return line[:-1] if line.endswith(b"\r") else line


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _excerpt(data: bytes) -> str:
    """Return the start of ``data`` for an error message, without control characters."""
    return ascii(_decode(data[:64]))


def _check_method(method: bytes, limits: Limits) -> None:
    """Refuse data that can never become a start line; ``method`` is its first word, perhaps incomplete."""
    if method.startswith(b"RTSP/") or b"RTSP/".startswith(method):
        return
    if method[0] == _TLS_HANDSHAKE:
        if method[1:2] == b"\x03":
            raise RemoteProtocolError("TLS handshake on the plain port; use the rtsps:// address")
        if len(method) == 1:
            return
    if method[0] == _RTMP_VERSION:
        raise RemoteProtocolError("the peer speaks RTMP, but this is an RTSP port; that of RTMP is usually 1935")
    if method == b"PROXY" or method.startswith(_PROXY_HEADER) or _PROXY_HEADER.startswith(method):
        raise RemoteProtocolError("a PROXY header, from an address that is not one of the trusted proxies")
    if len(method) > limits.method:
        raise RemoteProtocolError(f"method longer than {limits.method} bytes")
    if not _METHOD_BYTES.issuperset(method):
        raise RemoteProtocolError(f"invalid method: {_excerpt(method)}")


def _refuse_long_line(line: bytes, is_start_line: bool, limits: Limits) -> None:
    if is_start_line:
        method, _, rest = line.partition(b" ")
        _check_method(method, limits)
        if len(rest.partition(b" ")[0]) > limits.url:
            raise RemoteProtocolError(f"URL longer than {limits.url} bytes", 414)
        raise RemoteProtocolError("start line too long")
    _parse_header(line, limits)
    raise RemoteProtocolError("header line too long")


def _parse_start_line(line: bytes, limits: Limits) -> Request | Response:
    if line.startswith(b"RTSP/"):
        return _parse_status_line(line, limits)
    method, _, rest = line.rstrip(_PADDING).partition(b" ")
    url, _, protocol = rest.partition(b" ")
    _check_method(method, limits)
    if len(url) > limits.url:
        raise RemoteProtocolError(f"URL longer than {limits.url} bytes", 414)
    if protocol.startswith(b"HTTP/"):
        raise HttpRequestError
    if not url or not _is_text(url) or len(protocol) > limits.protocol or not protocol.startswith(b"RTSP/"):
        raise RemoteProtocolError(f"invalid start line: {_excerpt(line)}")
    if protocol != VERSION.encode():
        raise RemoteProtocolError(f"unsupported version: {_excerpt(protocol)}", 505)
    return Request(_decode(method), _decode(url), Headers())


def _parse_status_line(line: bytes, limits: Limits) -> Response:
    protocol, _, rest = line.partition(b" ")
    status, _, reason = rest.strip(_PADDING).partition(b" ")
    if protocol != VERSION.encode():
        raise RemoteProtocolError(f"unsupported version: {_excerpt(protocol)}", 505)
    if len(reason) > limits.url or not _is_text(reason):
        raise RemoteProtocolError(f"invalid reason phrase: {_excerpt(reason)}")
    if len(status) != 3 or not status.isdigit() or status < b"100":
        raise RemoteProtocolError(f"invalid status: {_excerpt(status)}")
    return Response(int(status), Headers(), reason=_decode(reason.strip(_PADDING)))


def _is_text(data: bytes) -> bool:
    return b"\0" not in data and b"\r" not in data


def _is_no_header(line: bytes) -> bool:
    """Whether an invalid header line of a response can be ignored, as sent by some cameras: a word, or the rest of the
    previous line. Not for requests: a proxy might interpret them differently.
    """
    return line[0] in _PADDING or line[0] == _COLON or _COLON not in line


def _parse_header(line: bytes, limits: Limits) -> tuple[str, str]:
    if line[0] in _PADDING:
        # Folded headers are obsolete and allow smuggling headers past a proxy (RFC 7826 section 5.2 also forbids them).
        raise RemoteProtocolError("header continuation lines are not supported")
    name, colon, value = line.partition(b":")
    name = name.rstrip(_PADDING)
    value = value.strip(_PADDING)
    if len(name) > limits.header_name:
        raise RemoteProtocolError(f"header name longer than {limits.header_name} bytes")
    if len(value) > limits.header_value:
        raise RemoteProtocolError(f"value of header {_excerpt(name)} longer than {limits.header_value} bytes")
    if not colon or not name or not _is_text(line):
        raise RemoteProtocolError(f"invalid header: {_excerpt(line)}")
    return _decode(name), _decode(value)


def _content_length(headers: Headers, limit: int) -> int:
    values = set(headers.get_all("Content-Length"))
    if not values:
        return 0
    value = values.pop()
    if values or not (value.isascii() and value.isdigit()):
        raise RemoteProtocolError("invalid Content-Length")
    # Python refuses to convert thousands of digits; twelve are enough.
    if len(value) > 12 or int(value) > limit:
        raise RemoteProtocolError(f"body larger than {limit} bytes", 413)
    return int(value)
