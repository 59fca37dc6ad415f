"""Fuzz target: every public parser of ``polycast.codecs``. The first byte chooses the parser.

Only `RemoteProtocolError` may leave a parser; the functions that promise not to raise may raise nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from polycast.codecs import (
    aac,
    ac3,
    av1,
    eac3,
    flac,
    h264,
    h265,
    mjpeg,
    mpeg2_video,
    mpeg4_video,
    mpeg_audio,
    nal,
    opus,
    vp8,
    vp9,
)
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import AC3, AV1, EAC3, H264, H265, VP9, MPEG4Audio, MPEG4Video


def _h264_stream(data: bytes) -> None:
    units = nal.split_annexb(data)
    _check_times(h264.DtsExtractor(), units)
    codec = h264.updated(H264(), units)
    assert h264.updated(codec, units) is codec
    h264.with_parameter_sets(codec, units)
    h264.codec_string(codec)
    h264.resolution(codec)
    _build(h264.build_configuration_record, codec)


def _h265_stream(data: bytes) -> None:
    units = nal.split_annexb(data)
    _check_times(h265.DtsExtractor(), units)
    codec = h265.updated(H265(), units)
    assert h265.updated(codec, units) is codec
    h265.with_parameter_sets(codec, units)
    h265.codec_string(codec)
    h265.resolution(codec)
    _build(h265.build_configuration_record, codec)


def _check_times(extractor: h264.DtsExtractor | h265.DtsExtractor, units: list[bytes]) -> None:
    """One unit is one access unit; its size makes its time."""
    given: list[int] = []
    for index, unit in enumerate(units[:256]):
        pts = (index * 3000) ^ (len(unit) % 7 * 2000)
        dts = extractor.extract([unit], pts)
        if dts is not None:
            assert dts <= pts
            given.append(dts)
    assert all(earlier <= later for earlier, later in pairwise(given))


def _av1_unit(data: bytes) -> None:
    units = av1.split_obus(data)
    assert av1.split_obus(av1.join_obus(units)) == units
    av1.is_key(units)
    codec = av1.updated(AV1(), units)
    av1.codec_string(codec)
    _build(av1.build_configuration_record, codec)


def _vp9_frame(data: bytes) -> None:
    codec = vp9.updated(VP9(), data)
    vp9.codec_string(codec)
    vp9.build_configuration_record(codec)
    vp9.parse_frame_header(data)


def _aac_configuration(data: bytes) -> None:
    codec = MPEG4Audio(configuration=data)
    aac.codec_string(codec)
    assert aac.samples_per_frame(codec) >= 0
    codec = aac.parse_audio_specific_config(data)
    _build(lambda value: aac.build_adts_header(value, 100), codec)


def _mpeg4_frame(data: bytes) -> None:
    codec = mpeg4_video.updated(MPEG4Video(), data)
    mpeg4_video.is_key(data)
    mpeg4_video.parse_resolution(codec.configuration or data)


def _build(build: Callable[[Any], bytes], value: object) -> None:
    try:
        build(value)
    except LocalProtocolError:
        pass  # what is to be built is not known


PARSERS: tuple[Callable[[bytes], object], ...] = (
    _h264_stream,
    h264.parse_sps,
    h264.parse_configuration_record,
    _h265_stream,
    h265.parse_sps,
    h265.parse_configuration_record,
    nal.split_length_prefixed,
    _av1_unit,
    av1.parse_sequence_header,
    av1.parse_configuration_record,
    _vp9_frame,
    vp9.parse_configuration_record,
    vp8.parse_frame_header,
    _aac_configuration,
    aac.parse_adts,
    opus.packet_duration,
    opus.parse_id_header,
    opus.parse_configuration_record,
    mpeg_audio.split_frames,
    ac3.split_frames,
    ac3.parse_configuration_record,
    flac.parse_stream_info,
    flac.frame_samples,
    flac.parse_configuration_record,
    lambda data: ac3.updated(AC3(), (data,)),
    mpeg2_video.parse_sequence_header,
    _mpeg4_frame,
    mjpeg.parse_size,
    eac3.split_access_units,
    lambda data: eac3.parse_configuration_record(data, 0),
    lambda data: eac3.updated(EAC3(), (data,)),
)


def fuzz_one(data: bytes) -> None:
    """Give ``data`` behind its first byte to the parser that the first byte chooses."""
    if not data:
        return
    try:
        PARSERS[data[0] % len(PARSERS)](data[1:])
    except RemoteProtocolError:
        pass


_H264_SPS = bytes.fromhex("67640020acd940780227e5c044000003000400000300f03c60c658")
_H264_PPS = bytes.fromhex("68ebe3cb22c0")
_H265_VPS = bytes.fromhex("40010c01ffff016000000300b0000003000003007bac0901")
_H265_SPS = bytes.fromhex("420101016000000300b0000003000003007ba003c08010e58dae4932f4dc04040402")
_H265_PPS = bytes.fromhex("4401c0f2f03c90")
_H264_KEY = [_H264_SPS, _H264_PPS, bytes.fromhex("0606 01c480"), bytes.fromhex("658884")]
_H265_KEY = [_H265_VPS, _H265_SPS, _H265_PPS, bytes.fromhex("2601af")]
_AV1_HEADER = bytes.fromhex("080000000a3cfeccfbf90040")
_STREAM_INFO = bytes.fromhex("1000100000000e0000100ac442f00000") + bytes(18)

_SEEDS: tuple[tuple[Callable[[bytes], object], bytes], ...] = (
    (_h264_stream, nal.join_annexb([*_H264_KEY, *[bytes.fromhex("419a24")] * 4, *_H264_KEY])),
    (h264.parse_sps, _H264_SPS),
    (h264.parse_configuration_record, h264.build_configuration_record(H264(sps=_H264_SPS, pps=_H264_PPS))),
    (_h265_stream, nal.join_annexb([*_H265_KEY, *[bytes.fromhex("0201d0")] * 4])),
    (h265.parse_sps, _H265_SPS),
    (
        h265.parse_configuration_record,
        h265.build_configuration_record(H265(vps=_H265_VPS, sps=_H265_SPS, pps=_H265_PPS)),
    ),
    (nal.split_length_prefixed, nal.join_length_prefixed(_H264_KEY)),
    (_av1_unit, b"\x12\x00" + av1.join_obus([_AV1_HEADER, b"\x30\x10\x00"])),
    (av1.parse_sequence_header, _AV1_HEADER),
    (av1.parse_configuration_record, b"\x81\x00\x0c\x00" + av1.join_obus([_AV1_HEADER])),
    (_vp9_frame, bytes.fromhex("824983420013f00b3600")),
    (vp9.parse_configuration_record, vp9.build_configuration_record(VP9(width=320, height=180))),
    (vp8.parse_frame_header, bytes.fromhex("5002009d012ab040908000000000")),
    (_aac_configuration, bytes.fromhex("139056e5a0")),
    (_aac_configuration, bytes.fromhex("118004c40100200000")),
    (aac.parse_adts, aac.build_adts_header(MPEG4Audio(), 4) + bytes(4)),
    (opus.packet_duration, b"\xfb\x03\x00"),
    (opus.parse_id_header, opus.build_id_header(opus.OpusConfiguration())),
    (opus.parse_configuration_record, opus.build_configuration_record(opus.OpusConfiguration())),
    (mpeg_audio.split_frames, b"\xff\xf3\x18\xc4" + bytes(32)),
    (ac3.split_frames, bytes.fromhex("0b7700000040e106") + bytes(120)),
    (ac3.parse_configuration_record, bytes.fromhex("10 3d c0")),
    (flac.parse_stream_info, _STREAM_INFO),
    (flac.frame_samples, bytes.fromhex("fff97918f09080800f9f")),
    (flac.parse_configuration_record, bytes.fromhex("80000022") + _STREAM_INFO),
    (mpeg2_video.parse_sequence_header, bytes.fromhex("000001b31400b413ffffe000000001b5148a00010000")),
    (_mpeg4_frame, bytes.fromhex("000001b001000001b58913000001000000012000c48d8800cd0a042d1463000001b610")),
    (eac3.split_access_units, bytes.fromhex("0b77 0005 3f86 000000000000 0b77 4005 3c80 41a00000 0000")),
    (mjpeg.parse_size, bytes.fromhex("ffd8ffe00002ffc000110800b4014003012200021101031101")),
)

SEEDS: list[bytes] = [bytes((PARSERS.index(parser),)) + data for parser, data in _SEEDS]
