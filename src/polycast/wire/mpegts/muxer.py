"""Writes frames as an MPEG transport stream with one program (ISO/IEC 13818-1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from polycast.codecs import aac, h264, h265
from polycast.errors import LocalProtocolError
from polycast.media.codec import (
    AC3,
    H264,
    H265,
    Codec,
    Kind,
    MPEG2Video,
    MPEG4Audio,
    MPEG4Video,
    MPEGAudio,
    Opus,
    label,
)
from polycast.media.frame import ANNEX_B_START_CODE, Frame
from polycast.media.track import Track
from polycast.wire.mpegts import constants as ts
from polycast.wire.mpegts.packet import PacketWriter
from polycast.wire.mpegts.pes import build_pes_header
from polycast.wire.mpegts.psi import ElementaryStream, ProgramMap, build_program_association, build_program_map

MAXIMUM_TRACKS = 8
"""Elementary streams of one program, so that the program map fits in one packet."""
DECODER_DELAY = 36_000
"""Ticks of 90 kHz (400 ms) by which the PTS and DTS are ahead of the PCR: time for a decoder to buffer a frame."""
MAXIMUM_PCR_INTERVAL = 9_000
"""Ticks of 90 kHz (100 ms) between two PCR (ISO/IEC 13818-1 section 2.7.2); longer gaps get a packet of their own."""

_H264_DELIMITER = ANNEX_B_START_CODE + b"\x09\xf0"
"""Access unit delimiter for any kind of picture (Rec. ITU-T H.264 section 7.3.2.4)."""
_H265_DELIMITER = ANNEX_B_START_CODE + b"\x46\x01\x50"
"""The same for H.265 (section 7.3.2.5)."""
_MAXIMUM_MPEG1_SAMPLE_RATES = (32_000, 44_100, 48_000)
_OPUS_CONTROL_PREFIX = b"\x7f\xe0"
"""opus_control_header: the 11-bit prefix 0x3FF, no trimming, no extension (ETSI TS 103 491, Opus in MPEG-2 TS)."""


def _h264_payload(codec: H264, frame: Frame) -> bytes:
    if not frame.key:
        return _H264_DELIMITER + frame.annexb()
    units = h264.with_parameter_sets(codec, frame.units)
    if units == frame.units:
        return _H264_DELIMITER + frame.annexb()
    return _H264_DELIMITER + ANNEX_B_START_CODE + ANNEX_B_START_CODE.join(units)


def _h265_payload(codec: H265, frame: Frame) -> bytes:
    if not frame.key:
        return _H265_DELIMITER + frame.annexb()
    units = h265.with_parameter_sets(codec, frame.units)
    if units == frame.units:
        return _H265_DELIMITER + frame.annexb()
    return _H265_DELIMITER + ANNEX_B_START_CODE + ANNEX_B_START_CODE.join(units)


def _aac_payload(codec: MPEG4Audio, frame: Frame) -> bytes:
    payload = frame.units[0]
    return aac.build_adts_header(codec, len(payload)) + payload


def _opus_payload(codec: Codec, frame: Frame) -> bytes:
    payload = frame.units[0]
    full, rest = divmod(len(payload), 255)
    return _OPUS_CONTROL_PREFIX + b"\xff" * full + bytes((rest,)) + payload


def _plain_payload(codec: Codec, frame: Frame) -> bytes:
    return frame.units[0]


def _registration(identifier: bytes) -> bytes:
    return bytes((ts.DESCRIPTOR_REGISTRATION, len(identifier))) + identifier


class _Carriage(NamedTuple):
    stream_type: int
    stream_id: int
    payload: Callable[..., bytes]
    """Called with a codec of the row's class and a frame."""


_CARRIAGE: dict[type[Codec], _Carriage] = {
    H264: _Carriage(ts.STREAM_TYPE_H264, ts.STREAM_ID_VIDEO, _h264_payload),
    H265: _Carriage(ts.STREAM_TYPE_H265, ts.STREAM_ID_VIDEO, _h265_payload),
    MPEG4Video: _Carriage(ts.STREAM_TYPE_MPEG4_VIDEO, ts.STREAM_ID_VIDEO, _plain_payload),
    MPEG2Video: _Carriage(ts.STREAM_TYPE_MPEG2_VIDEO, ts.STREAM_ID_VIDEO, _plain_payload),
    MPEG4Audio: _Carriage(ts.STREAM_TYPE_AAC_ADTS, ts.STREAM_ID_AUDIO, _aac_payload),
    MPEGAudio: _Carriage(ts.STREAM_TYPE_MPEG1_AUDIO, ts.STREAM_ID_AUDIO, _plain_payload),
    AC3: _Carriage(ts.STREAM_TYPE_AC3, ts.STREAM_ID_PRIVATE_1, _plain_payload),
    Opus: _Carriage(ts.STREAM_TYPE_PRIVATE, ts.STREAM_ID_PRIVATE_1, _opus_payload),
}


def supports(codec: Codec) -> bool:
    """Return whether a transport stream can carry the codec."""
    return type(codec) in _CARRIAGE


def _descriptors(track: Track) -> bytes:
    codec = track.codec
    descriptors = b""
    if isinstance(codec, AC3):
        descriptors = _registration(b"AC-3")
    elif isinstance(codec, Opus):
        # channel_config_code 1 and 2 are mono and stereo with channel mapping family 0
        extension = bytes((ts.DESCRIPTOR_DVB_EXTENSION, 2, ts.OPUS_EXTENSION_TAG, codec.channels))
        descriptors = _registration(b"Opus") + extension
    language = (track.language or "").encode("ascii", "ignore")
    if len(language) == 3:  # ISO 639-2
        descriptors += bytes((ts.DESCRIPTOR_LANGUAGE, 4)) + language + b"\x00"
    return descriptors


def _stream_type(codec: Codec) -> int:
    if isinstance(codec, MPEGAudio) and codec.sample_rate and codec.sample_rate not in _MAXIMUM_MPEG1_SAMPLE_RATES:
        return ts.STREAM_TYPE_MPEG2_AUDIO
    return _CARRIAGE[type(codec)].stream_type


class Muxer:
    """Writes the frames of some tracks as transport packets. The tables are written where the caller wants them.

    The PCR is on the first video track, or on the first track; it follows the decoding times of the frames, so the
    bytes do not depend on when they are made.
    """

    def __init__(self, tracks: Sequence[Track]) -> None:
        """Make a muxer. Raises LocalProtocolError for no track, too many, or a codec that cannot be carried."""
        if not 0 < len(tracks) <= MAXIMUM_TRACKS:
            raise LocalProtocolError(f"a transport stream of {len(tracks)} tracks cannot be written")
        for track in tracks:
            if not supports(track.codec):
                raise LocalProtocolError(f"MPEG-TS cannot carry {label(track.codec)}")
        self._tracks = list(tracks)
        self._codecs = [track.codec for track in tracks]
        self._carriage = [_CARRIAGE[type(track.codec)] for track in tracks]
        self._writers = [PacketWriter(ts.FIRST_ELEMENTARY_PID + index) for index in range(len(tracks))]
        self._table_writers = PacketWriter(ts.PROGRAM_ASSOCIATION_PID), PacketWriter(ts.PROGRAM_MAP_PID)
        videos = [index for index, track in enumerate(tracks) if track.codec.kind is Kind.VIDEO]
        self._pcr_index = videos[0] if videos else 0
        self._last_pcr: int | None = None
        self._build_tables()

    def _build_tables(self) -> None:
        streams = tuple(
            ElementaryStream(_stream_type(track.codec), ts.FIRST_ELEMENTARY_PID + index, _descriptors(track))
            for index, track in enumerate(self._tracks)
        )
        self._sections = (
            build_program_association(ts.PROGRAM_MAP_PID),
            build_program_map(ProgramMap(ts.FIRST_ELEMENTARY_PID + self._pcr_index, streams)),
        )

    def update_track(self, index: int, track: Track) -> None:
        """Take new codec parameters of a track, from its next frame on; the codec stays of its kind."""
        if type(track.codec) is not type(self._codecs[index]):
            raise LocalProtocolError("a track of a transport stream cannot change its codec")
        self._tracks[index] = track
        self._codecs[index] = track.codec
        self._build_tables()

    def tables(self) -> bytes:
        """Return the PAT and the PMT, two packets. To be written at the start of each segment."""
        return self._table_writers[0].write_section(self._sections[0]) + self._table_writers[1].write_section(
            self._sections[1]
        )

    def write_frame(self, index: int, frame: Frame, pts: int, dts: int) -> bytes:
        """Return the packets of one frame of the track at ``index``; ``pts`` and ``dts`` in ticks of 90 kHz."""
        carriage = self._carriage[index]
        payload = carriage.payload(self._codecs[index], frame)
        header = build_pes_header(carriage.stream_id, len(payload), pts + DECODER_DELAY, dts + DECODER_DELAY)
        writer = self._writers[index]
        if index == self._pcr_index:
            return writer.write(header, payload, pcr=self._advance_pcr(dts), random_access=frame.key)
        packets = writer.write(header, payload, random_access=frame.key)
        if self._last_pcr is not None and dts - self._last_pcr > MAXIMUM_PCR_INTERVAL:
            return self._writers[self._pcr_index].write_pcr(self._advance_pcr(dts)) + packets
        return packets

    def _advance_pcr(self, time: int) -> int:
        if self._last_pcr is None or time > self._last_pcr:
            self._last_pcr = time
        return self._last_pcr
