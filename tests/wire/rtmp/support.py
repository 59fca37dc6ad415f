"""Helpers of the RTMP tests: bytes of a client written by hand, two engines joined in memory, sample media."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from polycast.media.codec import H264, MPEG4Audio
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.rtmp.chunks import ChunkReader, RawMessage, serialize_message
from polycast.wire.rtmp.client import ClientConnection
from polycast.wire.rtmp.events import Event
from polycast.wire.rtmp.messages import Message, parse_message
from polycast.wire.rtmp.server import ServerConnection

SEED = bytes(range(32))

# 640x360 at 25 frames per second, High profile, made by x264.
SPS = bytes.fromhex("6764001eacd940a02ff9610000030001000003003c8f162d96")
PPS = bytes.fromhex("68ebe3cb22c0")
AVC_RECORD = bytes.fromhex("0164001effe10019") + SPS + bytes.fromhex("010006") + PPS + bytes.fromhex("fdf8f800")
"""AVCDecoderConfigurationRecord with 4-byte lengths."""
AAC_CONFIGURATION = bytes.fromhex("1210")
"""LC, 44.1 kHz, stereo."""
IDR = bytes.fromhex("658884001000") + bytes(40)
SLICE = bytes.fromhex("419a2400") + bytes(20)

VIDEO = Track(0, H264(sps=SPS, pps=PPS))
AUDIO = Track(1, MPEG4Audio(AAC_CONFIGURATION, 44_100, 2))

SIMPLE_HANDSHAKE = b"\x03" + bytes(1536) + bytes(1536)
"""C0, C1 and C2 of a client without digest."""


def length_prefixed(*units: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in units)


def video_header() -> bytes:
    return b"\x17\x00\x00\x00\x00" + AVC_RECORD


def video_message(*units: bytes, key: bool = True, composition_time: int = 0) -> bytes:
    return (
        (b"\x17\x01" if key else b"\x27\x01")
        + struct.pack(">I", composition_time & 0xFFFFFF)[1:]
        + length_prefixed(*units)
    )


def audio_header() -> bytes:
    return b"\xaf\x00" + AAC_CONFIGURATION


def audio_message(data: bytes = b"\x21\x10\x04\x60\x8c\x1c") -> bytes:
    return b"\xaf\x01" + data


def raw(message_type: int, payload: bytes, timestamp: int = 0) -> RawMessage:
    return RawMessage(message_type, 1, timestamp, payload)


def wire(message_type: int, payload: bytes, timestamp: int = 0, stream_id: int = 1, chunk_size: int = 128) -> bytes:
    """A message as a client with the default chunk size sends it."""
    chunk_stream = {8: 4, 9: 6}.get(message_type, 3)
    return serialize_message(message_type, stream_id, timestamp, [payload], chunk_stream, chunk_size)


def messages_of(data: bytes, handshake: bool = True, chunk_size: int = 128) -> list[Message | RawMessage]:
    """What a server or client sent, in order: typed messages, and audio and video as they are."""
    reader = ChunkReader()
    reader.chunk_size = chunk_size
    if handshake:
        data = data[1 + 2 * 1536 :]
    items = reader.receive(data)
    while reader.has_more:
        items += reader.receive(b"")
    return [parse_message(item) or item for item in items]


def frames_of(events: Iterable[Event]) -> list[tuple[int, Frame]]:
    return [(event.track, event.frame) for event in events if type(event).__name__ == "FrameReceived"]


class Pair:
    """A client and a server in memory, with bytes handed over ``piece`` at a time."""

    def __init__(self, client: ClientConnection, server: ServerConnection, piece: int = 1 << 30) -> None:
        self.client = client
        self.server = server
        self.piece = piece
        self.now = 0.0
        self.client_events: list[Event] = []
        self.server_events: list[Event] = []

    def exchange(self) -> tuple[Sequence[Event], Sequence[Event]]:
        """Hand over bytes until both sides are silent; return what the client and the server told in this time."""
        client_start, server_start = len(self.client_events), len(self.server_events)
        while True:
            upward, downward = self.client.data_to_send(), self.server.data_to_send()
            if not upward and not downward:
                return self.client_events[client_start:], self.server_events[server_start:]
            for position in range(0, len(upward), self.piece):
                self.server_events += self.server.receive_data(upward[position : position + self.piece], self.now)
            for position in range(0, len(downward), self.piece):
                self.client_events += self.client.receive_data(downward[position : position + self.piece], self.now)
