"""Records the streams of all paths whose settings say so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

from polycast.config.path_schema import PathConfiguration
from polycast.config.schedule import is_scheduled
from polycast.config.schema import Configuration
from polycast.hub.path import Path, PathObserver, notify_observers
from polycast.log import Log
from polycast.record.cleaner import Cleaner
from polycast.record.disk import Disk
from polycast.record.entries import store_of
from polycast.record.memory import RecordingMemory
from polycast.record.numbers import DiskNumbers, RecordingNumbers
from polycast.record.path_recorder import PathRecorder
from polycast.record.requests import Requests
from polycast.record.uploads import Uploader

CLOSE_SECONDS: Final = 5.0
"""How long the end of the server waits for disks."""
MINUTE: Final = 60.0
MAXIMUM_DISKS: Final = 16
"""Threads; directories beyond that share them. Users have a directory for each disk."""

_RESTARTING: Final = (
    "record_path",
    "record_format",
    "record_part_duration",
    "record_max_part_size",
    "record_segment_duration",
    "record_sync",
)
"""Settings whose change begins a new recording."""


class Recorder(PathObserver):
    """All recordings. An observer of paths; used only from the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        observers: Sequence[PathObserver],
        configuration: Callable[[], Configuration],
    ) -> None:
        """``observers`` are told about segments."""
        self._loop = loop
        self._log = log
        self._observers = observers
        self._recordings: dict[Path, PathRecorder] = {}
        self._memories: dict[Path, RecordingMemory] = {}
        self._disks: dict[str, Disk] = {}
        self._streaming: set[Path] = set()
        """The paths that have a stream."""
        self._requests = Requests(loop, self._on_requests_changed)
        self._clock: asyncio.TimerHandle | None = None
        """Looks at the schedules, as long as there are paths with one."""
        self.uploader = Uploader(loop, log, configuration, lambda what: notify_observers(observers, log, what))
        self.cleaner = Cleaner(loop, log, configuration, lambda: self.open_files)

    @property
    def recordings(self) -> Iterable[PathRecorder]:
        """The recordings that run."""
        return self._recordings.values()

    def recording_numbers(self) -> list[RecordingNumbers]:
        """Return the numbers of the recordings that run."""
        found = (recording.numbers for recording in self._recordings.values())
        return [numbers for numbers in found if numbers is not None]

    def disk_numbers(self) -> list[DiskNumbers]:
        """Return the numbers of the directories that are written to."""
        return [DiskNumbers(disk.root, disk.free, disk.queued) for disk in self._disks.values()]

    @property
    def open_files(self) -> frozenset[str]:
        """The names of the files that are incomplete."""
        return frozenset(name for recording in self.recordings for name in recording.writer.open_files)

    def start(self, name: str, duration: float | None = None) -> None:
        """Record a path, also if its settings do not say so, whenever it has a stream.

        ``duration``: seconds after which that ends, unless it is asked for again; None for until `stop`.
        """
        self._requests.add(name, duration)

    def stop(self, name: str) -> bool:
        """End what `start` began; return whether there was anything to end. What the settings say goes on."""
        return self._requests.remove(name)

    def _on_requests_changed(self, name: str) -> None:
        for path in [*self._streaming]:
            if path.name == name:
                self._update(path)

    def _is_wanted(self, path: Path) -> bool:
        if path.is_copy:
            return False  # the node that publishes it records it
        configuration = path.configuration
        if path.name in self._requests:
            return True
        return configuration.record and is_scheduled(configuration.record_schedule, datetime.now())

    def _watch_schedules(self) -> None:
        """Look at the schedules at the beginning of each minute, if there are any."""
        if self._clock is None and any(path.configuration.record_schedule for path in self._streaming):
            self._clock = self._loop.call_later(MINUTE - time.time() % MINUTE, self._on_minute)

    def _on_minute(self) -> None:
        self._clock = None
        for path in [*self._streaming]:
            if path.configuration.record_schedule:
                self._update(path)
        self._watch_schedules()

    def on_path_ready(self, path: Path) -> None:
        self._streaming.add(path)
        self._update(path)
        self._watch_schedules()

    def on_path_online(self, path: Path) -> None:
        if path in self._streaming:  # perhaps from another node than before
            self._update(path)

    def on_path_not_ready(self, path: Path) -> None:
        self._memories.pop(path, None)
        self._streaming.discard(path)

    def on_path_reconfigured(self, path: Path, old: PathConfiguration) -> None:
        new = path.configuration
        recording = self._recordings.get(path)
        restarts = any(getattr(new, name) != getattr(old, name) for name in _RESTARTING)
        if recording is not None and restarts:
            recording.stop()
        self._update(path)
        self._watch_schedules()

    def _update(self, path: Path) -> None:
        """Record, or remember, what is configured now."""
        memory, recording = self._memories.get(path), self._recordings.get(path)
        is_recorded = self._is_wanted(path)
        if recording is not None and not is_recorded:
            recording.stop()
        wanted = 0.0 if is_recorded or path.is_copy else float(path.configuration.record_before)
        if is_recorded and path.stream is not None and path not in self._recordings:
            self._start(path)
        elif memory is not None and memory.seconds != wanted:
            memory.stop()
            del self._memories[path]
        if wanted and path.stream is not None and path not in self._memories:
            self._memories[path] = RecordingMemory(path, path.stream, wanted)

    async def close(self) -> None:
        """Wait until everything is written, but not long; call it when the paths are closed."""
        self._requests.close()
        if self._clock is not None:
            self._clock.cancel()
        await self.cleaner.close()
        threads = [thread for disk in self._disks.values() if (thread := disk.close()) is not None]
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in threads:
            await asyncio.to_thread(thread.join, max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self._log.error("a disk does not respond: the last seconds of recordings are lost")
        await asyncio.sleep(0)  # for what the threads have reported
        await self.uploader.close()

    def _start(self, path: Path) -> None:
        stream = path.stream
        if stream is None:
            return
        store = store_of(path.configuration)
        memory = self._memories.pop(path, None)
        recording = PathRecorder(
            path,
            stream,
            self._disk(store.root),
            store,
            loop=self._loop,
            notify=lambda what: notify_observers((*self._observers, self.uploader), path.log, what),
            on_closed=self._on_closed,
            memory=memory,
        )
        if recording.segmenter is not None:
            self._recordings[path] = recording

    def _disk(self, root: str) -> Disk:
        disk = self._disks.get(root)
        if disk is None:
            if len(self._disks) >= MAXIMUM_DISKS:
                return min(self._disks.values(), key=lambda other: other.queued)
            disk = self._disks[root] = Disk(root)
        return disk

    def _on_closed(self, recording: PathRecorder) -> None:
        if self._recordings.get(recording.path) is recording:
            del self._recordings[recording.path]
