"""Interleaved frames through the parser, the receiver and the hub: what readers get must not depend on whether packets
are inspected all at once or one by one.

The first byte of the input chooses the codec; what follows is cut into reads of the size of the second byte.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

from polycast.errors import RemoteProtocolError
from polycast.hub.batch import FrameBatch, PacketBatch
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import FrameReader, PacketReader, Stream
from polycast.log import Log
from polycast.media.codec import AV1, H264, H265, VP8, VP9, Codec, Opus
from polycast.media.track import Track
from polycast.protocols.rtp_receiver import MediaReceiver
from polycast.protocols.rtsp.publishing import channel_handlers
from polycast.rtp.header import build_header
from polycast.rtp.scan import PacketScanner
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.parser import MessageParser

CODECS: tuple[Codec, ...] = (H264(), H265(), AV1(), VP8(), VP9())
CHANNELS = {0: (0, 1), 1: (2, 3)}

_LOG = Log(logging.Logger("polycast.fuzz", logging.CRITICAL + 1))
_NOW = 1000.0
_SCAN = PacketScanner.scan


def _frames(*packets: bytes, channel: int = 0) -> bytes:
    return b"".join(b"$" + bytes((channel,)) + len(packet).to_bytes(2, "big") + packet for packet in packets)


def _packets(first: int, payloads: list[bytes], payload_type: int = 96) -> list[bytes]:
    last = len(payloads) - 1
    return [
        build_header(payload_type, first + index & 0xFFFF, first, 7, marker=index == last) + payload
        for index, payload in enumerate(payloads)
    ]


def _picture(first: int, start: bytes, rest: bytes, count: int = 4) -> bytes:
    return _frames(*_packets(first, [start + bytes(20), *[rest + bytes(20)] * (count - 2), rest + b"end"]))


_SPS = bytes.fromhex("6742c00dda0507ec0440000003004000000f03c50aa8")

SEEDS: list[bytes] = [
    b"\0\xff" + _picture(254, b"\x7c\x85\x88", b"\x7c\x05\x88") + _picture(258, b"\x7c\x81\x9a", b"\x7c\x01\x9a"),
    b"\0\x40" + _picture(65_534, b"\x7c\x81\x9a", b"\x7c\x01\x9a", 6) + _picture(8, b"\x65\x88", b"\x65\x04"),
    b"\0\xff" + _frames(*_packets(1, [_SPS, b"\x68\xce\x3c\x80"])),
    b"\1\xff" + _picture(1, b"\x62\x01\x93\xaf", b"\x62\x01\x13\xaf") + _picture(5, b"\x62\x01\x81", b"\x62\x01\x01"),
    b"\2\x80" + _picture(1, b"\x18\x0a\x01", b"\x90\x00") + _picture(5, b"\x10\x32", b"\x90\x01"),
    b"\3\x80" + _picture(1, b"\x10\x10\x02", b"\x00\x10") + _picture(5, b"\x10\x11", b"\x00\x11"),
    b"\4\x80" + _picture(1, b"\x08\x82\x49\x83\x42", b"\x00\x82") + _picture(5, b"\x48\x86", b"\x40\x86"),
    b"\0\xff"
    + _frames(*_packets(1, [b"\xfc\1\2\3" + bytes(20)] * 3, 97), channel=2)
    + _picture(1, b"\x41\x9a", b"\x41\x04")
    + _frames(b"\x80\xc8\0\6" + bytes(24), channel=1)
    + _frames(b"\x80\x60\0\7" + bytes(1500)),
]
DICTIONARY: list[bytes] = [_frames(packet) for packet in _packets(3, [b"\x7c\x85\x88abc", b"\x7c\x05\x88abc"])]


class _Loop:
    """Time that never passes."""

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: Any) -> asyncio.TimerHandle:
        return asyncio.TimerHandle(0.0, callback, arguments, cast("asyncio.AbstractEventLoop", self))

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None: ...


class _Packets(PacketReader):
    def __init__(self) -> None:
        self.seen: list[object] = []

    def deliver(self, batch: PacketBatch) -> None:
        packets = [
            (
                run.track_index,
                bytes(packet.data[packet.start : packet.end]),
                packet.key,
                packet.marker,
                packet.timestamp,
            )
            for run in batch.runs
            for packet in run.packets
        ]
        self.seen.append((packets, batch.has_key, batch.size, batch.packet_count))

    def close_reader(self, reason: str) -> None:
        raise AssertionError(f"a reader failed: {reason}")

    def reference(self) -> Reference:
        return Reference("fuzz")


class _Frames(FrameReader):
    def __init__(self) -> None:
        self.seen: list[object] = []

    def deliver_frames(self, batch: FrameBatch) -> None:
        for index, entry in batch.entries:
            is_track = isinstance(entry, Track)
            self.seen.append((index, entry if is_track else (entry.units, entry.pts, entry.dts, entry.key)))

    def close_reader(self, reason: str) -> None:
        raise AssertionError(f"a reader failed: {reason}")

    def reference(self) -> Reference:
        return Reference("fuzz")


def _ingest(codec: Codec, reads: list[bytes], *, with_frames: bool) -> list[object]:
    """Return all that can be seen of a stream that these reads were published to."""
    loop = cast("asyncio.AbstractEventLoop", _Loop())
    stream = Stream((Track(0, codec), Track(1, Opus())), publishes_packets=True, loop=loop, log=_LOG, now=_NOW)
    packets, frames = _Packets(), _Frames()
    stream.add_reader(packets)
    if with_frames:
        stream.add_reader(frames)
    counters = Counters()
    receiver = MediaReceiver(stream, counters, _LOG, _NOW, reorders=False)
    handlers = channel_handlers(receiver, CHANNELS)
    parser = MessageParser()
    parser.expect_frames([channel for pair in CHANNELS.values() for channel in pair])
    error = 0
    try:
        for read in reads:
            run = parser.receive_run(read)
            while (event := run or parser.next_event()) is not None:
                run = None
                if isinstance(event, InterleavedRun) and event.channel in handlers:
                    handlers[event.channel](event, _NOW)
            stream.end_of_read()
    except RemoteProtocolError as raised:
        error = raised.status
    stream.flush()
    receiver.tick(_NOW)
    tracks = [
        (
            track.counters.packets,
            track.counters.bytes,
            track.counters.lost,
            track.counters.foreign,
            track.next_sequence,
            track.last_timestamp,
            track.ssrc,
            track.frame_open,
            track.track.codec,
        )
        for track in stream.tracks
    ]
    return [packets.seen, frames.seen, tracks, counters, error]


def fuzz_one(data: bytes) -> None:
    """Publish the same reads with and without the scan of all packets at once."""
    if len(data) < 3:
        return
    codec = CODECS[data[0] % len(CODECS)]
    size = 4 * data[1] + 1
    reads = [data[start : start + size] for start in range(2, len(data), size)]
    for with_frames in (False, True):
        at_once = _ingest(codec, reads, with_frames=with_frames)
        PacketScanner.scan = lambda scanner, buffer: None  # type: ignore[method-assign]
        try:
            one_by_one = _ingest(codec, reads, with_frames=with_frames)
        finally:
            PacketScanner.scan = _SCAN  # type: ignore[method-assign]
        if at_once != one_by_one:
            raise AssertionError("packets that are taken at once differ from those taken one by one")
