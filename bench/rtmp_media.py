"""The synthetic stream of `bench/media.py` as RTMP messages, and what reads RTMP messages (Adobe RTMP 1.0, FLV)."""

import struct

from bench.media import (
    FRAMES_PER_SECOND,
    FU_HEADER_SIZE,
    PPS,
    RTP_HEADER_SIZE,
    SPS,
    STAMP_MAGIC,
    STAMP_SIZE,
    SyntheticStream,
    read_stamp,
)
from bench.samples import SampleResult

HANDSHAKE_SIZE = 1 + 1536 + 1536  # S0, S1, S2
DEFAULT_CHUNK_SIZE = 128
SERVER_CHUNK_SIZE = 65_536
"""What the floor sends with: nearly every frame is one chunk."""
PUBLISHER_CHUNK_SIZE = 4_096
"""What OBS sends with."""

TYPE_SET_CHUNK_SIZE = 1
TYPE_VIDEO = 9
TYPE_DATA = 18
TYPE_COMMAND = 20

FIRST_FRAME_MILLISECONDS = 3_000
"""Timestamp of the first frame. The sequence header is sent at 0 and again at this time: MediaMTX ignores the metadata
and looks for tracks until two seconds of media have passed."""

VIDEO_CHUNK_STREAM = 6
AVC_KEY = b"\x17\x01\x00\x00\x00"
AVC_INTER = b"\x27\x01\x00\x00\x00"

_HEADER_SIZES = (11, 7, 3, 0)
_EXTENDED = 0xFFFFFF


def chunks(
    message_type: int, payload: bytes, chunk_stream: int, stream_id: int, size: int, milliseconds: int = 0
) -> list[bytes]:
    """A message as chunks of at most `size` bytes of payload (section 5.3.1)."""
    header = (
        bytes((chunk_stream,))
        + struct.pack(">I", milliseconds)[1:]
        + struct.pack(">I", len(payload))[1:]
        + bytes((message_type,))
    )
    pieces = [header + struct.pack("<I", stream_id) + payload[:size]]
    continuation = bytes((0xC0 | chunk_stream,))
    pieces += [continuation + payload[position : position + size] for position in range(size, len(payload), size)]
    return pieces


def sequence_header() -> bytes:
    """The payload of the message with the parameter sets (ISO/IEC 14496-15 section 5.3.3.1)."""
    record = b"\x01" + SPS[1:4] + b"\xff\xe1" + struct.pack(">H", len(SPS)) + SPS
    return b"\x17\x00\x00\x00\x00" + record + b"\x01" + struct.pack(">H", len(PPS)) + PPS


class RtmpFrame:
    """One access unit as a message; its buffer is patched each time that the frame is sent again."""

    __slots__ = ("_buffer", "pieces", "size", "whole")

    def __init__(self, payload: bytes, chunk_size: int) -> None:
        pieces = chunks(TYPE_VIDEO, payload, VIDEO_CHUNK_STREAM, 1, chunk_size)
        if len(pieces[-1]) <= STAMP_SIZE:
            raise ValueError("a stamp would be cut in two by a chunk header: choose another chunk size")
        self._buffer = bytearray(b"".join(pieces))
        self.size = len(self._buffer)
        self.whole = memoryview(self._buffer)
        self.pieces: list[memoryview] = []
        """Chunk by chunk, as encoders send."""
        position = 0
        for piece in pieces:
            self.pieces.append(self.whole[position : position + len(piece)])
            position += len(piece)

    def set_time(self, milliseconds: int) -> None:
        """Write the timestamp; below the 24 bits from which on another header is needed (4.6 hours)."""
        self._buffer[1:4] = struct.pack(">I", milliseconds)[1:]

    def stamp(self, frame_number: int, sent_ns: int) -> None:
        """Write the stamp; `sent_ns` is on the monotonic clock."""
        self._buffer[-STAMP_SIZE:] = b"%b%016x%08x" % (STAMP_MAGIC, sent_ns, frame_number)


class RtmpStream:
    """The same frames as `SyntheticStream`, with the same interface; a frame counts as one packet."""

    def __init__(self, chunk_size: int) -> None:
        source = SyntheticStream()
        self._frames = [
            RtmpFrame(_payload(source.frame(number).datagrams), chunk_size) for number in range(FRAMES_PER_SECOND)
        ]
        self.bytes_per_second = sum(frame.size for frame in self._frames)

    def frame(self, number: int) -> RtmpFrame:
        """The frame with this number (from 0); valid until the same place of the next second."""
        frame = self._frames[number % FRAMES_PER_SECOND]
        frame.set_time(FIRST_FRAME_MILLISECONDS + number * 1000 // FRAMES_PER_SECOND)
        return frame

    def packets_until(self, number: int) -> int:
        """Frames before frame `number`."""
        return number

    def bytes_until(self, number: int) -> int:
        """Bytes of all frames before frame `number`."""
        seconds, position = divmod(number, FRAMES_PER_SECOND)
        return seconds * self.bytes_per_second + sum(frame.size for frame in self._frames[:position])


def _payload(packets: list[memoryview]) -> bytes:
    """Join the FU-A fragments of RFC 6184 to one slice; the parameter sets travel in the sequence header."""
    fragments = [bytes(packet[RTP_HEADER_SIZE:]) for packet in packets if packet[RTP_HEADER_SIZE] & 0x1F == 28]
    indicator, header = fragments[0][:FU_HEADER_SIZE]
    unit = bytes((indicator & 0xE0 | header & 0x1F,)) + b"".join(part[FU_HEADER_SIZE:] for part in fragments)
    return (AVC_KEY if header & 0x1F == 5 else AVC_INTER) + struct.pack(">I", len(unit)) + unit


class RtmpSample:
    """Reads everything that a server sends, including the handshake: messages, and the timestamps of video frames."""

    def __init__(self, skip: int = HANDSHAKE_SIZE, chunk_size: int = DEFAULT_CHUNK_SIZE) -> None:
        self.result = SampleResult()
        self.commands: list[bytes] = []
        """Payloads of commands, for the one who connects."""
        self._skip = skip
        self._chunk_size = chunk_size
        self._pending = bytearray()
        self._headers: dict[int, tuple[int, int, bool]] = {}
        """Of each chunk stream: message length, message type, whether its timestamp is extended."""
        self._messages: dict[int, bytearray] = {}
        self._next_frame = -1

    def feed(self, data: memoryview, arrival_ns: int) -> None:
        pending = self._pending
        pending += data
        position = min(self._skip, len(pending))
        self._skip -= position
        while (end := self._take_chunk(position, arrival_ns)) is not None:
            position = end
        del pending[:position]

    def _take_chunk(self, position: int, arrival_ns: int) -> int | None:
        """Take the chunk at `position` and return where it ends; None if it is incomplete."""
        data = self._pending
        if position >= len(data):
            return None
        form, chunk_stream = data[position] >> 6, data[position] & 0x3F
        if chunk_stream < 2:
            raise ValueError("no server uses chunk streams above 63")
        position += 1
        after = position + _HEADER_SIZES[form]
        if after > len(data):
            return None
        length, message_type, extended = self._headers.get(chunk_stream, (0, 0, False))
        if form < 3:
            extended = int.from_bytes(data[position : position + 3], "big") == _EXTENDED
        if form < 2:
            length, message_type = int.from_bytes(data[position + 3 : position + 6], "big"), data[position + 6]
        position = after + (4 if extended else 0)
        message = self._messages.get(chunk_stream, bytearray())
        end = position + min(self._chunk_size, length - len(message))
        if end > len(data):
            return None
        self._headers[chunk_stream] = (length, message_type, extended)
        message += data[position:end]
        if len(message) == length:
            self._messages.pop(chunk_stream, None)
            self._take_message(message_type, bytes(message), arrival_ns)
        else:
            self._messages[chunk_stream] = message
        return end

    def _take_message(self, message_type: int, payload: bytes, arrival_ns: int) -> None:
        if message_type == TYPE_SET_CHUNK_SIZE:
            self._chunk_size = int.from_bytes(payload, "big")
        elif message_type == TYPE_COMMAND:
            self.commands.append(payload)
        elif message_type == TYPE_VIDEO:
            stamp = read_stamp(payload[-STAMP_SIZE:])
            if stamp is None:
                return
            sent_ns, number = stamp
            self.result.take_frame(number, self._next_frame, sent_ns, arrival_ns)
            self._next_frame = number + 1
