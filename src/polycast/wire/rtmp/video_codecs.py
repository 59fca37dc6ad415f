"""The video codecs of RTMP."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from polycast.codecs import av1, h264, h265, vp8, vp9
from polycast.codecs.nal import split_length_prefixed
from polycast.media.codec import AV1, H264, H265, VP8, VP9
from polycast.media.frame import Frame
from polycast.wire.rtmp.identifiers import VideoCodecId
from polycast.wire.rtmp.mapping import Configured, Parts, VideoMapping


def _configure_h264(body: bytes, known: H264 | None) -> Configured[H264]:
    return Configured(*h264.parse_configuration_record(body))


def _read_h264(payload: bytes, start: int, length_size: int) -> tuple[tuple[bytes, ...], bool]:
    units = h264.without_delimiters(split_length_prefixed(payload, length_size, start))
    return units, h264.is_key(units)


_H264: Final = VideoMapping(
    codec_type=H264,
    four_cc=b"avc1",
    legacy_identifiers=(VideoCodecId.AVC,),
    legacy_identifier=lambda codec: VideoCodecId.AVC,
    has_packet_type=True,
    has_nal_units=True,
    configuration=h264.build_configuration_record,
    parts=Frame.avcc_parts,
    configure=_configure_h264,
    read=_read_h264,
    is_ready=lambda codec: bool(codec.sps and codec.pps),
)


def _configure_h265(body: bytes, known: H265 | None) -> Configured[H265]:
    return Configured(*h265.parse_configuration_record(body))


def _read_h265(payload: bytes, start: int, length_size: int) -> tuple[tuple[bytes, ...], bool]:
    units = h265.without_delimiters(split_length_prefixed(payload, length_size, start))
    return units, h265.is_key(units)


_H265: Final = VideoMapping(
    codec_type=H265,
    four_cc=b"hvc1",
    legacy_identifiers=(VideoCodecId.HEVC,),
    has_packet_type=True,
    note="written enhanced",
    has_nal_units=True,
    configuration=h265.build_configuration_record,
    parts=Frame.avcc_parts,
    configure=_configure_h265,
    read=_read_h265,
    is_ready=lambda codec: bool(codec.sps and codec.pps),
)


def _configure_av1(body: bytes, known: AV1 | None) -> Configured[AV1]:
    return Configured(av1.parse_configuration_record(body))


def _av1_configuration(codec: AV1) -> bytes | None:
    return av1.build_configuration_record(codec) if codec.sequence_header else None


def _av1_parts(frame: Frame) -> Parts:
    return (av1.join_obus(frame.units),)


def _read_av1(payload: bytes, start: int, length_size: int) -> tuple[tuple[bytes, ...], bool]:
    units = av1.without_delimiters(av1.split_obus(payload[start:]))
    return units, av1.is_key(units)


_AV1: Final = VideoMapping(
    codec_type=AV1,
    four_cc=b"av01",
    configuration=_av1_configuration,
    has_parameters=lambda codec: bool(codec.sequence_header),
    parts=_av1_parts,
    configure=_configure_av1,
    implied=AV1(),
    read=_read_av1,
    is_completed_by_frames=True,
)


def _configure_vp9(body: bytes, known: VP9 | None) -> Configured[VP9]:
    codec = vp9.parse_configuration_record(body)
    if known is not None:  # the record has no picture size
        codec = replace(codec, width=known.width, height=known.height)
    return Configured(codec)


def _read_vp9(payload: bytes, start: int, length_size: int) -> tuple[tuple[bytes, ...], bool]:
    data = payload[start:]
    return (data,), vp9.is_key(data)


_VP9: Final = VideoMapping(
    codec_type=VP9,
    four_cc=b"vp09",
    configuration=vp9.build_configuration_record,
    configure=_configure_vp9,
    implied=VP9(),
    read=_read_vp9,
    is_completed_by_frames=True,
)


def _read_vp8(payload: bytes, start: int, length_size: int) -> tuple[tuple[bytes, ...], bool]:
    data = payload[start:]
    return (data,), vp8.is_key(data)


_VP8: Final = VideoMapping(codec_type=VP8, four_cc=b"vp08", implied=VP8(), read=_read_vp8)

VIDEO_MAPPINGS: Final[tuple[VideoMapping[Any], ...]] = (_H264, _H265, _AV1, _VP9, _VP8)
