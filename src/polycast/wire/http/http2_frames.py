"""HTTP/2 on the wire: frame types, error codes, settings, frames (RFC 9113 sections 4, 6, 7)."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (RFC 9113 section 3.4)."""

FRAME_HEADER_SIZE: Final = 9

# Bytes of the largest frame unless SETTINGS say otherwise (RFC 9113 section 4.2).
FRAME_SIZE: Final = 16_384

# Bytes of a flow-control window: initial and maximum (RFC 9113 section 6.9).
DEFAULT_WINDOW: Final = 65_535
MAXIMUM_WINDOW: Final = 2**31 - 1

FLAG_END_STREAM: Final = 0x1
FLAG_ACK: Final = 0x1
FLAG_END_HEADERS: Final = 0x4
FLAG_PADDED: Final = 0x8
FLAG_PRIORITY: Final = 0x20

HEADER_STRUCT: Final = Struct(">HBBBI")
"""High and low part of the length, type, flags, stream."""
LONG: Final = Struct(">I")
SETTING: Final = Struct(">HI")


class FrameType(IntEnum):
    """The frame types; others are ignored."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class ErrorCode(IntEnum):
    """RFC 9113 section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Setting(IntEnum):
    """RFC 9113 section 6.5.2, RFC 9218 section 2.1."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6
    NO_RFC7540_PRIORITIES = 9


class StreamError(Exception):
    """An error of the peer that ends only one stream. It does not leave the engine."""

    def __init__(self, stream: int, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.stream = stream
        self.code = code


class FrameError(Exception):
    """An error of the peer that ends the connection. It does not leave the engine."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def build_frame_header(length: int, kind: FrameType, flags: int, stream: int) -> bytes:
    """Return the nine-byte header of a payload of ``length`` bytes."""
    return HEADER_STRUCT.pack(length >> 8, length & 0xFF, kind, flags, stream)


def build_frame(kind: FrameType, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a whole frame."""
    return build_frame_header(len(payload), kind, flags, stream) + payload


def build_headers(flags: int, stream: int, block: bytes, frame_size: int) -> bytes:
    """Return HEADERS, with CONTINUATION if the block is larger than a frame (RFC 9113 section 6.10)."""
    frames = bytearray()
    kind = FrameType.HEADERS
    while len(block) > frame_size:
        frames += build_frame(kind, flags, stream, block[:frame_size])
        kind, flags, block = FrameType.CONTINUATION, 0, block[frame_size:]
    return bytes(frames + build_frame(kind, flags | FLAG_END_HEADERS, stream, block))


def strip_padding(flags: int, payload: bytes) -> bytes | None:
    """Return a payload without its padding (RFC 9113 section 6.1); None if there is more padding than payload."""
    if not flags & FLAG_PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        return None
    return payload[1 : len(payload) - payload[0]]


class FrameBuffer:
    """Splits received data into frames."""

    __slots__ = ("_awaits_preface", "_received")

    def __init__(self) -> None:
        self._received = b""
        self._awaits_preface = True

    @property
    def is_incomplete(self) -> bool:
        """Whether a frame, or the preface, has been received in part."""
        return bool(self._received) or self._awaits_preface

    @property
    def held_size(self) -> int:
        """Number of bytes held of an incomplete frame."""
        return len(self._received)

    def receive(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield type, flags, stream and payload of each complete frame. Raises FrameError."""
        received = self._received + data if self._received else data
        position = 0
        if self._awaits_preface:
            if not received.startswith(PREFACE[: len(received)]):
                raise FrameError(ErrorCode.PROTOCOL_ERROR, "not an HTTP/2 connection")
            if len(received) < len(PREFACE):
                self._received = received
                return
            self._awaits_preface = False
            position = len(PREFACE)
        size = len(received)
        while size - position >= FRAME_HEADER_SIZE:
            high, low, kind, flags, stream = HEADER_STRUCT.unpack_from(received, position)
            length = high << 8 | low
            if length > FRAME_SIZE:
                raise FrameError(ErrorCode.FRAME_SIZE_ERROR, f"a frame larger than {FRAME_SIZE} bytes")
            start = position + FRAME_HEADER_SIZE
            position = start + length
            if position > size:
                position = start - FRAME_HEADER_SIZE
                break
            yield kind, flags, stream & MAXIMUM_WINDOW, received[start:position]
        self._received = received[position:]

    def clear(self) -> None:
        """Release memory."""
        self._received = b""
