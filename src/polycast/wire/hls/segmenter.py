"""Decides where segments and parts of one rendition end. Only uses media time; knows no clock and no names."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from polycast.media.frame import Frame
from polycast.media.timebase import WallTime, rescale
from polycast.media.track import Track
from polycast.wire.hls.options import (
    MAXIMUM_SEGMENT_DURATION,
    SAMPLE_OVERHEAD,
    SEGMENT_TOLERANCE_MILLISECONDS,
    MuxerOptions,
)
from polycast.wire.hls.part_target import PartTarget


class Packager(Protocol):
    """Turns frames into the bytes of segments and parts."""

    def start_segment(self) -> None:
        """Write the start of a segment."""

    def write(self, position: int, frame: Frame, pts: int, dts: int, duration: int) -> None:
        """Add a frame of the track at ``position``; times in ticks of the track."""

    def flush(self) -> bytes:
        """Return what was written since the last call: a part, or a whole segment."""

    def update_track(self, position: int, track: Track) -> None:
        """Set new codec parameters, from the next segment on."""


class SegmentStart(NamedTuple):
    """What is known of a segment once it has a frame of the leading track."""

    time: int
    """Decoding time of that frame in ticks."""
    wall_time: WallTime
    """Wall-clock time of that frame."""
    independent: bool
    """Whether it is a key frame."""
    discontinuity: bool
    """Whether the segment does not continue the previous one."""


class PartOutput(NamedTuple):
    """A finished part."""

    body: bytes
    duration: int
    """Ticks of the leading track."""
    independent: bool
    start: SegmentStart
    """Start of the segment that it belongs to."""


class SegmentOutput(NamedTuple):
    """The end of a segment, after its last part."""

    body: bytes | None
    """None if the segment consists of its parts."""
    duration: int
    """Ticks of the leading track."""
    frames: int
    """Frames of the leading track."""
    start: SegmentStart


class _Pending(NamedTuple):
    frame: Frame
    pts: int
    dts: int
    wall_time: WallTime


class _Cut(NamedTuple):
    time: int
    discontinuity: bool


@dataclass(slots=True)
class SegmenterCounters:
    """Losses of a segmenter."""

    dropped: int = 0
    """Frames dropped because they were too large for a segment, or because such a frame made them undecodable."""
    ended_early: int = 0
    """Segments that ended before a key frame because of their size or duration."""


_MAXIMUM_CUTS = 64
"""Announced cuts that a following rendition has not reached yet."""


class _TrackState:
    __slots__ = ("awaits_key", "blocked", "nominal", "pending", "rate")

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.pending: _Pending | None = None
        """The newest frame: its duration is known when the next one arrives."""
        self.nominal = rate // 25
        """Duration of the last frame in ticks."""
        self.awaits_key = False
        self.blocked = False
        """Frames cannot be written before the next segment, which will have their parameters."""


Output = PartOutput | SegmentOutput
_NOTHING: tuple[Output, ...] = ()


class Segmenter:
    """Groups the frames of one rendition.

    A segment ends before the first key frame of the leading track after the segment duration; in a rendition that
    follows another one, where that one was cut. Segments that get too large or too long end without a key frame. Frames
    are written when the next one of their track determines their duration.
    """

    def __init__(
        self,
        packager: Packager,
        rates: Sequence[int],
        lead: int,
        options: MuxerOptions,
        *,
        part_target: PartTarget | None,
        follows: bool = False,
    ) -> None:
        """``rates`` are the clock rates of the tracks by position, ``lead`` the position of the leading one.

        ``part_target`` is None without parts. With ``follows``, segments end where `cut_at` says.
        """
        self.counters = SegmenterCounters()
        self.started = False
        self._packager = packager
        self._states = [_TrackState(rate) for rate in rates]
        self._lead = lead
        self._part_target = part_target
        self._maximum_size = options.segment_maximum_size
        rate = rates[lead]
        self._minimum = round(options.segment_duration * rate) - SEGMENT_TOLERANCE_MILLISECONDS * rate // 1000
        self._maximum = max(MAXIMUM_SEGMENT_DURATION * rate, 2 * self._minimum)
        self._cuts: deque[_Cut] | None = deque() if follows else None
        self._changes: list[tuple[int, Track]] = []
        self._discontinuity = False
        """Whether the next segment does not continue the previous one."""
        self._own_discontinuities = 0
        """Discontinuities that the leading rendition has yet to announce to this one, which follows it."""
        self._outputs: list[Output] = []
        self._reset_segment(discontinuity=False)
        self._reset_part()

    def _reset_segment(self, *, discontinuity: bool) -> None:
        self._size = 0
        self._elapsed = 0
        self._frames = 0
        self._start: SegmentStart | None = None
        self._segment_discontinuity = discontinuity

    def _reset_part(self) -> None:
        self._part_elapsed = 0
        self._part_size = 0
        self._part_independent = False

    @property
    def is_discontinuous(self) -> bool:
        """Whether the current segment does not continue the previous one."""
        return self._segment_discontinuity

    def mark_discontinuity(self) -> None:
        """Mark the next segment, which starts with the next key frame, as a discontinuity."""
        if self.started:
            self._discontinuity = True

    def change_track(self, position: int, track: Track) -> None:
        """Set new codec parameters: they need a new segment, which starts with the next key frame.

        If the track is not the leading one, its frames are dropped until then.
        """
        if not self.started:
            self._packager.update_track(position, track)
            self._states[position].blocked = False
            return
        state = self._states[position]
        if position != self._lead:
            self._flush(position, state)
            state.blocked = True
        if self._cuts is not None and not self._discontinuity:
            self._own_discontinuities += 1
        self._changes.append((position, track))
        self._discontinuity = True

    def block(self, position: int) -> None:
        """Drop the frames of a track until `change_track` sets its parameters."""
        self._states[position].blocked = True

    def cut_at(self, time: int, rate: int, *, discontinuity: bool) -> None:
        """End the segment of a following rendition at ``time``, in ticks of ``rate``."""
        cuts = self._cuts
        if cuts is None or not self.started:
            return
        if len(cuts) == _MAXIMUM_CUTS:  # the track is silent: it will cut once when it resumes
            discontinuity |= cuts.popleft().discontinuity
        cuts.append(_Cut(rescale(time, rate, self._states[self._lead].rate), discontinuity))

    def write(self, position: int, frame: Frame, pts: int, dts: int, wall_time: WallTime) -> Sequence[Output]:
        """Add the next frame of a track, with increasing ``dts``; return the parts and segments that are complete
        now."""
        state = self._states[position]
        if state.blocked:
            return _NOTHING
        pending = state.pending
        state.pending = _Pending(frame, pts, dts, wall_time)
        if position != self._lead:
            if pending is not None:
                self._append(position, state, pending, dts - pending.dts)
        elif pending is None:
            if not self.started:
                self.started = True
                self._packager.start_segment()
        else:
            duration = dts - pending.dts
            if self._part_target is not None:
                self._part_target.observe(duration)
            self._append(position, state, pending, duration)
            self._decide(frame.key, dts)
        if not self._outputs:
            return _NOTHING
        outputs = self._outputs
        self._outputs = []
        return outputs

    def _decide(self, key: bool, dts: int) -> None:
        """End the segment or the part before a frame of the leading track, if necessary."""
        elapsed = self._elapsed
        if self._start is not None:
            if key and self._is_cut(elapsed, dts):
                self._end_segment(dts, apply_changes=True)
                return
            if elapsed >= self._maximum:
                self.counters.ended_early += 1
                self._end_segment(dts)
                return
        target = self._part_target
        if target is not None and self._start is not None and self._part_elapsed >= target.minimum:
            self._end_part(self._start)

    def _is_cut(self, elapsed: int, dts: int) -> bool:
        cuts = self._cuts
        if cuts is None:
            return elapsed >= self._minimum or self._discontinuity
        due = self._discontinuity
        while cuts and dts >= cuts[0].time:
            due = True
            if cuts.popleft().discontinuity:
                if self._own_discontinuities:
                    self._own_discontinuities -= 1
                else:
                    self._discontinuity = True
        return due

    def _append(
        self, position: int, state: _TrackState, pending: _Pending, duration: int, *, closing: bool = False
    ) -> None:
        frame = pending.frame
        size = frame.size + SAMPLE_OVERHEAD
        state.nominal = duration
        leads = position == self._lead
        if state.awaits_key:
            if not frame.key:
                self._drop(leads, duration)
                return
            state.awaits_key = False
        if self._size + size > self._maximum_size:
            if size > self._maximum_size or self._start is None or closing:
                self._drop(leads, duration)
                state.awaits_key = leads
                return
            self.counters.ended_early += 1
            self._end_segment(pending.dts)
        self._packager.write(position, frame, pending.pts, pending.dts, duration)
        self._size += size
        self._part_size += size
        if leads:
            if self._start is None:
                self._start = SegmentStart(pending.dts, pending.wall_time, frame.key, self._segment_discontinuity)
            self._elapsed += duration
            self._frames += 1
            self._part_elapsed += duration
            if frame.key:
                self._part_independent = True

    def _drop(self, leads: bool, duration: int) -> None:
        self.counters.dropped += 1
        if leads and self._start is not None:  # the segment continues, with a gap
            self._elapsed += duration
            self._part_elapsed += duration

    def _flush(self, position: int, state: _TrackState) -> None:
        pending = state.pending
        if pending is not None:
            state.pending = None
            self._append(position, state, pending, pending.frame.duration or state.nominal, closing=True)

    def _flush_stale(self, dts: int) -> None:
        """Write the last frames of silent tracks, so that they do not end up in a much later segment.

        A track with rare frames is silent as well once its last one has ended.
        """
        lead = self._states[self._lead]
        for position, state in enumerate(self._states):
            pending = state.pending
            if state is lead or pending is None:
                continue
            age = rescale(dts, lead.rate, state.rate) - pending.dts
            if age > state.rate // 2 and age >= (pending.frame.duration or state.nominal):
                self._flush(position, state)

    def _end_part(self, start: SegmentStart) -> None:
        target = self._part_target
        if target is None or not self._part_size:
            return
        if self._part_elapsed > target.maximum:
            target.grow(self._part_elapsed)
        self._outputs.append(PartOutput(self._packager.flush(), self._part_elapsed, self._part_independent, start))
        self._reset_part()

    def _end_segment(self, dts: int, *, apply_changes: bool = False) -> None:
        start = self._start
        if start is None:
            return
        self._flush_stale(dts)
        self._end_part(start)
        body = self._packager.flush() if self._part_target is None else None
        self._outputs.append(SegmentOutput(body, self._elapsed, self._frames, start))
        self._reset_part()
        self._reset_segment(discontinuity=self._discontinuity and apply_changes)
        if apply_changes:
            for position, track in self._changes:
                self._packager.update_track(position, track)
                self._states[position].blocked = False
            self._changes.clear()
            self._discontinuity = False
        self._packager.start_segment()
