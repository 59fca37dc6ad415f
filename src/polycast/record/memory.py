"""The last seconds of a stream that is not recorded, so that its recording can begin earlier than it was asked for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Final

from polycast.hub.batch import FrameBatch
from polycast.hub.path import Path
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader, Stream
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime
from polycast.media.track import Track
from polycast.record.segmenter import Arrival

MAXIMUM_MEMORY: Final = 64 * 1024 * 1024
"""Bytes of frames of one stream: a minute of 8 Mbit/s. Beyond that, less than wanted is kept."""
KEY_FRAME_SECONDS: Final = 10.0
"""Key frames are wanted at least so often, since a recording begins at one."""

Entry = tuple[int, Frame | Track, Arrival]
"""Index of the track, a frame or new parameters, and when they arrived."""


class _Stretch:
    """What begins with a key frame, up to the next one."""

    def __init__(self, tracks: tuple[Track, ...], since: int) -> None:
        self.tracks = tracks
        """The tracks as they are at the start."""
        self.since = since
        """Monotonic nanoseconds."""
        self.entries: list[Entry] = []
        self.size = 0


class RecordingMemory(FrameReader):
    """Keeps the last seconds of one stream."""

    is_passive = True

    def __init__(self, path: Path, stream: Stream, seconds: float) -> None:
        """Begin to keep ``seconds``, and what is needed to begin them with a key frame."""
        self._path = path
        self._stream = stream
        self.seconds = seconds
        """How much is to be kept."""
        self.key_frame_interval = min(KEY_FRAME_SECONDS, seconds)
        self._tracks = list(stream.descriptions)
        self._stretches: deque[_Stretch] = deque()
        self._size = 0
        path.attach_reader(self, stream)

    def deliver_frames(self, batch: FrameBatch) -> None:
        arrival = Arrival(WallTime(time.time_ns()), time.monotonic_ns())
        stretches = self._stretches
        for index, entry in batch.entries:
            if isinstance(entry, Frame):
                if not stretches or (index == self._stream.key_track and entry.key):
                    stretches.append(_Stretch(tuple(self._tracks), arrival.monotonic))
                size = entry.size
                stretches[-1].size += size
                self._size += size
            else:
                self._tracks[index] = entry
            if stretches:
                stretches[-1].entries.append((index, entry, arrival))
        while len(stretches) > 1 and (
            stretches[1].since <= arrival.monotonic - self.seconds * NANOSECONDS or self._size > MAXIMUM_MEMORY
        ):
            self._size -= stretches.popleft().size

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks as they were at the start of what is kept."""
        return self._stretches[0].tracks if self._stretches else tuple(self._tracks)

    def recent(self, seconds: float) -> tuple[tuple[Track, ...], list[Entry]]:
        """Return the last ``seconds``, from the key frame before them on, and the tracks as they were then.

        It continues to keep them.
        """
        since = time.monotonic_ns() - round(seconds * NANOSECONDS)
        stretches = list(self._stretches)
        while len(stretches) > 1 and stretches[1].since <= since:
            del stretches[0]
        if not stretches:
            return tuple(self._tracks), []
        return stretches[0].tracks, [entry for stretch in stretches for entry in stretch.entries]

    def take(self) -> Iterator[Entry]:
        """End, and return what was kept. Whoever continues has to be attached to the stream already."""
        self.stop()
        stretches, self._stretches = self._stretches, deque()
        return (entry for stretch in stretches for entry in stretch.entries)

    def stop(self) -> None:
        """End."""
        self._path.remove_reader(self)

    def close_reader(self, reason: str) -> None:
        self._stretches.clear()

    def reference(self) -> Reference:
        return Reference("recorder")
