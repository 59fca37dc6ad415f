"""Paced playout: passes the frames of all renditions to the stream, in order, when they are due."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from polycast.hub.stream import Stream
from polycast.hub.successor import is_compatible, retimed
from polycast.media.continuity import MAXIMUM_STEP_OF_FRAMES, Continuity
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, rescale_nearest
from polycast.media.track import Track
from polycast.protocols.pull import PullError

# Seconds of frames that are passed on together: fewer wake-ups, and less than half a frame interval.
BATCH_SECONDS: Final = 0.01

# Seconds by which frames may be late before the playout is delayed; less is caught up.
MAXIMUM_LATENESS: Final = 0.3

# Seconds without frames that are played out as a pause; longer pauses are skipped.
MAXIMUM_GAP: Final = 5.0

# Seconds that one rendition waits for another one without frames.
MAXIMUM_WAIT: Final = 2.0

# Bytes that a frame takes in addition to its payload.
FRAME_OVERHEAD: Final = 256

# Seconds at which the timeline starts, so that no time becomes negative.
START_TIME: Final = 1.0


class SourceTimeline:
    """One monotonic timeline for all renditions, across discontinuities, at which the times restart."""

    def __init__(self) -> None:
        self._offsets: dict[int, int] = {}
        """Nanoseconds to add, by period."""
        self._end = round(START_TIME * NANOSECONDS)

    def place(self, period: int, nanoseconds: int) -> int:
        """Return the offset for the times of a period; ``nanoseconds`` is the first of them."""
        offset = self._offsets.get(period)
        if offset is None:
            offset = self._offsets[period] = self._end - nanoseconds
        return offset

    def extend(self, end: int) -> None:
        """Extend the timeline to the end of a frame."""
        self._end = max(self._end, end)


class PlayoutQueue:
    """The frames of one rendition that are not due yet."""

    def __init__(self, time_line: SourceTimeline, on_data: Callable[[], None], *, only: str | None = None) -> None:
        """``only``: use only tracks of this kind (``video``); None for all."""
        self._time_line = time_line
        self._on_data = on_data
        self._only = only
        self._indexes: dict[int, int] = {}
        """Index among the used tracks by index in the container."""
        self._last: dict[int, tuple[int, int]] = {}
        """Of the last frame by track index: time in nanoseconds, and DTS in the container."""
        self._continuity = Continuity([])
        """Joins jumps without a discontinuity, so that frames can be played out by their times."""
        self._container_tracks: tuple[Track, ...] | None = None
        self.tracks: tuple[Track, ...] | None = None
        self.entries: deque[tuple[int, int, Frame | tuple[Track, ...]]] = deque()
        """(time in nanoseconds, track index, frame), or the new tracks from there on."""
        self.size = 0
        """Bytes of the frames in it."""
        self.is_finished = False
        self.is_given_up = False
        """Whether the other queues continue without this one until it has frames again."""

    @property
    def is_awaited(self) -> bool:
        """Whether frames are expected, but the queue is empty."""
        return not (self.entries or self.is_finished or self.is_given_up)

    @property
    def buffered(self) -> float:
        """Seconds of media in the queue."""
        entries = self.entries
        return (entries[-1][0] - entries[0][0]) / NANOSECONDS if entries else 0.0

    def clear(self) -> None:
        """Remove all entries."""
        self.entries.clear()
        self.size = 0

    def pop(self) -> tuple[int, int, Frame | tuple[Track, ...]]:
        """Remove the first entry and return it."""
        entry = self.entries.popleft()
        if isinstance(entry[2], Frame):
            self.size -= entry[2].size + FRAME_OVERHEAD
        return entry

    def receive(
        self,
        tracks: tuple[Track, ...] | None,
        period: int,
        frames: Sequence[tuple[int, Frame]],
        *,
        is_repeated: bool = False,
    ) -> None:
        """Add the frames of a piece; ``tracks`` are those of its container. Those that were received before are left
        out if ``is_repeated``."""
        if tracks is None:
            return
        if tracks is not self._container_tracks:
            self._set_tracks(tracks)
        for container_index, frame in frames:
            index = self._indexes.get(container_index)
            if index is None or self.tracks is None:
                continue
            last = self._last.get(index)
            if is_repeated and last is not None and frame.dts <= last[1]:
                continue
            rate = self.tracks[index].clock_rate
            offset = self._time_line.place(period, rescale_nearest(frame.dts, rate, NANOSECONDS))
            track = self._continuity.tracks[index]
            key = frame.key and self.tracks[index].kind == "video"
            dts = track.place(frame.dts + rescale_nearest(offset, NANOSECONDS, rate), None, key=key)
            time = rescale_nearest(dts, rate, NANOSECONDS)
            if last is not None and time < last[0]:
                continue  # from before the discontinuity, or sent twice
            self._last[index] = (time, frame.dts)
            step = frame.duration or rate // 25
            self._time_line.extend(time + rescale_nearest(step, rate, NANOSECONDS))
            begins = track.began or frame.discontinuity
            self.size += frame.size + FRAME_OVERHEAD
            self.entries.append((time, index, retimed(frame, frame.pts + dts - frame.dts, dts, discontinuity=begins)))
        self.is_given_up = False
        self._on_data()

    def finish(self) -> None:
        """Mark the end of the rendition."""
        self.is_finished = True
        self._on_data()

    def _set_tracks(self, tracks: tuple[Track, ...]) -> None:
        self._container_tracks = tracks
        kept = [track for track in tracks if self._only is None or track.kind == self._only]
        self._indexes = {track.index: index for index, track in enumerate(kept)}
        taken = tuple(
            Track(index, track.codec, language=track.language, title=track.title) for index, track in enumerate(kept)
        )
        if self.tracks is not None and taken != self.tracks:
            time = self.entries[-1][0] if self.entries else max((time for time, _ in self._last.values()), default=0)
            self.entries.append((time, -1, taken))
        if self.tracks is None or not is_compatible(self.tracks, taken):
            self._last = {}
            self._continuity = Continuity([track.clock_rate for track in taken], MAXIMUM_STEP_OF_FRAMES)
        self.tracks = taken


class Player:
    """Publishes the frames of the queues in real time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        publish: Callable[[Sequence[Track], bool], Stream],
    ) -> None:
        self._loop = loop
        self._publish = publish
        self._data = asyncio.Event()
        self._stream: Stream | None = None
        self._published: list[tuple[Track, ...]] = []
        """The published tracks of each queue."""
        self._origin: float | None = None
        """Loop time of time 0."""
        self._taken = asyncio.Event()
        self.started = asyncio.Event()
        """Set when there is a stream."""
        self.queues: list[PlayoutQueue] = []
        self.time_line = SourceTimeline()

    def add_queue(self, *, only: str | None = None) -> PlayoutQueue:
        """Return a queue for a rendition."""
        queue = PlayoutQueue(self.time_line, self._data.set, only=only)
        self.queues.append(queue)
        return queue

    async def wait_for_room(self, queue: PlayoutQueue, seconds: float, size: int) -> None:
        """Wait until a queue holds less than ``seconds`` of media and ``size`` bytes."""
        while queue.buffered >= seconds or queue.size >= size:
            self._taken.clear()
            await self._taken.wait()

    def clear(self) -> None:
        """Clear all queues."""
        for queue in self.queues:
            queue.clear()

    async def run(self) -> None:
        """Play until all queues have finished; always ends with PullError."""
        while any(queue.is_awaited for queue in self.queues):
            await self._wait_for_data(None)
        if not any(queue.tracks for queue in self.queues):
            raise PullError("the stream doesn't contain tracks with supported codecs")
        self._published = [queue.tracks or () for queue in self.queues]
        self._publish_tracks()
        while True:
            await self._wait_for_empty_queues()
            queue = self._next_queue()
            if queue is None:
                raise PullError("the stream has ended")
            await self._wait_until(queue.entries[0][0])
            self._write_due()

    def _publish_tracks(self) -> None:
        tracks: list[Track] = []
        for queue_tracks in self._published:
            for track in queue_tracks:
                tracks.append(Track(len(tracks), track.codec, language=track.language, title=track.title))
        self._stream = self._publish(tracks, False)
        self.started.set()

    async def _wait_for_empty_queues(self) -> None:
        """Wait a limited time for empty queues."""
        deadline = self._loop.time() + MAXIMUM_WAIT
        while any(queue.is_awaited for queue in self.queues):
            rest = deadline - self._loop.time()
            if rest <= 0 and self._next_queue() is not None:
                for queue in self.queues:
                    queue.is_given_up = queue.is_awaited
                return
            await self._wait_for_data(rest if rest > 0 else None)

    async def _wait_for_data(self, timeout: float | None) -> None:
        self._data.clear()
        self._taken.set()
        try:
            async with asyncio.timeout(timeout):
                await self._data.wait()
        except TimeoutError:
            pass

    async def _wait_until(self, time: int) -> None:
        seconds = time / NANOSECONDS
        now = self._loop.time()
        if self._origin is None:
            self._origin = now - seconds
        ahead = self._origin + seconds - now
        if ahead < -MAXIMUM_LATENESS or ahead > MAXIMUM_GAP:
            self._origin -= ahead
        elif ahead > 0:
            await asyncio.sleep(ahead)

    def _write_due(self) -> None:
        stream = self._stream
        if stream is None or self._origin is None:
            return
        now = self._loop.time()
        limit = round((now - self._origin + BATCH_SECONDS) * NANOSECONDS)
        is_first = True
        while any(queue.entries for queue in self.queues):
            if not is_first and any(queue.is_awaited for queue in self.queues):
                break  # the next frame is not known
            queue = self._next_queue()
            if queue is None or queue.entries[0][0] > limit:
                break
            is_first = False
            _, index, entry = queue.pop()
            if isinstance(entry, Frame):
                stream.publish_frame(self._first_index(queue) + index, entry, now)
            elif not self._change_tracks(queue, entry, stream):
                break
        if self._stream is not None:
            self._stream.end_of_read()
        self._taken.set()

    def _next_queue(self) -> PlayoutQueue | None:
        """The queue with the earliest frame."""
        return min(
            (queue for queue in self.queues if queue.entries), key=lambda queue: queue.entries[0][0], default=None
        )

    def _first_index(self, queue: PlayoutQueue) -> int:
        return sum(len(tracks) for tracks in self._published[: self.queues.index(queue)])

    def _change_tracks(self, queue: PlayoutQueue, tracks: tuple[Track, ...], stream: Stream) -> bool:
        """Continue with other tracks; return whether the stream is still the same."""
        position = self.queues.index(queue)
        if is_compatible(self._published[position], tracks):
            first = self._first_index(queue)
            for track in tracks:
                stream.set_codec(first + track.index, track.codec)
            self._published[position] = tracks
            return True
        self._published[position] = tracks
        stream.end_of_read()
        self._publish_tracks()
        return False
