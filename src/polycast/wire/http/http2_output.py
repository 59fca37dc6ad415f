"""The output of an HTTP/2 connection: control frames at once, bodies as far as the client's windows allow."""

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

# Largest frame sent, as a multiple of FRAME_SIZE, if the client accepts more: other streams do not wait for long.
_LARGEST_FRAMES: Final = 4


class Output:
    """The queue of frames of a connection; ``streams`` are those of the connection."""

    __slots__ = ("_sending", "_streams", "control", "ended", "frame_size", "frames_sent", "stream_window", "window")

    def __init__(self, streams: dict[int, Stream]) -> None:
        self._streams = streams
        self.ended: list[int] = []
        """Streams whose response was sent completely."""
        self.control = bytearray()
        """Frames that are not subject to flow control."""
        self._sending: deque[int] = deque()
        """Streams with a body to send, in round-robin order."""
        self.window = DEFAULT_WINDOW
        """Bytes of DATA that the client accepts on the connection now."""
        self.stream_window = DEFAULT_WINDOW
        """Window of a new stream."""
        self.frame_size = FRAME_SIZE
        self.frames_sent = 0
        """DATA frames since the owner last set this to zero."""

    @property
    def is_sending(self) -> bool:
        """Whether there is more to send, now or when the client opens its windows."""
        return bool(self.control or self._sending)

    def clear(self) -> None:
        """Send no more bodies."""
        self._sending.clear()

    def allow_frames(self, size: int) -> None:
        """Allow frames of up to ``size`` bytes, as the client accepts them."""
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
        """Queue the end of a body that was sent."""
        self.control += build_frame(FrameType.DATA, FLAG_END_STREAM, stream)

    def whole(self, stream: int, state: Stream, block: bytes, body: bytes | memoryview) -> bytes:
        """Return a response in one piece if it fits into the windows; otherwise empty."""
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

    def data_to_send(self, limit: int) -> list[bytes | memoryview]:
        """Return about ``limit`` of the bytes that may be sent now, and remove them; empty if there are none."""
        taken: list[bytes | memoryview] = []
        if self.control:
            taken.append(self.control_data())
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
                sending.append(stream)  # the other streams are due
        return taken

    def control_data(self) -> bytes:
        """Return the frames that are not subject to flow control, and remove them."""
        control = bytes(self.control)
        self.control = bytearray()  # clearing it would keep its memory
        return control

    def _take_body(self, stream: int, state: Stream, limit: int, taken: list[bytes | memoryview]) -> int:
        """Remove DATA frames of one stream, only one if others wait; return their number of bytes."""
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
