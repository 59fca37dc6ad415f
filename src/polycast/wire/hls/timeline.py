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


class _TrackState:
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

    __slots__ = ("_lead", "_states", "counters", "jumped", "started")

    def __init__(self, rates: Sequence[int], lead: int) -> None:
        """``rates`` are the clock rates of the tracks, ``lead`` the index of the leading one."""
        self._states = [_TrackState(rate) for rate in rates]
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
        state = self._states[index]
        self.jumped = False
        if not self.started:
            if index != self._lead:
                return None
            self.jumped = state.last is not None
            self._start(state, dts)
        placed = dts + state.offset
        last = state.last
        if index == self._lead:
            if last is not None:
                step = placed - last
                if step > MAXIMUM_STEP * state.rate or step < -MAXIMUM_BACKWARD_STEP * state.rate:
                    if step < 0 or not self._is_gap(state, placed):
                        self._jump(state, last + state.step - placed)
                        placed = last + state.step
                elif step > 0:
                    state.step = step
        elif self._belongs(state, placed):
            state.stray_since = None
        else:
            moved = self._resolve_stray(state, dts)
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
        state.last = placed
        return placed + composition, placed

    def restart(self) -> None:
        """Let another publisher go on, with times of its own: the next frame of the leading track follows the last."""
        self.started = False

    def _start(self, lead: _TrackState, dts: int) -> None:
        self.started = True
        position = 0
        for other in self._states:
            other.stray_since = None
            if other.last is not None:
                position = max(position, rescale(other.last + other.step, other.rate, lead.rate))
        lead.offset = position - dts
        for other in self._states:
            other.offset = rescale(lead.offset, lead.rate, other.rate)

    def _is_gap(self, lead: _TrackState, placed: int) -> bool:
        """Return whether a jump forward of the leading track is a gap in it: another track went on up to there."""
        return any(
            state is not lead
            and state.last is not None
            and abs(rescale(state.last, state.rate, lead.rate) - placed) <= MAXIMUM_STEP * lead.rate
            for state in self._states
        )

    def _jump(self, lead: _TrackState, ticks: int) -> None:
        """Move the time line. Equal times of all tracks mean the same moment again, also for a track that was moved."""
        lead.offset += ticks
        for state in self._states:
            state.offset = rescale(lead.offset, lead.rate, state.rate)
        self.jumped = True
        self.counters.jumps += 1

    def _lead_position(self, rate: int) -> int:
        lead = self._states[self._lead]
        return rescale(lead.last or 0, lead.rate, rate)

    def _belongs(self, state: _TrackState, placed: int) -> bool:
        """Return whether a frame is near the leading track, or goes on in a track that is, while that one stalls."""
        distance = abs(placed - self._lead_position(state.rate))
        last = state.last
        if last is None:
            return distance <= MAXIMUM_STEP * state.rate
        if placed < last - MAXIMUM_BACKWARD_STEP * state.rate:
            return False
        if distance <= MAXIMUM_STEP * state.rate:
            return True
        return placed <= last + MAXIMUM_STEP * state.rate and distance <= MAXIMUM_STALL * state.rate

    def _resolve_stray(self, state: _TrackState, dts: int) -> int | None:
        since = state.stray_since
        if since is None or dts < since:
            state.stray_since = since = dts
        if dts - since < STRAY_DURATION * state.rate:
            self.counters.strays += 1
            return None
        state.stray_since = None
        placed = max(self._lead_position(state.rate), (state.last or 0) + 1)
        state.offset = placed - dts
        self.counters.jumps += 1
        return placed
