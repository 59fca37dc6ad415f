"""The video codecs of MP4 (ISO/IEC 14496-15, and the bindings of AV1 and VP9)."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

from polycast.codecs import av1, h264, h265, nal, vp9
from polycast.media.codec import AV1, H264, H265, VP9
from polycast.media.frame import Frame
from polycast.wire.mp4.boxes import box, full_box
from polycast.wire.mp4.mapping import CodecMapping, Described, EntryFields, Samples


def _without(units: Container[bytes], frame: Frame) -> bytes:
    """Return a key frame without the parameter sets of the init segment (ISO/IEC 14496-15 section 5.3.2)."""
    pieces: list[bytes] = []
    for unit in frame.units:
        if unit not in units:
            pieces.append(len(unit).to_bytes(4, "big"))
            pieces.append(unit)
    return b"".join(pieces)


def _h264_samples(codec: H264, length_size: int) -> Samples:
    def read(data: bytes) -> tuple[tuple[bytes, ...], bool]:
        units = h264.without_delimiters(nal.split_length_prefixed(data, length_size))
        key = h264.is_key(units)
        return (h264.with_parameter_sets(codec, units) if key else units), key

    return read


def _parse_h264(content: bytes, fields: EntryFields) -> Described[H264]:
    codec, length_size = h264.parse_configuration_record(content)
    return Described(codec, _h264_samples(codec, length_size))


_H264: Final = CodecMapping(
    codec_type=H264,
    entries=(b"avc1", b"avc3"),
    box=b"avcC",
    build=lambda codec: box(b"avcC", h264.build_configuration_record(codec)),
    parse=_parse_h264,
    sample=lambda codec, frame: _without((codec.sps, codec.pps), frame) if frame.key else frame.avcc(),
)


def _h265_samples(codec: H265, length_size: int) -> Samples:
    def read(data: bytes) -> tuple[tuple[bytes, ...], bool]:
        units = h265.without_delimiters(nal.split_length_prefixed(data, length_size))
        key = h265.is_key(units)
        return (h265.with_parameter_sets(codec, units) if key else units), key

    return read


def _parse_h265(content: bytes, fields: EntryFields) -> Described[H265]:
    codec, length_size = h265.parse_configuration_record(content)
    return Described(codec, _h265_samples(codec, length_size))


_H265: Final = CodecMapping(
    codec_type=H265,
    entries=(b"hvc1", b"hev1"),
    box=b"hvcC",
    build=lambda codec: box(b"hvcC", h265.build_configuration_record(codec)),
    parse=_parse_h265,
    sample=lambda codec, frame: _without((codec.sps, codec.pps, codec.vps), frame) if frame.key else frame.avcc(),
)


def _read_av1(data: bytes) -> tuple[tuple[bytes, ...], bool]:
    units = av1.without_delimiters(av1.split_obus(data))
    return units, av1.is_key(units)


def _av1_sample(codec: AV1, frame: Frame) -> bytes:
    # a sync sample has a sequence header (AV1 Codec ISO Media File Format Binding section 2.4)
    return av1.join_obus(av1.with_sequence_header(codec, frame.units) if frame.key else frame.units)


_AV1: Final = CodecMapping(
    codec_type=AV1,
    entries=(b"av01",),
    box=b"av1C",
    build=lambda codec: box(b"av1C", av1.build_configuration_record(codec)),
    parse=lambda content, fields: Described(av1.parse_configuration_record(content), _read_av1),
    sample=_av1_sample,
)


def _read_vp9(data: bytes) -> tuple[tuple[bytes, ...], bool]:
    return ((data,) if data else ()), vp9.is_key(data)


def _parse_vp9(content: bytes, fields: EntryFields) -> Described[VP9]:
    found = vp9.parse_configuration_record(content)
    codec = VP9(found.profile, found.bit_depth, found.chroma_subsampling, fields.width, fields.height)
    return Described(codec, _read_vp9)


_VP9: Final = CodecMapping(
    codec_type=VP9,
    entries=(b"vp09",),
    box=b"vpcC",
    build=lambda codec: full_box(b"vpcC", 1, 0, vp9.build_configuration_record(codec)),
    parse=_parse_vp9,
)

VIDEO_MAPPINGS: Final[tuple[CodecMapping[Any], ...]] = (_H264, _H265, _AV1, _VP9)
