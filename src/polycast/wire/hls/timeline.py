"""The output time line of a muxer: starts at 0, never goes back, whatever times the publisher sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polycast.media.timebase import rescale

MAXIMUM_STEP = 10
"""Seconds by which a time may be ahead of (or another track behind) the one before it; more counts as a jump."""
MAXIMUM_BACKWARD_STEP = 1
"""Seconds by which the decoding times of a track may go back and be mended one by one; more counts as a jump."""
MAXIMUM_STALL = 600
"""Seconds that other tracks go on alone while the leading one stalls."""
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
        """Whether the leading track of this publisher has begun."""
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
            self.jumped = lane.last is not None
            self._start(lane, dts)
        placed = dts + lane.offset
        last = lane.last
        if index == self._lead:
            if last is not None:
                step = placed - last
                if step > MAXIMUM_STEP * lane.rate or step < -MAXIMUM_BACKWARD_STEP * lane.rate:
                    if step < 0 or not self._is_gap(lane, placed):
                        self._jump(lane, last + lane.step - placed)
                        placed = last + lane.step
                elif step > 0:
                    lane.step = step
        elif self._belongs(lane, placed):
            lane.stray_since = None
        else:
            moved = self._resolve_stray(lane, dts)
            if moved is None:
                return None
            placed = moved
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

    def restart(self) -> None:
        """Let another publisher go on, with times of its own: the next frame of the leading track follows the last."""
        self.started = False

    def _start(self, lead: _Lane, dts: int) -> None:
        self.started = True
        position = 0
        for other in self._lanes:
            other.stray_since = None
            if other.last is not None:
                position = max(position, rescale(other.last + other.step, other.rate, lead.rate))
        lead.offset = position - dts
        for other in self._lanes:
            other.offset = rescale(lead.offset, lead.rate, other.rate)

    def _is_gap(self, lead: _Lane, placed: int) -> bool:
        """Return whether a jump forward of the leading track is a gap in it: another track went on up to there."""
        return any(
            lane is not lead
            and lane.last is not None
            and abs(rescale(lane.last, lane.rate, lead.rate) - placed) <= MAXIMUM_STEP * lead.rate
            for lane in self._lanes
        )

    def _jump(self, lead: _Lane, ticks: int) -> None:
        """Move the time line. Equal times of all tracks mean the same moment again, also for a track that was moved."""
        lead.offset += ticks
        for lane in self._lanes:
            lane.offset = rescale(lead.offset, lead.rate, lane.rate)
        self.jumped = True
        self.counters.jumps += 1

    def _lead_position(self, rate: int) -> int:
        lead = self._lanes[self._lead]
        return rescale(lead.last or 0, lead.rate, rate)

    def _belongs(self, lane: _Lane, placed: int) -> bool:
        """Return whether a frame is near the leading track, or goes on in a track that is, while that one stalls."""
        distance = abs(placed - self._lead_position(lane.rate))
        last = lane.last
        if last is None:
            return distance <= MAXIMUM_STEP * lane.rate
        if placed < last - MAXIMUM_BACKWARD_STEP * lane.rate:
            return False
        if distance <= MAXIMUM_STEP * lane.rate:
            return True
        return placed <= last + MAXIMUM_STEP * lane.rate and distance <= MAXIMUM_STALL * lane.rate

    def _resolve_stray(self, lane: _Lane, dts: int) -> int | None:
        since = lane.stray_since
        if since is None or dts < since:
            lane.stray_since = since = dts
        if dts - since < STRAY_DURATION * lane.rate:
            self.counters.strays += 1
            return None
        lane.stray_since = None
        placed = max(self._lead_position(lane.rate), (lane.last or 0) + 1)
        lane.offset = placed - dts
        self.counters.jumps += 1
        return placed
