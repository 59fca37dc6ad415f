"""Records the stream of one path: the reader that feeds a segmenter."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from polycast.errors import ProtocolError
from polycast.hub.batch import FrameBatch
from polycast.hub.path import Path, PathObserver
from polycast.hub.retry import Backoff, RetryPauses
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader, Stream
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime
from polycast.media.track import Track, describe_tracks
from polycast.record.disk import Disk
from polycast.record.memory import Entry, RecordingMemory
from polycast.record.numbers import RecordingNumbers
from polycast.record.packagers import FORMATS, SegmentStart, choose_tracks
from polycast.record.segmenter import Arrival, Segmenter, SegmenterOptions
from polycast.record.store import SegmentStore
from polycast.record.writer import MAXIMUM_QUEUE, FileOptions, SegmentWriter

RETRY_PAUSES: Final = RetryPauses(first=2.0, longest=30.0)
"""After an error of the disk, until recording begins anew."""
WARNING_SECONDS: Final = 60.0
"""Between two warnings of the same kind."""
KEY_FRAME_SECONDS: Final = 10.0
"""Key frames are wanted at least so often: playback begins at one."""
EARLY_ENTRIES: Final = 64
"""Remembered frames that are written at once, which takes about a millisecond."""
QUEUE_SECONDS: Final = 0.05
"""Between two looks whether the queue of the disk has room for more of them."""


class PathRecorder(FrameReader):
    """Records one stream with the settings that its path has now."""

    is_passive = True

    def __init__(
        self,
        path: Path,
        stream: Stream,
        disk: Disk,
        store: SegmentStore,
        *,
        loop: asyncio.AbstractEventLoop,
        notify: Callable[[Callable[[PathObserver], None]], None],
        on_closed: Callable[[PathRecorder], None],
        memory: RecordingMemory | None = None,
    ) -> None:
        """Begin, with what is in the ``memory`` of the stream.

        ``notify`` calls a function with each observer of paths; ``on_closed`` is called at the end.
        """
        configuration = path.configuration
        self.path = path
        self.configuration = configuration
        self._loop = loop
        self._notify = notify
        self._on_closed = on_closed
        self._log = path.log.child("recorder")
        self._warnings = _Warnings()
        self.key_frame_interval = min(KEY_FRAME_SECONDS, float(configuration.record_segment_duration))
        options = FileOptions(
            has_duration=configuration.record_format == "fmp4", is_synchronized=configuration.record_sync
        )
        self.writer = SegmentWriter(disk, store, path.name, options, self, loop)
        self._retry = _Retry()
        self._early: deque[Entry] = deque()
        """What has to be written before the frames that arrive now."""
        stream.flush()
        self.segmenter = self._begin(stream, memory.tracks if memory is not None else stream.descriptions)
        if memory is not None:
            self._early += memory.take()
            self._write_early()

    def _begin(self, stream: Stream, given: Sequence[Track]) -> Segmenter | None:
        """Attach to the stream; None if the format carries none of its tracks."""
        configuration = self.configuration
        record_format = configuration.record_format.value
        chosen = FORMATS[record_format]
        tracks, skipped = choose_tracks(record_format, given)
        for track in skipped:
            reason = chosen.carries.reason(track.codec) or f"{chosen.name} carries fewer tracks"
            self._log.warning("track %d (%s) is skipped: %s", track.index + 1, track.codec_name, reason)
        self._positions = {track.index: position for position, track in enumerate(tracks)}
        if not tracks:
            self._log.warning("there is no track that can be recorded")
            return None
        self._log.info("recording %s", describe_tracks(tracks))
        segmenter = Segmenter(
            tracks,
            chosen.make_packager(tracks),
            SegmenterOptions(
                segment_duration=round(configuration.record_segment_duration * NANOSECONDS),
                part_duration=round(configuration.record_part_duration * NANOSECONDS),
                maximum_part_size=configuration.record_max_part_size,
                trusts_capture_times=configuration.use_absolute_timestamp,
            ),
            self.writer,
        )
        self.path.attach_reader(self, stream)
        return segmenter

    @property
    def numbers(self) -> RecordingNumbers | None:
        """None if nothing is recorded."""
        writer, segmenter = self.writer, self.segmenter
        if segmenter is None:
            return None
        counters = segmenter.counters
        return RecordingNumbers(
            path=self.path.name,
            written_bytes=writer.counters.written,
            segments=writer.counters.segments,
            queued_bytes=writer.queued,
            dropped_frames=counters.dropped,
            discarded_frames=counters.late + counters.invalid,
            errors=writer.counters.errors,
        )

    def reference(self) -> Reference:
        return Reference("recorder")

    def deliver_frames(self, batch: FrameBatch) -> None:
        segmenter = self.segmenter
        if segmenter is None:
            return
        arrival = Arrival(WallTime(time.time_ns()), time.monotonic_ns())
        if self._early:
            self._early += [(index, entry, arrival) for index, entry in batch.entries]
            return
        for index, entry in batch.entries:
            self._write_entry(segmenter, index, entry, arrival)

    def _write_early(self) -> None:
        """Write some of what was remembered, without holding up others, and without filling the queue of the disk."""
        segmenter, early = self.segmenter, self._early
        if segmenter is None or not early:
            return
        if not self.writer.is_suspended and self.writer.queued > MAXIMUM_QUEUE // 2:
            self._loop.call_later(QUEUE_SECONDS, self._write_early)
            return
        for _ in range(min(EARLY_ENTRIES, len(early))):
            self._write_entry(segmenter, *early.popleft())
        if early:
            self._loop.call_soon(self._write_early)

    def _write_entry(self, segmenter: Segmenter, index: int, entry: Frame | Track, arrival: Arrival) -> None:
        position = self._positions.get(index)
        if position is None:
            return
        if isinstance(entry, Frame):
            segmenter.write(position, entry, arrival)
        else:
            segmenter.change_track(position, entry)

    def close_reader(self, reason: str) -> None:
        self._close()

    def stop(self) -> None:
        """End the recording, but not the stream."""
        self.path.remove_reader(self)
        self._close()

    def _close(self) -> None:
        segmenter, self.segmenter = self.segmenter, None
        if self._retry.timer is not None:
            self._retry.timer.cancel()
        if segmenter is not None:
            while self._early:
                self._write_entry(segmenter, *self._early.popleft())
            segmenter.close()
            self._log.info("recording stopped")
        self._on_closed(self)

    # RecordingEvents

    def on_created(self, file: str) -> None:
        self._log.debug("creating segment %s", file)
        if self._retry.error:
            self._log.info("recording continues")
            self._retry = _Retry()
        self._notify(lambda observer: observer.on_segment_created(self.path, file))

    def on_completed(self, file: str, duration: int) -> None:
        self._log.debug("closing segment %s", file)
        self._notify(lambda observer: observer.on_segment_completed(self.path, file, duration / NANOSECONDS))

    def on_failed(self, start: SegmentStart, error: OSError) -> None:
        retry = self._retry
        reason = error.strerror or str(error)
        if reason != retry.error:  # each attempt is for another file
            self._log.error("%s", describe_error(error))
            retry.error = reason
        segmenter = self.segmenter
        if segmenter is None:
            return
        if segmenter.current in (None, start):
            segmenter.abandon()
        self.writer.is_suspended = True
        pause = retry.backoff.pause(RETRY_PAUSES)
        if retry.timer is None:
            retry.backoff.advance()
        else:
            retry.timer.cancel()
        retry.timer = self._loop.call_later(pause, self._resume)

    def _resume(self) -> None:
        self._retry.timer = None
        self.writer.is_suspended = False
        publisher = self.path.publisher
        if publisher is not None:
            publisher.request_key_frame()

    def on_overflow(self) -> None:
        if self._warnings.is_due("overflow", self._loop.time()):
            self._log.warning(
                "the disk does not keep up with the stream; pictures and sound are left out of the recording"
            )

    def on_invalid(self, track: Track, error: ProtocolError) -> None:
        if self._warnings.is_due(track.codec_name, self._loop.time()):
            self._log.warning("a frame of track %d (%s) is left out: %s", track.index + 1, track.codec_name, error)


class _Retry:
    """An error of the disk, until it works again."""

    def __init__(self) -> None:
        self.error = ""
        self.backoff = Backoff()
        self.timer: asyncio.TimerHandle | None = None


class _Warnings:
    """When warnings were logged last, by kind."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def is_due(self, kind: str, now: float) -> bool:
        """Return whether a warning is to be logged."""
        if now - self._last.get(kind, -WARNING_SECONDS) < WARNING_SECONDS:
            return False
        self._last[kind] = now
        return True


def describe_error(error: OSError) -> str:
    """Return an error of the disk in words."""
    text = error.strerror or str(error)
    return f"cannot write {error.filename}: {text}" if error.filename else f"cannot write the recording: {text}"
