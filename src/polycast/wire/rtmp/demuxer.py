"""Demuxes the audio, video and data messages of a publisher: first the tracks, then frames.

The tracks are only known from what is received. As in rtsp-simple-server, a stream without metadata is analysed for a
second. Metadata that announces tracks ends the analysis as soon as these have arrived, and prolongs it if they have
not.
"""

from __future__ import annotations

from polycast.errors import RemoteProtocolError
from polycast.media.codec import Codec
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.rtmp.chunks import RawMessage
from polycast.wire.rtmp.events import Event, FrameReceived, TrackChanged, TrackIgnored, TracksKnown
from polycast.wire.rtmp.flv import Part, PartType, parse_audio, parse_video, signed_24
from polycast.wire.rtmp.input_track import TICKS_PER_MILLISECOND, InputTrack
from polycast.wire.rtmp.messages import MessageType
from polycast.wire.rtmp.metadata import Metadata

ANALYSIS_PERIOD = 1.0
"""Seconds from the first message, or of media time, after which no further tracks are expected."""

ANNOUNCED_PERIOD = 3.0
"""The same if metadata announces tracks that have not arrived: long enough for a slow encoder to start, and short
enough for wrong metadata."""

GRACE_PERIOD = 0.1
"""Seconds to wait for a frame after the last announced track. Multitrack encoders (OBS, FFmpeg) send the configurations
of all tracks in direct succession before the first frame, but only announce the main ones."""

MAXIMUM_ANALYSIS_SIZE = 16 << 20
"""Bytes of frames held during the analysis; 128 Mbit/s for a second."""

MAXIMUM_HELD_FRAMES = 2_000
"""Frames held during the analysis, which are returned at once afterwards: eight tracks at 60 frames/s for longer than
the analysis takes."""

FRAME_OVERHEAD = 500
"""Bytes that a held frame takes in addition to its data, so that many tiny frames count as well."""

MAXIMUM_TRACKS = 32
"""Tracks of one publisher, used or not."""

_VIDEO = MessageType.VIDEO

_USUAL_HEADER_SIZE = 5
"""Bytes of the header of legacy video: codec and type, and the composition time (FLV annex E.4.3)."""


class Demuxer:
    """Call `receive`, `receive_metadata` and, when `next_timeout` is due, `handle_timeout`."""

    __slots__ = (
        "_held",
        "_held_size",
        "_ignored",
        "_indexes",
        "_settled",
        "_started",
        "_time",
        "_tracks",
        "_usual",
        "metadata",
        "tracks",
    )

    def __init__(self) -> None:
        self.metadata = Metadata()
        self.tracks: tuple[Track, ...] = ()
        """Empty until they are known."""
        self._tracks: dict[tuple[str, int], InputTrack] = {}
        self._indexes: dict[InputTrack, int] = {}
        self._usual: dict[bytes, InputTrack] = {}
        """Tracks by the first bytes of messages with one frame and the usual header, once the tracks are known."""
        self._ignored: dict[tuple[str, int], str] = {}
        self._held: list[tuple[InputTrack, Frame]] = []
        self._held_size = 0
        self._time: int | None = None
        """The latest frame's time in milliseconds, unwrapped."""
        self._started: float | None = None
        self._settled: float | None = None
        """When the last of the announced tracks had arrived."""

    @property
    def held_size(self) -> int:
        """Bytes of frames held during the analysis."""
        return self._held_size

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`, in the time of ``now``; None for never."""
        if self.tracks or self._started is None:
            return None
        deadline = self._started + self._period()
        return deadline if self._settled is None else min(deadline, self._settled + GRACE_PERIOD)

    def _period(self) -> float:
        return ANNOUNCED_PERIOD if self.metadata.complete else ANALYSIS_PERIOD

    def handle_timeout(self, now: float) -> list[Event]:
        """End the analysis if its time is over. Raises `RemoteProtocolError` if there is no track."""
        deadline = self.next_timeout()
        return self._finish_analysis() if deadline is not None and now >= deadline else []

    def receive_metadata(self, metadata: Metadata, now: float) -> list[Event]:
        """Process the ``onMetaData`` of the peer. Raises `RemoteProtocolError`."""
        self.metadata = metadata
        events: list[Event] = []
        if self._tracks and not self.tracks:
            self._analyse(now, events)
        return events

    def receive(self, raw: RawMessage, now: float) -> list[Event]:
        """Process an audio or video message; return events. Raises `RemoteProtocolError`."""
        payload = raw.payload
        events: list[Event] = []
        usual = self._usual.get(payload[:2])
        if usual is not None and raw.type == _VIDEO and len(payload) > _USUAL_HEADER_SIZE:
            codec = usual.codec
            time = self._time = usual.extend(raw.timestamp, self._time)
            frames = usual.read_video(payload, _USUAL_HEADER_SIZE, time * TICKS_PER_MILLISECOND, signed_24(payload, 2))
            self._return(usual, codec, frames, events)
            return events
        parts = parse_video(payload) if raw.type == _VIDEO else parse_audio(payload)
        for part in parts:
            track = self._tracks.get((part.kind, part.track_id))
            if track is None:
                track = self._open(part, events)
                if track is None:
                    continue
            self._receive_part(track, part, raw.timestamp, events)
        if not self.tracks and parts:
            self._analyse(now, events)
        return events

    def _receive_part(self, track: InputTrack, part: Part, timestamp: int, events: list[Event]) -> None:
        codec = track.codec
        milliseconds = 0
        if part.type is PartType.FRAME:  # servers send configurations with 0 or with any other time
            milliseconds = self._time = track.extend(timestamp, self._time)
        self._return(track, codec, track.receive(part, milliseconds), events)

    def _return(self, track: InputTrack, codec: Codec | None, frames: list[Frame], events: list[Event]) -> None:
        """Return the frames of a track as events, or hold them; ``codec`` is that before them."""
        index = self._indexes.get(track)
        if index is not None:
            if track.codec is not codec and track.codec is not None and track.codec != codec:
                events.append(TrackChanged(index, track.codec))
            for frame in frames:
                events.append(FrameReceived(index, frame))
        elif not self.tracks and frames:
            self._hold(track, codec, frames)

    def _hold(self, track: InputTrack, codec: Codec | None, frames: list[Frame]) -> None:
        """Hold frames until the tracks are known. Those from before a codec change are useless."""
        if codec is not None and track.codec != codec:
            self._held = [item for item in self._held if item[0] is not track]
        for frame in frames:
            self._held.append((track, frame))
            self._held_size += frame.size + FRAME_OVERHEAD

    def _open(self, part: Part, events: list[Event]) -> InputTrack | None:
        key = (part.kind, part.track_id)
        if key in self._ignored or part.type not in (PartType.CONFIGURATION, PartType.FRAME):
            return None
        if part.codec is None:
            self._ignore(key, f"unsupported {part.kind} codec {part.codec_name}", events)
        elif self.tracks:
            self._ignore(key, f"{part.codec.name} track begins after the others were analysed", events)
        elif len(self._tracks) >= MAXIMUM_TRACKS:
            self._ignore(key, f"more than {MAXIMUM_TRACKS} tracks", events)
        else:
            track = self._tracks[key] = InputTrack(part, part.codec)
            return track
        return None

    def _ignore(self, key: tuple[str, int], reason: str, events: list[Event]) -> None:
        if len(self._ignored) < MAXIMUM_TRACKS:
            self._ignored[key] = reason
            events.append(TrackIgnored(key[0], key[1], reason))

    def _analyse(self, now: float, events: list[Event]) -> None:
        if self._started is None:
            self._started = now
        announced = self.metadata.announced
        if self.metadata.complete and all(self._is_settled(key) for key in announced):
            if not self._tracks:
                raise RemoteProtocolError("; ".join(self._ignored.values()))
            if self._settled is None:
                self._settled = now
            if self._held:
                events.extend(self._finish_analysis())
                return
        period = self._period()
        elapsed = max((track.elapsed for track in self._tracks.values()), default=0)
        if now - self._started >= period or elapsed >= period * 1000 or self._is_full():
            events.extend(self._finish_analysis())

    def _is_full(self) -> bool:
        return self._held_size > MAXIMUM_ANALYSIS_SIZE or len(self._held) >= MAXIMUM_HELD_FRAMES

    def _is_settled(self, key: tuple[str, int]) -> bool:
        track = self._tracks.get(key)
        return track.settled if track is not None else key in self._ignored

    def _finish_analysis(self) -> list[Event]:
        found = [track for track in self._tracks.values() if track.ready]
        if not found:
            reasons = f" ({'; '.join(self._ignored.values())})" if self._ignored else ""
            raise RemoteProtocolError(f"no tracks found{reasons}")
        events: list[Event] = []
        for track in [track for track in self._tracks.values() if not track.ready]:
            self._ignore((track.kind, track.number), "its configuration was not received", events)
            del self._tracks[track.kind, track.number]
        found.sort(key=lambda track: (track.kind != "video", track.number))
        self.tracks = tuple(Track(index, track.codec) for index, track in enumerate(found) if track.codec is not None)
        self._indexes = {track: index for index, track in enumerate(found)}
        self._usual = {header: track for track in found if track.number == 0 for header in track.usual_headers}
        events.append(TracksKnown(self.tracks))
        held, self._held, self._held_size = self._held, [], 0
        for track, frame in held:
            index = self._indexes.get(track)
            if index is not None:
                events.append(FrameReceived(index, frame))
        return events
