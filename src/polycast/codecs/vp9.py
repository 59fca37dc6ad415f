"""VP9: frame headers, key frames, the vpcC record (VP9 Bitstream & Decoding Process Specification)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from polycast.codecs.bits import BitReader
from polycast.codecs.bitstream import Bitstream, Units
from polycast.errors import RemoteProtocolError
from polycast.media.codec import VP9

_FRAME_MARKER = 2
_SYNC_CODE = 0x498342
_COLOUR_SPACE_RGB = 7
_HEADER_SIZE = 16
"""Bytes at the start of a frame that hold the fields read here; 11 at most."""

_UNSPECIFIED = 2
"""Of colour primaries, transfer characteristics and matrix coefficients (ISO/IEC 23091-2)."""

_LEVELS = (
    (10, 829_440, 36_864),
    (11, 2_764_800, 73_728),
    (20, 4_608_000, 122_880),
    (21, 9_216_000, 245_760),
    (30, 20_736_000, 552_960),
    (31, 36_864_000, 983_040),
    (40, 83_558_400, 2_228_224),
    (41, 160_432_128, 2_228_224),
    (50, 311_951_360, 8_912_896),
    (51, 588_251_136, 8_912_896),
    (52, 1_176_502_272, 8_912_896),
    (60, 1_176_502_272, 35_651_584),
    (61, 2_353_004_544, 35_651_584),
    (62, 4_706_009_088, 35_651_584),
)
"""Level, pixels per second, pixels per picture (VP9 specification annex A)."""

_DEFAULT_FRAME_RATE = 30.0


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The start of a frame's uncompressed header (section 6.2)."""

    profile: int
    key: bool
    show_existing_frame: bool
    bit_depth: int = 8
    """This and the fields below are told by key frames only."""
    chroma_subsampling: int = 1
    """As in the VP codec configuration record: 1 is 4:2:0 collocated, 2 is 4:2:2, 3 is 4:4:4."""
    width: int = 0
    height: int = 0


def is_key(frame: bytes) -> bool:
    """Return whether a frame (or superframe) starts with a key frame."""
    if not frame:
        return False
    first = frame[0]
    if first >> 6 != _FRAME_MARKER:
        return False
    # Profile 3 has a reserved bit in front of show_existing_frame and frame_type.
    return (first & 0x30 == 0x30 and first & 0x06 == 0) or (first & 0x30 != 0x30 and first & 0x0C == 0)


def parse_frame_header(frame: bytes) -> FrameHeader:
    """Parse the start of a frame. Raises `RemoteProtocolError`."""
    reader = BitReader(frame[:_HEADER_SIZE])
    if reader.read(2) != _FRAME_MARKER:
        raise RemoteProtocolError("not a VP9 frame")
    profile = reader.read(1) | reader.read(1) << 1
    if profile == 3 and reader.flag():
        raise RemoteProtocolError("the VP9 profile is not known")
    if reader.flag():
        return FrameHeader(profile, key=False, show_existing_frame=True)
    key = not reader.flag()
    reader.skip(2)  # show_frame, error_resilient_mode
    if not key:
        return FrameHeader(profile, key=False, show_existing_frame=False)
    if reader.read(24) != _SYNC_CODE:
        raise RemoteProtocolError("a VP9 key frame lacks its sync code")
    bit_depth = 8
    if profile >= 2:
        bit_depth = 12 if reader.flag() else 10
    chroma_subsampling = _read_chroma_subsampling(reader, profile)
    width, height = reader.read(16) + 1, reader.read(16) + 1
    return FrameHeader(profile, True, False, bit_depth, chroma_subsampling, width, height)


def _read_chroma_subsampling(reader: BitReader, profile: int) -> int:
    if reader.read(3) == _COLOUR_SPACE_RGB:
        if profile in (0, 2):
            raise RemoteProtocolError(f"VP9 profile {profile} cannot be RGB")
        reader.skip(1)
        return 3
    reader.skip(1)  # color_range
    if profile in (0, 2):
        return 1
    subsampling = reader.read(2)
    reader.skip(1)
    if subsampling == 1:
        raise RemoteProtocolError("VP9 with 4:4:0 chroma subsampling is not supported")
    return (3, 0, 2, 1)[subsampling]


def updated(codec: VP9, frame: bytes) -> VP9:
    """Return the codec with the picture data of this frame; the same object if it is unchanged.

    A key frame whose header cannot be parsed changes nothing.
    """
    if not is_key(frame):
        return codec
    try:
        header = parse_frame_header(frame)
    except RemoteProtocolError:
        return codec
    new = replace(
        codec,
        profile=header.profile,
        bit_depth=header.bit_depth,
        chroma_subsampling=header.chroma_subsampling,
        width=header.width,
        height=header.height,
    )
    return codec if new == codec else new


def level(codec: VP9, frame_rate: float | None = None) -> int:
    """Return ten times the lowest level that fits the picture size; 30 pictures per second where none are given."""
    pixels = codec.width * codec.height
    rate = pixels * (frame_rate or _DEFAULT_FRAME_RATE)
    for number, maximum_rate, maximum_pixels in _LEVELS:
        if pixels <= maximum_pixels and rate <= maximum_rate:
            return number
    return _LEVELS[-1][0]


def parse_configuration_record(data: bytes) -> VP9:
    """Parse a VPCodecConfigurationRecord ("VP Codec ISO Media File Format Binding").

    The 4 bytes of version and flags that a vpcC box has in front may be there or not. The record does not tell the
    picture size. Raises `RemoteProtocolError`.
    """
    if len(data) >= 12 and data[:4] == b"\x01\x00\x00\x00":
        data = data[4:]
    if len(data) < 8:
        raise RemoteProtocolError("a VP codec configuration record ends too early")
    bit_depth, subsampling = data[2] >> 4, data[2] >> 1 & 7
    if data[0] > 3 or bit_depth not in (8, 10, 12) or subsampling > 3:
        raise RemoteProtocolError("a VP codec configuration record is not valid")
    return VP9(profile=data[0], bit_depth=bit_depth, chroma_subsampling=subsampling)


def build_configuration_record(codec: VP9, frame_rate: float | None = None) -> bytes:
    """Return the VPCodecConfigurationRecord of a codec, 8 bytes.

    A vpcC box has version 1 and flags 0 (4 bytes) in front of it.
    """
    formats = codec.bit_depth << 4 | codec.chroma_subsampling << 1
    return bytes((codec.profile, level(codec, frame_rate), formats, *(_UNSPECIFIED,) * 3, 0, 0))


def codec_string(codec: VP9, frame_rate: float | None = None) -> str:
    """Return the codec string, such as ``vp09.00.40.08``."""
    return f"vp09.{codec.profile:02d}.{level(codec, frame_rate):02d}.{codec.bit_depth:02d}"


def resolution(codec: VP9) -> tuple[int, int] | None:
    """Return width and height in pixels; None until a key frame was seen."""
    return (codec.width, codec.height) if codec.width and codec.height else None


def _updated(codec: VP9, units: Units) -> VP9:
    return updated(codec, units[0])


BITSTREAM = Bitstream(
    VP9,
    is_key=lambda units: is_key(units[0]),
    updated=_updated,
    resolution=resolution,
    codec_string=codec_string,
)
