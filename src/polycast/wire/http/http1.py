"""The server's side of an HTTP/1.1 connection (RFC 9112)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from polycast.errors import LocalProtocolError
from polycast.wire.http.http1_reader import RequestCache, RequestReader
from polycast.wire.http.message import BODY_LIMIT, Event
from polycast.wire.http.response import SMALL_BODY, Response

# Pipelined requests that wait for the response to the previous one; above this, `is_full` asks to stop reading.
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
    """Turns received bytes into requests, and responses into bytes to send. One request is answered at a time.

    Call `receive_data`, then `next_event` until it returns None; answer with `respond`, and send what `data_to_send`
    returns. `respond_at_once` does both for most responses. `send_body` sends the body of a streamed response.
    """

    __slots__ = ("_is_answering", "_is_chunked", "_is_streaming", "_keeps_alive", "_output", "_reader", "events")

    def __init__(self, known: RequestCache | None = None, body_limit: int = BODY_LIMIT) -> None:
        """``known`` only affects the time it takes to parse a request; ``body_limit`` is in bytes."""
        self._reader = RequestReader(known if known is not None else RequestCache(), body_limit)
        self.events = self._reader.events
        """Requests that `next_event` has not returned yet, each with whether the connection is kept alive after it."""
        self._is_answering = False
        self._is_streaming = False
        """Whether a streamed body is being sent."""
        self._is_chunked = False
        """Whether it is sent in chunks."""
        self._keeps_alive = True
        """Whether the connection is kept alive after the current request."""
        self._output: deque[bytes | memoryview] = deque()

    def receive_data(self, data: bytes) -> None:
        """Process the data of one read.

        Raises RemoteProtocolError: 414 or 431 if something is too long, 505 for another version, otherwise 400. Then
        nothing more is read; earlier requests are still returned, and after their responses `data_to_send` has the
        error.
        """
        self._reader.receive_data(data)

    def next_event(self) -> Event | None:
        """Return the next request; None until the previous response was sent, or if more bytes are needed."""
        if self._is_answering or self._output:
            return None
        if not self.events:
            reader = self._reader
            if reader.wants_continue:
                reader.wants_continue = False
                self._output.append(_CONTINUE)
            elif reader.error is not None and self._keeps_alive:
                self._keeps_alive = False
                status = reader.error[1]
                self._output.append(_ERROR_HEAD % (status, _REASONS[status]))
            return None
        request, self._keeps_alive = self.events.popleft()
        self._is_answering = True
        return request

    # Responses

    def respond(self, stream: int, response: Response, date: bytes, *, head: bool = False) -> None:
        """Answer the current request; ``head`` omits the body. ``date`` is an HTTP-date."""
        if not self._is_answering or self._is_streaming:
            raise LocalProtocolError("there is no request to answer")
        if response.is_streamed:
            self._begin_stream(response, response.http1_head(date), is_bodiless=head)
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
        """Like `respond`, but return the bytes to send in one piece; empty if `data_to_send` is needed."""
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

    def _begin_stream(self, response: Response, start: bytes, *, is_bodiless: bool) -> None:
        # the last response of a connection ends when the connection is closed
        self._is_chunked = self._keeps_alive and not response.has_length
        if self._is_chunked:
            start = start[:-2] + b"transfer-encoding: chunked\r\n\r\n"
        elif not self._keeps_alive:
            start = start[:-2] + b"connection: close\r\n\r\n"
        self._output.append(start)
        self._is_streaming = not is_bodiless
        self._is_answering = self._is_streaming

    def send_body(self, stream: int, data: bytes, *, is_last: bool) -> None:
        """Send a piece of a streamed body; does nothing if none is being sent."""
        if not self._is_streaming:
            return
        if data:
            self._output.append(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)
        if is_last:
            if self._is_chunked:
                self._output.append(b"0\r\n\r\n")
            self._is_streaming = self._is_answering = False

    def abandon(self, stream: int) -> None:
        """Abort a streamed body, so that the client notices that it is incomplete."""
        if self._is_streaming:
            self._is_streaming = self._is_answering = self._keeps_alive = False
            self._reader.end()

    def unsent(self, stream: int) -> int:
        """Return how many bytes of a streamed body have yet to be sent."""
        return sum(map(len, self._output))

    def data_to_send(self, limit: int) -> Sequence[bytes | memoryview]:
        """Return about ``limit`` of the bytes to send, and remove them; empty if there are none."""
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
        """Accept no more requests; the current one is the last."""
        self._keeps_alive = False
        self._reader.end()
        self.events.clear()

    def time_out(self) -> None:
        """A request takes too long to arrive: answer with status 408 when it is due, as the last response."""
        if self.is_incomplete:
            self._reader.fail("no request received in time", 408)

    def release(self) -> None:
        """Release memory: the connection is over."""
        self._reader.release()
        self._output.clear()

    @property
    def is_incomplete(self) -> bool:
        """Whether a request has been received in part."""
        return self._reader.is_incomplete

    @property
    def has_work(self) -> bool:
        """Whether `next_event` or `data_to_send` may return something, or the connection may be finished."""
        reader = self._reader
        return bool(self.events or self._output or reader.has_ended or reader.wants_continue or not self._keeps_alive)

    @property
    def is_full(self) -> bool:
        """Whether so many requests are pipelined that no more should be read."""
        return len(self.events) >= PIPELINE_LIMIT

    @property
    def held_size(self) -> int:
        """Number of bytes held of incomplete requests."""
        return self._reader.held_size

    @property
    def is_sending(self) -> bool:
        """Whether there is more to send."""
        return bool(self._output)

    @property
    def is_finished(self) -> bool:
        """Whether to close the connection: everything was answered and sent."""
        return not (self._keeps_alive or self._is_answering or self._output)
