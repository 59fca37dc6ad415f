"""WebSocket (RFC 6455): the opening handshake of both sides, and messages as a stream of bytes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from typing import Final

from polycast.errors import RemoteProtocolError

CONTROL_LIMIT: Final = 125
"""Bytes of a control frame (section 5.5)."""

FRAME_LIMIT: Final = 1 << 20
"""Bytes of one frame. Frames are not held until they are complete, so this only rejects junk early: clients put one
message or one read into a frame."""

KEY_SIZE: Final = 16
"""Bytes of the random key of a handshake (section 4.1)."""

MASK_SIZE: Final = 4

NORMAL_CLOSURE: Final = 1000
PROTOCOL_ERROR: Final = 1002

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def accept_key(key: str) -> str:
    """Return the Sec-WebSocket-Accept that proves that a server has read the client's key (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


def is_key(key: str) -> bool:
    """Whether a text is a valid Sec-WebSocket-Key: 16 bytes in base64 (section 4.2.1)."""
    try:
        return len(base64.b64decode(key, validate=True)) == KEY_SIZE
    except ValueError:
        return False


def frame_head(size: int, mask: bytes = b"", opcode: int = _BINARY) -> bytes:
    """Return what precedes the payload of an unfragmented frame. ``mask``: from clients, else empty (section 5.3)."""
    flag = _MASKED if mask else 0
    if size < 126:
        return bytes((_FINAL | opcode, flag | size)) + mask
    if size < 1 << 16:
        return bytes((_FINAL | opcode, flag | 126)) + size.to_bytes(2, "big") + mask
    return bytes((_FINAL | opcode, flag | 127)) + size.to_bytes(8, "big") + mask


def binary_message(data: bytes, mask: bytes = b"") -> bytes:
    """Return ``data`` as one binary message."""
    return frame_head(len(data), mask) + (_apply_mask(data, mask, 0) if mask else data)


def _apply_mask(data: bytes, mask: bytes, position: int) -> bytes:
    """Mask or unmask ``data``, which begins at this position of its frame.

    The exclusive or of two large integers takes a microsecond for 10 KiB; byte by byte it would take a millisecond.
    """
    size = len(data)
    start = position % MASK_SIZE
    pattern = (mask[start:] + mask[:start]) * (size // MASK_SIZE + 1)
    return (int.from_bytes(data, "little") ^ int.from_bytes(pattern[:size], "little")).to_bytes(size, "little")


class WebSocketConnection:
    """One side of a connection after the handshake, without I/O: the binary messages are one stream of bytes.

    Call `receive_data` with received bytes, then write `data_to_send` to the socket: pongs, and the answer to a
    close frame. `RemoteProtocolError` out of `receive_data` means that the peer violated the protocol; `data_to_send`
    then has the close frame that says so.
    """

    def __init__(self, *, is_client: bool, new_mask: Callable[[], bytes] = lambda: b"") -> None:
        """``new_mask`` returns four random bytes; for clients, whose frames must be masked."""
        self.is_closed = False
        """Whether the peer has closed the connection; what follows is ignored."""
        self._is_client = is_client
        self._new_mask = new_mask
        self._buffer = b""
        """The bytes of an incomplete frame head or control frame."""
        self._left = 0
        """Payload bytes of the current data frame that have not been received."""
        self._mask = b""
        self._position = 0
        """In the payload of the current data frame."""
        self._in_message = False
        """Whether a fragmented message goes on."""
        self._has_closed = False
        """Whether our close frame was written."""
        self._output: list[bytes] = []

    def send(self, data: bytes) -> bytes:
        """Return the bytes for a binary message."""
        return binary_message(data, self._new_mask())

    def close(self, code: int = NORMAL_CLOSURE) -> None:
        """Write a close frame, once."""
        if not self._has_closed:
            self._has_closed = True
            self._write_control(_CLOSE, code.to_bytes(2, "big"))

    def data_to_send(self) -> bytes:
        """Return the bytes to write to the socket, once."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    @property
    def held_size(self) -> int:
        """Number of received bytes that are not part of the stream yet."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> bytes:
        """Take bytes from the socket; return those of the stream that they contain. Raises RemoteProtocolError."""
        if self.is_closed:
            return b""
        try:
            return b"".join(self._payloads(self._buffer + data if self._buffer else data))
        except RemoteProtocolError:
            self.is_closed = True
            self._buffer = b""
            self.close(PROTOCOL_ERROR)
            raise

    def _payloads(self, data: bytes) -> Iterable[bytes]:
        position, size = 0, len(data)
        found: list[bytes] = []
        while position < size and not self.is_closed:
            if self._left:
                end = min(size, position + self._left)
                payload = data[position:end]
                found.append(_apply_mask(payload, self._mask, self._position) if self._mask else payload)
                self._position += end - position
                self._left -= end - position
                position = end
                continue
            following = self._take_frame(data, position)
            if following is None:
                break
            position = following
        self._buffer = b"" if self.is_closed else data[position:]
        return found

    def _take_frame(self, data: bytes, position: int) -> int | None:
        """Take the head of a frame, or a whole control frame; return what follows it, None if more bytes are needed."""
        if len(data) < position + 2:
            return None
        first, second = data[position], data[position + 1]
        opcode, length = first & 0x0F, second & 0x7F
        if first & _RESERVED:
            raise RemoteProtocolError("a WebSocket frame with an extension that was not negotiated")
        if bool(second & _MASKED) is self._is_client:
            raise RemoteProtocolError("a masked WebSocket frame" if self._is_client else "an unmasked WebSocket frame")
        is_control = opcode >= _CLOSE
        if is_control and (length > CONTROL_LIMIT or not first & _FINAL):
            raise RemoteProtocolError("an invalid WebSocket control frame")
        start = position + 2
        if length > CONTROL_LIMIT:
            count = 2 if length == 126 else 8
            if len(data) < start + count:
                return None
            length = int.from_bytes(data[start : start + count], "big")
            start += count
        if length > FRAME_LIMIT:
            raise RemoteProtocolError(f"a WebSocket frame larger than {FRAME_LIMIT} bytes")
        mask = b""
        if second & _MASKED:
            mask = data[start : start + MASK_SIZE]
            start += MASK_SIZE
        if len(data) < start + (length if is_control else 0):
            return None
        if is_control:
            payload = data[start : start + length]
            self._on_control(opcode, _apply_mask(payload, mask, 0) if mask else payload)
            return start + length
        self._begin_data(opcode, is_final=bool(first & _FINAL))
        self._left, self._mask, self._position = length, mask, 0
        return start

    def _begin_data(self, opcode: int, *, is_final: bool) -> None:
        if opcode not in (_BINARY, _CONTINUATION):
            raise RemoteProtocolError("a WebSocket message that is not binary")
        if (opcode == _CONTINUATION) is not self._in_message:
            raise RemoteProtocolError("an unexpected WebSocket fragment")
        self._in_message = not is_final

    def _on_control(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            if not self._has_closed:
                self._write_control(_PONG, payload)
        elif opcode == _CLOSE:
            self.is_closed = True
            self.close(int.from_bytes(payload[:2], "big") if len(payload) >= 2 else NORMAL_CLOSURE)
        elif opcode != _PONG:
            raise RemoteProtocolError("an unknown WebSocket control frame")

    def _write_control(self, opcode: int, payload: bytes) -> None:
        mask = self._new_mask()
        body = _apply_mask(payload, mask, 0) if mask else payload
        self._output.append(frame_head(len(payload), mask, opcode) + body)
