"""Demuxes the files of one rendition: MPEG-TS, fragmented MP4 or packed audio (RFC 8216 section 3)."""

from __future__ import annotations

from typing import Final, Protocol

from polycast.codecs import ac3
from polycast.errors import RemoteProtocolError
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.protocols.hls.source_playlist import Piece
from polycast.protocols.pull import PullError
from polycast.wire.mp4.demuxer import Demuxer as Mp4Demuxer
from polycast.wire.mpegts import constants as ts
from polycast.wire.mpegts.codecs import make_parser
from polycast.wire.mpegts.demuxer import Demuxer as TsDemuxer
from polycast.wire.mpegts.elementary import MAXIMUM_INCOMPLETE_SIZE
from polycast.wire.mpegts.psi import ElementaryStream

# Owner of the ID3 frame with the timestamp of packed audio (RFC 8216 section 3.4).
_TIMESTAMP_OWNER: Final = b"com.apple.streaming.transportStreamTimestamp\0"

_ID3_HEADER_SIZE: Final = 10

# Bytes of the tags of packed audio: the timestamp takes 73; some have a picture.
MAXIMUM_TAGS_SIZE: Final = 1024 * 1024

# Seconds of media after which tracks whose parameters are still unknown are omitted: the map of a transport stream may
# announce tracks that are silent.
ANALYSIS_SECONDS: Final = 5.0

# Bytes that identify a container: the first box of an MP4 file has its type at 4, ID3 has a header of 10.
_LONGEST_START: Final = 16


class Demuxer(Protocol):
    """What the demuxers of all containers have in common."""

    tracks: tuple[Track, ...] | None

    def receive_data(self, data: bytes) -> list[tuple[int, Frame]]: ...


class PieceDemuxer:
    """Demuxes the pieces of a rendition in order, each from `begin` to `end`. A discontinuity or another initialization
    starts a new container."""

    def __init__(self) -> None:
        self._demuxer: Demuxer | None = None
        self._period: int | None = None
        self._initialization: bytes | None = None
        self._next_initialization: bytes | None = None
        self._start = b""
        """The first bytes of a piece, until they are enough to identify its container."""
        self._is_begun = False
        self._analysed = 0.0
        """Seconds of media received without the parameters of all tracks."""

    @property
    def tracks(self) -> tuple[Track, ...] | None:
        """The tracks; None until they are known."""
        return self._demuxer.tracks if self._demuxer is not None else None

    def begin(self, piece: Piece, initialization: bytes | None) -> None:
        """Start a piece."""
        if piece.period != self._period:
            self._demuxer = self._initialization = None
            self._analysed = 0.0
        self._period = piece.period
        self._next_initialization = initialization
        self._start = b""
        self._is_begun = False

    def feed(self, data: bytes) -> list[tuple[int, Frame]]:
        """Process bytes of the piece; return frames, with the index of their track. Raises PullError."""
        try:
            if self._is_begun and self._demuxer is not None:
                return self._demuxer.receive_data(data)
            self._start += data
            return self._begin_container() if len(self._start) >= _LONGEST_START else []
        except RemoteProtocolError as error:
            raise PullError(f"a segment cannot be read: {error}") from error

    def end(self, piece: Piece) -> list[tuple[int, Frame]]:
        """End the piece, and return its last frames. Raises PullError."""
        try:
            frames = [] if self._is_begun else self._begin_container()
            if isinstance(self._demuxer, PackedAudioDemuxer):
                frames += self._demuxer.end_segment()
            if piece.ends_segment and isinstance(self._demuxer, TsDemuxer):
                frames += self._demuxer.flush()
            self._analysed += piece.duration if self.tracks is None else 0.0
            if self._analysed >= ANALYSIS_SECONDS:
                frames += self.end_analysis()
        except RemoteProtocolError as error:
            raise PullError(f"a segment cannot be read: {error}") from error
        return frames

    def end_analysis(self) -> list[tuple[int, Frame]]:
        """Omit the tracks whose parameters are not known by now, if those of others are; return frames that waited."""
        demuxer = self._demuxer
        if isinstance(demuxer, TsDemuxer) and demuxer.tracks is None and demuxer.has_parameters:
            return demuxer.end_analysis()
        return []

    def receive(self, piece: Piece, initialization: bytes | None, data: bytes) -> list[tuple[int, Frame]]:
        """Process a whole piece at once; return its frames. Raises PullError."""
        self.begin(piece, initialization)
        return self.feed(data) + self.end(piece)

    def _begin_container(self) -> list[tuple[int, Frame]]:
        data, self._start = self._start, b""
        self._is_begun = True
        if self._demuxer is None:
            self._demuxer = _make_demuxer(self._next_initialization, data)
        demuxer = self._demuxer
        frames: list[tuple[int, Frame]] = []
        initialization = self._next_initialization
        if isinstance(demuxer, PackedAudioDemuxer):
            demuxer.begin_segment()
        elif initialization is not None and initialization != self._initialization:
            self._initialization = initialization
            frames += demuxer.receive_data(initialization)
        return frames + demuxer.receive_data(data)


def _make_demuxer(initialization: bytes | None, data: bytes) -> Demuxer:
    if initialization is not None and initialization[:1] != bytes((ts.SYNC_BYTE,)):
        return Mp4Demuxer()
    if data[:1] == bytes((ts.SYNC_BYTE,)):
        return TsDemuxer()
    if data[4:8] in (b"ftyp", b"styp", b"moof", b"sidx"):
        return Mp4Demuxer()
    return PackedAudioDemuxer()


class PackedAudioDemuxer:
    """AAC (ADTS), MPEG audio or AC-3 with a timestamp in an ID3 tag at the start of each segment."""

    def __init__(self) -> None:
        self.tracks: tuple[Track, ...] | None = None
        self._parser = make_parser(ElementaryStream(ts.STREAM_TYPE_AAC_ADTS, 0))
        self._start: bytes | None = b""
        """The received bytes of a segment while its tags are incomplete."""

    def begin_segment(self) -> None:
        """Start a segment."""
        self._start = b""

    def receive_data(self, data: bytes) -> list[tuple[int, Frame]]:
        """Process the next bytes of a segment. Raises RemoteProtocolError if it is not packed audio."""
        if self._start is None:
            return self._parse(data, None)
        self._start += data
        tags = _size_of_tags(self._start)
        if tags > MAXIMUM_TAGS_SIZE:
            raise RemoteProtocolError("the tags of packed audio are too large")
        # The timestamp is that of the first frame, which has to be complete.
        return self._begin() if len(self._start) >= tags + MAXIMUM_INCOMPLETE_SIZE else []

    def end_segment(self) -> list[tuple[int, Frame]]:
        """End the segment, and return the frames of a short one."""
        return self._begin() if self._start else []

    def _begin(self) -> list[tuple[int, Frame]]:
        time, data = _read_tag(self._start or b"")
        self._start = None
        if self.tracks is None:
            self._parser = make_parser(ElementaryStream(_stream_type_of(data), 0))
        return self._parse(data, time)

    def _parse(self, data: bytes, time: int | None) -> list[tuple[int, Frame]]:
        parser = self._parser
        if parser is None:
            raise RemoteProtocolError("it is neither MPEG-TS nor MP4 nor packed audio")
        frames: list[Frame] = []
        # A parser processes a limited number of frames at once.
        for start in range(0, len(data), MAXIMUM_INCOMPLETE_SIZE):
            frames += parser.parse(data[start : start + MAXIMUM_INCOMPLETE_SIZE], time, time)
            time = None
        if parser.ready:
            self.tracks = (Track(0, parser.codec),)
        return [(0, frame) for frame in frames]


def _size_of_tags(data: bytes) -> int:
    """Return the size of the ID3 tags at the start of the data; larger than the data if they are incomplete."""
    size = 0
    while data[size : size + 3] == b"ID3":
        if len(data) < size + _ID3_HEADER_SIZE:
            return len(data) + 1
        length = 0
        for byte in data[size + 6 : size + 10]:
            length = length << 7 | byte & 0x7F
        size += _ID3_HEADER_SIZE + length
    return size


def _stream_type_of(payload: bytes) -> int:
    if payload[:2] == b"\x0b\x77":
        is_enhanced = len(payload) > 5 and payload[5] >> 3 > ac3.HIGHEST_VERSION
        return ts.STREAM_TYPE_EAC3 if is_enhanced else ts.STREAM_TYPE_AC3
    if len(payload) < 2 or payload[0] != 0xFF or payload[1] & 0xE0 != 0xE0:
        raise RemoteProtocolError("it is neither MPEG-TS nor MP4 nor packed audio")
    # Layer 0 is reserved in MPEG audio and fixed in ADTS (ISO/IEC 14496-3 section 1.A.2.2.1).
    return ts.STREAM_TYPE_AAC_ADTS if payload[1] & 0x06 == 0 else ts.STREAM_TYPE_MPEG1_AUDIO


def _read_tag(data: bytes) -> tuple[int | None, bytes]:
    """Split off the ID3 tags; return the timestamp in 90 kHz ticks, if there is one, and the rest."""
    time: int | None = None
    while data[:3] == b"ID3" and len(data) >= _ID3_HEADER_SIZE:
        size = 0
        for byte in data[6:10]:
            size = size << 7 | byte & 0x7F
        tag, data = data[: _ID3_HEADER_SIZE + size], data[_ID3_HEADER_SIZE + size :]
        position = tag.find(_TIMESTAMP_OWNER)
        if position >= 0:
            value = tag[position + len(_TIMESTAMP_OWNER) :][:8]
            if len(value) == 8:
                time = int.from_bytes(value, "big") & ts.TIMESTAMP_MASK
    return time, data
