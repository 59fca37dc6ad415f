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
    Misuse,
)
from polycast.wire.http.http2_output import Output
from polycast.wire.http.http2_streams import ACTIONS, Action, Condition, Stream
from polycast.wire.http.message import BODY_LIMIT, Event, Header, Request, Reset
from polycast.wire.http.response import SMALL_BODY, Response

# Streams ended by us whose late frames are still told apart from mistakes.
REMEMBERED_STREAMS: Final = 100

_CONTINUE: Final = b"\x08\x03100"
"""A field block with status 100 (RFC 7541 section 6.2.2)."""


class Http2Connection:
    """Requests out of bytes, bytes out of responses; `polycast.wire.http.http1.Http1Connection` has the same methods.

    A request is returned by `next_event` once it is complete.
    """

    __slots__ = (
        "_awaits_settings",
        "_bodies",
        "_frames",
        "_headers",
        "_is_shutting_down",
        "_last_stream",
        "_mistake",
        "_misuse",
        "_output",
        "_reset",
        "_streams",
        "events",
    )

    def __init__(self, known: HeaderBlockCache | None = None, body_limit: int = BODY_LIMIT) -> None:
        """``known`` changes nothing but the time that it takes to read a request; ``body_limit`` is in bytes."""
        self._headers = HeaderReader(known if known is not None else HeaderBlockCache())
        self._bodies = Bodies(body_limit)
        self._frames = FrameBuffer()
        self._awaits_settings = True
        self._streams: dict[int, Stream] = {}
        self._last_stream = 0
        self._reset: deque[int] = deque(maxlen=REMEMBERED_STREAMS)
        self.events: deque[Event] = deque()
        """What `next_event` has not returned yet."""
        self._mistake = ""
        """What has ended the connection."""
        self._output = Output(self._streams)
        self._is_shutting_down = False
        self._misuse = Misuse()
        settings = {
            Setting.MAX_CONCURRENT_STREAMS: MAXIMUM_STREAMS,
            Setting.MAX_HEADER_LIST_SIZE: HEADER_LIST_LIMIT,
            Setting.NO_RFC7540_PRIORITIES: 1,
        }
        payload = b"".join(SETTING.pack(name, value) for name, value in settings.items())
        self._output.control += build_frame(FrameType.SETTINGS, 0, 0, payload)

    # The same for both versions

    def receive_data(self, data: bytes) -> None:
        """Take what one read brought.

        Raises RemoteProtocolError when the connection cannot go on. That is final: `take` then has the last bytes to
        send, and nothing else can be read.
        """
        if self._mistake:
            raise RemoteProtocolError(self._mistake)
        try:
            for frame in self._frames.receive(data):
                self._receive_frame(*frame)
        except FrameError as error:
            raise self._fail(error.code, str(error)) from None

    def next_event(self) -> Event | None:
        """Return the next request or reset; None when more bytes are needed."""
        return self.events.popleft() if self.events else None

    def respond(self, stream: int, response: Response, date: bytes, *, head: bool = False) -> None:
        """Answer a request; ``head`` leaves the body out. ``date`` is an HTTP-date. Nothing when it was reset."""
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
        """Answer as `respond` does. Returns what is to be sent, in one piece; empty where that is left to `take`."""
        state = self._streams.get(stream)
        if state is None or state.is_answered or head or len(response.body) > SMALL_BODY or not state.is_whole:
            self.respond(stream, response, date, head=head)
            return b""
        whole = self._output.whole(stream, state, response.http2_head(date), response.body)
        if not whole:
            self.respond(stream, response, date)
            return b""
        self._misuse.on_response()
        del self._streams[stream]
        return whole

    def _answered(self, stream: int) -> Stream | None:
        """Note that a request is answered now; None when it cannot be."""
        state = self._streams.get(stream)
        if state is None or state.is_answered:
            return None
        state.is_answered = True
        self._misuse.on_response()
        return state

    def send_body(self, stream: int, data: bytes, *, is_last: bool) -> None:
        """Send a piece of a streamed body; nothing when the stream was reset."""
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
        """End a streamed body before its end, in a way that tells the client so."""
        if stream in self._streams:
            self._abort(stream, ErrorCode.INTERNAL_ERROR)

    def unsent(self, stream: int) -> int:
        """Return how many bytes of a streamed body were not taken yet."""
        state = self._streams.get(stream)
        return state.unsent if state is not None else 0

    def take(self, limit: int) -> Sequence[bytes | memoryview]:
        """Take about ``limit`` bytes off what may be sent now; empty when there is nothing."""
        output = self._output
        taken = output.take(limit)
        if output.ended:
            for stream in output.ended:
                self._end(stream, self._streams[stream])
            output.ended.clear()
            if output.control:  # streams whose request had not ended
                taken.append(output.take_control())
        return taken

    def shut_down(self) -> None:
        """Begin no more requests; those under way are answered (RFC 9113 section 6.8)."""
        if not self._is_shutting_down:
            self._is_shutting_down = True
            self._send_goaway(ErrorCode.NO_ERROR)

    def time_out(self) -> None:
        """A request takes too long to arrive. HTTP/2 has no way to say so but to close."""
        self.shut_down()

    def release(self) -> None:
        """Give memory back: the connection is over."""
        self._streams.clear()
        self._output.clear()
        self.events.clear()
        self._frames.clear()
        self._headers.release()

    @property
    def is_incomplete(self) -> bool:
        """Whether a request has begun whose end was not received yet."""
        begun = self._frames.is_incomplete or self._awaits_settings or self._headers.pending is not None
        return begun or any(not state.is_told for state in self._streams.values())

    @property
    def has_work(self) -> bool:
        """Whether `next_event` or `take` may have something, or the connection may be over."""
        return bool(self.events or self._output.is_sending or self._is_shutting_down)

    @property
    def is_full(self) -> bool:
        """Never: a client learns how many requests it may send."""
        return False

    @property
    def held_size(self) -> int:
        """Bytes of requests that are not complete."""
        return self._bodies.size + self._frames.held_size

    @property
    def is_discarding(self) -> bool:
        """Whether the client may be sending what nobody reads; to close at once could cost it the error's reason."""
        return bool(self._mistake)

    @property
    def is_sending(self) -> bool:
        """Whether something is left to take, now or when the client opens its windows."""
        return self._output.is_sending

    @property
    def is_finished(self) -> bool:
        """Whether the connection is to be closed: everything was answered and taken."""
        return self._is_shutting_down and not (self._streams or self._output.control)

    # Ends

    def _end(self, stream: int, state: Stream) -> None:
        """Forget a stream whose response was sent."""
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
        self._mistake = reason
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
            if state is not None and state.is_told:
                self.events.append(Reset(error.stream))
            self._count_reset()
            self._abort(error.stream, error.code)
        if len(self._output.control) > CONTROL_LIMIT:
            raise self._fail(ErrorCode.ENHANCE_YOUR_CALM, "the client sends and does not read")

    def _count_idle_frame(self) -> None:
        misuse = self._misuse
        misuse.idle_frames += 1
        if misuse.idle_frames > IDLE_FRAME_LIMIT:
            misuse.on_data_sent(self._output.frames_sent)
            self._output.frames_sent = 0
            if misuse.idle_frames > IDLE_FRAME_LIMIT:
                raise self._fail(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that mean nothing")

    def _count_reset(self) -> None:
        if self._misuse.is_excessive_after_reset():
            raise self._fail(ErrorCode.ENHANCE_YOUR_CALM, "too many requests that were cancelled")

    def _condition(self, stream: int) -> Condition:
        state = self._streams.get(stream)
        if state is not None:
            return Condition.HALF_CLOSED if state.is_whole else Condition.OPEN
        if stream > self._last_stream:
            return Condition.IDLE
        return Condition.RESET if stream in self._reset else Condition.CLOSED

    def _is_wanted(self, kind: FrameType, stream: int) -> bool:
        """Return whether to take a frame of a stream; False to ignore it."""
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
        state.request.is_truncated = state.is_told = True
        self.events.append(state.request)

    def _complete(self, stream: int, state: Stream) -> None:
        """The request has ended."""
        if state.declared:
            raise StreamError(stream, ErrorCode.PROTOCOL_ERROR)  # RFC 9113 section 8.1.1
        state.is_whole = True
        if not state.is_told:
            state.is_told = True
            self._bodies.complete(state)
            self.events.append(state.request)

    # Header blocks

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        data = strip_padding(flags, payload)
        if data is None:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
        if flags & FLAG_PRIORITY:
            if len(data) < 5:
                raise self._fail(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without the priority that it announces")
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
        """A header block is complete. It is decoded in any case: the table goes on with it."""
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
        self._misuse.on_request()
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
        """RFC 9113 section 5.3.2: priorities are deprecated, and ignored. The stream may be idle, which must not be
        reset; so mistakes cost the connection (section 5.4.2)."""
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
            if state.is_told:
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
        """The client will make no more requests; those under way are answered."""
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
"""Types whose frames have limits of their own; all others are counted."""

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
