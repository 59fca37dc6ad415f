"""Interleaves the frames of the tracks of one rendition by decoding time.

Publishers send audio some 0.1 s after the video it belongs to. Segments cut in the order of arrival would then contain
less audio than video, and a player could not play one to its end: hls.js loads the first segment again and again, Shaka
stalls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from polycast.media.timebase import NANOSECONDS, rescale

MAXIMUM_WAIT = NANOSECONDS // 2
"""Nanoseconds of media that are held for a track that lags behind. A track that lags more, or is silent, is not waited
for: its frames are placed where they arrive."""
MAXIMUM_HELD = 1_000
"""Maximum frames held: ten times those of half a second, unless a publisher's timestamps are wrong."""
MAXIMUM_HELD_SIZE = 16 * 1024 * 1024
"""Maximum bytes of the frames held: half a second at 256 Mbit/s."""

Item = TypeVar("Item")


class _Queue(Generic[Item]):
    __slots__ = ("held", "is_awaited", "last", "rate")

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.held: deque[tuple[int, int, Item]] = deque()
        """(due time in nanoseconds, bytes, item)."""
        self.last: int | None = None
        """Time of the last frame added, in nanoseconds."""
        self.is_awaited = False
        """Whether a frame is expected, so that other tracks wait for it."""


class Interleaver(Generic[Item]):
    """A queue per track. `add` returns frames in order.

    A frame of a track other than the leading one is due with the previous frame: the segmenter writes a frame when the
    next one determines its duration, so all audio that begins before a key frame is written before the segment ends.
    """

    def __init__(self, rates: Sequence[int], lead: int) -> None:
        """``rates`` are the clock rates of the tracks by position, ``lead`` the position of the leading one."""
        self._queues = [_Queue[Item](rate) for rate in rates]
        self._lead = lead
        self._count = 0
        self._size = 0

    def add(self, position: int, dts: int, size: int, item: Item) -> Iterator[tuple[int, Item]]:
        """Add a frame of ``size`` bytes; yield those that are due, with the positions of their tracks."""
        queue = self._queues[position]
        time = rescale(dts, queue.rate, NANOSECONDS)
        due = time if queue.last is None or position == self._lead else queue.last
        queue.last = time
        queue.held.append((due, size, item))
        self._count += 1
        self._size += size
        newest = max(other.last for other in self._queues if other.last is not None)
        queue.is_awaited = newest - time <= MAXIMUM_WAIT
        return self._release(newest)

    def put(self, position: int, item: Item) -> Iterator[tuple[int, Item]]:
        """Add an item that belongs between the last frame of a track and its next one."""
        queue = self._queues[position]
        due = queue.held[-1][0] if queue.held else queue.last
        if due is None or (not queue.held and not self._count):
            yield position, item
            return
        queue.held.append((due, 0, item))
        self._count += 1
        newest = max(other.last for other in self._queues if other.last is not None)
        yield from self._release(newest)

    def drain(self) -> Iterator[tuple[int, Item]]:
        """Yield all frames that are held, in order: no more will be added."""
        while self._count:
            first = self._first()
            _, size, item = self._queues[first].held.popleft()
            self._count -= 1
            self._size -= size
            yield first, item

    def _release(self, newest: int) -> Iterator[tuple[int, Item]]:
        while self._count:
            first = self._first()
            due, size, item = self._queues[first].held[0]
            is_late = newest - due > MAXIMUM_WAIT or self._count > MAXIMUM_HELD or self._size > MAXIMUM_HELD_SIZE
            for queue in self._queues:
                if queue.is_awaited and not queue.held:
                    if not is_late:
                        return
                    queue.is_awaited = False
            self._queues[first].held.popleft()
            self._count -= 1
            self._size -= size
            yield first, item

    def _first(self) -> int:
        """Return the position of the track with the earliest item; if equal, the leading track comes first."""
        best = -1
        earliest: tuple[int, bool] | None = None
        for position, queue in enumerate(self._queues):
            if queue.held:
                key = (queue.held[0][0], position != self._lead)
                if earliest is None or key < earliest:
                    best, earliest = position, key
        return best
