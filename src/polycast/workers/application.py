"""The server of a worker."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw

from polycast.app.application import Application
from polycast.cluster import Directory, KeyValueRegistry, NodeInfo
from polycast.cluster.node import Node
from polycast.config import LoadedConfiguration
from polycast.config.path_schema import PathConfiguration
from polycast.config.webhooks import EventName
from polycast.control.contract import Traffic
from polycast.control.errors import RequestError
from polycast.control.lag import LoopLag
from polycast.control.v3.tracks import label_of
from polycast.errors import PolycastError
from polycast.hub.errors import PathError
from polycast.hub.movement import CannotMove
from polycast.hub.path import Path, PathObserver
from polycast.hub.stats import Reference
from polycast.hub.stream import Reader
from polycast.log import Log
from polycast.record.uploads import Upload
from polycast.workers.channel import Channel
from polycast.workers.claims import ClaimStore, node_name
from polycast.workers.context import WorkerContext
from polycast.workers.messages import (
    ApplyConfiguration,
    KickSession,
    MoveCamera,
    PathEvent,
    ReaderCount,
    RecordingRequest,
    StartWorker,
)
from polycast.workers.neighbours import Neighbours
from polycast.workers.ports import for_worker
from polycast.workers.snapshot import NODE, Snapshot, process_numbers, take_snapshot

if TYPE_CHECKING:
    from polycast.control.console.thumbnails import Thumbnails

UPLOADING: Final = 1
"""The number of the worker that uploads the files of all: one that replaces it can go on with everything that is in the
database, since nobody else does."""


FEW_READERS: Final = 4
"""A worker takes readers of a stream from other workers while it has fewer: passing a stream on costs about as much as
a few readers. Further readers are distributed over all cores."""

BUSY: Final = 0.85
"""Share of a core above which a worker takes no readers from others."""


class WorkerApplication(Application):
    """A server without API, metrics and the like, which the supervisor has for all workers."""

    def __init__(self, start: StartWorker, channel: Channel, received: socket.socket, log: Log) -> None:
        """``received`` is what sockets are sent over."""
        loop = asyncio.get_running_loop()
        self._number = start.number
        self._channel = channel
        self._neighbours = Neighbours(start.number, start.shared.folder, lambda: self.servers, self._is_welcome, log)
        # The supervisor knows when a worker ends; one that is only slow has ended nothing.
        registry = KeyValueRegistry(ClaimStore(channel), loop, log, lifetime=math.inf)
        owner = partial(_owner_in, registry.directory)
        self._context = WorkerContext(start, channel, received, self._neighbours, owner, self._is_always_available)
        loaded = LoadedConfiguration(for_worker(start.configuration, start.number - 1), None, [], frozenset())
        super().__init__(
            loaded, log=log, demo_path=start.shared.demo_path, workers=self._context, other_workers=self._context
        )
        name = node_name(start.number)
        address = os.path.join(start.shared.folder, f"{name}.media")
        info = NodeInfo(name, secrets.token_hex(8), address, started=time.time())
        self._node = Node(registry, info, self.hub, loop, log, placed=self._context.placed_on)
        self.hub.observers.append(self._context)
        self._traffic: Traffic = self.observe_traffic()
        self._lag = LoopLag(asyncio.get_running_loop())
        self._thumbnails: Thumbnails | None = None
        self.hub.observers += (PathEvents(channel), ReaderCounts(start.number, channel))
        channel.calls |= {"snapshot": self._snapshot, "move": self._move, "thumbnail": self._thumbnail}
        self.recorder.uploader.pass_on = partial(channel.tell, "upload")
        channel.notices |= {
            "upload": self._on_upload,
            "kick": self._kick,
            "refresh keys": self._refresh_keys,
            "record": self._on_recording,
        }

    async def _introduce(self) -> None:
        """The supervisor does that."""

    async def _start_control(self) -> None:
        self._lag.start()
        if self._number == UPLOADING:
            self.recorder.uploader.start()

    async def start(self) -> None:
        await self._neighbours.open()
        with contextlib.suppress(FileNotFoundError):  # of the worker that this one replaces
            os.unlink(self._node.info.address)
        await self._node.start()
        wanted: list[str] = await self._channel.call("recordings", None, list[str])
        for path in wanted:
            self.recorder.start(path)
        await super().start()

    async def stop(self, reason: str = "the server stops") -> None:
        self._lag.stop()
        if self._thumbnails is not None:
            self._thumbnails.close()
        await super().stop(reason)
        await self._node.stop(reason)
        self._neighbours.close()

    async def reconfigure(self, change: ApplyConfiguration) -> None:
        """Apply a new configuration. Raises PolycastError; the old one remains active then."""
        before, self._context.placed = self._context.placed, change.placed
        try:
            await self.settings.replace(for_worker(change.configuration, self._number - 1))
        except PolycastError:
            self._context.placed = before
            raise

    def _is_welcome(self, name: str) -> bool:
        """Whether this worker takes readers of a path from others: only if it has the stream, and few readers."""
        path = self.hub.paths.get(name)
        if path is None or path.stream is None or path.is_copy:
            return False
        return len(path.readers) < FEW_READERS and self._node.info.load.cpu < BUSY

    def _is_always_available(self, name: str) -> bool:
        try:
            entry, _ = self.hub.find_entry(name)
        except PathError:
            return False
        return entry.configuration.always_available

    async def _snapshot(self, _: Raw) -> Snapshot:
        return take_snapshot(self, self._traffic, process_numbers(self._lag.last, self._lag.maximum))

    async def _thumbnail(self, body: Raw) -> bytes:
        """Return a picture of a stream of this worker; nothing if it has none."""
        path = self.hub.paths.get(msgspec.msgpack.decode(body, type=str))
        if path is None or path.stream is None or path.is_copy:
            return b""
        if self._thumbnails is None:
            self._thumbnails = await asyncio.to_thread(_make_thumbnails)
        try:
            return await self._thumbnails.get(path)
        except RequestError as error:
            raise PolycastError(str(error)) from None

    async def _move(self, body: Raw) -> str | None:
        wanted = msgspec.msgpack.decode(body, type=MoveCamera)
        path = self.hub.paths.get(wanted.path)
        if path is None or path.source is None:
            return None
        try:
            await path.source.move(wanted.movement)
        except CannotMove as error:
            return str(error)
        return ""

    def _kick(self, body: Raw) -> None:
        session = msgspec.msgpack.decode(body, type=KickSession)
        server = self.servers.get(session.server)
        if server is not None:
            server.kick(session.id)

    def _on_recording(self, body: Raw) -> None:
        request = msgspec.msgpack.decode(body, type=RecordingRequest)
        if request.is_wanted:
            self.recorder.start(request.path)
        else:
            self.recorder.stop(request.path)

    def _on_upload(self, body: Raw) -> None:
        if self._number == UPLOADING:
            self.recorder.uploader.add(msgspec.msgpack.decode(body, type=Upload))

    def _refresh_keys(self, _: Raw) -> None:
        task = asyncio.get_running_loop().create_task(self.hub.access.refresh_keys())
        task.add_done_callback(partial(_ignore, task))


def _owner_in(directory: Directory, path: str) -> str:
    claim = directory.owner_of(path)
    return claim.node if claim is not None else ""


def _make_thumbnails() -> Thumbnails:
    from polycast.control.console.thumbnails import Thumbnails

    return Thumbnails()


def _ignore(task: asyncio.Task[Any], _: object) -> None:
    if not task.cancelled():
        task.exception()


class ReaderCounts(PathObserver):
    """Tells the other workers how many clients read the paths whose number of readers is limited."""

    def __init__(self, number: int, channel: Channel) -> None:
        """``number`` is that of this worker."""
        self._number = number
        self._channel = channel
        self._told: dict[str, int] = {}

    def on_reader_added(self, path: Path, reader: Reader) -> None:
        self._tell(path)

    def on_reader_removed(self, path: Path, reader: Reader) -> None:
        self._tell(path)

    def on_path_not_ready(self, path: Path) -> None:
        self._tell(path)

    def on_path_reconfigured(self, path: Path, old: PathConfiguration) -> None:
        self._tell(path)

    def _tell(self, path: Path) -> None:
        readers = (reader.reference().id for reader in path.readers)
        count = sum(1 for reader in readers if reader) if path.configuration.max_readers else 0
        if count != self._told.get(path.name, 0):
            if count:
                self._told[path.name] = count
            else:
                del self._told[path.name]
            self._channel.tell("readers", ReaderCount(self._number, path.name, count))


class PathEvents(PathObserver):
    """Tells the supervisor what happens to paths."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def on_path_created(self, path: Path) -> None:
        self._tell(EventName.PATH_CREATED, path)

    def on_path_closed(self, path: Path) -> None:
        self._tell(EventName.PATH_CLOSED, path)

    def on_path_ready(self, path: Path) -> None:
        if path.is_copy:
            return
        tracks = path.stream.descriptions if path.stream is not None else ()
        self._channel.tell(
            "event",
            PathEvent(
                EventName.PATH_READY,
                path.name,
                tracks=[str(track) for track in tracks],
                labels=[label_of(track.codec) for track in tracks],
            ),
        )

    def on_path_not_ready(self, path: Path) -> None:
        if not path.is_copy:
            self._tell(EventName.PATH_NOT_READY, path)

    def on_path_online(self, path: Path) -> None:
        if path.publisher is not None and not path.is_copy:
            self._tell(EventName.PATH_ONLINE, path, path.publisher.reference())

    def on_path_offline(self, path: Path) -> None:
        if not path.is_copy:
            self._tell(EventName.PATH_OFFLINE, path)

    def on_reader_added(self, path: Path, reader: Reader) -> None:
        if reader.reference().type != NODE:
            self._tell(EventName.READER_ADDED, path, reader.reference())

    def on_reader_removed(self, path: Path, reader: Reader) -> None:
        if reader.reference().type != NODE:
            self._tell(EventName.READER_REMOVED, path, reader.reference())

    def on_segment_created(self, path: Path, file: str) -> None:
        self._tell(EventName.SEGMENT_CREATED, path, file=file)

    def on_segment_completed(self, path: Path, file: str, duration: float) -> None:
        self._tell(EventName.SEGMENT_COMPLETED, path, file=file, duration=duration)

    def on_upload_failed(self, name: str, file: str) -> None:
        self._channel.tell("event", PathEvent(EventName.UPLOAD_FAILED, name, None, file))

    def _tell(
        self, name: EventName, path: Path, who: Reference | None = None, *, file: str = "", duration: float = 0.0
    ) -> None:
        self._channel.tell("event", PathEvent(name, path.name, who, file, duration))
