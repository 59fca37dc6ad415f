"""The server's side of an HTTP/1.1 connection (RFC 9112). httptools, the parser of Node.js, reads the requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import httptools

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.http.message import HEADER_COUNT_LIMIT, HEADERS_LIMIT, TARGET_LIMIT, Event, Header, Request
from polycast.wire.http.response import SMALL_BODY, Response

# Bytes of a head: target, headers, and the syntax around them.
HEAD_LIMIT: Final = TARGET_LIMIT + HEADERS_LIMIT

# Requests that were read and wait for the answer to the one before; over it, `is_full` asks to stop reading.
PIPELINE_LIMIT: Final = 16

_ERROR_HEAD: Final = b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_REASONS: Final = {400: b"Bad Request", 414: b"URI Too Long", 431: b"Request Header Fields Too Large"}


class Http1Connection:
    """Requests out of bytes, bytes out of responses. One request is answered at a time, as the version demands.

    Call `receive_data`, then `next_event` until it returns None; answer with `respond`, send what `take` returns.
    """

    __slots__ = (
        "_answering",
        "_error",
        "_head_size",
        "_headers",
        "_in_head",
        "_keeps_alive",
        "_output",
        "_parser",
        "_stopped_reading",
        "_target",
        "events",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self.events: deque[tuple[Request, bool]] = deque()
        """Requests that `next_event` has not returned yet, with whether the connection goes on after each."""
        self._answering = False
        self._keeps_alive = True
        """Whether the connection goes on after the request that is being answered."""
        self._stopped_reading = False
        """Whether whatever else comes is of no interest: the body of a request, or another protocol."""
        self._output: deque[bytes | memoryview] = deque()
        self._error: RemoteProtocolError | None = None
        self._target = b""
        self._headers: list[Header] = []
        self._in_head = False
        self._head_size = 0
        """Bytes received since a head began that is not complete."""

    def receive_data(self, data: bytes) -> None:
        """Take what one read brought.

        Raises RemoteProtocolError: 414 or 431 for what is too long, else 400. That is final: `take` then has the last
        bytes to send, and nothing else can be read.
        """
        if self._error is not None:
            raise self._error
        if len(data) <= HEAD_LIMIT:
            self._feed(data)
            return
        for start in range(0, len(data), HEAD_LIMIT):
            self._feed(data[start : start + HEAD_LIMIT])

    def _feed(self, data: bytes) -> None:
        if self._stopped_reading:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._stopped_reading = True
        except httptools.HttpParserError as error:
            raise self._fail(self._error or RemoteProtocolError(f"not an HTTP request: {error}")) from None
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > HEAD_LIMIT:
                raise self._fail(_too_long(self._target))

    def next_event(self) -> Event | None:
        """Return the next request; None while one is being answered, or when more bytes are needed."""
        if self._answering or not self.events:
            return None
        request, self._keeps_alive = self.events.popleft()
        self._answering = True
        return request

    def respond(self, stream: int, response: Response, date: bytes, *, head: bool = False) -> None:
        """Answer the request that is being answered; ``head`` leaves the body out. ``date`` is an HTTP-date."""
        if not self._answering:
            raise LocalProtocolError("there is no request to answer")
        self._answering = False
        output = self._output
        body = b"" if head else response.body
        if self._keeps_alive and 0 < len(body) <= SMALL_BODY:
            output.append(response.http1_whole(date))
            return
        start = response.http1_head(date)
        output.append(start if self._keeps_alive else start[:-2] + b"connection: close\r\n\r\n")
        if body:
            output.append(body)

    def take(self, limit: int) -> Sequence[bytes | memoryview]:
        """Take about ``limit`` bytes off what is to be sent; empty when there is nothing."""
        output = self._output
        if not output:
            return ()
        if len(output) == 1 and len(output[0]) <= limit:
            return (output.popleft(),)
        taken: list[bytes | memoryview] = []
        while output and limit > 0:
            piece = output.popleft()
            if len(piece) > limit:
                view = memoryview(piece)
                output.appendleft(view[limit:])
                piece = view[:limit]
            limit -= len(piece)
            taken.append(piece)
        return taken

    def shut_down(self) -> None:
        """Begin no more requests; the one that is being answered is the last."""
        self._keeps_alive = False
        self._stopped_reading = True
        self.events.clear()

    @property
    def is_incomplete(self) -> bool:
        """Whether a request has begun whose end has not come yet."""
        return self._in_head

    @property
    def is_full(self) -> bool:
        """Whether so many requests wait for their turn that no more should be read."""
        return len(self.events) >= PIPELINE_LIMIT

    @property
    def is_finished(self) -> bool:
        """Whether the connection is to be closed: everything was answered and taken."""
        return not (self._keeps_alive or self._answering or self._output)

    def _fail(self, error: RemoteProtocolError) -> RemoteProtocolError:
        self._error = error
        if not self._answering and not self.events:
            self._output.append(_ERROR_HEAD % (error.status, _REASONS[error.status]))
        self.shut_down()
        return error

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_size = 0
        self._target = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else a trailer
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._stopped_reading:
            return
        parser = self._parser
        request = Request(0, parser.get_method().decode("latin-1"), self._target, self._headers)
        fields = request.fields
        if len(self._target) > TARGET_LIMIT or len(self._headers) > HEADER_COUNT_LIMIT:
            self._error = _too_long(self._target)
            raise self._error
        if b"host" not in fields and parser.get_http_version() == "1.1":
            self._error = RemoteProtocolError("a request without a Host header")  # RFC 9112 section 3.2
            raise self._error
        if fields.get(b"content-length", b"0").strip(b"0") or b"transfer-encoding" in fields or parser.should_upgrade():
            self._stopped_reading = True
        self.events.append((request, parser.should_keep_alive() and not self._stopped_reading))


def _too_long(target: bytes) -> RemoteProtocolError:
    if len(target) > TARGET_LIMIT:
        return RemoteProtocolError(f"a request target longer than {TARGET_LIMIT} bytes", 414)
    return RemoteProtocolError("the headers of a request are too long", 431)
