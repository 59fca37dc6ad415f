"""Live playlists that reach back over recorded files: one for each path that is requested."""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NamedTuple

from polycast.errors import PolycastError
from polycast.log import Log
from polycast.media.timebase import NANOSECONDS
from polycast.playback.files import UnreadableFile
from polycast.playback.index import Segment
from polycast.playback.output import NothingRecorded, initialization, media_segment
from polycast.playback.recordings import Recordings
from polycast.playback.window import CLOCK_STEP, LiveWindow
from polycast.wire.hls.directives import MAXIMUM_SEQUENCE_LEAD, DeliveryDirectives
from polycast.wire.hls.numbering import Numbering
from polycast.wire.hls.resource import CONTENT_TYPE_MP4, CONTENT_TYPE_PLAYLIST, Refusal, Resource

PREFIX: Final = "dvr-"
"""Of the names of files."""
UPDATE_SECONDS: Final = 0.5
"""Seconds between two updates from the recordings, at least."""
IDLE_SECONDS: Final = 60.0
"""Seconds without a request after which the playlist of a path is discarded."""
FIRST_WAIT: Final = 20.0
"""Seconds that the first requests wait for the first segment to be recorded."""
WAIT_TARGETS: Final = 3
"""Durations of the longest segment after which a waiting request is answered with 503 (draft-pantos-hls-rfc8216bis
section 6.2.5.2)."""
MAXIMUM_WAITING: Final = 10_000
"""Requests for playlists that wait at the same time, at most."""
MAXIMUM_BODY: Final = 64 * 1024 * 1024
"""Bytes of a media segment, which is sent as a whole."""
MAXIMUM_FILES: Final = 3_000
"""Recorded files of a window, the newest ones: each has a segment at least, and all are looked at again and again."""
MAXIMUM_KEPT: Final = 32 * 1024 * 1024
"""Bytes of media segments of one path that are cached: viewers near the live edge load the same ones."""

_NO_FILE: Final = Refusal(404, "there is no such file")
_NOTHING: Final = Refusal(404, "nothing of this path is recorded yet")
_UNREADABLE: Final = Refusal(500, "the recordings cannot be read")
_LATE: Final = Refusal(503, "nothing was recorded for some time")
_BUSY: Final = Refusal(503, "too many requests are waiting for this stream")
_TOO_FAR: Final = Refusal(400, "_HLS_msn is too far ahead")


class RecordedWindows:
    """The playlists of all paths. Used only from the event loop."""

    def __init__(self, recordings: Recordings, record_path: Callable[[str], str], log: Log) -> None:
        """``record_path`` returns that of a path; it raises PolycastError."""
        self._recordings = recordings
        self._record_path = record_path
        self._log = log
        self._watched: dict[tuple[str, str, float], _Watched] = {}
        self._numbering = Numbering()

    @property
    def is_used(self) -> bool:
        """Whether there are playlists."""
        return bool(self._watched)

    def close(self) -> None:
        """Forget everything."""
        for watched in self._watched.values():
            watched.task.cancel()
        self._watched.clear()

    async def playlist(
        self, path: str, length: float, shortest: float, directives: DeliveryDirectives
    ) -> Resource | Refusal:
        """Return the playlist of a path; it waits for the segment that the directives name.

        ``length`` of the window and ``shortest`` duration of segments in seconds. Raises PolycastError if there is no
        such path.
        """
        key = (path, self._record_path(path), length)
        watched = self._watched.get(key)
        if watched is None:
            watched = self._watch(key, shortest)
        watched.used = time.monotonic()
        wanted, version = directives.sequence, watched.version
        if wanted is not None and version is not None and wanted >= version.next_number + MAXIMUM_SEQUENCE_LEAD:
            return _TOO_FAR
        if watched.waiting >= MAXIMUM_WAITING:
            return _BUSY
        patience = FIRST_WAIT if version is None else WAIT_TARGETS * version.target
        watched.waiting += 1
        try:
            async with asyncio.timeout(patience):
                while (version := watched.version) is None or (wanted is not None and wanted >= version.next_number):
                    await watched.changed.wait()
                return version.new if directives.skip else version.whole
        except TimeoutError:
            return _LATE if watched.version is not None else watched.problem
        finally:
            watched.waiting -= 1
            watched.used = time.monotonic()

    async def file(self, path: str, name: str) -> Resource | Refusal:
        """Return a file that a playlist of a path names."""
        for (watched_path, *_), watched in self._watched.items():
            if watched_path == path and name.startswith(watched.prefix):
                watched.used = time.monotonic()
                return await watched.files.get(name)
        return _NO_FILE

    def _watch(self, key: tuple[str, str, float], shortest: float) -> _Watched:
        path, _, length = key
        prefix = f"{PREFIX}{int(time.time()):x}{secrets.token_hex(3)}-"
        first = self._numbering.begin(path, time.time())
        window = LiveWindow(round(length * NANOSECONDS), round(shortest * NANOSECONDS), first, prefix)
        watched = self._watched[key] = _Watched(path, key[1], window, prefix, self._recordings, self._log)
        watched.task = asyncio.get_running_loop().create_task(self._run(key, watched))
        return watched

    async def _run(self, key: tuple[str, str, float], watched: _Watched) -> None:
        """Keep a playlist up to date as long as it is used."""
        try:
            await self._keep_up(watched)
        finally:  # whatever has happened, the next request begins anew
            if self._watched.get(key) is watched:
                del self._watched[key]
                self._numbering.end(watched.path, watched.next_numbers)

    async def _keep_up(self, watched: _Watched) -> None:
        error = ""
        while time.monotonic() - watched.used < IDLE_SECONDS or watched.waiting:
            try:
                await watched.update()
                error, watched.problem = "", _NOTHING
            except (OSError, PolycastError, sqlite3.Error) as problem:
                if str(problem) != error:
                    error = str(problem)
                    self._log.warning("the recordings of %s cannot be read: %s", watched.path, error)
                watched.problem = _UNREADABLE
            await asyncio.sleep(UPDATE_SECONDS)


class _Version(NamedTuple):
    """A playlist as it was at some time."""

    whole: Resource
    new: Resource
    """A delta update."""
    next_number: int
    """The media sequence number of the segment that is not recorded yet."""
    target: int
    """Seconds."""


class _Watched:
    """The playlist of one path that is used."""

    task: asyncio.Task[None]

    def __init__(
        self, path: str, record_path: str, window: LiveWindow, prefix: str, recordings: Recordings, log: Log
    ) -> None:
        self.path = path
        self._record_path = record_path
        self._window = window
        self._lock = threading.Lock()
        """Of the window, which threads use."""
        self.prefix = prefix
        self._recordings = recordings
        self.used = time.monotonic()
        self.waiting = 0
        self.changed = asyncio.Event()
        self.version: _Version | None = None
        """None if nothing is recorded yet. Threads replace it; the window may be ahead of it."""
        self.problem = _NOTHING
        self.files = _LoadedFiles(path, lambda name: recordings.run(lambda: self._read(name)), log)

    @property
    def next_numbers(self) -> tuple[int, int]:
        return self._window.next_numbers

    async def update(self) -> None:
        """Update the playlist from the recordings. Raises OSError or PolycastError."""
        now, window, recordings = time.time_ns(), self._window, self._recordings
        until = now + CLOCK_STEP
        segments = await recordings.segments(
            self._record_path, self.path, window.since(now), until, newest=MAXIMUM_FILES
        )
        if window.latest > until:  # the clock was set back
            found = {each.file for each in segments}
            later = await recordings.segments(self._record_path, self.path, until, window.latest, newest=MAXIMUM_FILES)
            segments = [*segments, *(each for each in later if each.file not in found)]
        parts = await recordings.with_cuts(
            self._record_path, self.path, [each for each in segments if each.end > window.since(now)]
        )
        if await recordings.run(lambda: self._update(now, parts)):
            self.changed.set()
            self.changed = asyncio.Event()

    def _update(self, now: int, parts: list[Segment]) -> bool:
        with self._lock:
            if not self._window.update(parts, now, [part.file for part in parts if _is_older(part, now)]):
                return False
            if self._window.is_empty:
                self.version = None
                return True
            whole, new = (
                Resource(self._window.write(skips=skips), CONTENT_TYPE_PLAYLIST, immutable=False)
                for skips in (False, True)
            )
            self.version = _Version(whole, new, self._window.next_numbers[0], self._window.target)
            return True

    def _read(self, name: str) -> bytes:
        files = self._recordings.files
        with self._lock:
            segment, head = self._window.find(name), self._window.find_head(name)
        if head is not None:
            return initialization(files, head.file)
        if segment is None:
            return b""
        body = bytearray()
        for block in media_segment(files, segment.part.file, segment.begin, segment.until, segment.base):
            body += block
            if len(body) > MAXIMUM_BODY:
                raise UnreadableFile(f"a segment is larger than {MAXIMUM_BODY >> 20} MiB")
        return bytes(body)


def _is_older(part: Segment, now: int) -> bool:
    """Return whether a complete file was written later than it is now, ``now`` in nanoseconds since 1970: the clock was
    set back since. The names of files alone do not tell, as they may be those of the publisher's clock."""
    if part.end <= now or not part.is_complete:
        return False
    with suppress(OSError):
        return os.stat(part.file).st_mtime_ns > now + CLOCK_STEP
    return False


class _LoadedFiles:
    """The files of a playlist that were loaded last, or are being loaded."""

    def __init__(self, path: str, read: Callable[[str], Awaitable[bytes]], log: Log) -> None:
        """``read`` returns the content of a file, which is empty if there is none; it raises OSError, PolycastError or
        NothingRecorded."""
        self._path = path
        self._read = read
        self._log = log
        self._files: dict[str, asyncio.Task[Resource | Refusal]] = {}
        self._unreadable = ""
        """Why one could not be read the last time."""

    async def get(self, name: str) -> Resource | Refusal:
        task = self._files.pop(name, None)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._load(name))
        self._files[name] = task
        self._forget_files()
        return await asyncio.shield(task)

    def _forget_files(self) -> None:
        """Discard the files that were requested least recently, beyond the size limit."""
        size = 0
        for name, task in reversed([*self._files.items()]):
            if task.done():
                found = task.result()
                size += len(found.body) if isinstance(found, Resource) else 0
                if size > MAXIMUM_KEPT:
                    del self._files[name]

    async def _load(self, name: str) -> Resource | Refusal:
        body = b""
        try:
            body = await self._read(name)
        except UnreadableFile as error:
            if str(error) != self._unreadable:
                self._unreadable = str(error)
                self._log.warning("a part of the recordings of %s cannot be played: %s", self._path, error)
        except (OSError, PolycastError, NothingRecorded):
            pass  # it was deleted
        finally:
            if not body:  # names are made up by whoever asks: those of no file must not be kept
                self._files.pop(name, None)
        return Resource(body, CONTENT_TYPE_MP4, immutable=True) if body else _NO_FILE


class Recorded:
    """The recordings, and live playlists of them. Used only from the event loop."""

    def __init__(self, record_path: Callable[[str], str], log: Log) -> None:
        """``record_path`` returns that of a path; it raises PolycastError."""
        self.recordings = Recordings(log)
        self.windows = RecordedWindows(self.recordings, record_path, log)

    def close(self) -> None:
        """Forget everything."""
        self.windows.close()
        self.recordings.close()
