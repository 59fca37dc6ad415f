"""What an HTTP/2 connection sends: control frames at once, bodies as far as the client's windows allow."""

from __future__ import annotations

from collections import deque
from typing import Final

from polycast.wire.http.http2_frames import (
    DEFAULT_WINDOW,
    FLAG_END_HEADERS,
    FLAG_END_STREAM,
    FRAME_SIZE,
    HEADER_STRUCT,
    MAXIMUM_WINDOW,
    FrameType,
    build_frame,
    build_frame_header,
    build_headers,
)
from polycast.wire.http.http2_streams import Stream

# Times FRAME_SIZE that a frame of ours may have where the client accepts more: it keeps turns between streams short.
_LARGEST_FRAMES: Final = 4


class Output:
    """The queue of frames of a connection with these streams."""

    __slots__ = ("_sending", "_streams", "control", "ended", "frame_size", "frames_sent", "stream_window", "window")

    def __init__(self, streams: dict[int, Stream]) -> None:
        self._streams = streams
        self.ended: list[int] = []
        """Streams whose response was taken to its end."""
        self.control = bytearray()
        """Frames that wait for no window."""
        self._sending: deque[int] = deque()
        """Streams with a body to send, in turn."""
        self.window = DEFAULT_WINDOW
        """Bytes of DATA that the client accepts on the connection now."""
        self.stream_window = DEFAULT_WINDOW
        """Window of a new stream."""
        self.frame_size = FRAME_SIZE
        self.frames_sent = 0
        """DATA frames since the owner has set this to zero."""

    @property
    def is_sending(self) -> bool:
        """Whether something is left, to be taken now or when the client opens its windows."""
        return bool(self.control or self._sending)

    def clear(self) -> None:
        """Send no more bodies."""
        self._sending.clear()

    def allow_frames(self, size: int) -> None:
        """The client accepts frames of so many bytes."""
        self.frame_size = min(size, _LARGEST_FRAMES * FRAME_SIZE)

    def set_stream_window(self, size: int) -> bool:
        """Change the window of all streams (RFC 9113 section 6.9.2); return whether all remain within the limit."""
        growth = size - self.stream_window
        self.stream_window = size
        for state in self._streams.values():
            state.window += growth
        return all(state.window <= MAXIMUM_WINDOW for state in self._streams.values())

    def send_headers(self, stream: int, block: bytes, *, is_last: bool) -> None:
        """Queue the head of a response."""
        self.control += build_headers(FLAG_END_STREAM if is_last else 0, stream, block, self.frame_size)

    def send_body(self, stream: int, state: Stream, data: bytes | memoryview) -> None:
        """Queue a body, or a piece of one."""
        if state.body is None:
            state.body = memoryview(data)
            self._sending.append(stream)
        else:
            if state.more is None:
                state.more = deque()
            state.more.append(bytes(data))

    def send_end(self, stream: int) -> None:
        """Queue the end of a body of which nothing is left."""
        self.control += build_frame(FrameType.DATA, FLAG_END_STREAM, stream)

    def whole(self, stream: int, state: Stream, block: bytes, body: bytes | memoryview) -> bytes:
        """Return a response that fits into one piece and into the windows; empty when it does not."""
        size = len(body)
        if self.control or self._sending or not 0 < size <= min(self.frame_size, self.window, state.window):
            return b""
        head = len(block)
        if head > self.frame_size:
            return b""
        self.window -= size
        self.frames_sent += 1
        return b"".join(
            (
                HEADER_STRUCT.pack(head >> 8, head & 0xFF, FrameType.HEADERS, FLAG_END_HEADERS, stream),
                block,
                HEADER_STRUCT.pack(size >> 8, size & 0xFF, FrameType.DATA, FLAG_END_STREAM, stream),
                body,
            )
        )

    def take(self, limit: int) -> list[bytes | memoryview]:
        """Take about ``limit`` bytes off what may be sent now; empty when there is nothing."""
        taken: list[bytes | memoryview] = []
        if self.control:
            taken.append(self.take_control())
            limit -= len(taken[0])
        sending = self._sending
        stuck = 0
        while limit > 0 and self.window > 0 and stuck < len(sending):
            stream = sending.popleft()
            state = self._streams.get(stream)
            if state is None or state.body is None:
                continue
            size = self._take_body(stream, state, limit, taken)
            limit -= size
            stuck = 0 if size else stuck + 1
            if state.body is not None:
                sending.append(stream)  # the others have their turn
        return taken

    def take_control(self) -> bytes:
        """Take the frames that wait for no window."""
        control = bytes(self.control)
        self.control = bytearray()  # cleared, it would keep its memory
        return control

    def _take_body(self, stream: int, state: Stream, limit: int, taken: list[bytes | memoryview]) -> int:
        """Take DATA frames of one stream, one frame where others wait; return their bytes."""
        alone = not self._sending
        total = 0
        while state.body is not None:
            body = state.body
            size = min(len(body), self.frame_size, self.window, state.window)
            if size <= 0:
                break
            self.window -= size
            state.window -= size
            total += size
            rest = body[size:]
            if not rest:
                state.body = memoryview(state.more.popleft()) if state.more else None
            else:
                state.body = rest
            is_last = state.body is None and not state.is_streaming
            flags = FLAG_END_STREAM if is_last else 0
            taken += (build_frame_header(size, FrameType.DATA, flags, stream), body[:size])
            self.frames_sent += 1
            if is_last:
                self.ended.append(stream)
            if not alone or total >= limit:
                break
        return total
