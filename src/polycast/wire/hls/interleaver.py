"""Puts the frames of the tracks of one rendition in the order of their decoding times.

Publishers send sound some 0.1 s after the picture that it belongs to. Segments cut in the order of arrival then have
less sound than picture, and a player that has loaded one cannot play it to its end: hls.js loads the first segment
again and again, Shaka stands still.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from polycast.media.timebase import NANOSECONDS, rescale

MAXIMUM_WAIT = NANOSECONDS // 2
"""Nanoseconds of media that are held for a track that lags behind. One that lags further, or is silent, is not waited
for: its frames go where they arrive."""
MAXIMUM_HELD = 1_000
"""Frames that are held at most: half a second has a tenth of it, unless a publisher makes up its times."""
MAXIMUM_HELD_SIZE = 16 * 1024 * 1024
"""Bytes of the frames that are held at most: half a second at 256 Mbit/s."""

Item = TypeVar("Item")


class _Queue(Generic[Item]):
    __slots__ = ("held", "is_awaited", "last", "rate")

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.held: deque[tuple[int, int, Item]] = deque()
        """(nanoseconds at which it is due, bytes, item)."""
        self.last: int | None = None
        """Nanoseconds of the frame added last."""
        self.is_awaited = False
        """Whether a frame is to be expected, so that others wait for it."""


class Interleaver(Generic[Item]):
    """A queue per track. What `add` returns is in order.

    A frame of a track that does not lead is due with the frame before it: the segmenter writes a frame when the next
    one tells its duration, so all sound that begins before a key frame is written before the segment ends there.
    """

    def __init__(self, rates: Sequence[int], lead: int) -> None:
        """``rates`` are the clock rates of the tracks by position, ``lead`` the position of the leading one."""
        self._queues = [_Queue[Item](rate) for rate in rates]
        self._lead = lead
        self._count = 0
        self._size = 0

    def add(self, position: int, dts: int, size: int, item: Item) -> Iterator[tuple[int, Item]]:
        """Take a frame of ``size`` bytes; yield those whose turn has come, with their positions."""
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
        """Take something that comes between the last frame of a track and its next one."""
        queue = self._queues[position]
        due = queue.held[-1][0] if queue.held else queue.last
        if due is None or (not queue.held and not self._count):
            yield position, item
            return
        queue.held.append((due, 0, item))
        self._count += 1
        newest = max(other.last for other in self._queues if other.last is not None)
        yield from self._release(newest)

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
        """Return the position of the track with the earliest item; of equal ones the leading track's comes first."""
        best = -1
        earliest: tuple[int, bool] | None = None
        for position, queue in enumerate(self._queues):
            if queue.held:
                key = (queue.held[0][0], position != self._lead)
                if earliest is None or key < earliest:
                    best, earliest = position, key
        return best
