"""Writes frames in the formats of recordings: fragmented MP4, and MPEG-TS."""

from __future__ import annotations

import uuid
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from polycast.errors import ProtocolError
from polycast.media.codec import Kind, MPEG4Audio
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime, rescale_nearest
from polycast.media.track import Track
from polycast.wire.mp4 import file_codecs
from polycast.wire.mp4.file_codecs import RECORDED_FILE, FileMapping, recording_information
from polycast.wire.mp4.fragment import SampleRun, fragment_pieces
from polycast.wire.mp4.initialization import Description, InitializationTrack, build_initialization
from polycast.wire.mpegts import codecs as mpegts
from polycast.wire.mpegts.constants import CLOCK_RATE
from polycast.wire.mpegts.muxer import MAXIMUM_TRACKS, Muxer

NO_FRAME: Final = Frame((b"",), 0, 0, key=True)
"""What describes a track of which there is no frame yet: only its parameters do."""


class SegmentStart(NamedTuple):
    """Where a segment begins."""

    stream: uuid.UUID
    """The recording that it belongs to: segments of one recording with consecutive numbers join."""
    number: int
    """From 0."""
    time: int
    """On the timeline of the stream, in nanoseconds."""
    wall_time: WallTime


class Packager(Protocol):
    """Writes one recording in a format. Tracks are known by their position."""

    def describe(self, position: int, frame: Frame) -> Hashable | None:
        """Return the description of a track that continues with a frame; None while its parameters are not known.

        If it changes, a new segment has to begin.
        """
        ...

    def is_described_by_frames(self, position: int) -> bool:
        """Whether each key frame may change the description, not only new parameters of the track."""
        ...

    def begin(self, start: SegmentStart, descriptions: Mapping[int, Any]) -> None:
        """Begin a segment with the tracks that have a description."""
        ...

    def add(self, position: int, frame: Frame, duration: int) -> int:
        """Add a frame to the part, and return its size in bytes; ``duration`` in ticks of its track.

        Raises ProtocolError if the frame is invalid.
        """
        ...

    def take_part(self) -> list[bytes]:
        """Return the part in pieces. The first one of a segment has the head of the file."""
        ...


class Fmp4Packager:
    """Fragmented MP4: a part is a fragment."""

    def __init__(self, tracks: list[Track]) -> None:
        """``tracks`` is shared with the caller, who replaces those whose parameters change."""
        self._tracks = tracks
        self._mappings: list[FileMapping[Any]] = [file_codecs.CODECS[track.codec] for track in tracks]
        self._head: list[bytes] = []
        self._bases: dict[int, int] = {}
        """The start of the segment in ticks of each track."""
        self._runs: dict[int, SampleRun] = {}
        self._sequence = 0

    def describe(self, position: int, frame: Frame) -> Description | None:
        try:
            return self._mappings[position].describe(self._tracks[position].codec, frame)
        except ProtocolError:
            return None

    def is_described_by_frames(self, position: int) -> bool:
        return self._mappings[position].is_described_by_frames

    def begin(self, start: SegmentStart, descriptions: Mapping[int, Description]) -> None:
        tracks = []
        for position, description in descriptions.items():
            track = self._tracks[position]
            tracks.append(InitializationTrack(position + 1, track.codec, track.clock_rate, track.language, description))
            self._bases[position] = rescale_nearest(start.time, NANOSECONDS, track.clock_rate)
        information = recording_information(start.stream.bytes, start.number, start.time, start.wall_time)
        self._head = [build_initialization(tracks, information, RECORDED_FILE)]
        self._sequence = 0
        self._runs = {}

    def add(self, position: int, frame: Frame, duration: int) -> int:
        mapping = self._mappings[position]
        pieces: Sequence[bytes]
        if mapping.keeps_units and not frame.key:
            pieces = frame.avcc_pieces()
        else:
            pieces = (mapping.sample(self._tracks[position].codec, frame),)
        run = self._runs.get(position)
        if run is None:
            # less than 0 only if the start of the segment was rounded up to a tick
            base_time = max(frame.dts - self._bases[position], 0)
            is_video = self._tracks[position].codec.kind is Kind.VIDEO
            run = self._runs[position] = SampleRun(position + 1, base_time, is_video)
        return run.append_pieces(pieces, duration, frame.pts - frame.dts, frame.key)

    def take_part(self) -> list[bytes]:
        self._sequence += 1
        runs = [self._runs[position] for position in sorted(self._runs)]
        pieces = [*self._head, *fragment_pieces(self._sequence, runs)]
        self._runs = {}
        self._head = []
        return pieces


class MpegtsPackager:
    """MPEG-TS: a part is some packets behind a copy of the tables. Times and counters continue over segments."""

    def __init__(self, tracks: list[Track]) -> None:
        """``tracks`` as for `Fmp4Packager`. Raises LocalProtocolError if there are too many."""
        self._tracks = tracks
        self._known = list(tracks)
        """The tracks as the muxer knows them."""
        self._muxer = Muxer(tracks)
        self._pieces: list[bytes] = []

    def describe(self, position: int, frame: Frame) -> Hashable | None:
        codec = self._tracks[position].codec
        mapping = mpegts.CODECS[codec]
        is_known = not isinstance(codec, MPEG4Audio) or codec.configuration
        if mapping.obstacle(codec) is not None or not is_known:
            return None
        return mapping.stream_type(codec), mapping.descriptors(codec)

    def is_described_by_frames(self, position: int) -> bool:
        return False

    def begin(self, start: SegmentStart, descriptions: Mapping[int, Any]) -> None:
        self._pieces = []

    def add(self, position: int, frame: Frame, duration: int) -> int:
        track = self._tracks[position]
        if self._known[position] is not track:
            self._known[position] = track
            self._muxer.update_track(position, track)
        if not self._pieces:
            self._pieces.append(self._muxer.tables())
        pts, dts = (rescale_nearest(time, track.clock_rate, CLOCK_RATE) for time in (frame.pts, frame.dts))
        packets = self._muxer.write_frame(position, frame, pts, dts)
        self._pieces.append(packets)
        return len(packets)

    def take_part(self) -> list[bytes]:
        pieces, self._pieces = self._pieces, []
        return pieces


class RecordingFormat(NamedTuple):
    """What there is to know of one ``recordFormat``."""

    make_packager: type[Fmp4Packager] | type[MpegtsPackager]
    carries: Any
    """The `CodecTable` of the codecs that it carries."""
    name: str
    """For messages."""


FORMATS: Final = {
    "fmp4": RecordingFormat(Fmp4Packager, file_codecs.CODECS, "MP4"),
    "mpegts": RecordingFormat(MpegtsPackager, mpegts.CODECS, "MPEG-TS"),
}
"""By the value of ``recordFormat``."""


def choose_tracks(record_format: str, tracks: Sequence[Track]) -> tuple[list[Track], list[Track]]:
    """Return the tracks that recordings of a format carry, and those that they do not."""
    table = FORMATS[record_format].carries
    carried = [track for track in tracks if track.codec in table]
    if record_format == "mpegts":
        carried = carried[:MAXIMUM_TRACKS]
    return carried, [track for track in tracks if track not in carried]
