"""Deletes recorded files: those that are too old, and the oldest where there are too many."""

from __future__ import annotations

import asyncio
import heapq
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration
from polycast.log import Log
from polycast.media.timebase import NANOSECONDS, WallTime
from polycast.record.entries import Entries
from polycast.record.store import Segment, SegmentStore

LONGEST_PAUSE: Final = 30 * 60.0
"""Seconds between two looks at the age of files."""
SIZE_PAUSE: Final = 60.0
"""Seconds between two looks at their size."""
SHARE_OF_TIME: Final = 20
"""With many files, a look at their size takes at most one in so many seconds."""
SHORTEST_PAUSE: Final = 1.0


class Cleaner:
    """Looks at the files of all paths from time to time, in a thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        configuration: Callable[[], Configuration],
        open_files: Callable[[], frozenset[str]],
    ) -> None:
        """``open_files`` returns the names of files that are being written; they are never deleted."""
        self._loop = loop
        self._log = log.child("record cleaner")
        self._configuration = configuration
        self._open_files = open_files
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._closing = threading.Event()
        self.deleted = 0
        """Files since the start."""

    def start(self) -> None:
        """Begin, unless it runs."""
        if self._task is None:
            self._task = self._loop.create_task(self._run())

    def apply(self) -> None:
        """Use a changed configuration."""
        self._changed.set()

    async def close(self) -> None:
        """Stop; a look that has begun is given up."""
        self._closing.set()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            configuration = self._configuration()
            took = 0.0
            if pause_after(configuration, took) is not None:
                began = time.monotonic()
                await self._clean_in_thread(configuration)
                took = time.monotonic() - began
            pause = pause_after(configuration, took)
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _clean_in_thread(self, configuration: Configuration) -> None:
        """Look at all files in a daemon thread: a disk that hangs must not keep the process from ending."""
        done = asyncio.Event()
        open_files = self._open_files()

        def work() -> None:
            self._clean(configuration, open_files)
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(done.set)

        threading.Thread(target=work, name="record cleaner", daemon=True).start()
        await done.wait()

    def _clean(self, configuration: Configuration, open_files: frozenset[str]) -> None:
        run = Cleaning(configuration, open_files, WallTime(time.time_ns()), self._log, self._closing)
        try:
            run.clean()
        except OSError as error:
            self._log.warning("recordings cannot be read: %s", error)
        except Exception:
            self._log.exception("internal error: the recordings were not cleaned")
        self.deleted += run.deleted


def pause_after(configuration: Configuration, took: float) -> float | None:
    """Return the seconds until the next look, after one that took some seconds; None if nothing is to be deleted."""
    ages = [path.record_delete_after for path in configuration.paths.values() if path.record_delete_after]
    pauses = [min(LONGEST_PAUSE, min(ages) / 2)] if ages else []
    if configuration.record_max_total_size or any(path.record_max_size for path in configuration.paths.values()):
        pauses.append(max(SIZE_PAUSE, took * SHARE_OF_TIME))
    return max(min(pauses), SHORTEST_PAUSE) if pauses else None


class Cleaning:
    """One look at all files. It blocks; call it in a thread."""

    def __init__(
        self,
        configuration: Configuration,
        open_files: frozenset[str],
        now: WallTime,
        log: Log,
        closing: threading.Event,
    ) -> None:
        self._configuration = configuration
        self._open_files = open_files
        self._now = now
        self._log = log
        self._closing = closing
        self._entries = Entries(configuration.paths)
        self.deleted = 0

    def clean(self) -> None:
        """Delete what is to be deleted. Raises OSError if a directory cannot be read."""
        sizes = self._delete_old()
        limits = {}
        for name, size in sizes.items():
            entry = self._entries.find(name)
            if entry is not None and 0 < entry.record_max_size < size:
                limits[name] = _Oldest(size - entry.record_max_size)
        if limits:
            self._collect(lambda segment: limits.get(segment.path))
            for name, oldest in limits.items():
                sizes[name] -= self._delete_all(oldest)
        total, limit = sum(sizes.values()), self._configuration.record_max_total_size
        if 0 < limit < total:
            oldest = _Oldest(total - limit)
            self._collect(lambda segment: oldest)
            self._delete_all(oldest)

    def _delete_old(self) -> dict[str, int]:
        """Delete the files that are too old; return the bytes of the others by path, if they are limited."""
        has_total = bool(self._configuration.record_max_total_size)
        sizes: dict[str, int] = defaultdict(int)
        for store, segment, entry in self._segments():
            age = entry.record_delete_after
            if age and self._now - segment.start > age * NANOSECONDS and segment.file not in self._open_files:
                self._delete(store, segment)
            elif has_total or entry.record_max_size:
                sizes[segment.path] += size_of(segment)
        return sizes

    def _collect(self, choose: Callable[[Segment], _Oldest | None]) -> None:
        for store, segment, _ in self._segments():
            oldest = choose(segment)
            if oldest is not None and segment.file not in self._open_files:
                oldest.add(store, segment, size_of(segment))

    def _delete_all(self, oldest: _Oldest) -> int:
        """Delete the oldest files of a choice, and return how many bytes they had."""
        return sum(size for store, segment, size in oldest.segments if self._delete(store, segment))

    def _delete(self, store: SegmentStore, segment: Segment) -> bool:
        self._log.debug("removing %s", segment.file)
        try:
            store.remove(segment)
        except OSError as error:
            self._log.warning("%s cannot be deleted: %s", segment.file, error.strerror or error)
            return False
        self.deleted += 1
        return True

    def _segments(self) -> Iterator[tuple[SegmentStore, Segment, PathConfiguration]]:
        """Yield all files of paths that are configured, where their settings say that they are."""
        for found in self._entries.segments():
            if self._closing.is_set():
                return
            yield found


class _Oldest:
    """The oldest segments that have at least some bytes together."""

    def __init__(self, size: int) -> None:
        self._wanted = size
        self._size = 0
        self._heap: list[tuple[int, str, int, SegmentStore, Segment]] = []
        """The newest comes first."""

    def add(self, store: SegmentStore, segment: Segment, size: int) -> None:
        heapq.heappush(self._heap, (-segment.start, segment.file, size, store, segment))
        self._size += size
        while self._heap and self._size - self._heap[0][2] >= self._wanted:
            self._size -= heapq.heappop(self._heap)[2]

    @property
    def segments(self) -> Iterator[tuple[SegmentStore, Segment, int]]:
        """The segments and their sizes, the oldest first."""
        for _, _, size, store, segment in sorted(self._heap, reverse=True, key=lambda item: item[0]):
            yield store, segment, size


def size_of(segment: Segment) -> int:
    """Return the size of a file in bytes; 0 if it is gone."""
    try:
        return os.lstat(segment.file).st_size
    except OSError:
        return 0
