"""The output time line of a muxer: starts at 0, never goes back, whatever times the publisher sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polycast.media.timebase import rescale

MAXIMUM_STEP = 10
"""Seconds by which a time may be ahead of (or another track behind) the one before it; more counts as a jump."""
MAXIMUM_BACKWARD_STEP = 1
"""Seconds by which the decoding times of a track may go back and be mended one by one; more counts as a jump."""
STRAY_DURATION = 2
"""Seconds of its own time after which a track that is far from the leading one is moved to it."""


@dataclass(slots=True)
class TimelineCounters:
    """What was done to the times of the publisher."""

    mended: int = 0
    """Frames whose decoding time did not grow."""
    jumps: int = 0
    """Jumps of the leading track, or of another that was moved after it."""
    strays: int = 0
    """Frames dropped because their time was far from that of the leading track."""


class _Lane:
    __slots__ = ("last", "offset", "rate", "step", "stray_since")

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.offset = 0
        self.last: int | None = None
        """Decoding time given last, on the output time line."""
        self.step = rate // 25
        """Last good distance of two frames."""
        self.stray_since: int | None = None


class Timeline:
    """Places frames of several tracks on one output time line, in ticks of each track.

    The leading track decides: where its times jump, those of all tracks are moved so that the output goes on. Frames of
    other tracks that are far from it are dropped until they come near, or moved when they stay away.
    """

    __slots__ = ("_lanes", "_lead", "counters", "jumped", "started")

    def __init__(self, rates: Sequence[int], lead: int) -> None:
        """``rates`` are the clock rates of the tracks, ``lead`` the index of the leading one."""
        self._lanes = [_Lane(rate) for rate in rates]
        self._lead = lead
        self.started = False
        """Whether the leading track has begun."""
        self.jumped = False
        """Whether the frame placed last was moved by a jump of the leading track."""
        self.counters = TimelineCounters()

    def place(self, index: int, pts: int, dts: int) -> tuple[int, int] | None:
        """Return the frame's pts and dts on the output time line; None when the frame is to be dropped.

        Decoding times are 0 or more and always grow within a track; ``pts`` is never before ``dts``.
        """
        lane = self._lanes[index]
        self.jumped = False
        if not self.started:
            if index != self._lead:
                return None
            self._start(lane, dts)
        placed = dts + lane.offset
        last = lane.last
        if index == self._lead:
            if last is not None:
                step = placed - last
                if step > MAXIMUM_STEP * lane.rate or step < -MAXIMUM_BACKWARD_STEP * lane.rate:
                    self._shift(last + lane.step - placed, lane.rate)
                    self.jumped = True
                    placed = last + lane.step
                elif step > 0:
                    lane.step = step
        else:
            lead = self._lanes[self._lead]
            position = rescale(lead.last or 0, lead.rate, lane.rate)
            limit = MAXIMUM_STEP * lane.rate
            if abs(placed - position) > limit or (
                last is not None and placed < last - MAXIMUM_BACKWARD_STEP * lane.rate
            ):
                moved = self._resolve_stray(lane, dts, position)
                if moved is None:
                    return None
                placed = moved
            else:
                lane.stray_since = None
            if placed < 0:
                return None
        composition = pts - dts if pts > dts else 0
        if last is not None and placed <= last:
            # the shown time stays where it was, as far as the decoding time lets it
            composition = max(composition + placed - last - 1, 0)
            placed = last + 1
            self.counters.mended += 1
        lane.last = placed
        return placed + composition, placed

    def _start(self, lane: _Lane, dts: int) -> None:
        self.started = True
        for other in self._lanes:
            other.offset = -rescale(dts, lane.rate, other.rate)

    def _shift(self, ticks: int, rate: int) -> None:
        for lane in self._lanes:
            lane.offset += rescale(ticks, rate, lane.rate)
        self.counters.jumps += 1

    def _resolve_stray(self, lane: _Lane, dts: int, position: int) -> int | None:
        since = lane.stray_since
        if since is None or dts < since:
            lane.stray_since = since = dts
        if dts - since < STRAY_DURATION * lane.rate:
            self.counters.strays += 1
            return None
        lane.stray_since = None
        placed = max(position, (lane.last or 0) + 1)
        lane.offset = placed - dts
        self.counters.jumps += 1
        return placed
