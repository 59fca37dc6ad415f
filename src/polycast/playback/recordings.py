"""The recordings of a server: finds those of a path, and runs what waits for disks in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from polycast.log import Log
from polycast.playback.files import UnreadableFile
from polycast.playback.index import Period, RecordingIndex, Segment
from polycast.playback.opening import Files
from polycast.playback.playlist import thin_out

READERS: Final = 4
"""Threads that read files; more would not read faster."""

PAGE: Final = 100
"""Files of a long period that are looked up at once."""

Result = TypeVar("Result")


class Recordings:
    """The recordings of all paths.

    Each ``recordPath`` has its index, and a thread that keeps it up to date: to read a large directory for the first
    time delays nothing else.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._indexes: dict[str, tuple[RecordingIndex, ThreadPoolExecutor]] = {}
        self.files = Files()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="playback")

    def close(self) -> None:
        """Forget everything; what is being read is read to its end."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        for index, executor in self._indexes.values():
            executor.submit(index.close)
            executor.shutdown(wait=False)
        self._indexes.clear()

    async def periods(
        self, record_path: str, path: str, start: int | None = None, end: int | None = None
    ) -> list[Period]:
        """Return what is recorded of a path; see `RecordingIndex.periods`."""
        index, executor = self._index(record_path)
        return await _run(executor, lambda: index.periods(path, start, end))

    async def segments(
        self, record_path: str, path: str, start: int, end: int, newest: int | None = None
    ) -> list[Segment]:
        """Return the files of a path; see `RecordingIndex.segments`."""
        index, executor = self._index(record_path)
        return await _run(executor, lambda: index.segments(path, start, end, newest))

    async def pages(self, record_path: str, path: str, start: int, end: int) -> Iterator[Segment]:
        """Return the same files one by one, for a thread: they are looked up as they are needed, since a year has half
        a million of them, and every client that downloads it would hold them all."""
        index, executor = self._index(record_path)
        page = await _run(executor, lambda: index.segments(path, start, end, oldest=PAGE))
        return _pages(index, path, page, end)

    async def with_cuts(self, record_path: str, path: str, segments: Sequence[Segment]) -> list[Segment]:
        """Return those of some files that can be read, with where media segments can begin. Raises PolycastError."""
        found: dict[str, Segment] = {}
        for segment in segments:
            if segment.cuts is None:
                cuts = await self.run(lambda file=segment.file: self._find_cuts(file))  # type: ignore[misc]
                if cuts is not None:
                    found[segment.file] = segment._replace(cuts=cuts)
        complete = [segment for segment in found.values() if segment.is_complete]
        if complete:
            index, executor = self._index(record_path)
            await _run(executor, lambda: index.keep_cuts(path, complete))
        known = (found.get(segment.file, segment) for segment in segments)
        return [segment for segment in known if segment.cuts is not None]

    def _find_cuts(self, file: str) -> tuple[int, ...] | None:
        try:
            with self.files.open(file) as opened:
                return thin_out(opened.key_times())
        except (OSError, UnreadableFile):
            return None

    def _index(self, record_path: str) -> tuple[RecordingIndex, ThreadPoolExecutor]:
        found = self._indexes.get(record_path)
        if found is None:
            executor = ThreadPoolExecutor(1, thread_name_prefix="recordings")
            found = self._indexes[record_path] = (RecordingIndex(record_path, self._log, self.files), executor)
        return found

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return the result of a function that reads files."""
        return await _run(self._readers, work)

    async def blocks(self, source: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield what a generator yields that reads files; it is closed at the end, also if nobody wants the rest."""
        guarded = _Guarded(source)
        try:
            while (block := await self.run(guarded.next)) is not None:
                yield block
        finally:
            try:
                self._readers.submit(guarded.close)
            except RuntimeError:  # it accepts no more work
                guarded.close()


def _pages(index: RecordingIndex, path: str, page: list[Segment], end: int) -> Iterator[Segment]:
    has_more = len(page) >= PAGE
    while True:
        yield from page
        if not (page and has_more):
            return
        last = page[-1]
        found = index.segments(path, last.start, end, oldest=PAGE)
        has_more = len(found) >= PAGE
        page = [segment for segment in found if (segment.start, segment.file) > (last.start, last.file)]


async def _run(executor: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    try:
        future = asyncio.get_running_loop().run_in_executor(executor, work)
    except RuntimeError:  # it accepts no more work
        raise UnreadableFile("the playback server stops") from None
    return await future


class _Guarded:
    """A generator that one thread may close while another one waits for its next item."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._lock = threading.Lock()

    def next(self) -> bytes | None:
        with self._lock:
            return next(self._source, None)

    def close(self) -> None:
        with self._lock:
            close = getattr(self._source, "close", None)
            if close is not None:
                close()
