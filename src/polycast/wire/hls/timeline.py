"""The output timeline of a muxer: it starts at 0 and never goes back, whatever timestamps the publisher sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polycast.media.timebase import rescale

MAXIMUM_STEP = 10
"""Seconds by which a time may be ahead of the previous one (or another track behind); more is a discontinuity."""
MAXIMUM_BACKWARD_STEP = 1
"""Seconds by which a DTS may go back and still be corrected individually; more is a discontinuity."""
MAXIMUM_STALL = 600
"""Seconds for which other tracks continue alone while the leading one stalls."""
OUT_OF_SYNC_DURATION = 2
"""Seconds, in its own time, after which a track that is out of sync is aligned with the leading one."""


@dataclass(slots=True)
class TimelineCounters:
    """Corrections of the publisher's timestamps."""

    corrected_times: int = 0
    """Frames with a non-monotonic DTS, which was corrected."""
    discontinuities: int = 0
    """Discontinuities of the leading track, or of another one that was aligned with it."""
    out_of_sync: int = 0
    """Frames dropped because they were out of sync with the leading track."""


class _TrackState:
    __slots__ = ("last", "offset", "out_of_sync_since", "rate", "step")

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.offset = 0
        self.last: int | None = None
        """Last decoding time returned, on the output timeline."""
        self.step = rate // 25
        """Last valid distance between two frames."""
        self.out_of_sync_since: int | None = None


class Timeline:
    """Places frames of several tracks on one output timeline, in ticks of each track.

    The leading track decides: at a discontinuity in its times, those of all tracks are shifted so that the output
    continues. Frames of other tracks that are far from it are dropped until they are close again, or shifted if they
    stay far.
    """

    __slots__ = ("_lead", "_states", "counters", "jumped", "started")

    def __init__(self, rates: Sequence[int], lead: int) -> None:
        """``rates`` are the clock rates of the tracks, ``lead`` the index of the leading one."""
        self._states = [_TrackState(rate) for rate in rates]
        self._lead = lead
        self.started = False
        """Whether the leading track of this publisher has started."""
        self.jumped = False
        """Whether a discontinuity of the leading track precedes the last frame."""
        self.counters = TimelineCounters()

    def place(self, index: int, pts: int, dts: int) -> tuple[int, int] | None:
        """Return the frame's pts and dts on the output timeline; None if the frame is to be dropped.

        Decoding times are 0 or more and always increase within a track; ``pts`` is never before ``dts``.
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
            state.out_of_sync_since = None
        else:
            moved = self._resync(state, dts)
            if moved is None:
                return None
            placed = moved
        if placed < 0:
            return None
        composition = pts - dts if pts > dts else 0
        if last is not None and placed <= last:
            # the presentation time stays the same, as far as the decoding time allows
            composition = max(composition + placed - last - 1, 0)
            placed = last + 1
            self.counters.corrected_times += 1
        state.last = placed
        return placed + composition, placed

    def restart(self) -> None:
        """Continue with another publisher, whose times differ: the next frame of the leading track follows the last
        one."""
        self.started = False

    def _start(self, lead: _TrackState, dts: int) -> None:
        self.started = True
        position = 0
        for other in self._states:
            other.out_of_sync_since = None
            if other.last is not None:
                position = max(position, rescale(other.last + other.step, other.rate, lead.rate))
        lead.offset = position - dts
        for other in self._states:
            other.offset = rescale(lead.offset, lead.rate, other.rate)

    def _is_gap(self, lead: _TrackState, placed: int) -> bool:
        """Return whether a forward jump of the leading track is a gap: another track continued up to there."""
        return any(
            state is not lead
            and state.last is not None
            and abs(rescale(state.last, state.rate, lead.rate) - placed) <= MAXIMUM_STEP * lead.rate
            for state in self._states
        )

    def _jump(self, lead: _TrackState, ticks: int) -> None:
        """Shift the timeline. Equal times of all tracks are simultaneous again, even for a track that was shifted
        before."""
        lead.offset += ticks
        for state in self._states:
            state.offset = rescale(lead.offset, lead.rate, state.rate)
        self.jumped = True
        self.counters.discontinuities += 1

    def _lead_position(self, rate: int) -> int:
        lead = self._states[self._lead]
        return rescale(lead.last or 0, lead.rate, rate)

    def _belongs(self, state: _TrackState, placed: int) -> bool:
        """Return whether a frame is close to the leading track, or continues a track that was, while the leading one
        stalls."""
        distance = abs(placed - self._lead_position(state.rate))
        last = state.last
        if last is None:
            return distance <= MAXIMUM_STEP * state.rate
        if placed < last - MAXIMUM_BACKWARD_STEP * state.rate:
            return False
        if distance <= MAXIMUM_STEP * state.rate:
            return True
        return placed <= last + MAXIMUM_STEP * state.rate and distance <= MAXIMUM_STALL * state.rate

    def _resync(self, state: _TrackState, dts: int) -> int | None:
        since = state.out_of_sync_since
        if since is None or dts < since:
            state.out_of_sync_since = since = dts
        if dts - since < OUT_OF_SYNC_DURATION * state.rate:
            self.counters.out_of_sync += 1
            return None
        state.out_of_sync_since = None
        placed = max(self._lead_position(state.rate), (state.last or 0) + 1)
        state.offset = placed - dts
        self.counters.discontinuities += 1
        return placed
