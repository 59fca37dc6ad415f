"""Clips: files that `Reader.record` writes from a stream, without decoding it."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path as FilePath
from typing import Final

from polycast.api.closing import Closing
from polycast.api.errors import StreamEnded
from polycast.api.runtime import Runtime
from polycast.errors import PolycastError, ProtocolError, UnsupportedCodec
from polycast.hub.batch import FrameBatch
from polycast.hub.path import Path
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader, Stream
from polycast.log import Log
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime
from polycast.media.track import Track, describe_tracks
from polycast.record.disk import Disk, SegmentFile
from polycast.record.memory import Entry, RecordingMemory
from polycast.record.packagers import FORMATS, SegmentStart, choose_tracks
from polycast.record.segmenter import Arrival, Segmenter, SegmenterOptions

FILE_FORMATS: Final = {".mp4": "fmp4", ".m4v": "fmp4", ".mov": "fmp4", ".ts": "mpegts"}
"""Formats of recordings by the ending of the name."""
MAXIMUM_QUEUE: Final = 64 * 1024 * 1024
"""Bytes of one clip that wait for the disk; beyond that, frames are left out up to the next key frame."""
EARLY_ENTRIES: Final = 64
"""Remembered frames that are passed on at once, which takes about a millisecond."""

_OPTIONS: Final = SegmenterOptions(
    segment_duration=10**6 * NANOSECONDS,  # a new file only begins where the stream changes
    part_duration=NANOSECONDS,
    maximum_part_size=50 * 1024 * 1024,
)


class _Names:
    """What the files of a clip are called: ``clip.mp4``, then ``clip-2.mp4``. Used by the thread of the disk."""

    resolution = 1

    def __init__(self, file: FilePath) -> None:
        self._file = file
        self.files: list[str] = []

    def file_of(self, _: str, __: WallTime) -> str:
        """Return the name of the next file. A file that has this name already is replaced."""
        count = len(self.files) + 1
        file = self._file if count == 1 else self._file.with_stem(f"{self._file.stem}-{count}")
        with suppress(FileNotFoundError):
            file.unlink()
        self.files.append(str(file))
        return str(file)

    def check_inside(self, _: str) -> None:
        """Accept any name: the program chose it."""


class _Output:
    """Writes the parts of a clip in the thread of a disk."""

    def __init__(self, file: FilePath, log: Log) -> None:
        self._log = log
        self._disk = Disk(str(file.parent))
        self._names = _Names(file)
        self._file: SegmentFile | None = None
        self._has_duration = FILE_FORMATS[file.suffix.lower()] == "fmp4"
        self.finished: Future[tuple[str, ...]] = Future()
        """The names of the files, once they are complete."""
        self.finished.set_running_or_notify_cancel()  # a task that is cancelled while it waits must not cancel it
        self._error: OSError | PolycastError | None = None

    # In the loop

    def has_room(self) -> bool:
        return self._disk.queued <= MAXIMUM_QUEUE // 2

    def write_part(self, start: SegmentStart, pieces: Sequence[bytes], size: int) -> bool:
        if self._disk.queued + size > MAXIMUM_QUEUE:
            self._log.warning("the disk does not keep up with the stream; frames are left out of the clip")
            return False
        if self._file is None:
            self._file = SegmentFile(
                self._names, "", start.wall_time, has_duration=self._has_duration, is_synchronized=False
            )
        self._disk.accepted += size
        self._disk.submit(partial(self._write, self._file, pieces, size))
        return True

    def end_segment(self, start: SegmentStart, duration: int) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._disk.submit(partial(self._close, file, duration))

    def report_invalid(self, track: Track, error: ProtocolError) -> None:
        self._log.warning("a frame of track %d is left out of the clip: %s", track.index + 1, error)

    def finish(self, error: PolycastError | None) -> None:
        """Set ``finished`` once everything is written, or to an ``error``."""
        self._error = self._error or error
        self._disk.submit(self._finish)
        self._disk.close()

    # In the thread

    def _write(self, file: SegmentFile, pieces: Sequence[bytes], size: int) -> None:
        try:
            if not file.has_failed:
                file.write(pieces)
        except OSError as error:
            self._error = error
        finally:
            self._disk.done += size

    def _close(self, file: SegmentFile, duration: int) -> None:
        try:
            file.close(duration)
        except OSError as error:
            self._error = error

    def _finish(self) -> None:
        if self._error is not None:
            self.finished.set_exception(self._error)
        else:
            self.finished.set_result(tuple(self._names.files))


class ClipRecorder(FrameReader):
    """Reads streams of a path into a clip. Used in the loop's thread."""

    is_passive = True

    def __init__(self, file: FilePath, log: Log, loop: asyncio.AbstractEventLoop) -> None:
        """Raises ValueError for a name with another ending, OSError if its folder does not exist."""
        if file.suffix.lower() not in FILE_FORMATS:
            raise ValueError(f"'{file}' must end in one of {', '.join(FILE_FORMATS)}")
        if not file.parent.is_dir():
            raise FileNotFoundError(f"the directory '{file.parent}' does not exist")
        self._format = FILE_FORMATS[file.suffix.lower()]
        self._log = log
        self._loop = loop
        self._path: Path | None = None
        self._segmenter: Segmenter | None = None
        self._positions: dict[int, int] = {}
        self._early: deque[Entry] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._error: PolycastError | None = None
        self._is_over = False
        self._output = _Output(file, log)

    @property
    def finished(self) -> Future[tuple[str, ...]]:
        """The names of the files, once they are complete."""
        return self._output.finished

    def begin(self, path: Path, stream: Stream, memory: RecordingMemory | None = None, before: float = 0.0) -> None:
        """Record a stream, beginning with the last seconds that the memory has of it."""
        if self._is_over:
            return
        stream.flush()
        known, early = memory.recent(before) if memory is not None and before else (stream.descriptions, [])
        tracks, _ = choose_tracks(self._format, known)
        if not tracks:
            carrier = FORMATS[self._format].name
            self._error = UnsupportedCodec(f"{carrier} carries none of {describe_tracks(known)}")
            self._log.warning("%s", self._error)
            return
        self._error = None
        self._positions = {track.index: position for position, track in enumerate(tracks)}
        self._segmenter = Segmenter(tracks, FORMATS[self._format].make_packager(tracks), _OPTIONS, self._output)
        self._path = path
        path.attach_reader(self, stream)
        self._early.extend(early)
        self._write_early()

    def stop_after(self, seconds: float) -> None:
        """Stop in some seconds."""
        self._timer = self._loop.call_later(seconds, self.stop)

    def stop(self) -> None:
        """Complete the clip. May be called several times."""
        if self._is_over:
            return
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._path is not None:
            self._path.remove_reader(self)
        self._end_stream()
        self._output.finish(self._error)

    # FrameReader

    def deliver_frames(self, batch: FrameBatch) -> None:
        arrival = Arrival(WallTime(time.time_ns()), time.monotonic_ns())
        if self._early:
            self._early += [(index, entry, arrival) for index, entry in batch.entries]
            return
        for index, entry in batch.entries:
            self._write(index, entry, arrival)

    def close_reader(self, reason: str) -> None:
        self._path = None
        self._end_stream()

    def reference(self) -> Reference:
        return Reference("pythonRecorder")

    def _write_early(self) -> None:
        """Pass on some of what was remembered, without holding up others."""
        for _ in range(min(EARLY_ENTRIES, len(self._early))):
            self._write(*self._early.popleft())
        if self._early:
            self._loop.call_soon(self._write_early)

    def _write(self, index: int, entry: Frame | Track, arrival: Arrival) -> None:
        segmenter, position = self._segmenter, self._positions.get(index)
        if segmenter is None or position is None:
            return
        if isinstance(entry, Frame):
            segmenter.write(position, entry, arrival)
        else:
            segmenter.change_track(position, entry)

    def _end_stream(self) -> None:
        while self._early:
            self._write(*self._early.popleft())
        segmenter, self._segmenter = self._segmenter, None
        if segmenter is not None:
            segmenter.close()


class Clip(Closing):
    """A file that is written from a stream, made by `Reader.record`: ``with reader.record("clip.mp4") as clip``.

    It is complete once `wait` or `close` has returned; until then, it can be played up to its last second.
    """

    def __init__(self, runtime: Runtime, recorder: ClipRecorder, file: FilePath) -> None:
        self._runtime = runtime
        self._recorder = recorder
        self._file = file

    @property
    def done(self) -> bool:
        """Whether it is complete, or has failed."""
        return self._recorder.finished.done()

    def wait(self, timeout: float | None = None) -> tuple[str, ...]:
        """Wait until it is complete, and return the names of its files.

        There is more than one file (``clip.mp4``, ``clip-2.mp4``) if the stream was interrupted, or its parameters
        changed; none if nothing was published. ``timeout``: in seconds. Raises TimeoutError, OSError if a file cannot
        be written, UnsupportedCodec if the format does not carry the stream.
        """
        finished = self._recorder.finished
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:  # a wait without a timeout would not notice Ctrl-C on Windows
            rest = 1.0 if deadline is None else min(1.0, max(0.0, deadline - time.monotonic()))
            with suppress(TimeoutError):
                return finished.result(rest)
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"the clip is not complete after {timeout:g} seconds")

    async def wait_async(self) -> tuple[str, ...]:
        """Do what `wait` does, in an event loop."""
        return await asyncio.wrap_future(self._recorder.finished)

    def close(self) -> tuple[str, ...]:
        """Stop recording, and do what `wait` does. In an event loop, use ``async with``."""
        self._stop()
        return self.wait()

    async def _close_async(self) -> None:
        self._stop()
        await self.wait_async()

    def __repr__(self) -> str:
        return f"<Clip {str(self._file)!r} {'complete' if self.done else 'recording'}>"

    def _stop(self) -> None:
        with suppress(StreamEnded):  # the server has stopped, and with it the recording
            self._runtime.call(self._recorder.stop)


def clip_file(file: str | os.PathLike[str]) -> FilePath:
    """Return the absolute name of a file: the working directory may change."""
    return FilePath(os.path.abspath(os.fspath(file)))
