"""The server's side of an HTTP/2 connection (RFC 9113). hpack, of the Hyper project, decompresses the headers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from typing import Final

import hpack

from polycast.errors import RemoteProtocolError
from polycast.wire.http.http2_fields import MalformedRequest, check_field, make_request
from polycast.wire.http.http2_frames import (
    DEFAULT_WINDOW,
    FLAG_ACK,
    FLAG_END_HEADERS,
    FLAG_END_STREAM,
    FLAG_PRIORITY,
    FRAME_HEADER_SIZE,
    FRAME_SIZE,
    HEADER_STRUCT,
    LONG,
    MAXIMUM_WINDOW,
    PREFACE,
    SETTING,
    ErrorCode,
    FrameType,
    Setting,
    StreamError,
    build_frame,
    build_frame_header,
    build_headers,
    strip_padding,
)
from polycast.wire.http.message import HEADER_COUNT_LIMIT, HEADERS_LIMIT, TARGET_LIMIT, Event, Reset
from polycast.wire.http.response import Response

# Requests that may be under way on one connection; a player has fewer than ten.
MAXIMUM_STREAMS: Final = 64

# Bytes of headers, decompressed, each with the 32 bytes that RFC 9113 section 6.5.2 counts for it.
HEADER_LIST_LIMIT: Final = TARGET_LIMIT + HEADERS_LIMIT + 32 * HEADER_COUNT_LIMIT

# Bytes of a compressed header block, over all its frames.
HEADER_BLOCK_LIMIT: Final = TARGET_LIMIT + HEADERS_LIMIT

# Frames of a header block after the first one; with the limit above they would be of a KiB and more.
CONTINUATION_LIMIT: Final = 32

# Bytes of answers to SETTINGS, PING and mistakes that a client has not taken: it sends, and does not read.
CONTROL_LIMIT: Final = 256 * 1024

# Requests given up by the client, over those that were answered: it makes us work for nothing (CVE-2023-44487).
RESET_LIMIT: Final = 200

# Frames between two requests that mean nothing to any (SETTINGS, PING, PRIORITY, DATA, late frames of ended streams).
IDLE_FRAME_LIMIT: Final = 10_000

# Streams ended by us whose late frames are still told apart from mistakes.
REMEMBERED_STREAMS: Final = 100


class _Condition(Enum):
    """Where a stream stands, as its client may know (RFC 9113 section 5.1)."""

    IDLE = auto()
    OPEN = auto()
    """The request's body is still to come."""
    HALF_CLOSED = auto()
    """The request is whole; the answer is awaited or being sent."""
    CLOSED = auto()
    RESET = auto()
    """Ended by us, which the client may not know yet."""


class _Action(Enum):
    TAKE = auto()
    IGNORE = auto()
    STREAM_ERROR = auto()
    CONNECTION_ERROR = auto()
    CONNECTION_CLOSED_ERROR = auto()


_ACTIONS: Final = {
    (FrameType.DATA, _Condition.IDLE): _Action.CONNECTION_ERROR,
    (FrameType.DATA, _Condition.OPEN): _Action.TAKE,
    (FrameType.DATA, _Condition.HALF_CLOSED): _Action.STREAM_ERROR,
    (FrameType.DATA, _Condition.CLOSED): _Action.CONNECTION_CLOSED_ERROR,
    (FrameType.DATA, _Condition.RESET): _Action.IGNORE,
    (FrameType.HEADERS, _Condition.IDLE): _Action.TAKE,
    (FrameType.HEADERS, _Condition.OPEN): _Action.TAKE,
    (FrameType.HEADERS, _Condition.HALF_CLOSED): _Action.STREAM_ERROR,
    (FrameType.HEADERS, _Condition.CLOSED): _Action.CONNECTION_CLOSED_ERROR,
    (FrameType.HEADERS, _Condition.RESET): _Action.IGNORE,
    (FrameType.RST_STREAM, _Condition.IDLE): _Action.CONNECTION_ERROR,
    (FrameType.RST_STREAM, _Condition.OPEN): _Action.TAKE,
    (FrameType.RST_STREAM, _Condition.HALF_CLOSED): _Action.TAKE,
    (FrameType.RST_STREAM, _Condition.CLOSED): _Action.IGNORE,
    (FrameType.RST_STREAM, _Condition.RESET): _Action.IGNORE,
    (FrameType.WINDOW_UPDATE, _Condition.IDLE): _Action.CONNECTION_ERROR,
    (FrameType.WINDOW_UPDATE, _Condition.OPEN): _Action.TAKE,
    (FrameType.WINDOW_UPDATE, _Condition.HALF_CLOSED): _Action.TAKE,
    (FrameType.WINDOW_UPDATE, _Condition.CLOSED): _Action.IGNORE,
    (FrameType.WINDOW_UPDATE, _Condition.RESET): _Action.IGNORE,
}
"""What becomes of a frame that belongs to a stream."""


class _Stream:
    __slots__ = ("body", "body_left", "is_answered", "is_whole", "window")

    def __init__(self, window: int, body_left: int | None) -> None:
        self.window = window
        """Bytes of DATA that the client takes on this stream now."""
        self.is_whole = False
        """Whether the request has ended."""
        self.is_answered = False
        self.body: memoryview | None = None
        """What is left of the answer's body."""
        self.body_left = body_left
        """Bytes that the request's body still lacks by its content-length."""


class Http2Connection:
    """Requests out of bytes, bytes out of responses; `polycast.wire.http.http1.Http1Connection` has the same methods.

    Bodies of requests are discarded.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._awaits_preface = True
        self._awaits_settings = True
        self._decoder = hpack.Decoder(max_header_list_size=HEADER_LIST_LIMIT)
        self._streams: dict[int, _Stream] = {}
        self._last_stream = 0
        self._reset: deque[int] = deque(maxlen=REMEMBERED_STREAMS)
        self.events: deque[Event] = deque()
        """What `next_event` has not returned yet."""
        self._error: RemoteProtocolError | None = None
        self._block: tuple[int, int, list[bytes]] | None = None
        """Stream, flags and pieces of a header block that goes on in the next frame."""
        self._control = bytearray()
        """Frames that wait for no window."""
        self._sending: deque[int] = deque()
        """Streams with a body to send, in turn."""
        self._window = DEFAULT_WINDOW
        """Bytes of DATA that the client takes on the connection now."""
        self._stream_window = DEFAULT_WINDOW
        """Window of a new stream."""
        self._frame_size = FRAME_SIZE
        self._unacknowledged = 0
        """Bytes of DATA that came and whose window was not given back yet."""
        self._is_shutting_down = False
        self._resets = 0
        self._idle_frames = 0
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            FrameType.DATA: self._on_data,
            FrameType.HEADERS: self._on_headers,
            FrameType.PRIORITY: self._on_priority,
            FrameType.RST_STREAM: self._on_rst_stream,
            FrameType.SETTINGS: self._on_settings,
            FrameType.PUSH_PROMISE: self._on_push_promise,
            FrameType.PING: self._on_ping,
            FrameType.GOAWAY: self._on_goaway,
            FrameType.WINDOW_UPDATE: self._on_window_update,
            FrameType.CONTINUATION: self._on_continuation,
        }
        settings = {
            Setting.MAX_CONCURRENT_STREAMS: MAXIMUM_STREAMS,
            Setting.MAX_HEADER_LIST_SIZE: HEADER_LIST_LIMIT,
            Setting.NO_RFC7540_PRIORITIES: 1,
        }
        payload = b"".join(SETTING.pack(name, value) for name, value in settings.items())
        self._control += build_frame(FrameType.SETTINGS, 0, 0, payload)

    # The same for both versions

    def receive_data(self, data: bytes) -> None:
        """Take what one read brought.

        Raises RemoteProtocolError when the connection cannot go on. That is final: `take` then has the last bytes to
        send, and nothing else can be read.
        """
        if self._error is not None:
            raise self._error
        buffer = self._buffer + data if self._buffer else data
        position = 0
        if self._awaits_preface:
            if not buffer.startswith(PREFACE[: len(buffer)]):
                raise self._fail(ErrorCode.PROTOCOL_ERROR, "not an HTTP/2 connection")
            if len(buffer) < len(PREFACE):
                self._buffer = buffer
                return
            self._awaits_preface = False
            position = len(PREFACE)
        size = len(buffer)
        while size - position >= FRAME_HEADER_SIZE:
            high, low, kind, flags, stream = HEADER_STRUCT.unpack_from(buffer, position)
            length = high << 8 | low
            if length > FRAME_SIZE:
                raise self._fail(ErrorCode.FRAME_SIZE_ERROR, f"a frame larger than {FRAME_SIZE} bytes")
            end = position + FRAME_HEADER_SIZE + length
            if end > size:
                break
            self._receive_frame(kind, flags, stream & MAXIMUM_WINDOW, buffer[position + FRAME_HEADER_SIZE : end])
            position = end
        self._buffer = buffer[position:]

    def next_event(self) -> Event | None:
        """Return the next request or reset; None when more bytes are needed."""
        return self.events.popleft() if self.events else None

    def respond(self, stream: int, response: Response, date: bytes, *, head: bool = False) -> None:
        """Answer a request; ``head`` leaves the body out. ``date`` is an HTTP-date. Nothing when it was reset."""
        state = self._streams.get(stream)
        if state is None or state.is_answered:
            return
        state.is_answered = True
        self._resets = max(0, self._resets - 1)
        block = response.http2_head(date)
        is_empty = head or not response.body
        self._control += build_headers(FLAG_END_STREAM if is_empty else 0, stream, block, self._frame_size)
        if is_empty:
            self._end(stream, state)
        else:
            state.body = memoryview(response.body)
            self._sending.append(stream)

    def respond_at_once(self, stream: int, response: Response, date: bytes, *, head: bool = False) -> bytes:
        """Answer as `respond` does. Returns nothing: what goes out when is left to `take`, which knows the windows."""
        self.respond(stream, response, date, head=head)
        return b""

    def take(self, limit: int) -> Sequence[bytes | memoryview]:
        """Take about ``limit`` bytes off what may be sent now; empty when there is nothing."""
        taken: list[bytes | memoryview] = []
        if self._control:
            taken.append(bytes(self._control))
            limit -= len(self._control)
            self._control.clear()
        sending = self._sending
        stuck = 0
        while limit > 0 and self._window > 0 and stuck < len(sending):
            stream = sending.popleft()
            state = self._streams.get(stream)
            if state is None or state.body is None:
                continue
            size = self._take_body(stream, state, limit, taken)
            limit -= size
            stuck = 0 if size else stuck + 1
            if state.body:
                sending.append(stream)  # the others have their turn
        if self._control:  # streams whose request had not ended
            taken.append(bytes(self._control))
            self._control.clear()
        return taken

    def shut_down(self) -> None:
        """Begin no more requests; those under way are answered (RFC 9113 section 6.8)."""
        if not self._is_shutting_down:
            self._is_shutting_down = True
            self._control += build_frame(
                FrameType.GOAWAY, 0, 0, LONG.pack(self._last_stream) + LONG.pack(ErrorCode.NO_ERROR)
            )

    @property
    def is_incomplete(self) -> bool:
        """Whether a request has begun whose end has not come yet."""
        return bool(self._buffer) or self._awaits_settings or self._block is not None

    @property
    def has_work(self) -> bool:
        """Whether `next_event` or `take` may have something, or the connection may be over."""
        return bool(self.events or self._control or self._sending or self._is_shutting_down)

    @property
    def is_full(self) -> bool:
        """Never: a client learns how many requests it may send."""
        return False

    @property
    def is_discarding(self) -> bool:
        """Whether the client may be sending what nobody reads; to close at once could cost it the error's reason."""
        return self._error is not None

    @property
    def is_sending(self) -> bool:
        """Whether something is left to take, now or when the client opens its windows."""
        return bool(self._control or self._sending)

    @property
    def is_finished(self) -> bool:
        """Whether the connection is to be closed: everything was answered and taken."""
        return self._is_shutting_down and not (self._streams or self._control)

    # Sending

    def _take_body(self, stream: int, state: _Stream, limit: int, taken: list[bytes | memoryview]) -> int:
        """Take DATA frames of one stream, one frame where others wait; return their bytes."""
        body = state.body
        if body is None:
            return 0
        alone = not self._sending
        total = 0
        while True:
            size = min(len(body), self._frame_size, self._window, state.window)
            if size <= 0:
                break
            piece, body = body[:size], body[size:]
            self._window -= size
            state.window -= size
            total += size
            flags = 0 if body else FLAG_END_STREAM
            taken += (build_frame_header(size, FrameType.DATA, flags, stream), piece)
            if not body or not alone or total >= limit:
                break
        state.body = body
        if not body:
            self._end(stream, state)
        return total

    def _end(self, stream: int, state: _Stream) -> None:
        """Forget a stream whose answer was sent."""
        if state.is_whole:
            del self._streams[stream]
        else:  # its body is of no interest (RFC 9113 section 8.1)
            self._abort(stream, ErrorCode.NO_ERROR)

    def _abort(self, stream: int, code: ErrorCode) -> None:
        self._streams.pop(stream, None)
        self._reset.append(stream)
        self._control += build_frame(FrameType.RST_STREAM, 0, stream, LONG.pack(code))

    def _fail(self, code: ErrorCode, reason: str) -> RemoteProtocolError:
        self._error = RemoteProtocolError(reason)
        self._is_shutting_down = True
        self._streams.clear()
        self._sending.clear()
        self._buffer = b""
        self._control += build_frame(FrameType.GOAWAY, 0, 0, LONG.pack(self._last_stream) + LONG.pack(code))
        return self._error

    # Receiving

    def _receive_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._awaits_settings:
            if kind != FrameType.SETTINGS or flags & FLAG_ACK:
                raise self._fail(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._awaits_settings = False
        if self._block is not None and (kind != FrameType.CONTINUATION or stream != self._block[0]):
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
        handler = self._handlers.get(kind)
        if handler is None:
            self._count_idle_frame()
            return
        try:
            handler(flags, stream, payload)
        except StreamError as error:
            if error.stream in self._streams:
                self.events.append(Reset(error.stream))
            self._count_reset()
            self._abort(error.stream, error.code)
        if len(self._control) > CONTROL_LIMIT:
            raise self._fail(ErrorCode.ENHANCE_YOUR_CALM, "the client sends and does not read")

    def _count_idle_frame(self) -> None:
        self._idle_frames += 1
        if self._idle_frames > IDLE_FRAME_LIMIT:
            raise self._fail(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that mean nothing")

    def _count_reset(self) -> None:
        self._resets += 1
        if self._resets > RESET_LIMIT:
            raise self._fail(ErrorCode.ENHANCE_YOUR_CALM, "too many requests that were given up")

    def _condition(self, stream: int) -> _Condition:
        state = self._streams.get(stream)
        if state is not None:
            return _Condition.HALF_CLOSED if state.is_whole else _Condition.OPEN
        if stream > self._last_stream:
            return _Condition.IDLE
        return _Condition.RESET if stream in self._reset else _Condition.CLOSED

    def _is_wanted(self, kind: FrameType, stream: int) -> bool:
        """Return whether to take a frame of a stream; False to ignore it."""
        if stream == 0 or stream % 2 == 0:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, f"{kind.name} on stream {stream}")
        condition = self._condition(stream)
        action = _ACTIONS[kind, condition]
        if action is _Action.STREAM_ERROR:
            raise StreamError(stream, ErrorCode.STREAM_CLOSED)
        if action is _Action.CONNECTION_ERROR:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, f"{kind.name} on a stream that is {condition.name}")
        if action is _Action.CONNECTION_CLOSED_ERROR:
            raise self._fail(ErrorCode.STREAM_CLOSED, f"{kind.name} on a stream that is {condition.name}")
        if action is _Action.IGNORE:
            self._count_idle_frame()
        return action is _Action.TAKE

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        wanted = self._is_wanted(FrameType.DATA, stream)
        self._give_back(len(payload))
        data = strip_padding(flags, payload)
        if data is None:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
        if not wanted:
            return
        self._count_idle_frame()
        state = self._streams[stream]
        if state.body_left is not None:
            state.body_left -= len(data)
        if flags & FLAG_END_STREAM:
            self._complete(stream, state)

    def _give_back(self, size: int) -> None:
        """Open the connection's window again for what was discarded."""
        self._unacknowledged += size
        if self._unacknowledged > DEFAULT_WINDOW // 2:
            self._control += build_frame(FrameType.WINDOW_UPDATE, 0, 0, LONG.pack(self._unacknowledged))
            self._unacknowledged = 0

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
            self._block = (stream, flags, [data])

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._block is None:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        first, first_flags, pieces = self._block
        pieces.append(payload)
        if len(pieces) > CONTINUATION_LIMIT or sum(map(len, pieces)) > HEADER_BLOCK_LIMIT:
            raise self._fail(ErrorCode.ENHANCE_YOUR_CALM, "headers that are too long")
        if flags & FLAG_END_HEADERS:
            self._block = None
            self._on_block(first, first_flags, b"".join(pieces))

    def _on_block(self, stream: int, flags: int, block: bytes) -> None:
        """A header block is whole. It is decompressed in any case: the decoder's table goes on with it."""
        try:
            fields = self._decoder.decode(block, raw=True)
        except hpack.OversizedHeaderListError:
            raise self._fail(ErrorCode.ENHANCE_YOUR_CALM, "headers that are too long") from None
        except hpack.HPACKError:
            raise self._fail(ErrorCode.COMPRESSION_ERROR, "headers cannot be decompressed") from None
        if not self._is_wanted(FrameType.HEADERS, stream):
            return
        state = self._streams.get(stream)
        if state is not None:
            self._on_trailers(stream, state, flags, fields)
            return
        self._last_stream = stream
        if self._is_shutting_down or len(self._streams) >= MAXIMUM_STREAMS:
            raise StreamError(stream, ErrorCode.REFUSED_STREAM)
        try:
            request, length = make_request(stream, fields)
        except MalformedRequest:
            raise StreamError(stream, ErrorCode.PROTOCOL_ERROR) from None
        state = _Stream(self._stream_window, length)
        if flags & FLAG_END_STREAM:
            self._complete(stream, state)
        self._streams[stream] = state
        self._idle_frames = 0
        self.events.append(request)

    def _on_trailers(self, stream: int, state: _Stream, flags: int, fields: Iterable[tuple[bytes, bytes]]) -> None:
        try:
            for name, value in fields:
                check_field(name, value)
        except MalformedRequest:
            raise StreamError(stream, ErrorCode.PROTOCOL_ERROR) from None
        if not flags & FLAG_END_STREAM:
            raise StreamError(stream, ErrorCode.PROTOCOL_ERROR)
        self._complete(stream, state)

    def _complete(self, stream: int, state: _Stream) -> None:
        """The request has ended."""
        if state.body_left:
            raise StreamError(stream, ErrorCode.PROTOCOL_ERROR)  # RFC 9113 section 8.1.1
        state.is_whole = True

    def _on_priority(self, flags: int, stream: int, payload: bytes) -> None:
        """RFC 9113 section 5.3.2: priorities are deprecated, and not looked at. The stream may be idle, which must not
        be reset; so mistakes cost the connection (section 5.4.2)."""
        self._count_idle_frame()
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
            del self._streams[stream]
            self.events.append(Reset(stream))
            self._count_reset()

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        self._count_idle_frame()
        if stream:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if len(payload) % SETTING.size or (flags & FLAG_ACK and payload):
            raise self._fail(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        if flags & FLAG_ACK:
            return
        for name, value in SETTING.iter_unpack(payload):
            if name == Setting.ENABLE_PUSH and value > 1:
                raise self._fail(ErrorCode.PROTOCOL_ERROR, "invalid ENABLE_PUSH")
            if name == Setting.INITIAL_WINDOW_SIZE:
                self._set_stream_window(value)
            elif name == Setting.MAX_FRAME_SIZE:
                if not FRAME_SIZE <= value < 1 << 24:
                    raise self._fail(ErrorCode.PROTOCOL_ERROR, "invalid MAX_FRAME_SIZE")
                self._frame_size = min(value, 4 * FRAME_SIZE)
        self._control += build_frame(FrameType.SETTINGS, FLAG_ACK, 0)

    def _set_stream_window(self, size: int) -> None:
        if size > MAXIMUM_WINDOW:
            raise self._fail(ErrorCode.FLOW_CONTROL_ERROR, "invalid INITIAL_WINDOW_SIZE")
        growth = size - self._stream_window
        self._stream_window = size
        for state in self._streams.values():
            state.window += growth
            if state.window > MAXIMUM_WINDOW:
                raise self._fail(ErrorCode.FLOW_CONTROL_ERROR, "a window that is too large")

    def _on_push_promise(self, flags: int, stream: int, payload: bytes) -> None:
        raise self._fail(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        self._count_idle_frame()
        if stream:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise self._fail(ErrorCode.FRAME_SIZE_ERROR, "PING of a wrong size")
        if not flags & FLAG_ACK:
            self._control += build_frame(FrameType.PING, FLAG_ACK, 0, payload)

    def _on_goaway(self, flags: int, stream: int, payload: bytes) -> None:
        """The client will make no more requests; those under way are answered."""
        self._count_idle_frame()
        if stream:
            raise self._fail(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise self._fail(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of a wrong size")
        self._is_shutting_down = True

    def _on_window_update(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise self._fail(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size")
        growth = LONG.unpack(payload)[0] & MAXIMUM_WINDOW
        if stream == 0:
            self._window += growth
            if growth == 0 or self._window > MAXIMUM_WINDOW:
                code = ErrorCode.FLOW_CONTROL_ERROR if growth else ErrorCode.PROTOCOL_ERROR
                raise self._fail(code, "invalid WINDOW_UPDATE")
            return
        if not self._is_wanted(FrameType.WINDOW_UPDATE, stream):
            return
        state = self._streams[stream]
        state.window += growth
        if growth == 0 or state.window > MAXIMUM_WINDOW:
            raise StreamError(stream, ErrorCode.FLOW_CONTROL_ERROR if growth else ErrorCode.PROTOCOL_ERROR)
