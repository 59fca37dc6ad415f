"""Writes segments to a disk, in a thread: nobody waits for it.

What the thread has to write is counted in bytes. If the disk is too slow, or hangs, no more is accepted.

A segment gets its name once its first part is complete on the disk, so that no file is ever empty or without a header.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Final, Protocol

from polycast.media.timebase import NANOSECONDS, WallTime
from polycast.wire.mp4.file_codecs import RECORDED_FILE
from polycast.wire.mp4.initialization import DURATION_OFFSET, MOVIE_TIMESCALE

MAXIMUM_PIECES: Final = 512
"""Buffers of one system call; systems allow 1024 (IOV_MAX)."""
MAXIMUM_SAME_NAMES: Final = 10
"""Segments of a path that may begin within the resolution of their names."""
_NAMELESS: Final = getattr(os, "O_TMPFILE", 0)
_NOT_NAMELESS: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
"""Errors of systems, and of file systems, that have no files without a name (open(2), O_TMPFILE)."""
_DESCRIPTORS: Final = "/proc/self/fd"
_CAN_RENAME_OPEN_FILES: Final = os.name != "nt"
"""Otherwise, files have their names from the start."""
TEMPORARY_SUFFIX: Final = ".tmp"
"""What files are called until they have their first part, with a dot in front, where they cannot be without a name."""

MEASURING_SECONDS: Final = 10.0
"""Between two looks at how much of a disk is free."""

Job = Callable[[], None]


class Disk:
    """The thread that writes to one directory."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.accepted = 0
        """Bytes that it got to write; changed by the loop only."""
        self.done = 0
        """Bytes of these that are written or lost; changed by the thread only."""
        self.free: int | None = None
        """Bytes that are free on the disk, as far as it is known."""
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def queued(self) -> int:
        """Bytes that wait to be written."""
        return self.accepted - self.done

    def submit(self, job: Job) -> None:
        """Let the thread do something, after what it has to do already. The job must not raise."""
        if self._thread is None:
            # A daemon: a disk that hangs must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def close(self) -> threading.Thread | None:
        """Let the thread end once everything is written, and return it; None if it never ran."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
        return thread

    def _run(self) -> None:
        measured = -MEASURING_SECONDS
        while (job := self._jobs.get()) is not None:
            job()
            now = time.monotonic()
            if now - measured >= MEASURING_SECONDS:
                measured = now
                with suppress(OSError):
                    self.free = shutil.disk_usage(self.root).free


class Names(Protocol):
    """What files are called; a `SegmentStore` is one."""

    @property
    def resolution(self) -> int:
        """Nanoseconds by which dates must differ for names to differ."""
        ...

    def file_of(self, path: str, start: WallTime) -> str:
        """Return the name of the segment of a path that begins at a date."""
        ...

    def check_inside(self, file: str) -> None:
        """Raise OSError if a file must not be written."""
        ...


class SegmentFile:
    """One segment. Used by the thread, except for ``name``."""

    def __init__(self, store: Names, path: str, start: WallTime, *, has_duration: bool, is_synchronized: bool) -> None:
        """``has_duration``: whether the header has a field for the duration. ``is_synchronized``: whether each part is
        on the disk before the next one is written."""
        self._store = store
        self._path = path
        self._start = start
        self._has_duration = has_duration
        self._is_synchronized = is_synchronized
        self._descriptor: int | None = None
        self._final = ""
        """What the file is to be called."""
        self._temporary = ""
        """What it is called meanwhile, if it has a name."""
        self._size = 0
        """Bytes up to the last complete part."""
        self.name = ""
        """The name of the file once it has a part."""
        self.has_failed = False

    def write(self, pieces: Sequence[bytes]) -> bool:
        """Write a part; return whether it was the first one. Raises OSError; the file is closed then."""
        try:
            if self._descriptor is None:
                self._open()
            assert self._descriptor is not None
            if self.name and os.fstat(self._descriptor).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "the file was deleted while it was written", self.name)
            self._size += write_all(self._descriptor, pieces)
            if self._is_synchronized:
                _synchronize(self._descriptor)
            if self.name:
                return False
            self._give_name()
        except OSError as error:
            error.filename = error.filename or self._final
            self._fail()
            raise
        return True

    def close(self, duration: int) -> None:
        """Complete the file; ``duration`` in nanoseconds. Raises OSError."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            if self._has_duration:
                milliseconds = min(round(duration * MOVIE_TIMESCALE / NANOSECONDS), 0xFFFFFFFF)
                os.lseek(descriptor, len(RECORDED_FILE) + DURATION_OFFSET, os.SEEK_SET)
                os.write(descriptor, milliseconds.to_bytes(4, "big"))
            if self._is_synchronized:
                _synchronize(descriptor)
        finally:
            os.close(descriptor)

    def _open(self) -> None:
        """Open a file without a name if the system can do that, otherwise with a temporary one."""
        self._final = self._free_name()
        directory, name = os.path.split(self._final)
        os.makedirs(directory, 0o755, exist_ok=True)
        flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        if not _CAN_RENAME_OPEN_FILES:
            self._descriptor = os.open(self._final, flags | os.O_CREAT | os.O_EXCL, 0o666)
            return
        if _NAMELESS and os.path.isdir(_DESCRIPTORS):
            try:
                self._descriptor = os.open(directory, flags | _NAMELESS, 0o666)
            except OSError as error:
                if error.errno not in _NOT_NAMELESS:
                    raise
            else:
                return
        self._temporary = os.path.join(directory, f".{name}{TEMPORARY_SUFFIX}")
        flags |= os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor = os.open(self._temporary, flags, 0o666)

    def _free_name(self) -> str:
        """Return the name of the file, or if there is such a file already, one that says a little later."""
        start = self._start
        for _ in range(MAXIMUM_SAME_NAMES):
            name = self._store.file_of(self._path, start)
            if not os.path.lexists(name):
                self._store.check_inside(name)
                return name
            start = WallTime(start + self._store.resolution)
        raise FileExistsError(errno.EEXIST, "there are too many segments of this time", name)

    def _give_name(self) -> None:
        if self._temporary:
            os.rename(self._temporary, self._final)
        elif _CAN_RENAME_OPEN_FILES:
            # A directory, although it is not used, lets Python call linkat, which can follow the link.
            name = f"{_DESCRIPTORS}/{self._descriptor}"
            os.link(name, self._final, src_dir_fd=self._descriptor, follow_symlinks=True)
        self.name, self._temporary = self._final, ""
        if self._is_synchronized and os.name != "nt":
            directory = os.open(os.path.dirname(self.name), os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def _fail(self) -> None:
        """Keep what is complete, and nothing else."""
        self.has_failed = True
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.ftruncate(descriptor, self._size)
            with suppress(OSError):
                os.close(descriptor)
        unfinished = self._temporary or ("" if self.name or _CAN_RENAME_OPEN_FILES else self._final)
        if unfinished:
            with suppress(OSError):
                os.unlink(unfinished)


def _synchronize(descriptor: int) -> None:
    """Wait until a file is on the disk. Raises OSError."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def write_all(descriptor: int, pieces: Sequence[bytes]) -> int:
    """Write buffers to a file, and return how many bytes they are. Raises OSError."""
    size = 0
    for first in range(0, len(pieces), MAXIMUM_PIECES):
        buffers = pieces[first : first + MAXIMUM_PIECES]
        expected = sum(map(len, buffers))
        written = os.writev(descriptor, buffers) if hasattr(os, "writev") else 0
        if written < expected:
            rest = memoryview(b"".join(buffers))[written:]
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        size += expected
    return size
