"""One media playlist and its files: names segments and parts, keeps them in memory, lists them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from polycast.media.codec import Kind
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime, seconds_to_ticks, ticks_to_seconds
from polycast.media.track import Track
from polycast.wire.hls.codecs import is_complete
from polycast.wire.hls.interleaver import Interleaver
from polycast.wire.hls.media_files import GAP_NAME, MediaFiles
from polycast.wire.hls.options import GAP_SEGMENTS, RETAINED_SEGMENTS, MuxerOptions, Variant
from polycast.wire.hls.packagers import Fmp4Packager, MpegtsPackager
from polycast.wire.hls.part_target import PartTarget
from polycast.wire.hls.playlist import MediaPlaylist, RenditionReport, listed_part_segments
from polycast.wire.hls.program_clock import ProgramClock
from polycast.wire.hls.resource import Resource
from polycast.wire.hls.segment import Part, Segment, Span
from polycast.wire.hls.segmenter import PartOutput, Segmenter, SegmentOutput, SegmentStart

PAUSE_SECONDS = 0.5
"""A stream that delivers nothing for this long, or for as long as a segment or part takes, pauses."""

LONG_SEGMENT_SECONDS = 10.0
"""A first segment of this length is enough to start playback: nobody should wait for two of them."""
LEAST_PAUSE = NANOSECONDS
"""A segment whose date is later than the end of the previous one by at least this much follows a pause."""
_LEAST_TARGETS = 3
"""Minimum target durations in a playlist before segments are removed (RFC 8216 section 6.2.2)."""
_Entry = tuple[Frame, int, int, WallTime, bool]
"""Frame, presentation and decoding time, wall-clock time, whether a discontinuity precedes it."""


class _OpenSegment:
    """The segment that is incomplete."""

    def __init__(self) -> None:
        self.listed: Segment | None = None
        """As playlists list it, once it has begun."""
        self.parts: list[Part] = []
        self.part_durations: list[int] = []
        """In ticks of the leading track; not limited to the part target."""
        self.bodies: list[bytes] = []
        """Those of the parts."""
        self.is_late = False
        """Whether the stream pauses, so that players start with what there is."""


class Rendition:
    """The tracks of one media playlist, segmented and kept in memory."""

    def __init__(
        self,
        name: str,
        variant: Variant,
        tracks: Sequence[Track],
        options: MuxerOptions,
        clock: ProgramClock,
        *,
        follows: bool = False,
    ) -> None:
        """``name`` is that of the playlist, without suffix. The first video track leads, otherwise the first track.

        With ``follows``, segments end where `Segmenter.cut_at` says.
        """
        self.name = name
        self.tracks = list(tracks)
        self.segments: deque[Segment] = deque()
        """The listed segments."""
        self.target_duration = max(int(options.segment_duration + 0.5), 1)
        """Seconds; raised by the muxer, never lowered."""
        video = [position for position, track in enumerate(tracks) if track.codec.kind is Kind.VIDEO]
        self.lead = video[0] if video else 0
        self.rate = tracks[self.lead].clock_rate
        """Ticks per second of the leading track."""
        self.published = False
        """Set when something new can be requested; cleared by the consumer."""
        self.ended_at: float | None = None
        """Monotonic time at which the last segment was complete; set by the muxer."""
        self.frame_rate: float | None = None
        """Frames of the leading track per second in the last segment."""
        self._variant = variant
        self._options = options
        self._clock = clock
        self._files = MediaFiles(f"{options.prefix}_{name}", variant, has_video=bool(video))
        self._packager = MpegtsPackager(tracks) if variant is Variant.MPEGTS else Fmp4Packager(tracks)
        self._part_target = PartTarget(options.part_duration, self.rate) if variant is Variant.LOW_LATENCY else None
        rates = [track.clock_rate for track in tracks]
        self.segmenter = Segmenter(
            self._packager, rates, self.lead, options, part_target=self._part_target, follows=follows
        )
        self._interleaver = Interleaver[_Entry | Track](rates, self.lead) if len(tracks) > 1 else None
        self._retained: deque[Segment] = deque()
        self._discontinuity_sequence = options.first_discontinuity_sequence
        self._first_sequence = self._next_sequence = options.first_sequence
        if variant is Variant.LOW_LATENCY:
            self._next_sequence += GAP_SEGMENTS
        self._open = _OpenSegment()
        for position, track in enumerate(tracks):
            if not is_complete(track.codec):
                self.segmenter.block(position)

    @property
    def files(self) -> dict[str, Resource]:
        """Everything that can be requested, by name."""
        return self._files.resources

    @property
    def next_sequence(self) -> int:
        """Media sequence number of the incomplete segment."""
        return self._next_sequence

    @property
    def next_numbers(self) -> tuple[int, int]:
        """A media sequence number and a discontinuity sequence number higher than all used so far."""
        discontinuities = sum(segment.discontinuity for segment in self.segments)
        return self._next_sequence + 1, self._discontinuity_sequence + discontinuities + 2

    @property
    def media_files(self) -> MediaFiles:
        """The files and their names."""
        return self._files

    def is_next(self, name: str) -> bool:
        """Whether a segment is requested by its time that is not complete yet, as FFmpeg does."""
        if not self.segments:
            return False
        last = self._files.spans[self.segments[-1].name]
        return name == self._files.time_template.replace("$Time$", str(last.time + last.duration))

    def segments_with_periods(self) -> list[tuple[int, Segment, Span]]:
        """Return the listed segments, each with its discontinuity sequence number and its place on the timeline."""
        number = self._discontinuity_sequence
        found = []
        for segment in self.segments:
            number += segment.discontinuity
            found.append((number, segment, self._files.spans[segment.name]))
        return found

    @property
    def open_parts(self) -> int:
        """Number of parts of that segment so far."""
        return len(self._open.parts)

    @property
    def last_parts(self) -> int:
        """Number of parts of the last complete segment."""
        return len(self.segments[-1].parts) if self.segments else 0

    @property
    def next_part(self) -> str:
        """Name of the next part."""
        return self._files.next_part

    @property
    def part_target(self) -> float:
        """Seconds; 0 without parts."""
        return self._part_target.milliseconds / 1000 if self._part_target is not None else 0.0

    @property
    def has_content(self) -> bool:
        """Whether the playlist can be served."""
        return self.can_begin()

    def can_begin(self, *, gaps: bool = False) -> bool:
        """Return whether there is enough to start with; ``gaps``: for a player whose playlist is padded with gaps.

        A player that starts with a short segment runs out of data if the next one is slightly late. A request for the
        next one is held briefly (`next_due`), which is enough for MPEG-TS, where rtsp-simple-server starts with one
        segment. The first Low-Latency playlist also has a part: without one, hls.js waits for a whole segment.
        """
        segments = self.segments
        if not segments or len(segments) > 1 or self._variant is Variant.MPEGTS or self._open.is_late:
            return bool(segments)
        if self._variant is Variant.LOW_LATENCY:
            return gaps or bool(self._open.parts)
        return segments[0].duration >= LONG_SEGMENT_SECONDS

    def notice_pause(self, now: float) -> bool:
        """Let players begin with the first segment if nothing follows it in time; return whether that is new."""
        if self.can_begin() or not self.segments or self.ended_at is None:
            return False
        patience = self.part_target or self.segments[0].duration
        self._open.is_late = now - self.ended_at > max(patience, PAUSE_SECONDS)
        return self._open.is_late

    def last_position(self) -> tuple[int, int]:
        """Return the sequence number of the last listed segment, complete or not, and the index of its last part."""
        if self._open.parts:
            return self._next_sequence, len(self._open.parts) - 1
        return self._next_sequence - 1, max(self.last_parts - 1, 0)

    def bandwidth(self) -> tuple[int, int] | None:
        """Return the peak and average bit rates over the listed segments in bits per second; None without segments."""
        real = [segment for segment in self.segments if segment.duration > 0]
        if not real:
            return None
        peak = max(segment.size / segment.duration for segment in real)
        average = sum(segment.size for segment in real) / sum(segment.duration for segment in real)
        return round(peak * 8), round(average * 8)

    def write(
        self, position: int, frame: Frame, pts: int, dts: int, wall_time: WallTime, *, discontinuity: bool = False
    ) -> Sequence[SegmentOutput]:
        """Add a frame of a track, on the output timeline; return the segments that ended.

        With ``discontinuity``, a new segment that does not continue the previous one begins with it.
        """
        entry = (frame, pts, dts, wall_time, discontinuity)
        if self._interleaver is None:
            return self._cut(position, entry)
        ended: list[SegmentOutput] = []
        for place, item in self._interleaver.add(position, dts, frame.size, entry):
            ended += self._process(place, item)
        return ended

    def change_track(self, position: int, track: Track) -> Sequence[SegmentOutput]:
        """Set new codec parameters of a track, or the first ones; return the segments that ended."""
        self.tracks[position] = track
        if self._interleaver is None:
            return self._process(position, track)
        ended: list[SegmentOutput] = []
        for place, item in self._interleaver.put(position, track):
            ended += self._process(place, item)
        return ended

    def _process(self, position: int, item: _Entry | Track) -> Sequence[SegmentOutput]:
        if not isinstance(item, Track):
            return self._cut(position, item)
        self.segmenter.change_track(position, item)
        return ()

    def _cut(self, position: int, entry: _Entry) -> Sequence[SegmentOutput]:
        frame, pts, dts, wall_time, discontinuity = entry
        if discontinuity:
            self.segmenter.mark_discontinuity()
        outputs = self.segmenter.write(position, frame, pts, dts, wall_time)
        if self._files.initialization is None:
            self._update_initialization()
        if not outputs:
            return ()
        self.published = True
        ended = []
        for output in outputs:
            if isinstance(output, PartOutput):
                self._add_part(output)
            else:
                self._add_segment(output)
                ended.append(output)
        return ended

    def _describe(self, start: SegmentStart) -> Segment:
        """Return the incomplete segment, created from its start if it is new."""
        listed = self._open.listed
        if listed is None:
            listed = self._open.listed = Segment(
                self._files.segment_name(self._next_sequence),
                self._next_sequence,
                self._clock.date(start.time, self.rate, start.wall_time, discontinuity=start.discontinuity),
                initialization=self._files.initialization,
                discontinuity=start.discontinuity,
                independent=start.independent,
            )
        return listed

    def _update_initialization(self) -> None:
        """Create the init segment of the segment that starts now, if it needs a new one."""
        packager = self._packager
        if not isinstance(packager, Fmp4Packager) or not packager.initialization_changed or not self.segmenter.started:
            return
        packager.initialization_changed = False
        self._files.add_initialization(packager.initialization())

    def _add_part(self, output: PartOutput) -> None:
        self._describe(output.start)
        name = self._files.add_part(output.body)
        self._open.bodies.append(output.body)
        self._open.part_durations.append(output.duration)
        # a part that is longer than the target because of a stall is listed with the target, see MAXIMUM_GROWTH
        duration = min(ticks_to_seconds(output.duration, self.rate), self.part_target)
        self._open.parts.append(Part(name, duration, output.independent, len(output.body)))

    def _add_segment(self, output: SegmentOutput) -> None:
        segment = self._describe(output.start)
        body = output.body if output.body is not None else b"".join(self._open.bodies)
        segment.duration = ticks_to_seconds(output.duration, self.rate)
        segment.size = len(body)
        if output.duration:
            self.frame_rate = output.frames * self.rate / output.duration
        segment.parts = tuple(self._open.parts)
        self._files.add_segment(segment.name, body, Span(output.start.time, output.duration))
        if self._part_target is not None and not self.segments:
            self._check_first_parts(segment, self._part_target)
            self._files.add_gap()
        if segment.discontinuity and self.segments:
            last = self.segments[-1]
            end = last.program_date_time + seconds_to_ticks(last.duration, NANOSECONDS)
            segment.after_pause = segment.program_date_time - end > LEAST_PAUSE
        self._open = _OpenSegment()
        self._update_initialization()
        self._next_sequence += 1
        self.segments.append(segment)
        self.target_duration = max(self.target_duration, int(segment.duration + 0.5))
        self._evict()

    def _check_first_parts(self, segment: Segment, target: PartTarget) -> None:
        """Fix the part target; omit the first segment's parts if they were cut before it was known."""
        target.fix()
        durations = self._open.part_durations
        if max(durations) > target.maximum or min(durations[:-1], default=target.minimum) < target.minimum:
            self._forget_parts(segment)

    def _gaps(self) -> list[Segment]:
        """Return the gaps before the first segments of a stream, for players that want more of them."""
        segments = self.segments
        first = self._first_sequence + GAP_SEGMENTS
        count = min(self._options.segment_count - len(segments), GAP_SEGMENTS)
        if self._part_target is None or not segments or segments[0].sequence != first:
            return []
        gaps = []
        duration = self._options.segment_duration
        for index in range(count, 0, -1):
            date = WallTime(segments[0].program_date_time - seconds_to_ticks(index * duration, NANOSECONDS))
            initialization = segments[0].initialization
            gap = Segment(GAP_NAME, first - index, date, initialization=initialization, gap=True)
            gap.duration = duration
            gaps.append(gap)
        return gaps

    def _surplus(self) -> int:
        """Return how many segments to remove at the beginning.

        Those before a pause of the publisher are removed as soon as the playlist is long enough without them (RFC 8216
        section 6.2.2), because Shaka assumes that what follows in the same playlist was captured during the pause.
        """
        segments = self.segments
        surplus = max(len(segments) - self._options.segment_count, 0)
        duration = 0.0
        for index in range(len(segments) - 1, surplus, -1):
            duration += segments[index].duration
            if segments[index].after_pause:
                return index if duration >= _LEAST_TARGETS * self.target_duration else surplus
        return surplus

    def _evict(self) -> None:
        for _ in range(self._surplus()):
            segment = self.segments.popleft()
            self._discontinuity_sequence += segment.discontinuity
            self._retained.append(segment)
            self._files.remove(GAP_NAME)
        while len(self._retained) > RETAINED_SEGMENTS:
            old = self._retained.popleft()
            self._forget_parts(old)
            self._files.remove(old.name)
            following = self._retained[0] if self._retained else self.segments[0]
            if old.initialization is not None and old.initialization != following.initialization:
                self._files.remove(old.initialization)
        if self._part_target is not None:
            # one more segment than listed, for players with an older playlist
            listed = listed_part_segments(self.segments, self.target_duration)
            for index in range(listed - 1):
                self._forget_parts(self.segments[index])

    def _forget_parts(self, segment: Segment) -> None:
        self._files.remove_parts(segment.parts)
        segment.parts = ()

    def playlist(self, reports: Sequence[RenditionReport], *, gaps: bool = False) -> MediaPlaylist:
        """Return the current content of the media playlist; with ``gaps``, at least `GAP_SEGMENTS` segments."""
        is_start = not gaps and self.segments[0].sequence == self._first_sequence + GAP_SEGMENTS
        return MediaPlaylist(
            variant=self._variant,
            target_duration=self.target_duration,
            discontinuity_sequence=self._discontinuity_sequence,
            segments=[*self._gaps(), *self.segments] if gaps else self.segments,
            part_target=self.part_target,
            first_with_parts=1 if is_start else 0,
            open_parts=self._open.parts,
            open_start=self._open.listed,
            next_part=self.next_part if self._part_target is not None else "",
            reports=reports,
        )
