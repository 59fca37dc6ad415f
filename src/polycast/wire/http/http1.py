"""The server's side of an HTTP/1.1 connection (RFC 9112)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from polycast.errors import LocalProtocolError
from polycast.wire.http.http1_reader import RequestCache, RequestReader
from polycast.wire.http.message import BODY_LIMIT, Event
from polycast.wire.http.response import SMALL_BODY, Response

# Requests that were read and wait for the response to the one before; over it, `is_full` asks to stop reading.
PIPELINE_LIMIT: Final = 16

_ERROR_HEAD: Final = b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_REASONS: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    505: b"HTTP Version Not Supported",
}


class Http1Connection:
    """Requests out of bytes, bytes out of responses. One request is answered at a time, as the version demands.

    Call `receive_data`, then `next_event` until it returns None; answer with `respond`, send what `take` returns.
    `respond_at_once` does both for most responses. The body of a streamed response follows by `send_body`.
    """

    __slots__ = ("_is_answering", "_is_chunked", "_is_streaming", "_keeps_alive", "_output", "_reader", "events")

    def __init__(self, known: RequestCache | None = None, body_limit: int = BODY_LIMIT) -> None:
        """``known`` changes nothing but the time that it takes to read a request; ``body_limit`` is in bytes."""
        self._reader = RequestReader(known if known is not None else RequestCache(), body_limit)
        self.events = self._reader.events
        """Requests that `next_event` has not returned yet, with whether the connection goes on after each."""
        self._is_answering = False
        self._is_streaming = False
        """Whether a streamed body is under way."""
        self._is_chunked = False
        """Whether it is sent in chunks."""
        self._keeps_alive = True
        """Whether the connection goes on after the request that is being answered."""
        self._output: deque[bytes | memoryview] = deque()

    def receive_data(self, data: bytes) -> None:
        """Take what one read brought.

        Raises RemoteProtocolError: 414 or 431 for what is too long, 505 for another version, else 400. That is final:
        nothing else is read. The requests before are returned, and after their responses `take` has the error.
        """
        self._reader.receive_data(data)

    def next_event(self) -> Event | None:
        """Return the next request; None until the response before was taken, or when more bytes are needed."""
        if self._is_answering or self._output:
            return None
        if not self.events:
            reader = self._reader
            if reader.wants_continue:
                reader.wants_continue = False
                self._output.append(_CONTINUE)
            elif reader.mistake is not None and self._keeps_alive:
                self._keeps_alive = False
                status = reader.mistake[1]
                self._output.append(_ERROR_HEAD % (status, _REASONS[status]))
            return None
        request, self._keeps_alive = self.events.popleft()
        self._is_answering = True
        return request

    # Responses

    def respond(self, stream: int, response: Response, date: bytes, *, head: bool = False) -> None:
        """Answer the request that is being answered; ``head`` leaves the body out. ``date`` is an HTTP-date."""
        if not self._is_answering or self._is_streaming:
            raise LocalProtocolError("there is no request to answer")
        if response.is_streamed:
            self._begin_stream(response.http1_head(date), is_bodiless=head)
            return
        self._is_answering = False
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
        """Answer as `respond` does. Returns what is to be sent, in one piece; empty where that is left to `take`."""
        if (
            self._is_answering
            and self._keeps_alive
            and not (head or self._is_streaming)
            and 0 < len(response.body) <= SMALL_BODY
        ):
            self._is_answering = False
            return response.http1_whole(date)
        self.respond(stream, response, date, head=head)
        return b""

    def _begin_stream(self, start: bytes, *, is_bodiless: bool) -> None:
        self._is_chunked = self._keeps_alive  # on a connection's last response its end is the body's, too
        field = b"transfer-encoding: chunked" if self._is_chunked else b"connection: close"
        self._output.append(start[:-2] + field + b"\r\n\r\n")
        self._is_streaming = not is_bodiless
        self._is_answering = self._is_streaming

    def send_body(self, stream: int, data: bytes, *, is_last: bool) -> None:
        """Send a piece of a streamed body; nothing when none is under way."""
        if not self._is_streaming:
            return
        if data:
            self._output.append(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)
        if is_last:
            if self._is_chunked:
                self._output.append(b"0\r\n\r\n")
            self._is_streaming = self._is_answering = False

    def abandon(self, stream: int) -> None:
        """End a streamed body before its end, in a way that tells the client so."""
        if self._is_streaming:
            self._is_streaming = self._is_answering = self._keeps_alive = False
            self._reader.end()
            self._reader.is_discarding = True

    def unsent(self, stream: int) -> int:
        """Return how many bytes of a streamed body were not taken yet."""
        return sum(map(len, self._output))

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

    # The connection

    def shut_down(self) -> None:
        """Begin no more requests; the one that is being answered is the last."""
        self._keeps_alive = False
        self._reader.end()
        self.events.clear()

    def time_out(self) -> None:
        """A request takes too long to arrive: answer with status 408 in its turn, as the last response."""
        if self.is_incomplete:
            self._reader.fail("no request received in time", 408)

    def release(self) -> None:
        """Give memory back: the connection is over."""
        self._reader.release()
        self._output.clear()

    @property
    def is_incomplete(self) -> bool:
        """Whether a request has begun whose end was not received yet."""
        return self._reader.is_incomplete

    @property
    def is_discarding(self) -> bool:
        """Whether the client may be sending what nobody reads; to close at once could cost it its response (RFC 9112
        section 9.6)."""
        return self._reader.is_discarding

    @property
    def has_work(self) -> bool:
        """Whether `next_event` or `take` may have something, or the connection may be over."""
        reader = self._reader
        return bool(self.events or self._output or reader.has_ended or reader.wants_continue or not self._keeps_alive)

    @property
    def is_full(self) -> bool:
        """Whether so many requests wait for their turn that no more should be read."""
        return len(self.events) >= PIPELINE_LIMIT

    @property
    def held_size(self) -> int:
        """Bytes of requests that are not complete."""
        return self._reader.held_size

    @property
    def is_sending(self) -> bool:
        """Whether something is left to take."""
        return bool(self._output)

    @property
    def is_finished(self) -> bool:
        """Whether the connection is to be closed: everything was answered and taken."""
        return not (self._keeps_alive or self._is_answering or self._output)
