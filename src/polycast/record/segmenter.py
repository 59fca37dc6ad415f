"""Cuts the frames of a stream into the segments and parts of a recording. No input and output."""

from __future__ import annotations

import uuid
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from polycast.errors import ProtocolError
from polycast.media.codec import Kind
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime, rescale
from polycast.media.track import Track
from polycast.record.packagers import NO_FRAME, Packager, SegmentStart
from polycast.wire.hls.interleaver import Interleaver
from polycast.wire.hls.program_clock import ProgramClock, capture_time

MAXIMUM_PRECEDENCE = NANOSECONDS
"""Nanoseconds by which a segment may begin before the key frame that it was cut at, for a track that lags behind."""
MAXIMUM_CLOCK_STEP = 2 * NANOSECONDS
"""Nanoseconds by which the clock of the computer may be set before a new segment begins, with the new date."""
MAXIMUM_DRIFT = 5 * NANOSECONDS
"""Nanoseconds by which the time of a segment may differ from the clock before a new one begins."""
DRIFTING_PARTS = 10
"""Parts at whose ends it must be so much: cameras send some seconds at once after a disturbance."""
MAXIMUM_SILENCE = 10 * NANOSECONDS
"""Nanoseconds without a frame of the leading track after which segments end without it."""
MAXIMUM_WAIT_FOR_VIDEO = 10 * NANOSECONDS
"""Nanoseconds for which a recording waits for the first key frames, if they have the parameters of tracks: without
them, it would begin with a file that lacks these tracks."""
MAXIMUM_WAIT_FOR_SOUND = 2 * NANOSECONDS
"""The same for the first frames of sound."""
MAXIMUM_WAITING = 8 * 1024 * 1024
"""Bytes of frames that wait meanwhile."""
MAXIMUM_DURATION = 0xFFFFFFFF
"""Ticks of one frame, which files have 32 bits for."""
MAXIMUM_GAP = NANOSECONDS
"""Nanoseconds without media over which segments do not join."""


@dataclass(frozen=True, slots=True)
class SegmenterOptions:
    """Limits of segments and parts; durations in nanoseconds."""

    segment_duration: int
    part_duration: int
    maximum_part_size: int
    """Bytes of media."""
    trusts_capture_times: bool = False
    """Whether the wall clock is that of the publisher, however far it is off."""


class Arrival(NamedTuple):
    """When something arrived."""

    wall_time: WallTime
    monotonic: int
    """Nanoseconds of a clock that is never set."""


class Output(Protocol):
    """Where segments go."""

    def has_room(self) -> bool:
        """Whether recording can continue after a part was refused."""
        ...

    def write_part(self, start: SegmentStart, pieces: Sequence[bytes], size: int) -> bool:
        """Take a part of the segment that begins at ``start``; False if it is dropped, as there is no room for it."""
        ...

    def end_segment(self, start: SegmentStart, duration: int) -> None:
        """The segment is complete; ``duration`` in nanoseconds."""
        ...

    def report_invalid(self, track: Track, error: ProtocolError) -> None:
        """A frame cannot be written."""
        ...


_Entry = tuple[Frame, Arrival]


class _TrackState:
    """One track."""

    __slots__ = ("awaits_key", "description", "duration", "is_video", "next_track", "pending", "rate", "time")

    def __init__(self, track: Track, description: Hashable | None) -> None:
        self.rate = track.clock_rate
        self.is_video = track.codec.kind is Kind.VIDEO
        self.description = description
        """What the format writes of the parameters; None while they are not known."""
        self.awaits_key = self.is_video
        self.pending: Frame | None = None
        """The last frame: it is written when the next one determines its duration."""
        self.time = 0
        """Its decoding time in nanoseconds."""
        self.duration = 0
        """Duration of the frame before it, in ticks."""
        self.next_track: Track | None = None
        """New parameters, from the next frame on."""

    def probable_duration(self) -> int:
        """Return the duration of the pending frame in ticks if no frame follows."""
        return (self.pending.duration if self.pending is not None else None) or self.duration

    def nanoseconds(self, ticks: int) -> int:
        return rescale(ticks, self.rate, NANOSECONDS)


class _Segment:
    """The segment that is incomplete, with its part."""

    __slots__ = (
        "clock",
        "drifting",
        "end",
        "has_parts",
        "part_frames",
        "part_size",
        "part_start",
        "positions",
        "start",
    )

    def __init__(self, start: SegmentStart, positions: frozenset[int], clock: int) -> None:
        self.start = start
        self.positions = positions
        """Those of the tracks that it has."""
        self.clock = clock
        """Difference between the wall clock and the monotonic clock at its start."""
        self.end = start.time
        self.part_start = start.time
        self.part_frames = 0
        self.part_size = 0
        """Bytes of the part; 0 if there is none."""
        self.has_parts = False
        """Whether the output has taken one."""
        self.drifting = 0
        """Parts in a row whose time differed too much from the clock."""


@dataclass(slots=True)
class _Next:
    """What the next segment will be."""

    stream: uuid.UUID
    number: int = 0
    time: int | None = None
    """Where it begins, if that is known."""
    is_due: bool = False
    """Whether it begins at the next key frame, however long the current one is."""
    is_apart: bool = False
    """Whether it does not join the current one."""
    is_dropping: bool = False
    """Whether everything is dropped up to a key frame at which the output has room again."""


class _Beginning:
    """What arrives before the parameters of all tracks are known."""

    def __init__(self) -> None:
        self.items: list[tuple[int, _Entry | Track]] = []
        self._size = 0
        self._since: int | None = None

    def is_over(self, frame: Frame, arrival: Arrival, *, has_video: bool) -> bool:
        """Count a frame; return whether there are enough. ``has_video``: whether it is video that is not known."""
        self._size += frame.size
        if self._since is None:
            self._since = arrival.monotonic
        longest = MAXIMUM_WAIT_FOR_VIDEO if has_video else MAXIMUM_WAIT_FOR_SOUND
        return self._size > MAXIMUM_WAITING or arrival.monotonic - self._since > longest


@dataclass(slots=True)
class SegmenterCounters:
    """Frames that are not in the recording."""

    dropped: int = 0
    """As the output had no room for them, or lost them."""
    late: int = 0
    """As they came after their segment was complete."""
    invalid: int = 0


class Segmenter:
    """Cuts one recording.

    Segments begin at key frames of the leading track: the first one with video, or the first track until there is
    video.
    """

    def __init__(
        self,
        tracks: list[Track],
        packager: Packager,
        options: SegmenterOptions,
        output: Output,
    ) -> None:
        """``tracks`` is shared with ``packager``."""
        self.tracks = tracks
        self._packager = packager
        self._options = options
        self._output = output
        self._states = [
            _TrackState(track, packager.describe(position, NO_FRAME)) for position, track in enumerate(tracks)
        ]
        videos = [position for position, state in enumerate(self._states) if state.is_video]
        # The others lead until there is video: it may never come.
        self._lead = next((position for position in range(len(tracks)) if position not in videos), 0)
        self._interleaver = Interleaver[_Entry | Track](
            [state.rate for state in self._states], videos[0] if videos else 0
        )
        self._beginning: _Beginning | None = _Beginning()
        self._clock = _Clock()
        self._next = _Next(uuid.uuid4())
        self._segment: _Segment | None = None
        self.counters = SegmenterCounters()

    def write(self, position: int, frame: Frame, arrival: Arrival) -> None:
        """Add a frame of the track at ``position``."""
        if self._beginning is not None:
            self._wait(position, (frame, arrival))
            return
        if self._next.is_dropping:
            if not self._is_start(position, frame) or not self._output.has_room():
                self.counters.dropped += 1
                return
            self._next.is_dropping = False
        if len(self._states) == 1:  # there is nothing to put in order
            self._take(position, frame, arrival)
            return
        for place, item in self._interleaver.add(position, frame.dts, frame.size, (frame, arrival)):
            self._process(place, item)

    def _wait(self, position: int, item: _Entry | Track) -> None:
        """Keep a frame or new parameters until all tracks are known, which may take until their first key frames."""
        beginning, state = self._beginning, self._states[position]
        assert beginning is not None
        beginning.items.append((position, item))
        if isinstance(item, Track):
            self.tracks[position] = item
            state.description = self._packager.describe(position, NO_FRAME)
            return
        frame, arrival = item
        if state.description is None and frame.key:
            state.description = self._packager.describe(position, frame)
        unknown = [other for other in self._states if other.description is None]
        if not unknown or beginning.is_over(frame, arrival, has_video=any(other.is_video for other in unknown)):
            self._release()

    def _release(self) -> None:
        beginning, self._beginning = self._beginning, None
        for position, item in beginning.items if beginning is not None else ():
            if isinstance(item, Track):
                self.change_track(position, item)
            else:
                self.write(position, *item)

    @property
    def current(self) -> SegmentStart | None:
        """The segment that is incomplete."""
        return self._segment.start if self._segment is not None else None

    def _is_start(self, position: int, frame: Frame) -> bool:
        """Return whether recording can begin with a frame."""
        lead, state = self._states[self._lead], self._states[position]
        is_lead = lead is state or (state.nanoseconds(frame.dts) - lead.time > MAXIMUM_SILENCE and not state.is_video)
        return is_lead and frame.key

    def change_track(self, position: int, track: Track) -> None:
        """Use new parameters of a track, from its next frame on."""
        if self._beginning is not None:
            self._wait(position, track)
            return
        for place, item in self._interleaver.put(position, track):
            self._process(place, item)

    def close(self) -> None:
        """End the recording: everything that was added is written."""
        self._release()
        for place, item in self._interleaver.drain():
            self._process(place, item)
        for position, state in enumerate(self._states):
            self._complete(position, state, state.probable_duration())
        self._end_segment()

    def abandon(self) -> None:
        """The output has lost the current segment: drop everything up to the next key frame, and begin anew there."""
        self._segment = None
        self._next.is_apart = True
        self._drop()

    def _drop(self) -> None:
        self._next.is_dropping = True
        for place, item in self._interleaver.drain():
            if isinstance(item, Track):
                self._states[place].next_track = item
            else:
                self.counters.dropped += 1
        for state in self._states:
            self.counters.dropped += state.pending is not None
            state.pending = None
            state.awaits_key = state.is_video

    def _process(self, position: int, item: _Entry | Track) -> None:
        """Take what is next in the order of decoding."""
        if isinstance(item, Track):
            self._states[position].next_track = item
        else:
            self._take(position, *item)

    def _take(self, position: int, frame: Frame, arrival: Arrival) -> None:
        state = self._states[position]
        if state.awaits_key and not frame.key:
            return
        time = rescale(frame.dts, state.rate, NANOSECONDS)
        if position == self._lead or not self._clock.is_known:
            self._observe_clock(state, frame, time, arrival)
        if state.pending is not None:
            self._complete(position, state, self._duration(position, frame, time))
        if self._next.is_dropping:
            self.counters.dropped += 1
            return
        changes = False
        if state.next_track is not None or state.description is None or (frame.key and state.is_video):
            changes = self._describe(position, state, frame)
            if state.description is None:
                state.awaits_key = state.is_video
                return
        state.awaits_key = False
        if state.is_video and not self._states[self._lead].is_video:
            self._lead = position
        state.pending, state.time = frame, time
        if self._segment is not None and (changes or self._is_cut(position, frame, time, arrival)):
            self._begin_next(time)

    def _describe(self, position: int, state: _TrackState, frame: Frame) -> bool:
        """Take new parameters of a track that continues with a frame; return whether that needs a new segment."""
        track, state.next_track = state.next_track, None
        if track is not None:
            self.tracks[position] = track
        elif state.description is not None and not self._packager.is_described_by_frames(position):
            return False
        description = self._packager.describe(position, frame)
        is_same = description == state.description
        state.description = description
        return not is_same

    def _duration(self, position: int, frame: Frame, time: int) -> int:
        """Return the duration of the pending frame of a track, given the next one."""
        state = self._states[position]
        assert state.pending is not None
        duration = max(frame.dts - state.pending.dts, 0)
        if not frame.discontinuity:
            state.duration = duration
            return duration
        probable = state.probable_duration()
        is_gap = time - state.time - state.nanoseconds(probable) > MAXIMUM_GAP
        if position == self._lead:
            self._next.is_due = True
            self._next.is_apart |= is_gap
        return probable if is_gap else duration

    def _is_cut(self, position: int, frame: Frame, time: int, arrival: Arrival) -> bool:
        """Return whether a new segment begins with a frame."""
        segment = self._segment
        assert segment is not None
        elapsed = time - segment.start.time
        if position != self._lead:
            lead = self._states[self._lead]
            is_silent = time - lead.time > MAXIMUM_SILENCE
            return elapsed >= self._options.segment_duration and is_silent and not self._states[position].is_video
        if not frame.key:
            return False
        if abs(arrival.wall_time - arrival.monotonic - segment.clock) > MAXIMUM_CLOCK_STEP:
            self._next.is_due = self._next.is_apart = True
        return self._next.is_due or elapsed >= self._options.segment_duration

    def _begin_next(self, time: int) -> None:
        """End the segment before ``time``, where a frame is pending; the next one begins with what is pending."""
        start = time
        for position, state in enumerate(self._states):
            if state.pending is None or state.time >= time:
                continue
            if state.time >= time - MAXIMUM_PRECEDENCE:
                start = min(start, state.time)
            elif self._next.is_apart:
                self._complete(position, state, state.probable_duration())
            else:
                self._complete(position, state, rescale(time - state.time, NANOSECONDS, state.rate))
        self._next.time = start
        self._end_segment(None if self._next.is_apart else start)

    def _complete(self, position: int, state: _TrackState, duration: int) -> None:
        """Write the pending frame of a track, if there is one; ``duration`` in ticks."""
        frame, state.pending = state.pending, None
        if frame is None:
            return
        segment = self._segment or self._begin_segment(state.time)
        if position not in segment.positions or state.time < segment.start.time:
            self.counters.late += 1
            return
        if segment.part_size and (
            state.time - segment.part_start >= self._options.part_duration
            or segment.part_size + frame.size > self._options.maximum_part_size
        ):
            self._end_part(segment)
            if self._next.is_dropping:
                self.counters.dropped += 1
                return
        try:
            size = self._packager.add(position, frame, min(duration, MAXIMUM_DURATION))
        except ProtocolError as error:
            self.counters.invalid += 1
            self._output.report_invalid(self.tracks[position], error)
            return
        if not segment.part_size:
            segment.part_start = state.time
        segment.part_size += size
        segment.part_frames += 1
        segment.end = max(segment.end, state.time + rescale(duration, state.rate, NANOSECONDS))

    def _begin_segment(self, time: int) -> _Segment:
        following = self._next
        if following.is_apart:
            following.stream, following.number = uuid.uuid4(), 0
        if following.time is None or following.is_apart:
            pending = [state.time for state in self._states if state.pending is not None]
            following.time = min([time, *(other for other in pending if time - other <= MAXIMUM_PRECEDENCE)])
        start = SegmentStart(
            following.stream, following.number, following.time, WallTime(following.time + self._clock.offset)
        )
        self._next = _Next(following.stream, following.number + 1)
        descriptions = {
            position: state.description for position, state in enumerate(self._states) if state.description is not None
        }
        self._packager.begin(start, descriptions)
        segment = self._segment = _Segment(start, frozenset(descriptions), self._clock.difference)
        return segment

    def _end_part(self, segment: _Segment) -> None:
        pieces = self._packager.take_part()
        frames, segment.part_frames, segment.part_size = segment.part_frames, 0, 0
        if self._output.write_part(segment.start, pieces, sum(map(len, pieces))):
            segment.has_parts = True
            self._check_drift(segment)
            return
        self.counters.dropped += frames
        segment.end = segment.part_start
        if not segment.has_parts:  # the head of the file is lost as well
            self._segment = None
            self._next.is_apart = True
        self._drop()

    def _check_drift(self, segment: _Segment) -> None:
        drift = self._clock.offset - (segment.start.wall_time - segment.start.time)
        segment.drifting = segment.drifting + 1 if abs(drift) > MAXIMUM_DRIFT else 0
        if segment.drifting >= DRIFTING_PARTS:
            self._next.is_due = self._next.is_apart = True

    def _end_segment(self, next_start: int | None = None) -> None:
        """End the segment; ``next_start`` is where the next one begins that joins it."""
        segment, following = self._segment, self._next
        if segment is None:
            return
        if segment.part_size:
            self._end_part(segment)
        self._segment = None
        following.is_due = False
        if self._next.is_dropping:
            following.is_apart = True
        if segment.has_parts:
            end = segment.end if next_start is None or self._next.is_dropping else max(next_start, segment.start.time)
            self._output.end_segment(segment.start, end - segment.start.time)

    def _observe_clock(self, state: _TrackState, frame: Frame, time: int, arrival: Arrival) -> None:
        """Compare the leading track with the wall clock; ``time`` is the decoding time of the frame."""
        clock = self._clock
        wall_time = arrival.wall_time
        if frame.wall_time is not None:
            wall_time = capture_time(frame.wall_time, wall_time, is_trusted=self._options.trusts_capture_times)
            if wall_time != arrival.wall_time:  # that is the time of presentation, whereas frames arrive to be decoded
                time = state.nanoseconds(frame.pts)
        clock.offset = clock.program_clock.follow(time, wall_time, discontinuity=frame.discontinuity)
        clock.difference = arrival.wall_time - arrival.monotonic
        clock.is_known = True


class _Clock:
    """How the timeline of the stream lies on the wall clock."""

    def __init__(self) -> None:
        self.program_clock = ProgramClock()
        self.offset = 0
        """Nanoseconds to add to the times of the stream."""
        self.difference = 0
        """Nanoseconds by which the wall clock is ahead of the monotonic clock."""
        self.is_known = False
