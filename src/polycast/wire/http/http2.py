"""The server's side of an HTTP/2 connection (RFC 9113)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from hpack import HPACKError, OversizedHeaderListError

from polycast.errors import RemoteProtocolError
from polycast.wire.http.http2_bodies import Bodies
from polycast.wire.http.http2_fields import MalformedRequest, check_field, make_request
from polycast.wire.http.http2_frames import (
    DEFAULT_WINDOW,
    FLAG_ACK,
    FLAG_END_HEADERS,
    FLAG_END_STREAM,
    FLAG_PRIORITY,
    FRAME_SIZE,
    LONG,
    MAXIMUM_WINDOW,
    SETTING,
    ErrorCode,
    FrameBuffer,
    FrameError,
    FrameType,
    Setting,
    StreamError,
    build_frame,
    strip_padding,
)
from polycast.wire.http.http2_headers import HEADER_LIST_LIMIT, HeaderBlockCache, HeaderReader
from polycast.wire.http.http2_limits import (
    CONTINUATION_LIMIT,
    CONTROL_LIMIT,
    HEADER_BLOCK_LIMIT,
    IDLE_FRAME_LIMIT,
    MAXIMUM_STREAMS,
    SETTINGS_LIMIT,
    AbuseCounter,
)
from polycast.wire.http.http2_output import Output
from polycast.wire.http.http2_streams import ACTIONS, Action, Condition, Stream
from polycast.wire.http.message import BODY_LIMIT, Event, Header, Request, Reset
from polycast.wire.http.response import SMALL_BODY, Response

# Reset streams whose late frames are still distinguished from errors.
REMEMBERED_STREAMS: Final = 100

_CONTINUE: Final = b"\x08\x03100"
"""A field block with status 100 (RFC 7541 section 6.2.2)."""


class Http2Connection:
    """Turns received bytes into requests, and responses into bytes to send. `Http1Connection` has the same methods.

    A request is returned by `next_event` once it is complete.
    """

    __slots__ = (
        "_abuse",
        "_awaits_settings",
        "_bodies",
        "_error",
        "_frames",
        "_headers",
        "_is_shutting_down",
        "_last_stream",
        "_output",
        "_reset",
        "_streams",
        "events",
    )

    def __init__(self, known: HeaderBlockCache | None = None, body_limit: int = BODY_LIMIT) -> None:
        """``known`` only affects the time it takes to decode a request; ``body_limit`` is in bytes."""
        self._headers = HeaderReader(known if known is not None else HeaderBlockCache())
        self._bodies = Bodies(body_limit)
        self._frames = FrameBuffer()
        self._awaits_settings = True
        self._streams: dict[int, Stream] = {}
        self._last_stream = 0
        self._reset: deque[int] = deque(maxlen=REMEMBERED_STREAMS)
        self.events: deque[Event] = deque()
        """Events that `next_event` has not returned yet."""
        self._error = ""
        """The error that ended the connection."""
        self._output = Output(self._streams)
        self._is_shutting_down = False
        self._abuse = AbuseCounter()
        settings = {
            Setting.MAX_CONCURRENT_STREAMS: MAXIMUM_STREAMS,
            Setting.MAX_HEADER_LIST_SIZE: HEADER_LIST_LIMIT,
            Setting.NO_RFC7540_PRIORITIES: 1,
        }
        payload = b"".join(SETTING.pack(name, value) for name, value in settings.items())
        self._output.control += build_frame(FrameType.SETTINGS, 0, 0, payload)

    # Common to both versions

    def receive_data(self, data: bytes) -> None:
        """Process the data of one read.

        Raises RemoteProtocolError if the connection cannot continue. Then `data_to_send` returns the last bytes to
        send, and nothing more is read.
        """
        if self._error:
            raise RemoteProtocolError(self._error)
        try:
            for frame in self._frames.receive(data):
                self._receive_frame(*frame)
        except FrameError as error:
            raise self._fail(error.code, str(error)) from None

    def next_event(self) -> Event | None:
        """Return the next request or reset; None if more bytes are needed."""
        return self.events.popleft() if self.events else None

    def respond(self, stream: int, response: Response, date: bytes, *, head: bool = False) -> None:
        """Answer a request; ``head`` omits the body. ``date`` is an HTTP-date. Does nothing if the stream was reset."""
        state = self._answered(stream)
        if state is None:
            return
        is_empty = head or (not response.body and not response.is_streamed)
        self._output.send_headers(stream, response.http2_head(date), is_last=is_empty)
        if is_empty:
            self._end(stream, state)
            return
        state.is_streaming = response.is_streamed
        if response.body:
            self._output.send_body(stream, state, response.body)

    def respond_at_once(self, stream: int, response: Response, date: bytes, *, head: bool = False) -> bytes:
        """Like `respond`, but return the bytes to send in one piece; empty if `data_to_send` is needed."""
        state = self._streams.get(stream)
        if state is None or state.is_answered or head or len(response.body) > SMALL_BODY or not state.is_whole:
            self.respond(stream, response, date, head=head)
            return b""
        whole = self._output.whole(stream, state, response.http2_head(date), response.body)
        if not whole:
            self.respond(stream, response, date)
            return b""
        self._abuse.on_response()
        del self._streams[stream]
        return whole

    def _answered(self, stream: int) -> Stream | None:
        """Return the stream of a request that is being answered; None if it cannot be answered."""
        state = self._streams.get(stream)
        if state is None or state.is_answered:
            return None
        state.is_answered = True
        self._abuse.on_response()
        return state

    def send_body(self, stream: int, data: bytes, *, is_last: bool) -> None:
        """Send a piece of a streamed body; does nothing if the stream was reset."""
        state = self._streams.get(stream)
        if state is None or not state.is_streaming:
            return
        if data:
            self._output.send_body(stream, state, data)
        if is_last:
            state.is_streaming = False
            if state.body is None:
                self._output.send_end(stream)
                self._end(stream, state)

    def abandon(self, stream: int) -> None:
        """Abort a streamed body, so that the client notices that it is incomplete."""
        if stream in self._streams:
            self._abort(stream, ErrorCode.INTERNAL_ERROR)

    def unsent(self, stream: int) -> int:
        """Return how many bytes of a streamed body have yet to be sent."""
        state = self._streams.get(stream)
        return state.unsent if state is not None else 0

    def data_to_send(self, limit: int) -> Sequence[bytes | memoryview]:
        """Return about ``limit`` of the bytes that may be sent now, and remove them; empty if there are none."""
        output = self._output
        taken = output.data_to_send(limit)
        if output.ended:
            for stream in output.ended:
                self._end(stream, self._streams[stream])
            output.ended.clear()
            if output.control:  # streams whose request had not ended
                taken.append(output.control_data())
        return taken

    def shut_down(self) -> None:
        """Accept no more requests; those in progress are answered (RFC 9113 section 6.8)."""
        if not self._is_shutting_down:
            self._is_shutting_down = True
            self._send_goaway(ErrorCode.NO_ERROR)

    def time_out(self) -> None:
        """A request takes too long to arrive. HTTP/2 can only close the connection."""
        self.shut_down()

    def release(self) -> None:
        """Release memory: the connection is over."""
        self._streams.clear()
        self._output.clear()
        self.events.clear()
        self._frames.clear()
        self._headers.release()

    @property
    def is_incomplete(self) -> bool:
        """Whether a request has been received in part."""
        begun = self._frames.is_incomplete or self._awaits_settings or self._headers.pending is not None
        return begun or any(not state.is_returned for state in self._streams.values())

    @property
    def has_work(self) -> bool:
        """Whether `next_event` or `data_to_send` may return something, or the connection may be finished."""
        return bool(self.events or self._output.is_sending or self._is_shutting_down)

    @property
    def is_full(self) -> bool:
        """Never: SETTINGS limit how many requests a client may send."""
        return False

    @property
    def held_size(self) -> int:
        """Number of bytes held of incomplete requests."""
        return self._bodies.size + self._frames.held_size

    @property
    def is_sending(self) -> bool:
        """Whether there is more to send, now or when the client opens its windows."""
        return self._output.is_sending

    @property
    def is_finished(self) -> bool:
        """Whether to close the connection: everything was answered and sent."""
        return self._is_shutting_down and not (self._streams or self._output.control)

    # Ends of streams and of the connection

    def _end(self, stream: int, state: Stream) -> None:
        """Remove a stream whose response was sent."""
        if state.is_whole:
            del self._streams[stream]
        else:  # the rest of its body is ignored (RFC 9113 section 8.1)
            self._abort(stream, ErrorCode.NO_ERROR)

    def _abort(self, stream: int, code: ErrorCode) -> None:
        state = self._streams.pop(stream, None)
        if state is not None:
            self._bodies.drop(state)
        self._reset.append(stream)
        self._output.control += build_frame(FrameType.RST_STREAM, 0, stream, LONG.pack(code))

    def _fail(self, code: ErrorCode, reason: str) -> RemoteProtocolError:
        self._error = reason
        self._is_shutting_down = True
        self._streams.clear()
        self._output.clear()
        self._frames.clear()
        self._headers.pending = None
        self._send_goaway(code)
        return RemoteProtocolError(reason)

    def _send_goaway(self, code: ErrorCode) -> None:
        self._output.control += build_frame(FrameType.GOAWAY, 0, 0, LONG.pack(self._last_stream) + LONG.pack(code))

    # Receiving

    def _receive_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._awaits_settings:
            if kind != FrameType.SETTINGS or flags & FLAG_ACK:
                raise self._fail(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._awaits_settings = False
        if self._headers.pending is not None and (kind != FrameType.CONTINUATION or stream != self._headers.pending[0]):
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
        if kind not in _CARRIES_REQUESTS:
            self._count_idle_frame()
        handler = _HANDLERS.get(kind)
        if handler is None:
            return
        try:
            handler(self, flags, stream, payload)
        except StreamError as error:
            state = self._streams.get(error.stream)
            if state is not None and state.is_returned:
                self.events.append(Reset(error.stream))
            self._count_reset()
            self._abort(error.stream, error.code)
        if len(self._output.control) > CONTROL_LIMIT:
            raise self._fail(ErrorCode.ENHANCE_YOUR_CALM, "the client sends without reading")

    def _count_idle_frame(self) -> None:
        abuse = self._abuse
        abuse.idle_frames += 1
        if abuse.idle_frames > IDLE_FRAME_LIMIT:
            abuse.on_data_sent(self._output.frames_sent)
            self._output.frames_sent = 0
            if abuse.idle_frames > IDLE_FRAME_LIMIT:
                raise self._fail(ErrorCode.ENHANCE_YOUR_CALM, "too many frames without effect")

    def _count_reset(self) -> None:
        if self._abuse.is_excessive_after_reset():
            raise self._fail(ErrorCode.ENHANCE_YOUR_CALM, "too many cancelled requests")

    def _condition(self, stream: int) -> Condition:
        state = self._streams.get(stream)
        if state is not None:
            return Condition.HALF_CLOSED if state.is_whole else Condition.OPEN
        if stream > self._last_stream:
            return Condition.IDLE
        return Condition.RESET if stream in self._reset else Condition.CLOSED

    def _is_wanted(self, kind: FrameType, stream: int) -> bool:
        """Return whether to process a frame of a stream; False to ignore it."""
        if stream == 0 or stream % 2 == 0:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, f"{kind.name} on stream {stream}")
        condition = self._condition(stream)
        action = ACTIONS[kind, condition]
        if action is Action.STREAM_ERROR:
            raise StreamError(stream, ErrorCode.STREAM_CLOSED)
        if action is Action.CONNECTION_ERROR:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, f"{kind.name} on a stream that is {condition.name}")
        if action is Action.CONNECTION_CLOSED_ERROR:
            raise self._fail(ErrorCode.STREAM_CLOSED, f"{kind.name} on a stream that is {condition.name}")
        return action is Action.TAKE

    # Bodies of requests

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        wanted = self._is_wanted(FrameType.DATA, stream)
        self._open_window(0, self._bodies.acknowledge(len(payload)))
        data = strip_padding(flags, payload)
        if data is None:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
        if not wanted:
            return
        state = self._streams[stream]
        if state.declared is not None:
            state.declared -= len(data)
        if not self._bodies.add(state, data):
            self._truncate(state)
        if self._bodies.is_excessive:
            raise StreamError(stream, ErrorCode.REFUSED_STREAM)
        if flags & FLAG_END_STREAM:
            self._complete(stream, state)
            return
        state.unacknowledged += len(payload)
        if state.received is not None and state.unacknowledged > DEFAULT_WINDOW // 2:
            self._open_window(stream, state.unacknowledged)
            state.unacknowledged = 0

    def _open_window(self, stream: int, growth: int) -> None:
        if growth:
            self._output.control += build_frame(FrameType.WINDOW_UPDATE, 0, stream, LONG.pack(growth))

    def _truncate(self, state: Stream) -> None:
        """A body is too large: the request is answered without it, and the rest is ignored."""
        state.received = None
        state.request.is_truncated = state.is_returned = True
        self.events.append(state.request)

    def _complete(self, stream: int, state: Stream) -> None:
        """The request has ended."""
        if state.declared:
            raise StreamError(stream, ErrorCode.PROTOCOL_ERROR)  # RFC 9113 section 8.1.1
        state.is_whole = True
        if not state.is_returned:
            state.is_returned = True
            self._bodies.complete(state)
            self.events.append(state.request)

    # Header blocks

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        data = strip_padding(flags, payload)
        if data is None:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
        if flags & FLAG_PRIORITY:
            if len(data) < 5:
                raise self._fail(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without the announced priority")
            if LONG.unpack_from(data)[0] & MAXIMUM_WINDOW == stream:
                raise self._fail(ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")
            data = data[5:]
        if flags & FLAG_END_HEADERS:
            self._on_block(stream, flags, data)
        else:
            self._headers.pending = (stream, flags, [data])

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._headers.pending is None:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        first, first_flags, pieces = self._headers.pending
        pieces.append(payload)
        if len(pieces) > CONTINUATION_LIMIT or sum(map(len, pieces)) > HEADER_BLOCK_LIMIT:
            raise self._fail(ErrorCode.ENHANCE_YOUR_CALM, "headers that are too long")
        if flags & FLAG_END_HEADERS:
            self._headers.pending = None
            self._on_block(first, first_flags, b"".join(pieces))

    def _on_block(self, stream: int, flags: int, block: bytes) -> None:
        """Process a complete header block. It is decoded in any case, because it changes the table."""
        headers = self._headers
        known = headers.find(block)
        if known is not None and flags & FLAG_END_STREAM and self._may_begin(stream):
            headers.skip(block)
            self._begin(stream, known.on_stream(stream), None, is_whole=True)
            return
        try:
            fields = headers.read(block)
        except OversizedHeaderListError:
            raise self._fail(ErrorCode.ENHANCE_YOUR_CALM, "headers that are too long") from None
        except HPACKError:
            raise self._fail(ErrorCode.COMPRESSION_ERROR, "headers cannot be decompressed") from None
        if not self._is_wanted(FrameType.HEADERS, stream):
            self._count_idle_frame()
            return
        state = self._streams.get(stream)
        if state is not None:
            self._on_trailers(stream, state, flags, fields)
            return
        if not self._may_begin(stream):
            self._last_stream = stream
            raise StreamError(stream, ErrorCode.REFUSED_STREAM)
        self._last_stream = stream
        try:
            request, length = make_request(stream, fields)
        except MalformedRequest:
            raise StreamError(stream, ErrorCode.PROTOCOL_ERROR) from None
        is_whole = bool(flags & FLAG_END_STREAM)
        if is_whole and not length:
            headers.keep(block, request)
        self._begin(stream, request, length, is_whole=is_whole)

    def _may_begin(self, stream: int) -> bool:
        return (
            stream > self._last_stream
            and stream % 2 == 1
            and not self._is_shutting_down
            and len(self._streams) < MAXIMUM_STREAMS
        )

    def _begin(self, stream: int, request: Request, length: int | None, *, is_whole: bool) -> None:
        self._last_stream = stream
        state = self._streams[stream] = Stream(self._output.stream_window, request, length)
        self._abuse.on_request()
        if is_whole:
            self._complete(stream, state)
        elif length is not None and length > self._bodies.limit:
            self._truncate(state)
        elif request.fields.get(b"expect", b"").lower() == b"100-continue":
            self._output.send_headers(stream, _CONTINUE, is_last=False)

    def _on_trailers(self, stream: int, state: Stream, flags: int, fields: Sequence[Header]) -> None:
        self._count_idle_frame()
        try:
            for name, value in fields:
                check_field(name, value)
        except MalformedRequest:
            raise StreamError(stream, ErrorCode.PROTOCOL_ERROR) from None
        if not flags & FLAG_END_STREAM:
            raise StreamError(stream, ErrorCode.PROTOCOL_ERROR)
        self._complete(stream, state)

    # Other frames

    def _on_priority(self, flags: int, stream: int, payload: bytes) -> None:
        """Ignore priorities, which are deprecated (RFC 9113 section 5.3.2). The stream may be idle and must not be
        reset then, so errors end the connection (section 5.4.2)."""
        if stream == 0:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise self._fail(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY of a wrong size")
        if LONG.unpack_from(payload)[0] & MAXIMUM_WINDOW == stream:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")

    def _on_rst_stream(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise self._fail(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of a wrong size")
        if self._is_wanted(FrameType.RST_STREAM, stream):
            state = self._streams.pop(stream)
            if state.is_returned:
                self.events.append(Reset(stream))
            self._bodies.drop(state)
            self._count_reset()

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if len(payload) % SETTING.size or (flags & FLAG_ACK and payload):
            raise self._fail(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        if len(payload) > SETTINGS_LIMIT * SETTING.size:
            raise self._fail(ErrorCode.ENHANCE_YOUR_CALM, "too many settings")
        if flags & FLAG_ACK:
            return
        for name, value in SETTING.iter_unpack(payload):
            if name == Setting.ENABLE_PUSH and value > 1:
                raise self._fail(ErrorCode.PROTOCOL_ERROR, "invalid ENABLE_PUSH")
            if name == Setting.INITIAL_WINDOW_SIZE:
                if value > MAXIMUM_WINDOW or not self._output.set_stream_window(value):
                    raise self._fail(ErrorCode.FLOW_CONTROL_ERROR, "a window that is too large")
            elif name == Setting.MAX_FRAME_SIZE:
                if not FRAME_SIZE <= value < 1 << 24:
                    raise self._fail(ErrorCode.PROTOCOL_ERROR, "invalid MAX_FRAME_SIZE")
                self._output.allow_frames(value)
        self._output.control += build_frame(FrameType.SETTINGS, FLAG_ACK, 0)

    def _on_push_promise(self, flags: int, stream: int, payload: bytes) -> None:
        raise self._fail(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise self._fail(ErrorCode.FRAME_SIZE_ERROR, "PING of a wrong size")
        if not flags & FLAG_ACK:
            self._output.control += build_frame(FrameType.PING, FLAG_ACK, 0, payload)

    def _on_goaway(self, flags: int, stream: int, payload: bytes) -> None:
        """The client will make no more requests; those in progress are answered."""
        if stream:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise self._fail(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of a wrong size")
        self._is_shutting_down = True

    def _on_window_update(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise self._fail(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size")
        growth = LONG.unpack(payload)[0] & MAXIMUM_WINDOW
        output = self._output
        if stream == 0:
            output.window += growth
            if growth == 0 or output.window > MAXIMUM_WINDOW:
                code = ErrorCode.FLOW_CONTROL_ERROR if growth else ErrorCode.PROTOCOL_ERROR
                raise self._fail(code, "invalid WINDOW_UPDATE")
            return
        if not self._is_wanted(FrameType.WINDOW_UPDATE, stream):
            return
        state = self._streams[stream]
        state.window += growth
        if growth == 0 or state.window > MAXIMUM_WINDOW:
            raise StreamError(stream, ErrorCode.FLOW_CONTROL_ERROR if growth else ErrorCode.PROTOCOL_ERROR)


_CARRIES_REQUESTS: Final = frozenset({FrameType.HEADERS, FrameType.CONTINUATION})
"""Frame types with their own limits; frames of all other types are counted."""

_HANDLERS: Final[dict[int, Callable[[Http2Connection, int, int, bytes], None]]] = {
    FrameType.DATA: Http2Connection._on_data,
    FrameType.HEADERS: Http2Connection._on_headers,
    FrameType.PRIORITY: Http2Connection._on_priority,
    FrameType.RST_STREAM: Http2Connection._on_rst_stream,
    FrameType.SETTINGS: Http2Connection._on_settings,
    FrameType.PUSH_PROMISE: Http2Connection._on_push_promise,
    FrameType.PING: Http2Connection._on_ping,
    FrameType.GOAWAY: Http2Connection._on_goaway,
    FrameType.WINDOW_UPDATE: Http2Connection._on_window_update,
    FrameType.CONTINUATION: Http2Connection._on_continuation,
}
