"""Keeps the timeline of a stream continuous when a publisher's clock is set or jumps.

Cameras correct their clock, encoders restart, files are looped, and sometimes a single frame has a wrong timestamp. The
output continues regardless: times that fit the previous ones are unchanged, a single outlier gets the time at which it
was due, and if the publisher stays on a different timeline, a new piece begins there, joined to the old one by the
time that passed between the two.

Each track is judged separately, because it may have its own clock. Yet tracks that jump by the same amount must stay in
sync, so a track that begins a new piece is shifted by exactly the same amount as another track, if that is plausible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from polycast.media.timebase import NANOSECONDS, rescale_nearest

MAXIMUM_STEP = 3.0
"""Seconds that a track may step forward more than the clock did. Network and publisher hold frames back for this long
and then send them at once; cameras leave out pictures meanwhile."""
MAXIMUM_STEP_OF_FRAMES = 10.0
"""The same where all tracks share a clock, and frames need not come in real time: files have gaps, and playlists lack
segments."""
DOUBTFUL_STEP = 0.5
"""Seconds of the same that are allowed, but revoked if the next frame continues where the track was before."""
MAXIMUM_RESERVE = 30.0
"""Seconds of delay that are stored as an explanation of a later step forward."""
MAXIMUM_LATENESS = 1.0
"""Seconds that a frame may lie before the last one without its clock being in doubt: pictures in decoding order whose
reordering is not known yet, and rounding."""
MAXIMUM_ROUNDING = 0.05
"""Seconds that a key frame may be late by its time of presentation; some encoders round to pictures."""
MAXIMUM_KEY_LATENESS = 0.3
"""The same by its decoding time, which muxers that know it badly set after the time of presentation: some pictures."""
MAXIMUM_LATE_FRAMES = 5
"""Frames in a row that may be so late; more than the reordering of any codec needs to be learned."""
MAXIMUM_START_DISTANCE = 10.0
"""Seconds from the other tracks at which a track may begin, more or less than the clock says. Farther away it counts
from a zero of its own."""
SHARED_TOLERANCE = 1.0
"""Seconds by which a track may be off after a jump when moved like another one: the delays of tracks differ."""
MINIMUM_GAP = 0.1
"""Seconds between the last frame of a publisher and the first one of the next, at least, so that tracks which begin a
little before the first frame need not go back in time."""


class Continuity:
    """The joined timeline of one stream. ``rates`` are the clock rates of its tracks."""

    def __init__(self, rates: Sequence[int], maximum_step: float = MAXIMUM_STEP) -> None:
        self.maximum_step = maximum_step
        self.tracks: tuple[TrackContinuity, ...] = tuple(TrackContinuity(self, rate) for rate in rates)
        self._restart: tuple[int, float | None, int | None] | None = None
        """After `restart`: where the new publisher's timeline begins (in nanoseconds, at ``now``), and what its first
        frame was moved by."""

    def restart(self) -> None:
        """Begin a new piece with the next frame of each track, because another publisher takes over."""
        started = [track for track in self.tracks if track.last is not None]
        if not started:
            return
        end = max(rescale_nearest(track.last or 0, track.rate, NANOSECONDS) for track in started)
        times = [track.last_now for track in started if track.last_now is not None]
        self._restart = (end, max(times, default=None), None)
        for track in self.tracks:
            track.restarts = True

    def restarted_shift(self, track: TrackContinuity, time: int, now: float | None) -> int:
        """Return what the first frame of a new publisher on this track is moved by, in nanoseconds."""
        if self._restart is None:
            return 0
        end, since, shift = self._restart
        nanoseconds = rescale_nearest(time, track.rate, NANOSECONDS)
        elapsed = 0.0 if since is None or now is None else now - since
        due = end + round(max(MINIMUM_GAP, elapsed) * NANOSECONDS)
        if shift is None:
            shift = due - nanoseconds
            self._restart = (end, since, shift)
        elif abs(nanoseconds + shift - due) > MAXIMUM_START_DISTANCE * NANOSECONDS:
            shift = due - nanoseconds
        return shift

    def position_of_others(self, track: TrackContinuity, now: float | None) -> int | None:
        """Return where the other tracks are now, in ticks of ``track``; None if none has begun."""
        positions = [
            rescale_nearest(other.last + other.ticks_since(now), other.rate, track.rate)
            for other in self.tracks
            if other is not track and other.last is not None
        ]
        return max(positions, default=None)

    def has_near(self, track: TrackContinuity, position: int) -> bool:
        """Whether another track is near a position, so that what lies before it in ``track`` is a gap."""
        tolerance = self.maximum_step * track.rate
        return any(
            other is not track
            and other.last is not None
            and abs(rescale_nearest(other.last, other.rate, track.rate) - position) <= tolerance
            for other in self.tracks
        )


class _Candidate(NamedTuple):
    """A frame that did not fit: perhaps the first one of a new piece."""

    time: int
    due: int
    """Where it lies then, by the clock."""
    now: float | None


class _Before(NamedTuple):
    """Where a track was before a doubtful step."""

    last: int
    now: float | None
    high: int


class TrackContinuity:
    """One track. Created by `Continuity`."""

    __slots__ = (
        "_before",
        "_candidate",
        "_continuity",
        "_has_inter",
        "_high",
        "_late",
        "_moved_before",
        "_position",
        "_reserve",
        "_step",
        "_time",
        "began",
        "jump",
        "last",
        "last_now",
        "moved",
        "outliers",
        "pieces",
        "rate",
        "restarts",
        "shift",
    )

    def __init__(self, continuity: Continuity, rate: int) -> None:
        self._continuity = continuity
        self.rate = rate
        self.shift = 0
        """Ticks that are currently added to the publisher's times."""
        self.moved = 0
        """The same in nanoseconds."""
        self._moved_before = 0
        self.last: int | None = None
        """Where the last frame was placed, in ticks."""
        self.last_now: float | None = None
        self.restarts = False
        self.began = False
        """Whether the last frame begins a new piece."""
        self.jump = 0.0
        """Seconds by which the publisher's timeline was off there."""
        self.pieces = 0
        """New pieces so far."""
        self.outliers = 0
        """Frames so far whose time was off, alone."""
        self._time: int | None = None
        self._position = 0
        self._high = 0
        self._step = rate // 25
        """Ticks of the last small step forward."""
        self._reserve = 0.0
        """Ticks by which frames came late so far; they may catch up."""
        self._late = 0
        self._candidate: _Candidate | None = None
        self._before: _Before | None = None
        """Set by a doubtful step, until the track goes on from it or back."""
        self._has_inter = False
        """Whether not all frames are key frames."""

    def ticks_since(self, now: float | None) -> int:
        """Return how many ticks of the clock have passed since the last frame."""
        return 0 if now is None or self.last_now is None else max(0, round((now - self.last_now) * self.rate))

    def move(self, ticks: int) -> None:
        """Announce that the times from now on are ``ticks`` later for a known reason."""
        if self.last is not None:
            self.last += ticks
            self._high += ticks
            self._position += ticks
            self._time = None

    def place(self, time: int, now: float | None, *, key: bool = False, floor: int | None = None) -> int:
        """Return where a frame with the publisher's ``time`` lies, in ticks; see ``began``.

        A frame that lies a little before the last one is left there.

        ``now``: when it came (monotonic seconds), None if that means nothing. ``key``: whether nothing before this
        frame is needed to decode it; never for sound, whose frames are all of this kind. ``floor``: the decoding time
        reached so far, where times are those of presentation.
        """
        if time == self._time:
            return self._position
        self.began = False
        self._has_inter |= not key
        position = time + self.shift
        elapsed = self.ticks_since(now)
        if self.restarts or self.last is None:
            position = self._start(time, now)
        elif not self._is_in_line(position, now, elapsed, key, floor):
            position = self._place_jump(time, now, key)
        else:
            self._candidate = None
        self._time = time
        return self._accept(position, now, elapsed)

    def _accept(self, position: int, now: float | None, elapsed: int) -> int:
        last = self.last
        if last is not None:
            step = position - last
            if 0 < step < self.rate:
                self._step = step
            reserve = self._reserve + elapsed - step
            self._reserve = min(max(reserve, 0.0), MAXIMUM_RESERVE * self.rate)
            self._high = max(self._high, position)
        else:
            self._high = position
        self.last = self._position = position
        self.last_now = now
        return position

    def _start(self, time: int, now: float | None) -> int:
        continuity = self._continuity
        if self.restarts:
            self.restarts = False
            self.began = self.last is not None
            self.pieces += self.began
            self.jump = 0.0
            self._candidate = None
            self._late = 0
            self._set_shift(continuity.restarted_shift(self, time, now))
            return time + self.shift
        expected = continuity.position_of_others(self, now)
        position = time + self.shift
        if expected is not None and abs(position - expected) > MAXIMUM_START_DISTANCE * self.rate:
            self._move_to(time, expected)
            position = time + self.shift
        return position

    def _is_in_line(self, position: int, now: float | None, elapsed: int, key: bool, floor: int | None) -> bool:
        """``elapsed``: ticks of the clock since the last frame."""
        reached = self._high if floor is None else floor
        lateness = reached - position
        if lateness <= 0:
            self._late = 0
            surplus = position - (self.last or 0) - elapsed - self._reserve
            if surplus <= DOUBTFUL_STEP * self.rate:
                self._before = None
                return True
            if surplus > self._continuity.maximum_step * self.rate and not self._continuity.has_near(self, position):
                return False
            self._before = _Before(self.last or 0, self.last_now, self._high)
            return True
        if self._goes_back(position, now):
            return True
        if lateness > MAXIMUM_LATENESS * self.rate:
            return False
        self._late += 1
        # A key frame is not decoded before frames that are shown earlier, so it is never late but for rounding.
        tolerance = MAXIMUM_KEY_LATENESS if floor is None else MAXIMUM_ROUNDING
        return not (self._late > MAXIMUM_LATE_FRAMES or (key and lateness > tolerance * self.rate))

    def _goes_back(self, position: int, now: float | None) -> bool:
        """Whether a frame goes on where the track was before a doubtful step; then only the one in between was off."""
        before = self._before
        if before is None:
            return False
        self._before = None
        elapsed = 0.0 if now is None or before.now is None else now - before.now
        if not 0 <= position - before.last <= (elapsed + MAXIMUM_LATENESS) * self.rate:
            return False
        self._high = max(before.high, position)
        self.outliers += 1
        return True

    def _place_jump(self, time: int, now: float | None, key: bool) -> int:
        """Place a frame that is off: for once, or at the start of a new piece once a second one confirms it."""
        candidate = self._candidate
        next_due = self._high + self._step
        due = max(next_due, (self.last or 0) + self.ticks_since(now))
        if candidate is not None and self._goes_on(candidate, time, now):
            due = max(candidate.due + time - candidate.time, self._high)
            self.outliers -= 1  # it was none
        elif not (key and self._has_inter) and self._late <= MAXIMUM_LATE_FRAMES:
            self._candidate = _Candidate(time, due, now)
            self.outliers += 1
            return next_due
        self._candidate = None
        self._late = 0
        self.began = True
        self.pieces += 1
        self.jump = (time + self.shift - due) / self.rate
        self._move_to(time, due)
        return time + self.shift

    def _goes_on(self, candidate: _Candidate, time: int, now: float | None) -> bool:
        """Whether a frame is on the same timeline as an earlier one that was off."""
        elapsed = 0.0 if now is None or candidate.now is None else now - candidate.now
        step = (time - candidate.time) / self.rate
        return -MAXIMUM_LATENESS <= step <= elapsed + self._continuity.maximum_step

    def _move_to(self, time: int, due: int) -> None:
        """Move the track so that ``time`` lies at ``due``, or near it where another track was moved like that, or this
        one before: a jump back and forth has to end where it began."""
        exact = rescale_nearest(due - time, self.rate, NANOSECONDS)
        shifts = [self._moved_before]
        for track in self._continuity.tracks:
            if track is not self:
                shifts += (track.moved, self.moved + track.moved - track._moved_before)
        fitting = [
            shift for shift in shifts if shift != self.moved and abs(shift - exact) <= SHARED_TOLERANCE * NANOSECONDS
        ]
        self._set_shift(min(fitting, key=lambda shift: abs(shift - exact), default=exact))

    def _set_shift(self, nanoseconds: int) -> None:
        self._moved_before, self.moved = self.moved, nanoseconds
        self.shift = rescale_nearest(nanoseconds, NANOSECONDS, self.rate)
