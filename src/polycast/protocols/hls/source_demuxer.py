"""Frames out of the files of one rendition: MPEG-TS, fragmented MP4 or packed audio (RFC 8216 section 3)."""

from __future__ import annotations

from typing import Final, Protocol

from polycast.errors import RemoteProtocolError
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.protocols.hls.source_playlist import Piece
from polycast.protocols.pull import PullError
from polycast.wire.mp4.demuxer import Demuxer as Mp4Demuxer
from polycast.wire.mpegts import constants as ts
from polycast.wire.mpegts.demuxer import Demuxer as TsDemuxer
from polycast.wire.mpegts.elementary import make_parser
from polycast.wire.mpegts.psi import ElementaryStream

# Owner of the ID3 frame that tells the time of packed audio (RFC 8216 section 3.4).
_TIMESTAMP_OWNER: Final = b"com.apple.streaming.transportStreamTimestamp\0"

_ID3_HEADER_SIZE: Final = 10


class Demuxer(Protocol):
    """What the demuxers of all containers have in common."""

    tracks: tuple[Track, ...] | None

    def receive_data(self, data: bytes) -> list[tuple[int, Frame]]: ...


class PieceDemuxer:
    """Takes the pieces of a rendition in order. A discontinuity or another initialization begins a new container."""

    def __init__(self) -> None:
        self._demuxer: Demuxer | None = None
        self._period: int | None = None
        self._initialization: bytes | None = None

    @property
    def tracks(self) -> tuple[Track, ...] | None:
        """The tracks; None until they are known."""
        return self._demuxer.tracks if self._demuxer is not None else None

    def receive(self, piece: Piece, initialization: bytes | None, data: bytes) -> list[tuple[int, Frame]]:
        """Return the frames of a piece, with the index of their track. Raises PullError when it cannot be read."""
        is_new = self._demuxer is None or piece.period != self._period
        self._period = piece.period
        try:
            if is_new or self._demuxer is None:
                self._demuxer = _make_demuxer(initialization, data)
                self._initialization = None
            demuxer = self._demuxer
            frames: list[tuple[int, Frame]] = []
            if initialization is not None and initialization != self._initialization:
                self._initialization = initialization
                frames += demuxer.receive_data(initialization)
            frames += demuxer.receive_data(data)
            if piece.ends_segment and isinstance(demuxer, TsDemuxer):
                frames += demuxer.flush()
        except RemoteProtocolError as error:
            raise PullError(f"a segment cannot be read: {error}") from error
        return frames


def _make_demuxer(initialization: bytes | None, data: bytes) -> Demuxer:
    if initialization is not None and initialization[:1] != bytes((ts.SYNC_BYTE,)):
        return Mp4Demuxer()
    if data[:1] == bytes((ts.SYNC_BYTE,)):
        return TsDemuxer()
    if data[4:8] in (b"ftyp", b"styp", b"moof", b"sidx"):
        return Mp4Demuxer()
    return PackedAudioDemuxer()


class PackedAudioDemuxer:
    """AAC (ADTS), MPEG audio or AC-3 with its time in an ID3 tag at the start of each segment."""

    def __init__(self) -> None:
        self.tracks: tuple[Track, ...] | None = None
        self._parser = make_parser(ElementaryStream(ts.STREAM_TYPE_AAC_ADTS, 0))

    def receive_data(self, data: bytes) -> list[tuple[int, Frame]]:
        """Take a whole segment. Raises RemoteProtocolError when it is not packed audio."""
        time, payload = _read_tag(data)
        if self.tracks is None:
            self._parser = make_parser(ElementaryStream(_stream_type_of(payload), 0))
        parser = self._parser
        if parser is None:
            raise RemoteProtocolError("it is neither MPEG-TS nor MP4 nor packed audio")
        frames = parser.parse(payload, time, time)
        if parser.ready:
            self.tracks = (Track(0, parser.codec),)
        return [(0, frame) for frame in frames]


def _stream_type_of(payload: bytes) -> int:
    if payload[:2] == b"\x0b\x77":
        return ts.STREAM_TYPE_AC3
    if len(payload) < 2 or payload[0] != 0xFF or payload[1] & 0xE0 != 0xE0:
        raise RemoteProtocolError("it is neither MPEG-TS nor MP4 nor packed audio")
    # Layer 0 is reserved in MPEG audio and fixed in ADTS (ISO/IEC 14496-3 section 1.A.2.2.1).
    return ts.STREAM_TYPE_AAC_ADTS if payload[1] & 0x06 == 0 else ts.STREAM_TYPE_MPEG1_AUDIO


def _read_tag(data: bytes) -> tuple[int | None, bytes]:
    """Split off the ID3 tags; return the time in 90 kHz ticks, where it is told, and the rest."""
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
