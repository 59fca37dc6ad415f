"""Passes the segments of one recording to the thread of its disk, and limits what waits there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from polycast.errors import ProtocolError
from polycast.media.track import Track
from polycast.record.disk import Disk, SegmentFile
from polycast.record.packagers import SegmentStart
from polycast.record.store import SegmentStore

MAXIMUM_QUEUE: Final = 32 * 1024 * 1024
"""Bytes of one recording that wait for the disk: a minute of 4 Mbit/s."""
MAXIMUM_QUEUES: Final = 256 * 1024 * 1024
"""Bytes of all recordings on a disk that wait for it."""


class RecordingEvents(Protocol):
    """Called in the loop."""

    def on_created(self, file: str) -> None:
        """A segment has its first part."""
        ...

    def on_completed(self, file: str, duration: int) -> None:
        """A segment is complete; ``duration`` in nanoseconds."""
        ...

    def on_failed(self, start: SegmentStart, error: OSError) -> None:
        """The segment that begins at ``start`` could not be written; what was written before remains."""
        ...

    def on_invalid(self, track: Track, error: ProtocolError) -> None:
        """A frame is left out."""
        ...

    def on_overflow(self) -> None:
        """The disk does not keep up: a part was dropped."""
        ...


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How the files of a recording are written."""

    has_duration: bool
    """See `SegmentFile`."""
    is_synchronized: bool


@dataclass(slots=True)
class WriterCounters:
    """Changed by the thread only, except for ``accepted``."""

    accepted: int = 0
    """Bytes that it got to write."""
    done: int = 0
    """Bytes of these that are written or lost."""
    written: int = 0
    """Bytes that are in files."""
    segments: int = 0
    """Files that were created."""
    errors: int = field(default=0)


class SegmentWriter:
    """The output of one `Segmenter`. Used by the loop."""

    def __init__(
        self,
        disk: Disk,
        store: SegmentStore,
        path: str,
        options: FileOptions,
        events: RecordingEvents,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._disk = disk
        self._store = store
        self._path = path
        self._options = options
        self._events = events
        self._loop = loop
        self._files: dict[SegmentStart, SegmentFile] = {}
        """Those that are incomplete: one, but for a moment."""
        self.is_suspended = False
        """Whether it takes nothing for now, after an error."""
        self.counters = WriterCounters()

    @property
    def queued(self) -> int:
        """Bytes that wait for the disk."""
        return self.counters.accepted - self.counters.done

    @property
    def open_files(self) -> list[str]:
        """The names of the files that are incomplete."""
        return [file.name for file in self._files.values()]

    def has_room(self) -> bool:
        return not self.is_suspended and self.queued <= MAXIMUM_QUEUE // 2 and self._disk.queued <= MAXIMUM_QUEUES // 2

    def write_part(self, start: SegmentStart, pieces: Sequence[bytes], size: int) -> bool:
        if self.is_suspended:
            return False
        disk, counters = self._disk, self.counters
        if self.queued and (self.queued + size > MAXIMUM_QUEUE or disk.queued + size > MAXIMUM_QUEUES):
            self._events.on_overflow()
            return False
        file = self._files.get(start)
        if file is None:
            file = self._files[start] = SegmentFile(
                self._store,
                self._path,
                start.wall_time,
                has_duration=self._options.has_duration,
                is_synchronized=self._options.is_synchronized,
            )
        counters.accepted += size
        disk.accepted += size
        disk.submit(partial(self._write, file, start, pieces, size))
        return True

    def end_segment(self, start: SegmentStart, duration: int) -> None:
        file = self._files.get(start)
        if file is not None:
            self._disk.submit(partial(self._close, file, start, duration))

    def report_invalid(self, track: Track, error: ProtocolError) -> None:
        self._events.on_invalid(track, error)

    # In the thread.

    def _write(self, file: SegmentFile, start: SegmentStart, pieces: Sequence[bytes], size: int) -> None:
        counters = self.counters
        try:
            if not file.has_failed:
                is_first = file.write(pieces)
                counters.written += size
                if is_first:
                    counters.segments += 1
                    self._call(self._events.on_created, file.name)
        except OSError as error:
            counters.errors += 1
            self._call(self._on_failed, start, error)
        except Exception as error:  # such as a date that has no name; the thread must go on for the others
            file.has_failed = True
            counters.errors += 1
            self._call(self._on_failed, start, OSError(f"internal error: {error!r}"))
        finally:
            counters.done += size
            self._disk.done += size

    def _close(self, file: SegmentFile, start: SegmentStart, duration: int) -> None:
        if file.has_failed:
            return
        try:
            file.close(duration)
        except OSError as error:
            self.counters.errors += 1
            self._call(self._on_failed, start, error)
        else:
            self._call(self._on_completed, start, file.name, duration)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(function, *arguments)

    # In the loop again.

    def _on_failed(self, start: SegmentStart, error: OSError) -> None:
        self._files.pop(start, None)
        self._events.on_failed(start, error)

    def _on_completed(self, start: SegmentStart, file: str, duration: int) -> None:
        self._files.pop(start, None)
        self._events.on_completed(file, duration)
