"""H.265 sequence parameter sets (Rec. ITU-T H.265 section 7.3.2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from polycast.codecs.bits import BitReader
from polycast.codecs.h264_parameter_sets import plausible_frame_rate
from polycast.codecs.nal import remove_emulation_prevention
from polycast.errors import RemoteProtocolError

MAXIMUM_PARAMETER_SET_SIZE = 8192
"""In bytes. A real parameter set has some tens; with scaling lists and 64 reference picture sets some KiB."""

_MAXIMUM_DIMENSION = 16_888
"""Pixels in one direction: sqrt(8 * 35651584), level 6.2 (Rec. ITU-T H.265 table A.8)."""

_MAXIMUM_REFERENCE_SETS = 64
_MAXIMUM_PICTURE_BUFFERS = 16
_EXTENDED_SAMPLE_ASPECT_RATIO = 255


@dataclass(frozen=True, slots=True)
class ProfileTierLevel:
    """The general part of profile_tier_level (section 7.3.3)."""

    profile_space: int
    tier: int
    """0 main, 1 high."""
    profile: int
    compatibility: int
    """32 flags; the one of profile 0 is the highest bit."""
    constraints: bytes
    """48 flags, 6 bytes."""
    level: int
    """30 times the level's number."""


@dataclass(frozen=True, slots=True)
class SequenceParameterSet:
    """The fields of an SPS that are used here."""

    video_parameter_set: int
    identifier: int
    temporal_layers: int
    temporal_nesting: bool
    profile_tier_level: ProfileTierLevel
    chroma_format: int
    """1 is 4:2:0, 2 is 4:2:2, 3 is 4:4:4, 0 is monochrome."""
    bit_depth_luma: int
    bit_depth_chroma: int
    poc_bits: int
    width: int
    """In pixels, after cropping."""
    height: int
    reorder_depth: int
    """The most pictures that come before one in decoding order and after it in output order."""
    frame_rate: float | None
    """Pictures per second, None if the encoder does not signal it."""


@lru_cache(maxsize=256)
def parse_sps(sps: bytes) -> SequenceParameterSet:
    """Parse a sequence parameter set, a NAL unit with its header. Cached by value.

    Where the part that leads to the frame rate is broken, the frame rate counts as unknown.
    Raises `RemoteProtocolError`.
    """
    if len(sps) > MAXIMUM_PARAMETER_SET_SIZE:
        raise RemoteProtocolError(f"an SPS of {len(sps)} bytes is too large")
    if len(sps) < 16 or sps[0] >> 1 & 0x3F != 33:
        raise RemoteProtocolError("not an H.265 sequence parameter set")
    reader = BitReader(remove_emulation_prevention(sps[2:]))
    video_parameter_set = reader.read(4)
    sub_layers = _limited(reader.read(3), 6, "sps_max_sub_layers_minus1")
    nesting = reader.flag()
    profile_tier_level = _read_profile_tier_level(reader, sub_layers)
    identifier = _limited(reader.read_ue(), 15, "sps_seq_parameter_set_id")
    chroma_format = _limited(reader.read_ue(), 3, "chroma_format_idc")
    separate_planes = chroma_format == 3 and reader.flag()
    width = _limited(reader.read_ue(), _MAXIMUM_DIMENSION, "pic_width_in_luma_samples")
    height = _limited(reader.read_ue(), _MAXIMUM_DIMENSION, "pic_height_in_luma_samples")
    if reader.flag():
        unit_width = 2 if chroma_format in (1, 2) else 1
        unit_height = 2 if chroma_format == 1 else 1
        width -= (reader.read_ue() + reader.read_ue()) * unit_width
        height -= (reader.read_ue() + reader.read_ue()) * unit_height
    if width <= 0 or height <= 0:
        raise RemoteProtocolError("an SPS has no picture size")
    depth_luma = 8 + _limited(reader.read_ue(), 8, "bit_depth_luma_minus8")
    depth_chroma = 8 + _limited(reader.read_ue(), 8, "bit_depth_chroma_minus8")
    poc_bits = 4 + _limited(reader.read_ue(), 12, "log2_max_pic_order_cnt_lsb_minus4")
    reorder_depth = 0
    for _ in range(sub_layers + 1 if reader.flag() else 1):
        reader.read_ue()  # sps_max_dec_pic_buffering_minus1
        reorder_depth = _limited(reader.read_ue(), _MAXIMUM_PICTURE_BUFFERS, "sps_max_num_reorder_pics")
        reader.read_ue()  # sps_max_latency_increase_plus1
    try:
        frame_rate = _read_frame_rate(reader, chroma_format if not separate_planes else 0, poc_bits)
    except RemoteProtocolError:
        frame_rate = None
    return SequenceParameterSet(
        video_parameter_set=video_parameter_set,
        identifier=identifier,
        temporal_layers=sub_layers + 1,
        temporal_nesting=nesting,
        profile_tier_level=profile_tier_level,
        chroma_format=chroma_format,
        bit_depth_luma=depth_luma,
        bit_depth_chroma=depth_chroma,
        poc_bits=poc_bits,
        width=width,
        height=height,
        reorder_depth=reorder_depth,
        frame_rate=frame_rate,
    )


def _limited(value: int, maximum: int, name: str) -> int:
    if value > maximum:
        raise RemoteProtocolError(f"{name} of {value} is not valid")
    return value


def _read_profile_tier_level(reader: BitReader, sub_layers: int) -> ProfileTierLevel:
    general = ProfileTierLevel(
        profile_space=reader.read(2),
        tier=reader.read(1),
        profile=reader.read(5),
        compatibility=reader.read(32),
        constraints=reader.read(48).to_bytes(6, "big"),
        level=reader.read(8),
    )
    present = [(reader.flag(), reader.flag()) for _ in range(sub_layers)]
    if sub_layers > 0:
        reader.skip(2 * (8 - sub_layers))
    for has_profile, has_level in present:
        reader.skip(88 * has_profile + 8 * has_level)
    return general


def _read_frame_rate(reader: BitReader, chroma_array_type: int, poc_bits: int) -> float | None:
    reader.read_ue()  # log2_min_luma_coding_block_size_minus3
    for _ in range(5):  # to max_transform_hierarchy_depth_intra
        reader.read_ue()
    if reader.flag() and reader.flag():
        _skip_scaling_lists(reader)
    reader.skip(2)  # amp_enabled_flag, sample_adaptive_offset_enabled_flag
    if reader.flag():
        reader.skip(8)  # pcm sample bit depths
        reader.read_ue()
        reader.read_ue()
        reader.skip(1)
    _skip_reference_picture_sets(reader)
    if reader.flag():
        for _ in range(_limited(reader.read_ue(), 32, "num_long_term_ref_pics_sps")):
            reader.skip(poc_bits + 1)
    reader.skip(2)  # sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
    return _read_vui_frame_rate(reader) if reader.flag() else None


def _skip_scaling_lists(reader: BitReader) -> None:
    for size in range(4):
        for _ in range(0, 6, 3 if size == 3 else 1):
            if not reader.flag():
                reader.read_ue()
                continue
            if size > 1:
                reader.read_se()
            for _ in range(min(64, 1 << (4 + (size << 1)))):
                reader.read_se()


def _skip_reference_picture_sets(reader: BitReader) -> None:
    """st_ref_pic_set (section 7.3.7); how long one is depends on how many pictures the one before it has."""
    pictures = 0
    for index in range(_limited(reader.read_ue(), _MAXIMUM_REFERENCE_SETS, "num_short_term_ref_pic_sets")):
        if index > 0 and reader.flag():
            reader.skip(1)  # delta_rps_sign
            reader.read_ue()
            used = 0
            for _ in range(pictures + 1):
                if reader.flag() or reader.flag():
                    used += 1
            pictures = used
        else:
            negative = _limited(reader.read_ue(), _MAXIMUM_PICTURE_BUFFERS, "num_negative_pics")
            positive = _limited(reader.read_ue(), _MAXIMUM_PICTURE_BUFFERS, "num_positive_pics")
            pictures = negative + positive
            for _ in range(pictures):
                reader.read_ue()
                reader.skip(1)


def _read_vui_frame_rate(reader: BitReader) -> float | None:
    if reader.flag() and reader.read(8) == _EXTENDED_SAMPLE_ASPECT_RATIO:
        reader.skip(32)
    if reader.flag():
        reader.skip(1)  # overscan_appropriate_flag
    if reader.flag():
        reader.skip(4)  # video_format, video_full_range_flag
        if reader.flag():
            reader.skip(24)  # colour description
    if reader.flag():
        reader.read_ue()
        reader.read_ue()
    reader.skip(3)  # neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag
    if reader.flag():
        for _ in range(4):  # default display window
            reader.read_ue()
    if not reader.flag():
        return None
    units_in_tick, time_scale = reader.read(32), reader.read(32)
    return plausible_frame_rate(time_scale, units_in_tick)
