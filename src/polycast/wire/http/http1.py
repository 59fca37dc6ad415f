"""The server's side of an HTTP/1.1 connection (RFC 9112). httptools, the parser of Node.js, reads the requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NoReturn

import httptools

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.http.message import HEADER_COUNT_LIMIT, HEADERS_LIMIT, TARGET_LIMIT, Event, Header, Request
from polycast.wire.http.response import SMALL_BODY, Response

# Bytes of a head: target, headers, and the syntax around them.
HEAD_LIMIT: Final = TARGET_LIMIT + HEADERS_LIMIT

# Requests that were read and wait for the answer to the one before; over it, `is_full` asks to stop reading.
PIPELINE_LIMIT: Final = 16

# Bytes of a read that is kept with the request in it. Players' requests have a few hundred.
KNOWN_SIZE: Final = 2 * 1024

# Requests that are kept. Viewers of one stream ask for a few files at a time, each kind of player in its own words.
KNOWN_LIMIT: Final = 1024

_SECRETS: Final = (b"authorization", b"cookie", b"proxy-authorization")

_ERROR_HEAD: Final = b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_REASONS: Final = {
    400: b"Bad Request",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    505: b"HTTP Version Not Supported",
}


class KnownRequests:
    """Requests by the bytes of the read that brought them: viewers of one stream send the same ones, which are parsed
    once for all. Shared by the connections of a server. Requests with secrets are not kept.
    """

    __slots__ = ("by_bytes",)

    def __init__(self) -> None:
        self.by_bytes: dict[bytes, tuple[Request, bool]] = {}
        """Each is a whole request without a body, and True: its connection goes on."""

    def keep(self, data: bytes, event: tuple[Request, bool]) -> None:
        """Keep what a read brought, a request and nothing else."""
        fields = event[0].fields
        if len(data) > KNOWN_SIZE or any(name in fields for name in _SECRETS):
            return
        if len(self.by_bytes) >= KNOWN_LIMIT:
            self.by_bytes.clear()  # what is still asked for comes back with the next request for it
        self.by_bytes[data] = event


class Http1Connection:
    """Requests out of bytes, bytes out of responses. One request is answered at a time, as the version demands.

    Call `receive_data`, then `next_event` until it returns None; answer with `respond`, send what `take` returns.
    `respond_at_once` does both for most answers.
    """

    __slots__ = (
        "_answering",
        "_error",
        "_head_size",
        "_headers",
        "_in_head",
        "_keeps_alive",
        "_known",
        "_output",
        "_parser",
        "_stopped_reading",
        "_target",
        "events",
        "is_discarding",
    )

    def __init__(self, known: KnownRequests | None = None) -> None:
        """``known`` changes nothing but the time that it takes to read a request."""
        self._known = known if known is not None else KnownRequests()
        self._parser = httptools.HttpRequestParser(self)
        self.events: deque[tuple[Request, bool]] = deque()
        """Requests that `next_event` has not returned yet, with whether the connection goes on after each."""
        self._answering = False
        self._keeps_alive = True
        """Whether the connection goes on after the request that is being answered."""
        self._stopped_reading = False
        """Whether the last request has come: whatever follows it is of no interest."""
        self.is_discarding = False
        """Whether the client may be sending what nobody reads; to close at once could cost it its answer (RFC 9112
        section 9.6)."""
        self._output: deque[bytes | memoryview] = deque()
        self._error: RemoteProtocolError | None = None
        self._target = b""
        self._headers: list[Header] = []
        self._in_head = False
        self._head_size = 0
        """Bytes of the reads since the one in which a head began that is not complete."""

    def receive_data(self, data: bytes) -> None:
        """Take what one read brought.

        Raises RemoteProtocolError: 414 or 431 for what is too long, 505 for another version, else 400. That is final:
        nothing else is read. The requests that came before are returned, and after their answers `take` has the error.
        """
        if self._in_head or self._stopped_reading:
            self._receive(data)
            return
        event = self._known.by_bytes.get(data)
        if event is not None:  # the parser is between two requests, and would be so after this one
            self.events.append(event)
            return
        waiting = len(self.events)
        self._receive(data)
        if len(self.events) == waiting + 1 and not (self._in_head or self._stopped_reading):
            self._known.keep(data, self.events[-1])

    def _receive(self, data: bytes) -> None:
        if self._error is not None:
            raise self._error
        if len(data) <= HEAD_LIMIT:
            self._feed(data)
            return
        for start in range(0, len(data), HEAD_LIMIT):
            self._feed(data[start : start + HEAD_LIMIT])

    def _feed(self, data: bytes) -> None:
        if self._stopped_reading:
            self.is_discarding = True
            return
        if self._in_head:
            self._head_size += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            if not self._stopped_reading:
                raise self._fail(self._error or RemoteProtocolError(f"not an HTTP request: {error}")) from None
        if self._in_head and self._head_size > HEAD_LIMIT:
            raise self._fail(_too_long(self._target))

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]  # we go on in HTTP/1.1, as a server may (RFC 9110 section 7.8)
            else:
                return

    def next_event(self) -> Event | None:
        """Return the next request; None until the answer before was taken, or when more bytes are needed."""
        if self._answering or self._output:
            return None
        if not self.events:
            if self._error is not None and self._keeps_alive:
                self._keeps_alive = False
                self._output.append(_ERROR_HEAD % (self._error.status, _REASONS[self._error.status]))
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

    def respond_at_once(self, stream: int, response: Response, date: bytes, *, head: bool = False) -> bytes:
        """Answer as `respond` does. Returns what goes out, in one piece; empty where that is left to `take`."""
        if self._answering and self._keeps_alive and not head and 0 < len(response.body) <= SMALL_BODY:
            self._answering = False
            return response.http1_whole(date)
        self.respond(stream, response, date, head=head)
        return b""

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
    def has_work(self) -> bool:
        """Whether `next_event` or `take` may have something, or the connection may be over."""
        return bool(self.events or self._output or self._stopped_reading or not self._keeps_alive)

    @property
    def is_full(self) -> bool:
        """Whether so many requests wait for their turn that no more should be read."""
        return len(self.events) >= PIPELINE_LIMIT

    @property
    def is_sending(self) -> bool:
        """Whether something is left to take."""
        return bool(self._output)

    @property
    def is_finished(self) -> bool:
        """Whether the connection is to be closed: everything was answered and taken."""
        return not (self._keeps_alive or self._answering or self._output)

    def _fail(self, error: RemoteProtocolError) -> RemoteProtocolError:
        self._error = error
        self._in_head = False
        self._stopped_reading = self.is_discarding = True
        return error

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._in_head = not self._stopped_reading
        self._head_size = 0
        self._target = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:  # a trailer, or of no interest
            return
        headers = self._headers
        headers.append((name.lower(), value))
        if len(headers) > HEADER_COUNT_LIMIT:
            self._refuse(_too_long(self._target))

    def on_headers_complete(self) -> None:
        if not self._in_head:
            return
        self._in_head = False
        if len(self._target) > TARGET_LIMIT:
            self._refuse(_too_long(self._target))
        parser = self._parser
        headers = self._headers
        method = parser.get_method().decode("latin-1")
        request = Request(0, method, self._target, headers)
        fields = request.fields
        version = parser.get_http_version()
        if version != "1.1":
            if version != "1.0":
                self._refuse(RemoteProtocolError(f"HTTP version {version}", 505))
        elif b"host" not in fields:  # RFC 9112 section 3.2
            self._refuse(RemoteProtocolError("a request without a Host header"))
        if len(fields) != len(headers) and sum(name == b"host" for name, _ in headers) > 1:
            self._refuse(RemoteProtocolError("a request with several Host headers"))
        if fields.get(b"content-length", b"0").strip(b"0") or b"transfer-encoding" in fields or method == "CONNECT":
            self._stopped_reading = self.is_discarding = True
        # HTTP/1.0 clients would have to be told that the connection goes on, which no player needs.
        elif version != "1.1" or not parser.should_keep_alive():
            self._stopped_reading = True
        self.events.append((request, not self._stopped_reading))

    def _refuse(self, error: RemoteProtocolError) -> NoReturn:
        self._error = error
        raise error


def _too_long(target: bytes) -> RemoteProtocolError:
    if len(target) > TARGET_LIMIT:
        return RemoteProtocolError(f"a request target longer than {TARGET_LIMIT} bytes", 414)
    return RemoteProtocolError("the headers of a request are too long", 431)
