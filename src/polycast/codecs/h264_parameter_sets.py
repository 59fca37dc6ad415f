"""H.264 sequence parameter sets and slice headers (Rec. ITU-T H.264 section 7.3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from polycast.codecs.bits import BitReader
from polycast.codecs.nal import remove_emulation_prevention
from polycast.errors import RemoteProtocolError

MAXIMUM_PARAMETER_SET_SIZE = 4096
"""In bytes. A real SPS has some tens; with every scaling list it stays under 1 KiB."""

MAXIMUM_FRAME_RATE = 1000.0
"""Pictures per second. Encoders of variable frame rate put the clock rate here: over this, the field says nothing."""

_MAXIMUM_SIZE_IN_BLOCKS = 1056
"""Macroblocks in one direction: sqrt(139264 * 8), level 6.2 (Rec. ITU-T H.264 table A-1)."""

_PROFILES_WITH_CHROMA_FORMAT = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})
_BASELINE_PROFILE = 66
_INTRA_PROFILES = frozenset({44, 100, 110, 122, 244})
_EXTENDED_SAMPLE_ASPECT_RATIO = 255
_MAXIMUM_CODED_PICTURE_BUFFERS = 32
_SLICE_HEADER_SIZE = 40
"""Bytes at the start of a slice that hold the fields read here; 25 at most."""


@dataclass(frozen=True, slots=True)
class VideoUsabilityInformation:
    """The part of the VUI that is of use here (Rec. ITU-T H.264 section E.1.1)."""

    frame_rate: float | None = None
    """Pictures per second, None if the encoder does not signal it."""
    fixed_frame_rate: bool = False
    reorder_depth: int | None = None
    """``max_num_reorder_frames``."""


@dataclass(frozen=True, slots=True)
class SequenceParameterSet:
    """The fields of an SPS that are used here."""

    profile: int
    constraints: int
    """The byte after the profile: constraint_set flags."""
    level: int
    """Ten times the level's number."""
    identifier: int
    chroma_format: int
    """1 is 4:2:0, 2 is 4:2:2, 3 is 4:4:4, 0 is monochrome."""
    bit_depth_luma: int
    bit_depth_chroma: int
    separate_colour_planes: bool
    frame_number_bits: int
    poc_type: int
    """``pic_order_cnt_type``."""
    poc_bits: int
    """Size of ``pic_order_cnt_lsb`` for POC type 0, else 0."""
    frames_only: bool
    """``frame_mbs_only_flag``: no fields."""
    maximum_reference_frames: int
    width: int
    """In pixels, after cropping."""
    height: int
    frame_rate: float | None
    """Pictures per second, None if the encoder does not signal it."""
    fixed_frame_rate: bool
    reorder_depth: int | None
    """The most pictures that come before one in decoding order and after it in output order; None if unknown."""


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """The part of a slice header that orders pictures."""

    slice_type: int
    """0 P, 1 B, 2 I, 3 SP, 4 SI."""
    poc_lsb: int | None
    """``pic_order_cnt_lsb``; None if the POC type has none."""


@lru_cache(maxsize=256)
def parse_sps(sps: bytes) -> SequenceParameterSet:
    """Parse a sequence parameter set, a NAL unit with its header. Cached by value.

    A VUI that ends too early or makes no sense counts as absent: cameras do that, and the rest is good.
    Raises `RemoteProtocolError`.
    """
    if len(sps) > MAXIMUM_PARAMETER_SET_SIZE:
        raise RemoteProtocolError(f"an SPS of {len(sps)} bytes is too large")
    if len(sps) < 5 or sps[0] & 0x1F not in (7, 15):
        raise RemoteProtocolError("not an H.264 sequence parameter set")
    reader = BitReader(remove_emulation_prevention(sps[1:]))
    profile, constraints, level = reader.read(8), reader.read(8), reader.read(8)
    identifier = _limited(reader.read_ue(), 31, "seq_parameter_set_id")
    chroma = _read_chroma(reader) if profile in _PROFILES_WITH_CHROMA_FORMAT else _Chroma()
    frame_number_bits = 4 + _limited(reader.read_ue(), 12, "log2_max_frame_num_minus4")
    poc_type = _limited(reader.read_ue(), 2, "pic_order_cnt_type")
    poc_bits = _read_poc_fields(reader, poc_type)
    reference_frames = _limited(reader.read_ue(), 16, "max_num_ref_frames")
    reader.skip(1)  # gaps_in_frame_num_value_allowed_flag
    width, height, frames_only = _read_size(reader, 0 if chroma.separate_planes else chroma.format)
    information = _read_vui(reader) if reader.flag() else VideoUsabilityInformation()
    reorder_depth = information.reorder_depth
    if poc_type == 2 or profile == _BASELINE_PROFILE or (profile in _INTRA_PROFILES and constraints & 0x10):
        # Output order is decoding order (sections 8.2.1.3, A.2.1 and E.2.1).
        reorder_depth = 0
    return SequenceParameterSet(
        profile=profile,
        constraints=constraints,
        level=level,
        identifier=identifier,
        chroma_format=chroma.format,
        bit_depth_luma=chroma.depth_luma,
        bit_depth_chroma=chroma.depth_chroma,
        separate_colour_planes=chroma.separate_planes,
        frame_number_bits=frame_number_bits,
        poc_type=poc_type,
        poc_bits=poc_bits,
        frames_only=frames_only,
        maximum_reference_frames=reference_frames,
        width=width,
        height=height,
        frame_rate=information.frame_rate,
        fixed_frame_rate=information.fixed_frame_rate,
        reorder_depth=reorder_depth,
    )


class _Chroma(NamedTuple):
    """The fields that only some profiles have; by default, those of the others."""

    format: int = 1
    depth_luma: int = 8
    depth_chroma: int = 8
    separate_planes: bool = False


def _read_chroma(reader: BitReader) -> _Chroma:
    chroma_format = _limited(reader.read_ue(), 3, "chroma_format_idc")
    separate_planes = reader.flag() if chroma_format == 3 else False
    depth_luma = 8 + _limited(reader.read_ue(), 6, "bit_depth_luma_minus8")
    depth_chroma = 8 + _limited(reader.read_ue(), 6, "bit_depth_chroma_minus8")
    reader.skip(1)  # qpprime_y_zero_transform_bypass_flag
    if reader.flag():
        _skip_scaling_lists(reader, 8 if chroma_format != 3 else 12)
    return _Chroma(chroma_format, depth_luma, depth_chroma, separate_planes)


def _read_size(reader: BitReader, chroma_array_type: int) -> tuple[int, int, bool]:
    """Return the width and height in pixels after cropping, and whether all pictures are frames."""
    width = 16 * (1 + _limited(reader.read_ue(), _MAXIMUM_SIZE_IN_BLOCKS - 1, "pic_width_in_mbs_minus1"))
    height = 16 * (1 + _limited(reader.read_ue(), _MAXIMUM_SIZE_IN_BLOCKS - 1, "pic_height_in_map_units_minus1"))
    frames_only = reader.flag()
    if not frames_only:
        height *= 2
        reader.skip(1)  # mb_adaptive_frame_field_flag
    reader.skip(1)  # direct_8x8_inference_flag
    if reader.flag():
        crop_width, crop_height = _read_cropping(reader, chroma_array_type, frames_only)
        width -= crop_width
        height -= crop_height
        if width <= 0 or height <= 0:
            raise RemoteProtocolError("an SPS crops the whole picture")
    return width, height, frames_only


def parse_slice_header(unit: bytes, sps: SequenceParameterSet) -> SliceHeader:
    """Parse the start of a slice (section 7.3.3): NAL unit types 1, 2 and 5. Raises `RemoteProtocolError`."""
    reader = BitReader(remove_emulation_prevention(unit[1:_SLICE_HEADER_SIZE]))
    reader.read_ue()  # first_mb_in_slice
    slice_type = reader.read_ue() % 5
    if sps.poc_type != 0:
        return SliceHeader(slice_type, None)
    reader.read_ue()  # pic_parameter_set_id
    if sps.separate_colour_planes:
        reader.skip(2)
    reader.skip(sps.frame_number_bits)
    if not sps.frames_only and reader.flag():
        reader.skip(1)  # bottom_field_flag
    if unit[0] & 0x1F == 5:
        reader.read_ue()  # idr_pic_id
    return SliceHeader(slice_type, reader.read(sps.poc_bits))


def parse_slice_type(unit: bytes) -> int:
    """Return the type of a slice: 0 P, 1 B, 2 I, 3 SP, 4 SI. Raises `RemoteProtocolError`."""
    reader = BitReader(remove_emulation_prevention(unit[1:16]))
    reader.read_ue()  # first_mb_in_slice
    return reader.read_ue() % 5


def _limited(value: int, maximum: int, name: str) -> int:
    if value > maximum:
        raise RemoteProtocolError(f"{name} of {value} is not valid")
    return value


def _skip_scaling_lists(reader: BitReader, count: int) -> None:
    for index in range(count):
        if not reader.flag():
            continue
        last = following = 8
        for _ in range(16 if index < 6 else 64):
            if following != 0:
                following = (last + reader.read_se()) % 256
            last = following if following != 0 else last


def _read_poc_fields(reader: BitReader, poc_type: int) -> int:
    if poc_type == 0:
        return 4 + _limited(reader.read_ue(), 12, "log2_max_pic_order_cnt_lsb_minus4")
    if poc_type == 1:
        reader.skip(1)  # delta_pic_order_always_zero_flag
        reader.read_se()  # offset_for_non_ref_pic
        reader.read_se()  # offset_for_top_to_bottom_field
        for _ in range(_limited(reader.read_ue(), 255, "num_ref_frames_in_pic_order_cnt_cycle")):
            reader.read_se()
    return 0


def _read_cropping(reader: BitReader, chroma_array_type: int, frames_only: bool) -> tuple[int, int]:
    left, right, top, bottom = reader.read_ue(), reader.read_ue(), reader.read_ue(), reader.read_ue()
    unit_width = 2 if chroma_array_type in (1, 2) else 1
    unit_height = (2 if chroma_array_type == 1 else 1) * (1 if frames_only else 2)
    return (left + right) * unit_width, (top + bottom) * unit_height


def _read_vui(reader: BitReader) -> VideoUsabilityInformation:
    frame_rate: float | None = None
    fixed = False
    try:
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
        if reader.flag():
            units_in_tick, time_scale = reader.read(32), reader.read(32)
            fixed = reader.flag()
            frame_rate = plausible_frame_rate(time_scale, units_in_tick * 2)
        has_nal_parameters = reader.flag()
        if has_nal_parameters:
            _skip_hypothetical_reference_decoder(reader)
        has_vcl_parameters = reader.flag()
        if has_vcl_parameters:
            _skip_hypothetical_reference_decoder(reader)
        if has_nal_parameters or has_vcl_parameters:
            reader.skip(1)  # low_delay_hrd_flag
        reader.skip(1)  # pic_struct_present_flag
        reorder_depth = _read_bitstream_restriction(reader) if reader.flag() else None
    except RemoteProtocolError:
        return VideoUsabilityInformation(frame_rate, fixed)
    return VideoUsabilityInformation(frame_rate, fixed, reorder_depth)


def plausible_frame_rate(time_scale: int, units: int) -> float | None:
    """Return ``time_scale / units``, or None if that is no frame rate."""
    if units == 0 or time_scale == 0:
        return None
    rate = time_scale / units
    return rate if rate <= MAXIMUM_FRAME_RATE else None


def _skip_hypothetical_reference_decoder(reader: BitReader) -> None:
    count = 1 + _limited(reader.read_ue(), _MAXIMUM_CODED_PICTURE_BUFFERS - 1, "cpb_cnt_minus1")
    reader.skip(8)
    for _ in range(count):
        reader.read_ue()
        reader.read_ue()
        reader.skip(1)
    reader.skip(20)


def _read_bitstream_restriction(reader: BitReader) -> int:
    reader.skip(1)  # motion_vectors_over_pic_boundaries_flag
    for _ in range(4):  # max_bytes_per_pic_denom to log2_max_mv_length_vertical
        reader.read_ue()
    return _limited(reader.read_ue(), 16, "max_num_reorder_frames")
