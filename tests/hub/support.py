"""Readers, publishers and observers that keep what happens to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from polycast.config import from_mapping
from polycast.hub.access import AccessControl
from polycast.hub.batch import FrameBatch, PacketBatch, PacketRun
from polycast.hub.hub import Hub
from polycast.hub.path import Path, PathObserver, Publisher, Source
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader, PacketReader, Reader, Stream
from polycast.log import Log
from polycast.media.codec import H264, MPEG4Audio
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.header import parse_packet

SPS = bytes.fromhex("6742c00dda0507ec0440000003004000000f03c50aa8")
PPS = bytes.fromhex("68ce3c80")
VIDEO = Track(0, H264(SPS, PPS))
AUDIO = Track(1, MPEG4Audio(bytes.fromhex("1190"), 48_000, 2))

LOGGER = logging.Logger("polycast.test.hub")


def make_stream(*tracks: Track, packets: bool = True) -> Stream:
    loop = asyncio.get_running_loop()
    return Stream(tracks, publishes_packets=packets, loop=loop, log=Log(LOGGER), now=0.0)


def publish_packet(stream: Stream, track_index: int, packet: RtpPacket, now: float) -> None:
    """Publish one packet."""
    assert stream.publish(PacketRun(track_index, [packet]), now)


def publish_data(stream: Stream, track_index: int, data: bytes, now: float) -> None:
    """Publish one packet that is still to be parsed."""
    publish_packet(stream, track_index, parse_packet(data, 0, len(data)), now)


def make_hub(paths: Mapping[str, Any]) -> Hub:
    hub = Hub(loop=asyncio.get_running_loop(), log=Log(LOGGER), access=AccessControl())
    hub.configure(from_mapping({"paths": paths}).paths)
    return hub


class Packets(PacketReader):
    """A reader of packets."""

    def __init__(self, *, fails: bool = False) -> None:
        self.batches: list[PacketBatch] = []
        self.fails = fails
        self.closed = ""

    def deliver(self, batch: PacketBatch) -> None:
        if self.fails:
            raise ZeroDivisionError
        self.batches.append(batch)

    @property
    def sequences(self) -> list[list[int]]:
        """Sequence numbers of the packets, by batch."""
        return [[packet.sequence for run in batch.runs for packet in run.packets] for batch in self.batches]

    def close_reader(self, reason: str) -> None:
        self.closed = reason

    def reference(self) -> Reference:
        return Reference("test")


class Frames(FrameReader):
    """A reader of frames."""

    def __init__(self, *, fails: bool = False) -> None:
        self.entries: list[tuple[int, Frame | Track]] = []
        self.fails = fails
        self.closed = ""

    def deliver_frames(self, batch: FrameBatch) -> None:
        if self.fails:
            raise ZeroDivisionError
        self.entries += batch.entries

    def close_reader(self, reason: str) -> None:
        self.closed = reason

    def reference(self) -> Reference:
        return Reference("test")


class Client(Publisher):
    """A publisher."""

    def __init__(self) -> None:
        self.closed = ""

    def close_publisher(self, reason: str) -> None:
        self.closed = reason

    def reference(self) -> Reference:
        return Reference("testPublisher")


class TestSource(Source):
    """A source of a path."""

    __test__ = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[str] = []

    def start(self) -> None:
        self.events.append("start")

    def stop(self, reason: str) -> None:
        self.events.append(f"stop ({reason})")
        self.path.remove_publisher(self, reason)

    def close_publisher(self, reason: str) -> None:
        self.stop(reason)

    def reference(self) -> Reference:
        return Reference("testSource")


class Observer(PathObserver):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_path_created(self, path: Path) -> None:
        self.events.append(f"{path.name} created")

    def on_path_closed(self, path: Path) -> None:
        self.events.append(f"{path.name} closed")

    def on_path_ready(self, path: Path) -> None:
        self.events.append(f"{path.name} ready")

    def on_path_not_ready(self, path: Path) -> None:
        self.events.append(f"{path.name} not ready")

    def on_reader_added(self, path: Path, reader: Reader) -> None:
        self.events.append(f"{path.name} reader added")

    def on_reader_removed(self, path: Path, reader: Reader) -> None:
        self.events.append(f"{path.name} reader removed")


async def read(path: Path, reader: Reader) -> Stream:
    """Wait for the stream of a path, and attach a reader."""
    stream = await path.wait_ready()
    path.attach_reader(reader, stream)
    return stream
