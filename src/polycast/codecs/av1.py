"""AV1: OBUs, sequence headers, key frames, the av1C record (AV1 Bitstream & Decoding Process Specification)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache

from polycast.codecs.bits import BitReader
from polycast.codecs.bitstream import Bitstream
from polycast.codecs.h264_parameter_sets import plausible_frame_rate
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import AV1

MAXIMUM_OBUS_PER_TEMPORAL_UNIT = 1024
"""A frame has at most 512 tiles (section 6.10.15: 64 by 64 at level 6 is 128), each of which may be its own OBU."""

MAXIMUM_TEMPORAL_UNIT_SIZE = 16 * 1024 * 1024
"""In bytes, as `polycast.codecs.nal.MAXIMUM_FRAME_SIZE`."""

MAXIMUM_SEQUENCE_HEADER_SIZE = 1024
"""In bytes. A real one has about 12; with 32 operating points and decoder models under 600."""

_MAXIMUM_LEB128_SIZE = 8
_HAS_EXTENSION = 0x04
_HAS_SIZE = 0x02
_COLOUR_BT709, _TRANSFER_SRGB, _MATRIX_IDENTITY = 1, 13, 0
_SELECT = 2


class ObuType(IntEnum):
    """OBU types (section 6.2.2)."""

    SEQUENCE_HEADER = 1
    TEMPORAL_DELIMITER = 2
    FRAME_HEADER = 3
    TILE_GROUP = 4
    METADATA = 5
    FRAME = 6
    REDUNDANT_FRAME_HEADER = 7
    TILE_LIST = 8
    PADDING = 15


@dataclass(frozen=True, slots=True)
class SequenceHeader:
    """The fields of a sequence header OBU (section 5.5)."""

    profile: int
    level: int
    """``seq_level_idx`` of the first operating point."""
    tier: int
    """0 main, 1 high."""
    bit_depth: int
    monochrome: bool
    chroma_subsampling_x: int
    chroma_subsampling_y: int
    chroma_sample_position: int
    width: int
    """The largest one, in pixels."""
    height: int
    frame_rate: float | None
    """Pictures per second where they are equally spaced, else None."""
    initial_presentation_delay: int | None
    """In frames, if given."""
    reduced_still_picture: bool


def obu_type(unit: bytes) -> int:
    """Return the type of an OBU that has at least one byte."""
    return unit[0] >> 3 & 0xF


def read_leb128(data: bytes, position: int = 0) -> tuple[int, int]:
    """Return a leb128 number (section 4.10.5) and the position after it. Raises `RemoteProtocolError`."""
    value = 0
    for index, byte in enumerate(data[position : position + _MAXIMUM_LEB128_SIZE]):
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            if value > 0xFFFFFFFF:
                break
            return value, position + index + 1
    raise RemoteProtocolError("a leb128 number is too long or ends too early")


def write_leb128(value: int) -> bytes:
    """Return a number as leb128 in as few bytes as possible."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def split_obus(data: bytes) -> list[bytes]:
    """Return the OBUs of a temporal unit in the low-overhead format (section 5.2), each without its size field.

    Temporal delimiters, padding and tile lists are dropped. An OBU without size field reaches to the end.
    Raises `RemoteProtocolError` if a size reaches over the end or there are too many OBUs or bytes.
    """
    size = len(data)
    if size > MAXIMUM_TEMPORAL_UNIT_SIZE:
        raise RemoteProtocolError(f"a temporal unit of {size} bytes is too large")
    units: list[bytes] = []
    position = 0
    while position < size:
        header = data[position]
        header_size = 2 if header & _HAS_EXTENSION else 1
        start = position + header_size
        end = size
        if header & _HAS_SIZE:
            payload_size, start = read_leb128(data, start)
            end = start + payload_size
        if header & 0x80 or start > size or end > size:
            raise RemoteProtocolError("an OBU is broken or reaches over the end of its temporal unit")
        kind = header >> 3 & 0xF
        if kind not in (ObuType.TEMPORAL_DELIMITER, ObuType.TILE_LIST, ObuType.PADDING):
            if len(units) == MAXIMUM_OBUS_PER_TEMPORAL_UNIT:
                raise RemoteProtocolError("a temporal unit has too many OBUs")
            extension = data[position + 1 : position + header_size]
            units.append(bytes((header & ~_HAS_SIZE,)) + extension + data[start:end])
        position = end
    return units


def join_obus(units: Iterable[bytes]) -> bytes:
    """Return OBUs as a temporal unit in the low-overhead format, each with a size field; no temporal delimiter."""
    parts: list[bytes] = []
    for unit in units:
        if not unit:
            continue
        header = unit[0]
        if header & _HAS_SIZE:
            parts.append(unit)
            continue
        header_size = 2 if header & _HAS_EXTENSION else 1
        parts.append(bytes((header | _HAS_SIZE,)) + unit[1:header_size])
        parts.append(write_leb128(max(len(unit) - header_size, 0)))
        parts.append(unit[header_size:])
    return b"".join(parts)


def is_key(units: Sequence[bytes]) -> bool:
    """Return whether decoding can start at this temporal unit: its first frame is a new key frame."""
    for unit in units:
        if unit and unit[0] >> 3 & 0xF in (ObuType.FRAME, ObuType.FRAME_HEADER):
            header_size = 2 if unit[0] & _HAS_EXTENSION else 1
            # show_existing_frame 0, frame_type 0 (KEY_FRAME): section 5.9.2.
            return len(unit) > header_size and unit[header_size] & 0xE0 == 0
    return False


def with_sequence_header(codec: AV1, units: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the OBUs of a temporal unit, with the codec's sequence header in front of a key frame that lacks one."""
    if not codec.sequence_header or not is_key(units):
        return tuple(units)
    if any(unit and obu_type(unit) == ObuType.SEQUENCE_HEADER for unit in units):
        return tuple(units)
    return (codec.sequence_header, *units)


def updated(codec: AV1, units: Sequence[bytes]) -> AV1:
    """Return the codec with the sequence header of this temporal unit; the same object if it is unchanged.

    A sequence header that cannot be parsed is left out.
    """
    for unit in units:
        if not unit:
            continue
        kind = unit[0] >> 3 & 0xF
        if kind in (ObuType.FRAME, ObuType.FRAME_HEADER):
            break
        if kind == ObuType.SEQUENCE_HEADER and unit != codec.sequence_header:
            try:
                parse_sequence_header(unit)
            except RemoteProtocolError:
                break
            return replace(codec, sequence_header=unit)
    return codec


@lru_cache(maxsize=256)
def parse_sequence_header(unit: bytes) -> SequenceHeader:
    """Parse a sequence header OBU without size field (section 5.5). Cached by value. Raises `RemoteProtocolError`."""
    if len(unit) > MAXIMUM_SEQUENCE_HEADER_SIZE:
        raise RemoteProtocolError(f"a sequence header of {len(unit)} bytes is too large")
    if not unit or obu_type(unit) != ObuType.SEQUENCE_HEADER:
        raise RemoteProtocolError("not an AV1 sequence header")
    reader = BitReader(unit[2 if unit[0] & _HAS_EXTENSION else 1 :])
    profile = reader.read(3)
    if profile > 2:
        raise RemoteProtocolError(f"AV1 profile {profile} is not known")
    reader.skip(1)  # still_picture
    reduced = reader.flag()
    frame_rate: float | None = None
    delay: int | None = None
    if reduced:
        level, tier = reader.read(5), 0
    else:
        frame_rate, delay_bits = _read_timing(reader)
        level, tier, delay = _read_operating_points(reader, delay_bits)
    width_bits, height_bits = reader.read(4) + 1, reader.read(4) + 1
    width, height = reader.read(width_bits) + 1, reader.read(height_bits) + 1
    _skip_tools(reader, reduced)
    bit_depth, monochrome, subsampling_x, subsampling_y, position = _read_colour_config(reader, profile)
    return SequenceHeader(
        profile=profile,
        level=level,
        tier=tier,
        bit_depth=bit_depth,
        monochrome=monochrome,
        chroma_subsampling_x=subsampling_x,
        chroma_subsampling_y=subsampling_y,
        chroma_sample_position=position,
        width=width,
        height=height,
        frame_rate=frame_rate,
        initial_presentation_delay=delay,
        reduced_still_picture=reduced,
    )


def _read_timing(reader: BitReader) -> tuple[float | None, int | None]:
    """timing_info and decoder_model_info: the frame rate, and the size of a decoder model's delays in bits."""
    if not reader.flag():
        return None, None
    units_in_tick, time_scale = reader.read(32), reader.read(32)
    frame_rate: float | None = None
    if reader.flag():
        frame_rate = plausible_frame_rate(time_scale, units_in_tick * (reader.read_ue() + 1))
    if not reader.flag():
        return frame_rate, None
    delay_bits = reader.read(5) + 1
    reader.skip(42)  # num_units_in_decoding_tick, sizes of removal and presentation times
    return frame_rate, delay_bits


def _read_operating_points(reader: BitReader, delay_bits: int | None) -> tuple[int, int, int | None]:
    """Level, tier and initial presentation delay of the first operating point."""
    has_display_delay = reader.flag()
    first: tuple[int, int, int | None] = (0, 0, None)
    for index in range(reader.read(5) + 1):
        reader.skip(12)  # operating_point_idc
        level = reader.read(5)
        tier = reader.read(1) if level > 7 else 0
        if delay_bits is not None and reader.flag():
            reader.skip(2 * delay_bits + 1)
        delay = reader.read(4) + 1 if has_display_delay and reader.flag() else None
        if index == 0:
            first = level, tier, delay
    return first


def _skip_tools(reader: BitReader, reduced: bool) -> None:
    if not reduced and reader.flag():
        reader.skip(7)  # sizes of frame numbers
    reader.skip(3)  # use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
    if not reduced:
        reader.skip(4)  # enable_interintra_compound to enable_dual_filter
        order_hint = reader.flag()
        if order_hint:
            reader.skip(2)  # enable_jnt_comp, enable_ref_frame_mvs
        screen_content = _SELECT if reader.flag() else reader.read(1)
        if screen_content > 0 and not reader.flag():
            reader.skip(1)  # seq_force_integer_mv
        if order_hint:
            reader.skip(3)
    reader.skip(3)  # enable_superres, enable_cdef, enable_restoration


def _read_colour_config(reader: BitReader, profile: int) -> tuple[int, bool, int, int, int]:
    """Bit depth, monochrome, chroma subsampling in x and y, chroma sample position (section 5.5.2)."""
    bit_depth = 10 if reader.flag() else 8
    if profile == 2 and bit_depth == 10 and reader.flag():
        bit_depth = 12
    monochrome = profile != 1 and reader.flag()
    colours = (reader.read(8), reader.read(8), reader.read(8)) if reader.flag() else (2, 2, 2)
    if monochrome:
        reader.skip(1)  # color_range
        return bit_depth, True, 1, 1, 0
    if colours == (_COLOUR_BT709, _TRANSFER_SRGB, _MATRIX_IDENTITY):
        return bit_depth, False, 0, 0, 0
    reader.skip(1)  # color_range
    subsampling_x, subsampling_y = 1, 1
    if profile == 1:
        subsampling_x, subsampling_y = 0, 0
    elif profile == 2:
        subsampling_x, subsampling_y = 1, 0
        if bit_depth == 12:
            subsampling_x = reader.read(1)
            subsampling_y = reader.read(1) if subsampling_x else 0
    position = reader.read(2) if subsampling_x and subsampling_y else 0
    return bit_depth, False, subsampling_x, subsampling_y, position


def parse_configuration_record(data: bytes) -> AV1:
    """Parse an AV1CodecConfigurationRecord (av1C, "AV1 Codec ISO Media File Format Binding" section 2.3).

    The sequence header stays empty if the record has none. Raises `RemoteProtocolError`.
    """
    if len(data) < 4 or data[0] != 0x81:
        raise RemoteProtocolError("not an AV1 codec configuration record")
    return updated(AV1(), split_obus(data[4:]))


def build_configuration_record(codec: AV1) -> bytes:
    """Return the AV1CodecConfigurationRecord (av1C) of a codec.

    Raises `LocalProtocolError` if the codec has no sequence header yet, `RemoteProtocolError` if it is invalid.
    """
    if not codec.sequence_header:
        raise LocalProtocolError("the AV1 sequence header is not known yet")
    header = parse_sequence_header(codec.sequence_header)
    flags = header.tier << 7 | (header.bit_depth > 8) << 6 | (header.bit_depth == 12) << 5 | header.monochrome << 4
    flags |= header.chroma_subsampling_x << 3 | header.chroma_subsampling_y << 2 | header.chroma_sample_position
    record = bytes((0x81, header.profile << 5 | header.level, flags, 0))
    return record + join_obus([codec.sequence_header])


def codec_string(codec: AV1) -> str:
    """Return the codec string, such as ``av01.0.04M.08``; ``av01`` when the sequence header is unknown.

    "AV1 Codec ISO Media File Format Binding" section 5.
    """
    try:
        header = parse_sequence_header(codec.sequence_header)
    except RemoteProtocolError:
        return "av01"
    return f"av01.{header.profile}.{header.level:02d}{'MH'[header.tier]}.{header.bit_depth:02d}"


def resolution(codec: AV1) -> tuple[int, int] | None:
    """Return width and height in pixels; None if the sequence header is unknown or invalid."""
    try:
        header = parse_sequence_header(codec.sequence_header)
    except RemoteProtocolError:
        return None
    return header.width, header.height


_DELIMITER = int(ObuType.TEMPORAL_DELIMITER)


def without_delimiters(units: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the OBUs of a temporal unit that belong into a frame."""
    return tuple([unit for unit in units if unit[0] >> 3 & 0x0F != _DELIMITER])


BITSTREAM = Bitstream(
    AV1,
    is_key=is_key,
    split=lambda data: without_delimiters(split_obus(data)),
    join=join_obus,
    updated=updated,
    with_parameters=with_sequence_header,
    resolution=resolution,
    codec_string=codec_string,
)
