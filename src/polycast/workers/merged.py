"""What the workers know, put together: the hub and the servers as the API and the metrics show them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import msgspec
from msgspec import Struct

from polycast.config.path_schema import PathConfiguration
from polycast.hub.access import AccessControl
from polycast.hub.access_request import Action
from polycast.hub.entries import PathEntries
from polycast.hub.errors import PathError
from polycast.hub.movement import Movement
from polycast.hub.path import PathEntry, PathObserver
from polycast.hub.retry import Failure
from polycast.hub.stats import CipherMeter, Counters, Reference
from polycast.items import ConnectionItem, ForwardItem, LazyItems, MetricBlock, SessionItem, ViewerItem
from polycast.media.track import Track
from polycast.protocols.base import ServerKind
from polycast.record.cleaner import Cleaner
from polycast.record.numbers import DiskNumbers, RecordingNumbers
from polycast.record.requests import Requests
from polycast.workers.snapshot import (
    Meter,
    ParticipantSnapshot,
    PathSnapshot,
    ServerSnapshot,
    Snapshot,
    StreamSnapshot,
    TrackSnapshot,
    UploadNumbers,
)

Move = Callable[[str, Movement], Awaitable[None]]
"""Moves the camera of a path's source. Raises CannotMove."""

Kick = Callable[[int, str, str], None]
"""Closes a session of a worker: its number, the name of the server, the id."""


class MergedStream:
    """A stream in the worker that its publisher is connected to (`control.contract.Stream`)."""

    def __init__(self, snapshot: StreamSnapshot) -> None:
        self.snapshot = snapshot
        """What is known now."""

    @property
    def descriptions(self) -> tuple[Track, ...]:
        return tuple(track.track for track in self.snapshot.tracks)

    @property
    def tracks(self) -> tuple[TrackSnapshot, ...]:
        return self.snapshot.tracks

    @property
    def key_track(self) -> int:
        return self.snapshot.key_track

    @property
    def bytes_received(self) -> int:
        return self.snapshot.bytes_received

    @property
    def meter(self) -> Meter:
        return self.snapshot.meter


class MergedSource:
    """A source that runs in a worker (`control.contract.Source`)."""

    def __init__(self, path: str, name: Reference, move: Move) -> None:
        self._path = path
        self._name = name
        self._move = move

    def reference(self) -> Reference:
        return self._name

    async def move(self, movement: Movement) -> None:
        """Move its camera. Raises CannotMove."""
        await self._move(self._path, movement)


class MergedPath:
    """A path of one or several workers (`control.contract.Path`). It stays the same as long as the path exists."""

    def __init__(self, parts: Sequence[PathSnapshot], entry: PathEntry, move: Move) -> None:
        self._move = move
        self.is_closed = False
        self.stream: MergedStream | None = None
        self._main = parts[0]
        self.update(parts, entry)

    def update(self, parts: Sequence[PathSnapshot], entry: PathEntry) -> None:
        """Use what the workers know now."""
        self._parts = parts
        self.entry = entry
        before, self._main = self._main, max(parts, key=_importance)
        snapshot = self._main.stream
        if snapshot is None:
            self.stream = None
        elif self.stream is not None and before.ready_since == self._main.ready_since:
            self.stream.snapshot = snapshot
        else:
            self.stream = MergedStream(snapshot)

    @property
    def name(self) -> str:
        return self._main.name

    @property
    def configuration(self) -> PathConfiguration:
        return self.entry.configuration

    @property
    def is_copy(self) -> bool:
        """False: some worker has what the others copy."""
        return False

    @property
    def publisher(self) -> ParticipantSnapshot | None:
        return self._main.publisher

    @property
    def source(self) -> MergedSource | None:
        source = self._main.source
        return MergedSource(self.name, source.reference(), self._move) if source is not None else None

    @property
    def source_failure(self) -> Failure | None:
        return self._main.source_failure

    @property
    def ready_since(self) -> float | None:
        return self._main.ready_since

    @property
    def online_since(self) -> float | None:
        return self._main.online_since

    @property
    def is_online(self) -> bool:
        return self._main.online_since is not None

    @property
    def readers(self) -> tuple[ParticipantSnapshot, ...]:
        return tuple(reader for part in self._parts for reader in part.readers)

    @property
    def forwards(self) -> tuple[ForwardItem, ...]:
        """Where its stream is sent to."""
        return self._main.forwards

    @property
    def counters(self) -> Counters:
        """What was received from the publisher, and sent by all workers."""
        main = self._main.counters
        return replace(
            main,
            bytes_sent=sum(part.counters.bytes_sent for part in self._parts),
            packets_sent=sum(part.counters.packets_sent for part in self._parts),
            packets_dropped=sum(part.counters.packets_dropped for part in self._parts),
        )


def _importance(part: PathSnapshot) -> tuple[bool, ...]:
    return (
        not part.is_copy and part.stream is not None,
        part.stream is not None,
        part.source is not None,
        part.publisher is not None,
        part.source_failure is not None,
    )


class MergedHub:
    """All paths (`control.contract.Hub`)."""

    def __init__(self, access: AccessControl, move: Move) -> None:
        """``move`` moves the camera of a path."""
        self._move = move
        self.access = access
        self.entries = PathEntries()
        self.observers: list[PathObserver] = []
        """Nobody calls them: the workers tell what happens to paths."""
        self.cipher_meter = CipherMeter()
        self.paths: dict[str, MergedPath] = {}

    def update(self, snapshots: Sequence[Snapshot]) -> None:
        """Use what all workers know now."""
        parts: dict[str, list[PathSnapshot]] = {}
        for snapshot in snapshots:
            for path in snapshot.paths:
                parts.setdefault(path.name, []).append(path)
        before, self.paths = self.paths, {}
        for name, found in parts.items():
            with suppress(PathError):  # it was removed from the configuration meanwhile
                entry, _ = self.entries.find(name)
                known = before.pop(name, None)
                if known is not None:
                    known.update(found, entry)
                self.paths[name] = known if known is not None else MergedPath(found, entry, self._move)
        for closed in before.values():
            closed.is_closed = True
        self.cipher_meter.packets = sum(snapshot.cipher_packets for snapshot in snapshots)
        self.cipher_meter.seconds = sum(snapshot.cipher_seconds for snapshot in snapshots)

    def __iter__(self) -> Iterator[MergedPath]:
        return iter(tuple(self.paths.values()))

    def find_entry(self, name: str) -> tuple[PathEntry, tuple[str, ...]]:
        """Return the entry of the configuration for a path. Raises PathError."""
        return self.entries.find(name)

    def is_protected(self, name: str, action: Action) -> bool:
        """Whether the configuration of a path requires credentials or certain addresses of clients."""
        try:
            entry, _ = self.entries.find(name)
        except PathError:
            return False
        return not self.access.is_unprotected(action, name, entry.configuration)


class MergedServer:
    """A server that runs in all workers (`control.contract.SessionServer`)."""

    def __init__(self, kind: ServerKind, parts: Mapping[int, ServerSnapshot], kick: Kick) -> None:
        """``parts``: by the numbers of the workers."""
        self._kind = kind
        self._parts = parts
        self._kick = kick

    @property
    def kind(self) -> ServerKind:
        """Its declaration."""
        return self._kind

    @property
    def name(self) -> str:
        return self._kind.name

    @property
    def collection(self) -> str:
        return self._kind.collection

    @property
    def metric(self) -> str:
        return self._kind.metric

    @property
    def can_kick(self) -> bool:
        return self._kind.can_kick

    @property
    def item(self) -> type[Struct]:
        return self._kind.item

    @property
    def internal_errors(self) -> int:
        return sum(part.internal_errors for part in self._parts.values())

    @property
    def ports(self) -> dict[str, int]:
        return dict(next(iter(self._parts.values())).ports)

    @property
    def connections_collection(self) -> str:
        return self._kind.connections

    @property
    def viewers_collection(self) -> str:
        return self._kind.viewers

    @property
    def metric_blocks(self) -> tuple[MetricBlock, ...]:
        return self._kind.blocks

    @property
    def item_fields(self) -> Callable[[Any], Mapping[str, Any]]:
        return self._kind.v3

    def items(self) -> LazyItems[Struct]:
        decode = msgspec.msgpack.Decoder(self._kind.item).decode
        return LazyItems(
            {key: partial(decode, item) for part in self._parts.values() for key, item in part.items.items()}
        )

    def connections(self) -> Mapping[str, ConnectionItem]:
        return {key: item for part in self._parts.values() for key, item in part.connections.items()}

    def viewers(self) -> Mapping[str, ViewerItem]:
        return {key: item for part in self._parts.values() for key, item in part.viewers.items()}

    def sessions(self) -> Mapping[str, SessionItem]:
        if not issubclass(self._kind.item, SessionItem):
            return {}
        return cast("Mapping[str, SessionItem]", self.items())

    def kick(self, session_id: str) -> bool:
        for number, part in self._parts.items():
            if session_id in part.items or session_id in part.viewers:
                self._kick(number, self.name, session_id)
                return True
        return False


class MergedRecorder:
    """All recordings (`control.contract.Recorder`)."""

    def __init__(self, cleaner: Cleaner, requests: Requests, open_files: Callable[[], frozenset[str]]) -> None:
        """``open_files`` returns the names of the files that are incomplete."""
        self.cleaner = cleaner
        self._open_files = open_files
        self.snapshots: Sequence[Snapshot] = ()
        self.requests = requests
        """The paths that are to be recorded, whatever their settings say."""

    @property
    def open_files(self) -> frozenset[str]:
        return self._open_files()

    def start(self, name: str, duration: float | None = None) -> None:
        """Record a path, for ``duration`` seconds, or until `stop`."""
        self.requests.add(name, duration)

    def stop(self, name: str) -> bool:
        """End what `start` began; return whether there was anything to end."""
        return self.requests.remove(name)

    @property
    def uploader(self) -> UploadNumbers:
        """What all workers upload."""
        uploads = [snapshot.uploads for snapshot in self.snapshots]
        return UploadNumbers(
            sum(each.uploaded for each in uploads),
            sum(each.waiting for each in uploads),
            sum(each.set_aside for each in uploads),
        )

    def recording_numbers(self) -> list[RecordingNumbers]:
        return [numbers for snapshot in self.snapshots for numbers in snapshot.recordings]

    def disk_numbers(self) -> list[DiskNumbers]:
        """Return the numbers of the directories; several workers may write to one."""
        found: dict[str, DiskNumbers] = {}
        for snapshot in self.snapshots:
            for disk in snapshot.disks:
                other = found.get(disk.root)
                queued = disk.queued + (other.queued if other is not None else 0)
                found[disk.root] = DiskNumbers(disk.root, disk.free, queued)
        return list(found.values())


class MergedForwarding:
    """Where streams are sent (`control.contract.Forwarding`)."""

    def items(self, path: MergedPath) -> Sequence[ForwardItem]:
        return path.forwards


class MergedTraffic:
    """The traffic of each path (`control.contract.Traffic`)."""

    def of(self, path: MergedPath) -> Counters:
        return path.counters


@dataclass(frozen=True, slots=True)
class WorkerNumbers:
    """A worker, for metrics (`control.contract.WorkerState`)."""

    number: int
    pid: int
    lag: float
    longest_lag: float
    cpu_seconds: float
    memory: int
