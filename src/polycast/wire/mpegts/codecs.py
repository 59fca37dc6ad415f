"""The codecs of MPEG-TS: one row each, for both directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from polycast.codecs import aac, h264, h265, mpeg4_video
from polycast.codecs.nal import join_annexb
from polycast.errors import ProtocolError
from polycast.media.codec import (
    AC3,
    AV1,
    EAC3,
    FLAC,
    G711,
    G722,
    G726,
    H264,
    H265,
    KLV,
    LPCM,
    MJPEG,
    MPEGTS,
    VP8,
    VP9,
    Codec,
    MPEG2Video,
    MPEG4Audio,
    MPEG4Video,
    MPEGAudio,
    Opus,
    Speex,
    Vorbis,
)  # fmt: skip
from polycast.media.codec import Generic as GenericCodec
from polycast.media.codec_table import CodecTable
from polycast.media.frame import ANNEX_B_START_CODE, Frame
from polycast.wire.mpegts import constants as ts
from polycast.wire.mpegts.elementary import (
    AacParser,
    Ac3Parser,
    ElementaryParser,
    EnhancedAc3Parser,
    H264Parser,
    H265Parser,
    KlvParser,
    LatmParser,
    MPEG2VideoParser,
    MPEG4VideoParser,
    MpegAudioParser,
    OpusParser,
    SynchronousKlvParser,
)  # fmt: skip
from polycast.wire.mpegts.metadata import build_metadata_cells
from polycast.wire.mpegts.psi import ElementaryStream, iterate_descriptors

AnyCodec = TypeVar("AnyCodec", bound=Codec)

_H264_DELIMITER = ANNEX_B_START_CODE + b"\x09\xf0"
"""Access unit delimiter for any kind of picture (Rec. ITU-T H.264 section 7.3.2.4)."""
_H265_DELIMITER = ANNEX_B_START_CODE + b"\x46\x01\x50"
"""The same for H.265 (section 7.3.2.5)."""
_MPEG1_SAMPLE_RATES = (32_000, 44_100, 48_000)
_OPUS_CONTROL_PREFIX = b"\x7f\xe0"
"""opus_control_header: the 11-bit prefix 0x3FF, no trimming, no extension (ETSI TS 103 491, Opus in MPEG-2 TS)."""


def _h264_payload(codec: H264, frame: Frame) -> bytes:
    units = h264.with_parameter_sets(codec, frame.units) if frame.key else frame.units
    return _H264_DELIMITER + _annexb(frame, units)


def _h265_payload(codec: H265, frame: Frame) -> bytes:
    units = h265.with_parameter_sets(codec, frame.units) if frame.key else frame.units
    return _H265_DELIMITER + _annexb(frame, units)


def _annexb(frame: Frame, units: tuple[bytes, ...]) -> bytes:
    """Return units in Annex B form; the frame keeps that form of its own units for all readers."""
    return frame.annexb() if units == frame.units else join_annexb(units)


def _mpeg4_video_payload(codec: MPEG4Video, frame: Frame) -> bytes:
    return mpeg4_video.with_configuration(codec, frame.units[0]) if frame.key else frame.units[0]


def _aac_payload(codec: MPEG4Audio, frame: Frame) -> bytes:
    payload = frame.units[0]
    return aac.build_adts_header(codec, len(payload)) + payload


def _opus_payload(codec: Codec, frame: Frame) -> bytes:
    payload = frame.units[0]
    full, rest = divmod(len(payload), 255)
    return _OPUS_CONTROL_PREFIX + b"\xff" * full + bytes((rest,)) + payload


def _one_unit(codec: Codec, frame: Frame) -> bytes:
    return frame.units[0]


def _no_descriptors(codec: Codec) -> bytes:
    return b""


def _no_obstacle(codec: Codec) -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecMapping(Generic[AnyCodec]):
    """How a transport stream carries a codec, in both directions."""

    codec_type: type[AnyCodec]
    stream_types: tuple[int, ...]
    """Stream types that are read."""
    stream_type: Callable[[AnyCodec], int]
    """The stream type that is written."""
    stream_id: Callable[[AnyCodec], int]
    """Of its PES packets."""
    registration: bytes = b""
    """Format identifier of the registration descriptor of streams with private data."""
    descriptors: Callable[[AnyCodec], bytes] = _no_descriptors
    """The descriptors that are written in the program map."""
    payload: Callable[[AnyCodec, Frame], bytes] = _one_unit
    """Return a frame as the payload of a PES packet. Raises `ProtocolError`."""
    parser: Callable[[ElementaryStream], ElementaryParser]
    """Return what makes frames of PES packets."""
    obstacle: Callable[[AnyCodec], str | None] = _no_obstacle
    """Why a variant of the codec cannot be carried."""


def _video(codec: Codec) -> int:
    return ts.STREAM_ID_VIDEO


def _audio(codec: Codec) -> int:
    return ts.STREAM_ID_AUDIO


def _private(codec: Codec) -> int:
    return ts.STREAM_ID_PRIVATE_1


def _registration(identifier: bytes) -> bytes:
    return bytes((ts.DESCRIPTOR_REGISTRATION, len(identifier))) + identifier


_H264: Final = CodecMapping(
    codec_type=H264,
    stream_types=(ts.STREAM_TYPE_H264,),
    stream_type=lambda codec: ts.STREAM_TYPE_H264,
    stream_id=_video,
    payload=_h264_payload,
    parser=lambda stream: H264Parser(H264()),
)
_H265: Final = CodecMapping(
    codec_type=H265,
    stream_types=(ts.STREAM_TYPE_H265,),
    stream_type=lambda codec: ts.STREAM_TYPE_H265,
    stream_id=_video,
    payload=_h265_payload,
    parser=lambda stream: H265Parser(H265()),
)
_MPEG4_VIDEO: Final = CodecMapping(
    codec_type=MPEG4Video,
    stream_types=(ts.STREAM_TYPE_MPEG4_VIDEO,),
    stream_type=lambda codec: ts.STREAM_TYPE_MPEG4_VIDEO,
    stream_id=_video,
    payload=_mpeg4_video_payload,
    parser=lambda stream: MPEG4VideoParser(MPEG4Video()),
)
_MPEG2_VIDEO: Final = CodecMapping(
    codec_type=MPEG2Video,
    stream_types=(ts.STREAM_TYPE_MPEG2_VIDEO, ts.STREAM_TYPE_MPEG1_VIDEO),
    stream_type=lambda codec: ts.STREAM_TYPE_MPEG2_VIDEO,
    stream_id=_video,
    parser=lambda stream: MPEG2VideoParser(MPEG2Video()),
)


def _adts_obstacle(codec: MPEG4Audio) -> str | None:
    if not codec.configuration:
        return None
    try:
        aac.build_adts_header(codec, 0)
    except ProtocolError as error:
        return str(error)
    return None


_AAC: Final = CodecMapping(
    codec_type=MPEG4Audio,
    stream_types=(ts.STREAM_TYPE_AAC_ADTS,),
    stream_type=lambda codec: ts.STREAM_TYPE_AAC_ADTS,
    stream_id=_audio,
    payload=_aac_payload,
    parser=lambda stream: AacParser(MPEG4Audio()),
    obstacle=_adts_obstacle,
)


def _mpeg_audio_type(codec: MPEGAudio) -> int:
    is_mpeg2 = codec.sample_rate and codec.sample_rate not in _MPEG1_SAMPLE_RATES
    return ts.STREAM_TYPE_MPEG2_AUDIO if is_mpeg2 else ts.STREAM_TYPE_MPEG1_AUDIO


_MPEG_AUDIO: Final = CodecMapping(
    codec_type=MPEGAudio,
    stream_types=(ts.STREAM_TYPE_MPEG1_AUDIO, ts.STREAM_TYPE_MPEG2_AUDIO),
    stream_type=_mpeg_audio_type,
    stream_id=_audio,
    parser=lambda stream: MpegAudioParser(MPEGAudio()),
)
_AC3: Final = CodecMapping(
    codec_type=AC3,
    stream_types=(ts.STREAM_TYPE_AC3,),
    stream_type=lambda codec: ts.STREAM_TYPE_AC3,
    stream_id=_private,
    registration=b"AC-3",
    descriptors=lambda codec: _registration(b"AC-3"),
    parser=lambda stream: Ac3Parser(AC3()),
)

_EAC3: Final = CodecMapping(
    codec_type=EAC3,
    stream_types=(ts.STREAM_TYPE_EAC3,),
    stream_type=lambda codec: ts.STREAM_TYPE_EAC3,
    stream_id=_private,
    registration=b"EAC3",
    descriptors=lambda codec: _registration(b"EAC3"),
    parser=lambda stream: EnhancedAc3Parser(EAC3()),
)


def _opus_descriptors(codec: Opus) -> bytes:
    # channel_config_code 1 and 2 are mono and stereo with channel mapping family 0
    extension = bytes((ts.DESCRIPTOR_DVB_EXTENSION, 2, ts.OPUS_EXTENSION_TAG, codec.channels))
    return _registration(b"Opus") + extension


def _opus_parser(stream: ElementaryStream) -> OpusParser:
    channels = 2
    for tag, body in iterate_descriptors(stream.descriptors):
        if tag == ts.DESCRIPTOR_DVB_EXTENSION and len(body) >= 2 and body[0] == ts.OPUS_EXTENSION_TAG:
            channels = body[1] if 0 < body[1] <= 8 else 2
    return OpusParser(Opus(channels))


_OPUS: Final = CodecMapping(
    codec_type=Opus,
    stream_types=(),
    stream_type=lambda codec: ts.STREAM_TYPE_PRIVATE,
    stream_id=_private,
    registration=b"Opus",
    descriptors=_opus_descriptors,
    payload=_opus_payload,
    parser=_opus_parser,
)

_KLVA: Final = b"KLVA"
# Any application; the format is named by four letters; no decoder configuration (ISO/IEC 13818-1 section 2.6.60).
_METADATA: Final = b"\x01\x00\xff" + _KLVA + b"\x00\x0f"
_METADATA_BUFFERS: Final = 3 * b"\xc0\x00\x00"
"""No limits (section 2.6.62)."""


def _klv_descriptors(codec: KLV) -> bytes:
    if not codec.synchronous:
        return _registration(_KLVA)
    described = ((ts.DESCRIPTOR_METADATA, _METADATA), (ts.DESCRIPTOR_METADATA_STD, _METADATA_BUFFERS))
    return b"".join(bytes((tag, len(body))) + body for tag, body in described)


def _klv_payload(codec: KLV, frame: Frame) -> bytes:
    return build_metadata_cells(frame.units[0]) if codec.synchronous else frame.units[0]


def _klv_parser(stream: ElementaryStream) -> ElementaryParser:
    if stream.stream_type == ts.STREAM_TYPE_METADATA:
        return SynchronousKlvParser(KLV(synchronous=True))
    return KlvParser(KLV())


_KLV: Final = CodecMapping(
    codec_type=KLV,
    stream_types=(),
    stream_type=lambda codec: ts.STREAM_TYPE_METADATA if codec.synchronous else ts.STREAM_TYPE_PRIVATE,
    stream_id=lambda codec: ts.STREAM_ID_METADATA if codec.synchronous else ts.STREAM_ID_PRIVATE_1,
    registration=_KLVA,  # SMPTE RP 217, and MISB ST 1402 if it is synchronous
    descriptors=_klv_descriptors,
    payload=_klv_payload,
    parser=_klv_parser,
)

MAPPINGS: Final[tuple[CodecMapping[Any], ...]] = (
    _H264, _H265, _MPEG4_VIDEO, _MPEG2_VIDEO, _AAC, _OPUS, _MPEG_AUDIO, _AC3, _EAC3, _KLV,
)  # fmt: skip

CODECS: Final = CodecTable[CodecMapping[Any]](
    {mapping.codec_type: mapping for mapping in MAPPINGS},
    {
        "players do not play it in MPEG-TS": (AV1, VP8, VP9, MJPEG, FLAC, G711, G722, G726, LPCM, Vorbis, Speex),
        "it is itself a container": (MPEGTS,),
        "its frames are not understood": (GenericCodec,),
    },
)

_BY_STREAM_TYPE: Final = {number: mapping for mapping in MAPPINGS for number in mapping.stream_types}
_BY_REGISTRATION: Final = {mapping.registration: mapping for mapping in MAPPINGS if mapping.registration}


def make_parser(stream: ElementaryStream) -> ElementaryParser | None:
    """Return a parser for an elementary stream; None if its codec is not supported."""
    if stream.stream_type == ts.STREAM_TYPE_AAC_LATM:  # it is written as ADTS
        return LatmParser(MPEG4Audio())
    mapping = _BY_STREAM_TYPE.get(stream.stream_type)
    if stream.stream_type in (ts.STREAM_TYPE_PRIVATE, ts.STREAM_TYPE_METADATA):
        mapping = _BY_REGISTRATION.get(_registration_of(stream))
    return mapping.parser(stream) if mapping is not None else None


def _registration_of(stream: ElementaryStream) -> bytes:
    registration = b""
    for tag, body in iterate_descriptors(stream.descriptors):
        if tag == ts.DESCRIPTOR_REGISTRATION:
            registration = body[:4]
        elif tag == ts.DESCRIPTOR_DVB_AC3:
            registration = b"AC-3"
        elif tag == ts.DESCRIPTOR_DVB_EAC3:
            registration = b"EAC3"
        elif tag == ts.DESCRIPTOR_METADATA and _KLVA in body:
            registration = _KLVA
    return registration
