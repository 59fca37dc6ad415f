"""MPEG-4 Part 2 video: headers and key frames (ISO/IEC 14496-2 section 6.2)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from polycast.codecs.bits import BitReader
from polycast.codecs.bitstream import Bitstream, Units
from polycast.errors import RemoteProtocolError
from polycast.media.codec import MPEG4Video

MAXIMUM_CONFIGURATION_SIZE = 4096
"""In bytes. A real configuration has about 40, and some more with user data or quantization matrices."""

_PREFIX = b"\x00\x00\x01"
_VISUAL_OBJECT_SEQUENCE = b"\x00\x00\x01\xb0"
_GROUP_OF_PLANES = b"\x00\x00\x01\xb3"
_PLANE = b"\x00\x00\x01\xb6"
_FIRST_LAYER, _LAST_LAYER = 0x20, 0x2F
_EXTENDED_ASPECT_RATIO = 15
_RECTANGULAR, _GRAYSCALE = 0, 3


def is_key(frame: bytes) -> bool:
    """Return whether a frame is intra coded: ``vop_coding_type`` I (section 6.2.5)."""
    position = frame.find(_PLANE) + len(_PLANE)
    return len(_PLANE) <= position < len(frame) and frame[position] >> 6 == 0


def configuration(frame: bytes) -> bytes:
    """Return the headers at the start of a frame, up to its first group or picture; empty if there are none."""
    if not frame.startswith(_PREFIX) or len(frame) < 4:
        return b""
    end = frame.find(_PLANE, 0, MAXIMUM_CONFIGURATION_SIZE)
    group = frame.find(_GROUP_OF_PLANES, 0, MAXIMUM_CONFIGURATION_SIZE)
    if end < 0 or 0 <= group < end:
        end = group
    if end <= 0:
        return b""
    return frame[:end] if _find_layer(frame[:end]) >= 0 else b""


def updated(codec: MPEG4Video, frame: bytes) -> MPEG4Video:
    """Return the codec with the headers of this frame; the same object if it is unchanged."""
    found = configuration(frame)
    if not found or found == codec.configuration:
        return codec
    return replace(codec, configuration=found, profile_level=profile_level(found) or codec.profile_level)


def with_configuration(codec: MPEG4Video, frame: bytes) -> bytes:
    """Return a key frame, with the codec's headers in front of it if it lacks them."""
    headers = codec.configuration
    if configuration(frame) or not headers.startswith(_PREFIX) or _find_layer(headers) < 0:
        return frame
    return headers + frame


def profile_level(headers: bytes) -> int | None:
    """Return ``profile_and_level_indication``; None if the headers do not tell it."""
    position = headers.find(_VISUAL_OBJECT_SEQUENCE) + 4
    return headers[position] if 4 <= position < len(headers) else None


def _find_layer(headers: bytes) -> int:
    position = headers.find(_PREFIX)
    while 0 <= position < len(headers) - 4:
        if _FIRST_LAYER <= headers[position + 3] <= _LAST_LAYER:
            return position + 4
        position = headers.find(_PREFIX, position + 3)
    return -1


@lru_cache(maxsize=64)
def parse_resolution(headers: bytes) -> tuple[int, int]:
    """Return width and height in pixels out of the video object layer (section 6.2.3). Cached by value.

    Raises `RemoteProtocolError`.
    """
    if len(headers) > MAXIMUM_CONFIGURATION_SIZE:
        raise RemoteProtocolError(f"an MPEG-4 video configuration of {len(headers)} bytes is too large")
    position = _find_layer(headers)
    if position < 0:
        raise RemoteProtocolError("an MPEG-4 video configuration has no video object layer")
    reader = BitReader(headers[position:])
    reader.skip(9)  # random_accessible_vol, video_object_type_indication
    version = 1
    if reader.flag():
        version = reader.read(4)
        reader.skip(3)
    if reader.read(4) == _EXTENDED_ASPECT_RATIO:
        reader.skip(16)
    if reader.flag():
        reader.skip(3)  # chroma_format, low_delay
        if reader.flag():
            reader.skip(79)  # vbv_parameters
    shape = reader.read(2)
    if shape == _GRAYSCALE and version != 1:
        reader.skip(4)
    reader.skip(1)
    resolution_of_time = reader.read(16)
    reader.skip(1)
    if reader.flag():
        reader.skip(max((resolution_of_time - 1).bit_length(), 1))  # fixed_vop_time_increment
    if shape != _RECTANGULAR:
        raise RemoteProtocolError("MPEG-4 video that is not rectangular is not supported")
    reader.skip(1)
    width = reader.read(13)
    reader.skip(1)
    return width, reader.read(13)


def resolution(codec: MPEG4Video) -> tuple[int, int] | None:
    """Return width and height in pixels; None if the configuration is unknown or invalid."""
    try:
        return parse_resolution(codec.configuration)
    except RemoteProtocolError:
        return None


def codec_string(codec: MPEG4Video) -> str:
    """Return the codec string, such as ``mp4v.20.1`` (RFC 6381 section 3.3)."""
    return f"mp4v.20.{codec.profile_level:X}"


def _updated(codec: MPEG4Video, units: Units) -> MPEG4Video:
    return updated(codec, units[0])


BITSTREAM = Bitstream(
    MPEG4Video,
    is_key=lambda units: is_key(units[0]),
    updated=_updated,
    resolution=resolution,
    codec_string=codec_string,
)
