"""Live playlists that reach back over recorded files: one for each path for which somebody asks."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable
from typing import Final

from polycast.errors import PolycastError
from polycast.log import Log
from polycast.media.timebase import NANOSECONDS
from polycast.playback.index import Segment
from polycast.playback.output import NothingRecorded, initialization, media_segment
from polycast.playback.recordings import Recordings
from polycast.playback.window import CLOCK_STEP, LiveWindow
from polycast.wire.hls.directives import MAXIMUM_SEQUENCE_LEAD, DeliveryDirectives
from polycast.wire.hls.numbering import Numbering
from polycast.wire.hls.resource import CONTENT_TYPE_MP4, CONTENT_TYPE_PLAYLIST, Refusal, Resource

PREFIX: Final = "dvr-"
"""Of the names of files."""
LOOK_SECONDS: Final = 0.5
"""Between two looks at what was recorded, at least."""
IDLE_SECONDS: Final = 60.0
"""Without a request, after which nothing is kept of a path."""
FIRST_WAIT: Final = 20.0
"""Seconds that the first requests wait for something to be recorded."""
WAIT_TARGETS: Final = 3
"""Segments after which a request is answered with 503 (draft-pantos-hls-rfc8216bis section 6.2.5.2)."""
MAXIMUM_WAITING: Final = 10_000
"""Requests for playlists that wait."""
MAXIMUM_BODY: Final = 64 * 1024 * 1024
"""Bytes of a media segment, which is sent as a whole."""
MAXIMUM_KEPT: Final = 32 * 1024 * 1024
"""Bytes of media segments of one path that are kept: viewers near the end load the same."""

_NO_FILE: Final = Refusal(404, "there is no such file")
_NOTHING: Final = Refusal(404, "nothing of this path is recorded yet")
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
        wanted = directives.sequence
        if wanted is not None and watched.texts is not None and wanted >= watched.next_number + MAXIMUM_SEQUENCE_LEAD:
            return _TOO_FAR
        if watched.waiting >= MAXIMUM_WAITING:
            return _BUSY
        patience = FIRST_WAIT if watched.texts is None else WAIT_TARGETS * watched.longest
        watched.waiting += 1
        try:
            async with asyncio.timeout(patience):
                while watched.texts is None or (wanted is not None and wanted >= watched.next_number):
                    await watched.changed.wait()
        except TimeoutError:
            return _LATE if watched.texts is not None else watched.problem
        finally:
            watched.waiting -= 1
            watched.used = time.monotonic()
        return watched.texts[directives.skip]

    async def file(self, path: str, name: str) -> Resource | Refusal:
        """Return a file that a playlist of a path names."""
        for (watched_path, *_), watched in self._watched.items():
            if watched_path == path and name.startswith(watched.prefix):
                watched.used = time.monotonic()
                return await watched.file(name)
        return _NO_FILE

    def _watch(self, key: tuple[str, str, float], shortest: float) -> _Watched:
        path, _, length = key
        prefix = f"{PREFIX}{int(time.time()):x}{secrets.token_hex(3)}-"
        first = self._numbering.begin(path, time.time())
        window = LiveWindow(round(length * NANOSECONDS), round(shortest * NANOSECONDS), first, prefix)
        watched = self._watched[key] = _Watched(path, key[1], window, prefix, self._recordings)
        watched.task = asyncio.get_running_loop().create_task(self._run(key, watched))
        return watched

    async def _run(self, key: tuple[str, str, float], watched: _Watched) -> None:
        """Keep a playlist up to date as long as it is used."""
        error = ""
        while time.monotonic() - watched.used < IDLE_SECONDS or watched.waiting:
            try:
                await watched.look()
                error = ""
            except (OSError, PolycastError) as problem:
                if str(problem) != error:
                    error = str(problem)
                    self._log.warning("the recordings of %s cannot be read: %s", watched.path, error)
                watched.problem = Refusal(500, "the recordings cannot be read")
            await asyncio.sleep(LOOK_SECONDS)
        self._numbering.end(watched.path, watched.next_numbers)
        del self._watched[key]


class _Watched:
    """The playlist of one path that is used."""

    task: asyncio.Task[None]

    def __init__(self, path: str, record_path: str, window: LiveWindow, prefix: str, recordings: Recordings) -> None:
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
        self.texts: tuple[Resource, Resource] | None = None
        """The playlist as a whole, and what is new of it; None if nothing is recorded yet."""
        self.problem = _NOTHING
        self._files: dict[str, asyncio.Task[Resource | Refusal]] = {}
        """Those that were loaded last, or are being loaded."""

    @property
    def next_number(self) -> int:
        """The media sequence number of the segment that is not recorded yet."""
        return self._window.next_numbers[0]

    @property
    def next_numbers(self) -> tuple[int, int]:
        return self._window.next_numbers

    @property
    def longest(self) -> int:
        """Seconds of the longest segment."""
        return self._window.target

    async def look(self) -> None:
        """Look at what was recorded. Raises OSError or PolycastError."""
        now, window, recordings = time.time_ns(), self._window, self._recordings
        segments = await recordings.segments(self._record_path, self.path, window.since(now), now + CLOCK_STEP)
        parts = await recordings.with_cuts(
            self._record_path, self.path, [each for each in segments if each.end > window.since(now)]
        )
        if await recordings.run(lambda: self._update(now, parts)):
            self.changed.set()
            self.changed = asyncio.Event()

    def _update(self, now: int, parts: list[Segment]) -> bool:
        with self._lock:
            if not self._window.update(parts, now):
                return False
            if self._window.is_empty:
                self.texts = None
                return True
            whole, new = self._window.write(), self._window.write(skips=True)
            self.texts = (
                Resource(whole, CONTENT_TYPE_PLAYLIST, immutable=False),
                Resource(new, CONTENT_TYPE_PLAYLIST, immutable=False),
            )
            return True

    async def file(self, name: str) -> Resource | Refusal:
        task = self._files.pop(name, None)
        if task is None or (task.done() and isinstance(task.result(), Refusal)):
            task = asyncio.get_running_loop().create_task(self._load(name))
        self._files[name] = task
        self._forget_files()
        return await asyncio.shield(task)

    def _forget_files(self) -> None:
        """Keep the files that were asked for last."""
        size = 0
        for name, task in reversed([*self._files.items()]):
            if task.done():
                found = task.result()
                size += len(found.body) if isinstance(found, Resource) else 0
                if size > MAXIMUM_KEPT:
                    del self._files[name]

    async def _load(self, name: str) -> Resource | Refusal:
        try:
            body = await self._recordings.run(lambda: self._read(name))
        except (OSError, PolycastError, NothingRecorded):
            return _NO_FILE
        return Resource(body, CONTENT_TYPE_MP4, immutable=True) if body else _NO_FILE

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
                return b""
        return bytes(body)


class Recorded:
    """What was recorded, and live playlists over it. Used only from the event loop."""

    def __init__(self, record_path: Callable[[str], str], log: Log) -> None:
        """``record_path`` returns that of a path; it raises PolycastError."""
        self.recordings = Recordings(log)
        self.windows = RecordedWindows(self.recordings, record_path, log)

    def close(self) -> None:
        """Forget everything."""
        self.windows.close()
        self.recordings.close()
