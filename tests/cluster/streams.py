"""Nodes with hubs and media, all in memory: publishers that number their packets, viewers that note what they get."""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import Any

from tests.cluster.memory import MemoryStore, Network
from tests.cluster.pipes import connect
from tests.hub.support import VIDEO
from tests.support.rtp import rtp

from polycast.cluster import KeyValueRegistry, NodeInfo
from polycast.cluster.copying import NodeSource, Owner
from polycast.cluster.node import Node
from polycast.config import from_mapping
from polycast.hub.access import AccessControl
from polycast.hub.batch import FrameBatch, PacketBatch, PacketRun
from polycast.hub.errors import PathError
from polycast.hub.hub import Hub
from polycast.hub.path import Path
from polycast.hub.publisher import Publisher
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader, PacketReader, Stream
from polycast.log import Log
from polycast.media.frame import Frame
from polycast.rtp.header import parse_packet
from polycast.wire.subscription.messages import Start

KEY_INTERVAL = 5
"""Pictures from one key frame to the next."""
PICTURE_SECONDS = 0.2
NUMBERS = struct.Struct("!II")


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = f": {record.exc_info[1]!r}" if record.exc_info else ""
        self.lines.append(f"{self._loop.time():.3f} {record.getMessage()}{error}")


class MediaNode:
    """A node with a hub."""

    def __init__(self, network: Network, name: str, start: int = 1, token: bytes = b"", **path: Any) -> None:
        loop = asyncio.get_running_loop()
        logger = logging.Logger("polycast.test.cluster", logging.DEBUG)
        self.log = Lines()
        logger.addHandler(self.log)
        log = Log(logger, f"[{name}{start}] ")
        self.network = network
        self.name = name
        self.store = MemoryStore(network)
        self.hub = Hub(loop=loop, log=log, access=AccessControl())
        self.node = Node(
            KeyValueRegistry(self.store, loop, log),
            NodeInfo(name, f"{name}-{start}", f"{name}:8600", started=start),
            self.hub,
            loop,
            log,
            token=token,
            dial=self._dial,
            clock=loop.time,
        )
        self.hub.configure(from_mapping({"paths": {"all": path}}).paths)
        self.accepted: list[tuple[str, int]] = []
        """Node and revision of the owners whose streams were accepted."""
        self.is_alive = True

    async def _dial(self, factory: Any, address: str) -> Any:
        return await connect(self.network, self.name, factory, address)

    async def start(self) -> None:
        # What the sources of the node accept is noted.
        make = self.node.source_of

        def source_of(path: Path) -> Any:
            source = make(path)
            if isinstance(source, NodeSource):
                begin = source.begin

                def noted(owner: Owner, start: Start) -> Stream:
                    stream = begin(owner, start)
                    self.on_accepted(owner.node, start.revision)
                    return stream

                source.begin = noted  # type: ignore[method-assign]
            return source

        self.node.source_of = source_of  # type: ignore[method-assign]

        async def listen(address: str) -> None:
            self.network.listeners[self.name] = self.node.server.make_connection
            self.node.server.subscriptions.housekeeping.start()

        self.node.server.start = listen  # type: ignore[method-assign]
        await self.node.start()

    def kill(self) -> None:
        """End without a word, as a process does that is killed."""
        self.is_alive = False
        self.store.kill()
        self.network.silence(self.name)

    def on_accepted(self, owner: str, revision: int) -> None:
        self.accepted.append((owner, revision))


class NumberedPublisher(Publisher):
    """Publishes pictures, one packet each; the number of the publisher and of the picture are in the packet."""

    count = 0

    def __init__(self, node: MediaNode, path: str, *, frames: bool = False) -> None:
        NumberedPublisher.count += 1
        self.number = NumberedPublisher.count
        self.node = node
        self.frames = frames
        self.sent = 0
        self.closed = ""
        self.path: Path = node.hub.path(path)
        self.path.set_publisher(self)
        self.stream: Stream = self.path.start_publishing(self, [VIDEO], publishes_packets=not frames)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self.closed and self.node.is_alive:
            self.send()
            await asyncio.sleep(PICTURE_SECONDS)

    def send(self) -> None:
        now = asyncio.get_running_loop().time()
        key = self.sent % KEY_INTERVAL == 0
        unit = (b"\x65\x88" if key else b"\x41\x9a") + NUMBERS.pack(self.number, self.sent) + bytes(100)
        if self.frames:
            self.stream.publish_frame(0, Frame((unit,), self.sent * 18_000, self.sent * 18_000, key=key), now)
        else:
            data = rtp(self.sent, unit, timestamp=self.sent * 18_000, ssrc=1000 + self.number)
            self.stream.publish(PacketRun(0, [parse_packet(data, 0, len(data))]), now)
        self.stream.flush()
        self.sent += 1

    def close_publisher(self, reason: str) -> None:
        self.closed = reason

    def leave(self) -> None:
        if not self.closed:
            self.closed = "left"
            self.path.remove_publisher(self, "left")

    def reference(self) -> Reference:
        return Reference("test", str(self.number))


class _Numbers:
    """What one session of a viewer got."""

    def __init__(self) -> None:
        self.pictures: list[tuple[int, int]] = []
        """(publisher, picture) of each."""
        self.packets: list[bytes] = []
        self.closed = ""
        self.ended = asyncio.Event()

    def take(self, unit: bytes) -> None:
        if unit[0] & 0x1F == 24:  # aggregated with the parameter sets (RFC 6184 section 5.7.1)
            position = 1
            while position < len(unit):
                size = int.from_bytes(unit[position : position + 2], "big")
                self.take(unit[position + 2 : position + 2 + size])
                position += 2 + size
        elif len(unit) > 50:  # parameter sets are shorter
            self.pictures.append(NUMBERS.unpack_from(unit, 2))

    def close_reader(self, reason: str) -> None:
        self.closed = reason or "closed"
        self.ended.set()

    def reference(self) -> Reference:
        return Reference("testReader", "1")


class PacketViewer(_Numbers, PacketReader):
    def deliver(self, batch: PacketBatch) -> None:
        for run in batch.runs:
            for packet in run.packets:
                self.packets.append(bytes(packet.data[packet.start : packet.end]))
                self.take(packet.payload_bytes())


class FrameViewer(_Numbers, FrameReader):
    def deliver_frames(self, batch: FrameBatch) -> None:
        for _, entry in batch.entries:
            if isinstance(entry, Frame):
                self.take(max(entry.units, key=len))


class Viewer:
    """Reads a path at a node, again and again."""

    def __init__(self, node: MediaNode, path: str, *, frames: bool = False) -> None:
        self.node = node
        self.name = path
        self.frames = frames
        self.sessions: list[PacketViewer | FrameViewer] = []
        self.is_leaving = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self.node.is_alive and not self.is_leaving:
            session = FrameViewer() if self.frames else PacketViewer()
            path: Path | None = None
            try:
                path = self.node.hub.path(self.name)
                stream = await path.wait_ready()
                path.attach_reader(session, stream)
                self.sessions.append(session)
            except PathError:
                if path is not None:
                    self.node.hub.release(path)
                await asyncio.sleep(0.5)
                continue
            await session.ended.wait()
            if path is not None and not session.closed:
                path.remove_reader(session)

    def leave(self) -> None:
        self.is_leaving = True
        if self.sessions:
            self.sessions[-1].ended.set()

    @property
    def pictures(self) -> list[tuple[int, int]]:
        return [picture for session in self.sessions for picture in session.pictures]


async def start(network: Network, *names: str, **path: Any) -> list[MediaNode]:
    nodes = [MediaNode(network, name, **path) for name in names]
    for node in nodes:
        await node.start()
    await asyncio.sleep(0.1)
    return nodes
