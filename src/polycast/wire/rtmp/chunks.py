"""The chunk stream (Adobe RTMP 1.0 section 5.3): parses and serialises messages.

Reading is a hot path: consecutive continuation chunks of one message are read with a fixed number of copies and
comparisons, however small the chunks are. Serialised messages do not depend on earlier ones (header type 0, absolute
timestamp), so that the same bytes are sent to every reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from polycast.errors import LocalProtocolError, RemoteProtocolError

DEFAULT_CHUNK_SIZE: Final = 128
"""In bytes, in both directions, until a Set Chunk Size message (section 5.4.1)."""

MINIMUM_CHUNK_SIZE: Final = 16
"""In bytes. The specification recommends 128 and allows 1, which would mean one header per byte."""

MAXIMUM_CHUNK_SIZE: Final = 0x7FFFFFFF
"""In bytes. Larger than any message means "never split"; no memory is reserved."""

MAXIMUM_MESSAGE_SIZE: Final = 8 << 20
"""In bytes. A 4K key frame at 100 Mbit/s is below 4 MiB; the length field could declare 16 MiB."""

MAXIMUM_COMMAND_SIZE: Final = 1 << 18
"""In bytes, for messages other than audio, video and aggregates. The largest of them is metadata with an index of key
frames."""

MAXIMUM_CHUNK_STREAMS: Final = 64
"""Chunk streams of one connection. Publishers use three to eight."""

MAXIMUM_PARTIAL_SIZE: Final = 12 << 20
"""Bytes of incomplete messages, over all chunk streams: somewhat more than the largest message."""

MAXIMUM_STEPS: Final = 1_000
"""Chunks, or runs of equal chunks, that one call parses: one to two milliseconds of work. A read of 256 KiB of real
media has a few hundred at most; a chunk may be as short as one byte."""

MAXIMUM_FIRST_DELTA: Final = 10_000
"""In milliseconds. A type 3 chunk that begins a message right after a type 0 message repeats its *timestamp* as the
delta (section 5.3.1.2.4; FFmpeg does so). Others mean no delta at all; a large value shows that."""

EXTENDED_TIMESTAMP: Final = 0xFFFFFF
"""The value of the 24-bit field that means: 32 bits follow after the header."""

TYPE_SET_CHUNK_SIZE: Final = 1
TYPE_ABORT: Final = 2
_LARGE_TYPES: Final = frozenset((8, 9, 22))

_UINT32 = Struct(">I")
_HEADER_SIZES = (11, 7, 3, 0)


class RawMessage:
    """One RTMP message as received: type, message stream, timestamp in milliseconds (32 bits), payload."""

    __slots__ = ("payload", "stream_id", "timestamp", "type")

    def __init__(self, message_type: int, stream_id: int, timestamp: int, payload: bytes) -> None:
        self.type = message_type
        self.stream_id = stream_id
        self.timestamp = timestamp
        self.payload = payload

    def __repr__(self) -> str:
        return (
            f"RawMessage(type={self.type}, stream_id={self.stream_id}, timestamp={self.timestamp},"
            f" {len(self.payload)} bytes)"
        )


class _ChunkStream:
    """What a chunk stream remembers: the header of its last message and the part of a message that has come."""

    __slots__ = (
        "buffer",
        "continuation",
        "delta",
        "extended",
        "first",
        "length",
        "missing",
        "stream_id",
        "timestamp",
        "type",
    )

    def __init__(self, identifier: int) -> None:
        self.continuation = _basic_header(3, identifier)
        """The header of a type 3 chunk that continues the message, with its extended timestamp."""
        self.type = 0
        self.length = -1
        """Of the message, in bytes; -1 before the first header."""
        self.stream_id = 0
        self.timestamp = 0
        self.delta = 0
        self.first = False
        """The last message had a type 0 header."""
        self.extended = -1
        """The extended timestamp field of the last header, -1 when it had none."""
        self.missing = 0
        """Bytes of the incomplete message that have not been received."""
        self.buffer = bytearray()
        """What has been received of the incomplete message. One buffer, not a list, as a peer may send single bytes."""


class ChunkReader:
    """Parses received bytes into messages. Set Chunk Size and Abort take effect here, and are returned as well.

    One call does at most `MAXIMUM_STEPS`; while ``has_more`` is true, call again without new bytes.
    """

    __slots__ = (
        "_chunk_missing",
        "_current",
        "_pending",
        "_streams",
        "chunk_size",
        "has_more",
        "partial_limit",
        "partial_size",
    )

    def __init__(self) -> None:
        self.chunk_size = DEFAULT_CHUNK_SIZE
        self.partial_limit = MAXIMUM_PARTIAL_SIZE
        """Maximum bytes of incomplete messages that are held."""
        self.has_more = False
        """Whether bytes are left only because of the limit of steps."""
        self._streams: dict[int, _ChunkStream] = {}
        self._pending = b""
        self._current: _ChunkStream | None = None
        self._chunk_missing = 0
        self.partial_size = 0
        """Bytes of incomplete messages held."""

    def receive(self, data: bytes) -> list[RawMessage]:
        """Process received bytes; return the messages that they complete. Raises `RemoteProtocolError`."""
        if self._pending:
            data = self._pending + data
            self._pending = b""
        messages: list[RawMessage] = []
        size = len(data)
        position = steps = 0
        self.has_more = False
        while position < size:
            steps += 1
            if steps > MAXIMUM_STEPS:
                self._pending = data[position:]
                self.has_more = True
                break
            stream = self._current
            if stream is None:
                header = self._read_header(data, position, size)
                if header is None:
                    self._pending = data[position:]
                    break
                stream, position = header
                if stream.missing == stream.length:
                    payload, end = self._read_whole(stream, data, position, size)
                    if payload is not None:
                        position = end
                        stream.missing = 0
                        messages.append(self._finish(stream, payload))
                        continue
                self._chunk_missing = min(stream.missing, self.chunk_size)
            position = self._read_part(stream, data, position, size)
            if not stream.missing:
                payload = bytes(stream.buffer)
                stream.buffer.clear()
                self.partial_size -= len(payload)
                messages.append(self._finish(stream, payload))
        return messages

    def _read_whole(self, stream: _ChunkStream, data: bytes, position: int, size: int) -> tuple[bytes | None, int]:
        """Return the payload of a message whose chunks are complete and consecutive, and where it ends.

        That is the usual case. The payload is None otherwise.
        """
        length = stream.length
        chunk_size = self.chunk_size
        if length <= chunk_size:
            end = position + length
            return (data[position:end] if end <= size else None), end
        continuation = stream.continuation
        count = (length - 1) // chunk_size
        end = position + length + count * len(continuation)
        if end > size:
            return None, end
        stride = len(continuation) + chunk_size
        if not _has_headers(data, position + chunk_size, end, continuation, count, stride):
            return None, end
        payload = bytearray(data[position:end])
        for index in range(len(continuation)):
            del payload[chunk_size :: stride - index]
        return bytes(payload), end

    def _read_part(self, stream: _ChunkStream, data: bytes, position: int, size: int) -> int:
        """Store what was received of a message that is incomplete or interleaved with others; return where it ends.

        That is the rest of the current chunk, and all chunks of the message that directly follow it.
        """
        chunk_end = position + self._chunk_missing
        end, count = chunk_end, 0
        if chunk_end < size and self._chunk_missing < stream.missing:
            end, count = self._follow(stream, data, chunk_end, size)
        elif chunk_end > size:
            end = size
        buffer = stream.buffer
        before = len(buffer)
        buffer += memoryview(data)[position:end]
        if count:
            stride = len(stream.continuation) + self.chunk_size
            for index in range(len(stream.continuation)):
                del buffer[before + chunk_end - position :: stride - index]
            self._chunk_missing = chunk_end + count * stride - end
        else:
            self._chunk_missing = chunk_end - end
        taken = len(buffer) - before
        stream.missing -= taken
        self._chunk_missing = min(self._chunk_missing, stream.missing)
        self._current = stream if self._chunk_missing else None
        self.partial_size += taken
        if self.partial_size > self.partial_limit:
            raise RemoteProtocolError(f"more than {self.partial_limit} bytes of incomplete messages")
        return end

    def _follow(self, stream: _ChunkStream, data: bytes, position: int, size: int) -> tuple[int, int]:
        """Return the end and the number of the consecutive chunks of ``stream`` from ``position`` on.

        The last one may be truncated, but has its whole header.
        """
        continuation = stream.continuation
        header_size = len(continuation)
        stride = header_size + self.chunk_size
        rest = stream.missing - self._chunk_missing
        end = min(size, position + rest - (-rest // self.chunk_size) * header_size)
        count = (end - position - header_size) // stride + 1
        if count <= 0 or not _has_headers(data, position, end, continuation, count, stride):
            return position, 0
        return min(end, position + count * stride), count

    def hold(self, data: bytes) -> None:
        """Hold bytes for a later call of `receive`."""
        if data:
            self._pending += data
            self.has_more = True

    def _finish(self, stream: _ChunkStream, payload: bytes) -> RawMessage:
        message_type = stream.type
        if message_type <= TYPE_ABORT:
            self._control(message_type, payload)
        return RawMessage(message_type, stream.stream_id, stream.timestamp, payload)

    def _control(self, message_type: int, payload: bytes) -> None:
        if len(payload) < 4:
            return
        value = _UINT32.unpack_from(payload)[0]
        if message_type == TYPE_SET_CHUNK_SIZE:
            if not MINIMUM_CHUNK_SIZE <= value <= MAXIMUM_CHUNK_SIZE:
                raise RemoteProtocolError(
                    f"chunk size of {value} bytes (allowed are {MINIMUM_CHUNK_SIZE} to {MAXIMUM_CHUNK_SIZE})"
                )
            self.chunk_size = value
        elif message_type == TYPE_ABORT:
            stream = self._streams.get(value)
            if stream is not None:
                self.partial_size -= len(stream.buffer)
                stream.buffer.clear()
                stream.missing = 0

    def _read_header(self, data: bytes, position: int, size: int) -> tuple[_ChunkStream, int] | None:
        """Read a chunk header (section 5.3.1); return its stream and the offset after it, or None if it is
        incomplete."""
        first = data[position]
        identifier = first & 0x3F
        position += 1
        if identifier < 2:
            if position + 1 + identifier > size:
                return None
            identifier, position = _read_identifier(data, position, identifier)
        header_type = first >> 6
        end = position + _HEADER_SIZES[header_type]
        if end > size:
            return None
        stream = self._streams.get(identifier)
        if header_type == 3:
            return self._read_type_3(stream, identifier, data, position, size)
        field = int.from_bytes(data[position : position + 3], "big")
        extended = -1
        if field == EXTENDED_TIMESTAMP:
            if end + 4 > size:
                return None
            extended = field = _UINT32.unpack_from(data, end)[0]
            end += 4
        if stream is None:
            stream = self._open(identifier, header_type)
        elif stream.missing:
            raise RemoteProtocolError(f"new message on chunk stream {identifier} before the previous one was complete")
        if header_type < 2:
            length = int.from_bytes(data[position + 3 : position + 6], "big")
            stream.length = length
            stream.type = data[position + 6]
            if length > MAXIMUM_COMMAND_SIZE:
                _check_length(stream)
        if header_type == 0:
            stream.stream_id = int.from_bytes(data[position + 7 : position + 11], "little")
            stream.first = True
            stream.timestamp = field
        else:
            stream.first = False
            stream.timestamp = (stream.timestamp + field) & 0xFFFFFFFF
        stream.delta = field
        if extended != stream.extended:
            stream.continuation = _basic_header(3, identifier) + (_UINT32.pack(extended) if extended >= 0 else b"")
            stream.extended = extended
        stream.missing = stream.length
        return stream, end

    def _read_type_3(
        self, stream: _ChunkStream | None, identifier: int, data: bytes, position: int, size: int
    ) -> tuple[_ChunkStream, int] | None:
        if stream is None or stream.length < 0:
            raise RemoteProtocolError(f"chunk stream {identifier} does not begin with a full header")
        if stream.extended >= 0:
            if position + 4 > size:
                return None
            # Some encoders (Flash Media Live Encoder) omit the field here; then these bytes are payload.
            if not stream.missing or _UINT32.unpack_from(data, position)[0] == stream.extended:
                position += 4
        if not stream.missing:  # a new message with the header of the previous one
            delta = stream.delta
            if stream.first:
                stream.first = False
                if delta > MAXIMUM_FIRST_DELTA:
                    delta = stream.delta = 0
            stream.timestamp = (stream.timestamp + delta) & 0xFFFFFFFF
            stream.missing = stream.length
        return stream, position

    def _open(self, identifier: int, header_type: int) -> _ChunkStream:
        # Section 5.3.1.2.1 requires type 0 first; some clients start with type 1 (message stream 0), which is harmless.
        if header_type == 2:
            raise RemoteProtocolError(f"chunk stream {identifier} does not begin with a full header")
        if len(self._streams) >= MAXIMUM_CHUNK_STREAMS:
            raise RemoteProtocolError(f"more than {MAXIMUM_CHUNK_STREAMS} chunk streams")
        stream = self._streams[identifier] = _ChunkStream(identifier)
        return stream


def _read_identifier(data: bytes, position: int, extra: int) -> tuple[int, int]:
    """Return the identifier of a chunk stream above 63, and the offset after it; it has ``extra`` bytes more than
    one."""
    if extra == 0:
        return data[position] + 64, position + 1
    return data[position] + data[position + 1] * 256 + 64, position + 2


def _has_headers(data: bytes, position: int, end: int, continuation: bytes, count: int, stride: int) -> bool:
    """Whether ``data[position:end]`` has ``count`` headers ``continuation``, one every ``stride`` bytes.

    This takes a fixed number of comparisons, however small the chunks are.
    """
    for index in range(len(continuation)):
        if data[position + index : end : stride][:count] != continuation[index : index + 1] * count:
            return False
    return True


def _check_length(stream: _ChunkStream) -> None:
    """Raise RemoteProtocolError if a message above `MAXIMUM_COMMAND_SIZE` is too large for its type."""
    length = stream.length
    if length > MAXIMUM_MESSAGE_SIZE or stream.type not in _LARGE_TYPES:
        limit = MAXIMUM_MESSAGE_SIZE if stream.type in _LARGE_TYPES else MAXIMUM_COMMAND_SIZE
        raise RemoteProtocolError(f"message of type {stream.type} with {length} bytes (the limit is {limit})")


def _basic_header(header_type: int, identifier: int) -> bytes:
    """Section 5.3.1.1: one byte for chunk streams to 63, two to 319, three to 65599."""
    if identifier < 64:
        return bytes((header_type << 6 | identifier,))
    if identifier < 320:
        return bytes((header_type << 6, identifier - 64))
    return bytes((header_type << 6 | 1, identifier - 64 & 0xFF, identifier - 64 >> 8))


def serialize_message(
    message_type: int,
    stream_id: int,
    timestamp: int,
    payload: Sequence[bytes | memoryview],
    chunk_stream_id: int,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
) -> bytes:
    """Return a message as chunks: one of type 0, then of type 3.

    ``timestamp`` is in milliseconds, absolute, and written modulo 2^32. ``payload`` is given in parts, which are copied
    only once. The result does not depend on earlier messages.
    """
    length = sum(map(len, payload))
    if length > EXTENDED_TIMESTAMP:
        raise LocalProtocolError(f"message of {length} bytes: the length field has 24 bits")
    if not 2 <= chunk_stream_id <= 65599:
        raise LocalProtocolError(f"chunk stream {chunk_stream_id} does not exist")
    timestamp &= 0xFFFFFFFF
    extended = b"" if timestamp < EXTENDED_TIMESTAMP else _UINT32.pack(timestamp)
    field = EXTENDED_TIMESTAMP if extended else timestamp
    basic = _basic_header(0, chunk_stream_id)
    fields = (field << 32 | length << 8 | message_type).to_bytes(7, "big")
    stream = stream_id.to_bytes(4, "little")
    if length <= chunk_size:
        return b"".join((basic, fields, stream, extended, *payload))
    header = basic + fields + stream + extended
    body = memoryview(b"".join(payload))
    continuation = _basic_header(3, chunk_stream_id) + extended
    pieces: list[bytes | memoryview] = [header, body[:chunk_size]]
    for position in range(chunk_size, length, chunk_size):
        pieces.append(continuation)
        pieces.append(body[position : position + chunk_size])
    return b"".join(pieces)


class ChunkWriter:
    """Serialises messages with the chunk size that was announced to the peer."""

    __slots__ = ("chunk_size",)

    def __init__(self) -> None:
        self.chunk_size = DEFAULT_CHUNK_SIZE

    def write(
        self, message_type: int, payload: bytes, chunk_stream_id: int, stream_id: int = 0, timestamp: int = 0
    ) -> bytes:
        """Return one message as bytes. A Set Chunk Size message takes effect on the messages after it."""
        data = serialize_message(message_type, stream_id, timestamp, (payload,), chunk_stream_id, self.chunk_size)
        if message_type == TYPE_SET_CHUNK_SIZE:
            self.chunk_size = _UINT32.unpack(payload)[0]
        return data
