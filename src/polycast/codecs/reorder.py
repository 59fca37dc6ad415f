"""Derives decoding times from presentation times, for codecs whose decoding order differs from the presentation order.

A decoder that reorders by at most N pictures shows one picture for every one it decodes, N pictures late. So the
decoding time of a picture is the presentation time of the one shown at that moment: the smallest of the last N + 1
not shown yet (Rec. ITU-T H.264 section C.4.5.3, "bumping"). FFmpeg, x264 and x265 compute it in this way, so the
values are the same ones, also at a variable frame rate.
"""

from __future__ import annotations

from collections import deque
from heapq import heappush, heappushpop

MAXIMUM_REORDER_DEPTH = 16
"""Pictures: the largest decoded picture buffer (Rec. ITU-T H.264 section A.3.1 item h, H.265 section A.4.2)."""

MAXIMUM_GUESSED_DEPTH = 4
"""Pictures that may wait for one still to come until that one counts as lost; few pyramids of B pictures go deeper."""


class ReorderQueue:
    """Gives each picture its decoding time. Feed it in decoding order.

    Its values never decrease and never lie after the picture's presentation time.
    """

    __slots__ = ("_last", "_pending")

    def __init__(self) -> None:
        self._pending: list[int] = []
        """Heap of presentation times that no picture has got as its decoding time yet; as many as the depth."""
        self._last: int | None = None

    @property
    def depth(self) -> int:
        """How many pictures are held back, at most `MAXIMUM_REORDER_DEPTH`."""
        return len(self._pending)

    @property
    def last(self) -> int | None:
        """The last decoding time returned."""
        return self._last

    def set_depth(self, depth: int, pts: int, interval: int) -> None:
        """Change the depth in front of the picture with ``pts``. ``interval`` is the time between two pictures.

        Growing puts places before the coming picture: at the start, where real pictures would have been had the
        stream begun earlier; later on, shortly after the last decoding time, as a picture shown soon may follow.
        """
        depth = min(depth, MAXIMUM_REORDER_DEPTH)
        pending = self._pending
        missing = depth - len(pending)
        if missing < 0:
            pending.sort()
            del pending[:-missing]
            return
        if missing == 0:
            return
        last = self._last
        first = min(pts, pending[0]) if pending else pts
        for index in range(missing):
            if last is None:
                heappush(pending, first - (missing - index) * interval)
            else:
                heappush(pending, last + max(first - last, 0) * (index + 1) // (MAXIMUM_REORDER_DEPTH + 1))

    def push(self, pts: int) -> int | None:
        """Return the decoding time of the picture shown at ``pts``; None if it lies before the one given last.

        None means that the picture came too late to be placed, after lost data or a jump of the timeline.
        """
        dts = heappushpop(self._pending, pts)
        last = self._last
        if last is not None and dts < last:
            if pts < last:
                return None
            dts = last
        self._last = dts
        return dts


class DepthObserver:
    """Learns the reorder depth of a stream whose parameter sets do not tell it (or tell a wrong one).

    Two signs: pictures whose presentation time lies before that of earlier ones; and, before that happens, a gap in
    the picture order count, which says that pictures shown earlier are still to come. A gap that is not filled within
    a few pictures was a lost or skipped picture; from then on gaps are ignored.
    """

    __slots__ = ("_ahead", "_believe_gaps", "_contiguous", "_depth", "_recent", "_sequence_depth", "_step")

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=MAXIMUM_REORDER_DEPTH)
        self._depth = 0
        """The depth seen in the presentation times."""
        self._sequence_depth = 0
        """The same since the last start of a sequence."""
        self._contiguous: int | None = None
        """Up to this picture order count there is no gap."""
        self._ahead: set[int] = set()
        """Picture order counts behind the first gap."""
        self._step = 2
        """Distance of two frames' picture order counts: 2 as the specification means it, 1 in some encoders."""
        self._believe_gaps = True

    def observe(self, pts: int, picture_order_count: int | None, starts_sequence: bool) -> int:
        """Take the next picture in decoding order; return the depth that it needs.

        ``starts_sequence`` is true for an IDR picture, which resets the picture order count.
        """
        if starts_sequence:
            self._depth, self._sequence_depth = self._sequence_depth, 0
        recent = self._recent
        reordered = sum(map(pts.__lt__, recent))
        recent.append(pts)
        if reordered > self._sequence_depth:
            self._sequence_depth = reordered
            self._depth = max(self._depth, reordered)
        if picture_order_count is None or not self._believe_gaps:
            return self._depth
        return max(self._depth, self._observe_gap(picture_order_count, starts_sequence))

    def _observe_gap(self, count: int, starts_sequence: bool) -> int:
        ahead = self._ahead
        if count & 1:
            self._step = 1
        if starts_sequence or self._contiguous is None:
            self._contiguous = count
            ahead.clear()
            return 0
        if count > self._contiguous + self._step:
            ahead.add(count)
        elif count > self._contiguous:
            self._contiguous = count
            while self._contiguous + self._step in ahead:
                self._contiguous += self._step
                ahead.discard(self._contiguous)
        if len(ahead) > MAXIMUM_GUESSED_DEPTH:
            ahead.clear()
            self._believe_gaps = False
        return len(ahead)
