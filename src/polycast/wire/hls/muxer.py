"""The muxer of one stream: frames in, playlists and files out. No sockets, no tasks, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from polycast.codecs.registry import bitstream_of, codec_string, resolution, updated_codec
from polycast.errors import LocalProtocolError, ProtocolError
from polycast.media.codec import Kind, VideoCodec
from polycast.media.frame import Frame
from polycast.media.timebase import WallTime
from polycast.media.track import Track
from polycast.wire.hls import codecs
from polycast.wire.hls.dash import CONTENT_TYPE, MANIFEST_NAME, Manifest, Representation, write_manifest
from polycast.wire.hls.dash_clock import DashClock
from polycast.wire.hls.directives import NO_DIRECTIVES, DeliveryDirectives, is_available
from polycast.wire.hls.options import MuxerOptions, Variant
from polycast.wire.hls.playlist import (
    AudioRendition,
    MultivariantPlaylist,
    RenditionReport,
    quotable,
    write_media_playlist,
    write_multivariant_playlist,
)
from polycast.wire.hls.program_clock import ProgramClock, capture_time
from polycast.wire.hls.rendition import Rendition
from polycast.wire.hls.resource import CONTENT_TYPE_PLAYLIST, Answer, Refusal, Resource, WaitFor
from polycast.wire.hls.segmenter import SegmentOutput
from polycast.wire.hls.timeline import Timeline

NOTHING_TO_CARRY = "the stream doesn't contain a track with a codec that HLS can carry"
"""Why a stream without such a track cannot be read over HLS."""
MAXIMUM_AUDIO_TRACKS = 8
"""Audio renditions of one stream; further ones are skipped."""
INDEX_NAME = "index.m3u8"
"""The multivariant playlist."""
MAIN_NAME = "stream"
MAIN_PLAYLIST_NAME = f"{MAIN_NAME}.m3u8"
"""The media playlist of the main rendition."""
DEFAULT_BANDWIDTH = 200_000
"""Bits per second, announced until the first segment is complete."""
_WAIT_TARGETS = 3
"""Target durations after which a blocked request is answered with 503 (draft-pantos-hls-rfc8216bis 6.2.5.2)."""
_FIRST_WAIT = 30.0
"""Seconds that requests wait for the first segment."""
_LONGEST_EARLINESS = 0.5
"""Seconds by which a request may precede a segment and still be held for it; at most a quarter of a segment."""
_LONGEST_LATENESS = 2.0
"""Seconds by which the segment may be late; at most the duration of one."""
_NOT_FOUND = 404
_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class MuxerCounters:
    """Corrections and losses of a muxer since its start."""

    corrected_times: int
    """Frames with a non-monotonic DTS, which was corrected."""
    discontinuities: int
    """Discontinuities in the publisher's timestamps that were bridged."""
    out_of_sync: int
    """Frames dropped because they were out of sync with the leading track."""
    dropped: int
    """Frames dropped because a segment had no room for them, or because such a frame made them undecodable."""
    ended_early: int
    """Segments that ended before a key frame because of their size or duration."""


def select_tracks(variant: Variant, tracks: Sequence[Track]) -> tuple[list[Track], list[Track]]:
    """Return the tracks that a muxer carries and those that it skips.

    It carries the first video track and up to `MAXIMUM_AUDIO_TRACKS` audio tracks whose codecs the variant supports.
    """
    carried: list[Track] = []
    skipped: list[Track] = []
    for track in tracks:
        kind = track.codec.kind
        limit = 1 if kind is Kind.VIDEO else MAXIMUM_AUDIO_TRACKS
        room = sum(other.codec.kind is kind for other in carried) < limit
        (carried if room and codecs.supports(variant, track.codec) else skipped).append(track)
    return carried, skipped


def _may_follow(old: Track, new: Track) -> bool:
    return type(old.codec) is type(new.codec) and old.clock_rate == new.clock_rate


class _TrackState:
    """The state of one track."""

    __slots__ = ("complete", "inspects", "position", "rendition", "slot", "track")

    def __init__(self, track: Track, slot: int, rendition: Rendition, position: int) -> None:
        self.track = track
        self.slot = slot
        """Index in the timeline."""
        self.rendition = rendition
        self.position = position
        """Index in the rendition."""
        self.complete = codecs.is_complete(track.codec)
        self.inspects = bitstream_of(track.codec).has_changing_parameters
        """Whether key frames may carry new parameters."""


class Muxer:
    """Creates one HLS stream in memory.

    Pass every frame to `write_frame`. It returns whether something new was published: then look up again the requests
    that were answered with `WaitFor`. Requests only look things up.

    With at most one audio track, there is a single media playlist, ``stream.m3u8``. If a video has several audio
    tracks, that playlist contains the video, and each audio track is a rendition of its own.
    """

    def __init__(self, variant: Variant, tracks: Sequence[Track], options: MuxerOptions) -> None:
        """Create a muxer. Raises LocalProtocolError if none of the tracks can be carried."""
        carried, skipped = select_tracks(variant, tracks)
        if not carried:
            raise LocalProtocolError(NOTHING_TO_CARRY)
        self.variant = variant
        self.tracks = tuple(carried)
        """The tracks that are carried."""
        self.skipped = tuple(skipped)
        """The tracks that are not carried."""
        self.closed = False
        self._options = options
        self._clock = ProgramClock()
        self._renditions = self._arrange(carried)
        self._playlists = {f"{rendition.name}.m3u8": rendition for rendition in self._renditions}
        self._states: dict[int, _TrackState] = {}
        for rendition in self._renditions:
            for position, track in enumerate(rendition.tracks):
                self._states[track.index] = _TrackState(track, len(self._states), rendition, position)
        self._lead = self._states[self._main.tracks[self._main.lead].index]
        rates = [state.track.clock_rate for state in self._states.values()]
        self._timeline = Timeline(rates, self._lead.slot)
        self._cache: dict[str, Resource] = {}
        self._independent_segments = True
        self._dash = DashClock()
        self.last_frame_time: float | None = None
        """Monotonic time of the last frame."""

    @property
    def _main(self) -> Rendition:
        return self._renditions[0]

    def _arrange(self, tracks: Sequence[Track]) -> list[Rendition]:
        video = [track for track in tracks if track.codec.kind is Kind.VIDEO]
        audio = [track for track in tracks if track.codec.kind is not Kind.VIDEO]
        if len(audio) <= 1 and not (self._options.splits_audio and video and audio):
            groups = [(MAIN_NAME, [*video, *audio])]
        elif video:
            groups = [(MAIN_NAME, video), *((f"audio{track.index}", [track]) for track in audio)]
        else:
            groups = [(MAIN_NAME, audio[:1]), *((f"audio{track.index}", [track]) for track in audio[1:])]
        return [
            Rendition(name, self.variant, group, self._options, self._clock, follows=name != MAIN_NAME)
            for name, group in groups
        ]

    def write_frame(self, track_index: int, frame: Frame, now: float, wall_time: WallTime) -> bool:
        """Process a frame of the track with the given `Track.index`; frames of tracks that are not carried are ignored.

        ``now`` is monotonic time in seconds, ``wall_time`` the time of arrival. Returns whether something new was
        published. Never raises because of what a publisher sends.
        """
        state = self._states.get(track_index)
        if state is None or self.closed:
            return False
        if frame.key and (state.inspects or not state.complete):
            self._inspect(state, frame)
        timeline = self._timeline
        if not timeline.started and (state is not self._lead or not frame.key or not state.complete):
            return False
        placed = timeline.place(state.slot, frame.pts, frame.dts)
        if placed is None:
            return False
        self.last_frame_time = now
        captured = frame.wall_time
        if captured is not None:
            wall_time = capture_time(captured, wall_time, is_trusted=self._options.trusts_capture_times)
        rendition = state.rendition
        ended = rendition.write(
            state.position,
            frame,
            placed[0],
            placed[1],
            wall_time,
            discontinuity=timeline.jumped or (frame.discontinuity and state is self._lead),
        )
        return self._publish(rendition, ended)

    def _publish(self, rendition: Rendition, ended: Sequence[SegmentOutput]) -> bool:
        """Return whether a rendition has something new; if so, discard the cached playlists."""
        if not rendition.published:
            return False
        rendition.published = False
        self._cache.clear()
        if ended:
            rendition.ended_at = self.last_frame_time
            self._follow(rendition, ended)
        return True

    def _follow(self, rendition: Rendition, ended: Sequence[SegmentOutput]) -> None:
        """Make the other renditions cut where the main one did, and use the same target duration."""
        target = max(each.target_duration for each in self._renditions)
        for each in self._renditions:
            each.target_duration = target
        for segment in ended:
            self._independent_segments &= segment.start.independent
            if rendition is not self._main:
                continue
            time = segment.start.time + segment.duration
            for other in self._renditions[1:]:
                other.segmenter.cut_at(time, rendition.rate, discontinuity=rendition.segmenter.is_discontinuous)

    def _inspect(self, state: _TrackState, frame: Frame) -> None:
        try:
            codec = updated_codec(state.track.codec, frame)
        except ProtocolError:
            return
        if codec is not state.track.codec:
            self._change(state, replace(state.track, codec=codec))

    def update_track(self, track: Track) -> None:
        """Set new codec parameters of a track with the same codec. In-band parameters are detected without this.

        Raises LocalProtocolError if the codec differs: that needs a new muxer.
        """
        state = self._states.get(track.index)
        if state is None:
            return
        if type(track.codec) is not type(state.track.codec):
            raise LocalProtocolError("a track of an HLS stream cannot change its codec")
        if track.codec != state.track.codec:
            self._change(state, track)

    def _change(self, state: _TrackState, track: Track) -> None:
        state.track = track
        if not codecs.is_complete(track.codec):
            return
        state.complete = True
        self._cache.pop(INDEX_NAME, None)
        self._publish(state.rendition, state.rendition.change_track(state.position, track))
        if state.rendition is not self._main:
            self._main.segmenter.mark_discontinuity()

    def resume(self, tracks: Sequence[Track]) -> bool:
        """Continue with another publisher's tracks, after a discontinuity; False if they need another muxer.

        Their parameters and indexes may differ, but not their codecs.
        """
        carried, skipped = select_tracks(self.variant, tracks)
        if len(carried) != len(self.tracks) or not all(map(_may_follow, self.tracks, carried)):
            return False
        states = [self._states[track.index] for track in self.tracks]
        self.tracks, self.skipped = tuple(carried), tuple(skipped)
        self._states = {track.index: state for track, state in zip(carried, states, strict=True)}
        self._timeline.restart()
        for track, state in zip(carried, states, strict=True):
            if not codecs.is_complete(track.codec):  # it may send the same parameters later
                track = replace(track, codec=state.track.codec)
            if track.codec != state.track.codec:
                self._change(state, track)
            state.track = track
        return True

    @property
    def has_content(self) -> bool:
        """Whether there is a media playlist."""
        return self._main.has_content

    @property
    def next_numbers(self) -> tuple[int, int]:
        """A media sequence number and a discontinuity sequence number higher than all those of this muxer."""
        numbers = [rendition.next_numbers for rendition in self._renditions]
        return max(number[0] for number in numbers), max(number[1] for number in numbers)

    def close(self) -> None:
        """End the stream: blocked requests are refused when they are looked up again."""
        self.closed = True

    @property
    def counters(self) -> MuxerCounters:
        """Corrections and losses since the start."""
        timeline = self._timeline.counters
        segmenters = [rendition.segmenter.counters for rendition in self._renditions]
        return MuxerCounters(
            corrected_times=timeline.corrected_times,
            discontinuities=timeline.discontinuities,
            out_of_sync=timeline.out_of_sync,
            dropped=sum(counters.dropped for counters in segmenters),
            ended_early=sum(counters.ended_early for counters in segmenters),
        )

    @property
    def size(self) -> int:
        """Bytes of all files in memory."""
        return sum(len(file.body) for rendition in self._renditions for file in rendition.files.values())

    def all_files(self) -> dict[str, Resource]:
        """Return everything that can be requested now, by name, also playlists; nothing while there are no segments."""
        playlists = {name: self.playlist(name) for name in self._playlists}
        found = {name: answer for name, answer in playlists.items() if isinstance(answer, Resource)}
        if not found:
            return {}
        for rendition in self._renditions:
            found |= rendition.files
        return {**found, INDEX_NAME: self.index()}

    def lookup(self, name: str) -> Resource | WaitFor | None:
        """Return the segment, part or init segment with a name; `WaitFor` for the next part, or for the next segment
        by its time."""
        for rendition in self._renditions:
            found = rendition.files.get(name) or rendition.media_files.at_time(name)
            if found is not None:
                return found
            if self.variant is Variant.LOW_LATENCY and name == rendition.next_part and not self.closed:
                return self._wait()
            if rendition.is_next(name) and not self.closed:
                return self._wait()
        return None

    def next_sequence(self, name: str) -> int | None:
        """Return the media sequence number of the incomplete segment of a playlist."""
        rendition = self._playlists.get(name)
        return rendition.next_sequence if rendition is not None else None

    def notice_pause(self, now: float) -> bool:
        """Called about once a second: a stream that pauses after its first segment can be played so far.

        Returns whether requests that wait for a playlist can be answered now.
        """
        noticed = [rendition.notice_pause(now) for rendition in self._renditions]
        if any(noticed):
            self._cache.clear()
        return any(noticed)

    def next_due(self, name: str, now: float) -> int | None:
        """Return the media sequence number of the next segment of a playlist if it is about to be complete.

        A request that is slightly too early would find nothing new, and the player would only retry half a target
        duration later (RFC 8216 section 6.3.4), when its buffer is empty. With parts, players say what they wait for.
        """
        rendition = self._playlists.get(name)
        if rendition is None or rendition.ended_at is None or self.variant is Variant.LOW_LATENCY:
            return None
        duration = rendition.segments[-1].duration
        lateness = now - rendition.ended_at - duration
        is_due = -min(duration / 4, _LONGEST_EARLINESS) <= lateness <= min(duration, _LONGEST_LATENESS)
        return rendition.next_sequence if is_due else None

    def _wait(self) -> WaitFor:
        return WaitFor(float(_WAIT_TARGETS * self._main.target_duration))

    def playlist(self, name: str = MAIN_PLAYLIST_NAME, directives: DeliveryDirectives = NO_DIRECTIVES) -> Answer:
        """Return a media playlist; `WaitFor` while it does not contain what the directives ask for."""
        rendition = self._playlists.get(name)
        if rendition is None:
            return Refusal(_NOT_FOUND, "there is no such playlist")
        if not rendition.can_begin(gaps=directives.gaps):
            return self._wait_unless_closed(_FIRST_WAIT)
        if directives.awaited is not None and directives.awaited >= rendition.next_sequence:
            if self.closed:
                return Refusal(_NOT_FOUND, "the stream has ended")
            duration = rendition.segments[-1].duration
            return WaitFor(min(duration / 4, _LONGEST_EARLINESS) + min(duration, _LONGEST_LATENESS))
        skip = False
        if self.variant is Variant.LOW_LATENCY:
            available = is_available(
                directives,
                rendition.next_sequence,
                rendition.last_parts,
                rendition.open_parts,
                rendition.part_target,
            )
            if isinstance(available, Refusal):
                return available
            if not available:
                return self._wait_unless_closed(self._wait().timeout)
            skip = directives.skip
        key = f"{name} {skip:d} {directives.gaps:d}"
        found = self._cache.get(key)
        if found is None:
            text = write_media_playlist(rendition.playlist(self._reports(rendition), gaps=directives.gaps), skip=skip)
            found = self._cache[key] = Resource(text, CONTENT_TYPE_PLAYLIST, immutable=False)
        return found

    def _wait_unless_closed(self, timeout: float) -> WaitFor | Refusal:
        return Refusal(_UNAVAILABLE, "the stream has ended") if self.closed else WaitFor(timeout)

    def _reports(self, rendition: Rendition) -> list[RenditionReport]:
        if self.variant is not Variant.LOW_LATENCY:
            return []
        return [
            RenditionReport(f"{other.name}.m3u8", *other.last_position())
            for other in self._renditions
            if other is not rendition and other.has_content
        ]

    def index(self) -> Resource:
        """Return the multivariant playlist. It does not wait for codec parameters: players do not need CODECS, and some
        publishers send the parameters late, or invalid ones."""
        found = self._cache.get(INDEX_NAME)
        if found is None:
            text = write_multivariant_playlist(self._describe())
            found = self._cache[INDEX_NAME] = Resource(text, CONTENT_TYPE_PLAYLIST, immutable=False)
        return found

    def manifest(self, published: WallTime) -> Answer:
        """Return the manifest of DASH, whose audio has renditions of its own (`MuxerOptions.splits_audio`)."""
        if self.variant is Variant.MPEGTS or not self._options.splits_audio:
            return Refusal(_NOT_FOUND, "DASH is not enabled")
        if not all(rendition.has_content for rendition in self._renditions):
            return self._wait_unless_closed(_FIRST_WAIT)
        found = self._cache.get(MANIFEST_NAME)
        if found is None:
            main = self._main
            manifest = Manifest(
                begin=self._dash.begin(main),
                published=published,
                starts=self._dash.starts(main),
                target_duration=main.target_duration,
                representations=[self._represent(state) for state in self._states.values()],
            )
            found = self._cache[MANIFEST_NAME] = Resource(write_manifest(manifest), CONTENT_TYPE, immutable=False)
        return found

    def _represent(self, state: _TrackState) -> Representation:
        rendition, codec = state.rendition, state.track.codec
        rates = rendition.bandwidth()
        is_video = codec.kind is Kind.VIDEO
        return Representation(
            name=rendition.name,
            is_video=is_video,
            timescale=rendition.rate,
            media=rendition.media_files.time_template,
            segments=rendition.segments_with_periods(),
            codec=codec_string(codec) if state.complete else "",
            bandwidth=rates[0] if rates is not None else DEFAULT_BANDWIDTH,
            resolution=resolution(codec) if is_video else None,
            frame_rate=rendition.frame_rate if is_video else None,
            language=state.track.language,
            channels=None if is_video else codecs.channels(codec),
            sample_rate=None if is_video else codec.clock_rate,
        )

    def _describe(self) -> MultivariantPlaylist:
        complete = [state for state in self._states.values() if state.complete]
        names = [codec_string(state.track.codec) for state in complete]
        if len(complete) < len(self._states):
            names = []  # codecs that are not listed count as absent (RFC 8216 section 4.3.4.2)
        rates = [rates for rendition in self._renditions[1:] if (rates := rendition.bandwidth()) is not None]
        main = self._main.bandwidth()
        peak, average = main if main is not None else (DEFAULT_BANDWIDTH, DEFAULT_BANDWIDTH)
        lead = self._lead.track.codec
        video = isinstance(lead, VideoCodec)
        return MultivariantPlaylist(
            variant=self.variant,
            uri=MAIN_PLAYLIST_NAME,
            bandwidth=peak + max((rate[0] for rate in rates), default=0),
            average_bandwidth=average + max((rate[1] for rate in rates), default=0),
            codecs=list(dict.fromkeys(names)),
            resolution=resolution(lead),
            frame_rate=self._main.frame_rate if video else None,
            renditions=self._describe_audio(complete) if len(self._renditions) > 1 else (),
            independent_segments=self._independent_segments,
            recorded_playlist=self._options.recorded_playlist,
            recorded_seconds=self._options.recorded_seconds,
        )

    def _describe_audio(self, states: Sequence[_TrackState]) -> list[AudioRendition]:
        audio = [state for state in states if state.track.codec.kind is Kind.AUDIO]
        names: set[str] = set()
        renditions = []
        for number, state in enumerate(audio, 1):
            track = state.track
            name = quotable(track.title or "") or quotable(track.language or "") or f"Audio {number}"
            while name in names:  # names are unique within a group (RFC 8216 section 4.3.4.1.1)
                name = f"{name} ({number})"
            names.add(name)
            uri = None if state.rendition is self._main else f"{state.rendition.name}.m3u8"
            channels = codecs.channels(track.codec)
            renditions.append(AudioRendition(name, uri, number == 1, track.language, channels))
        return renditions
