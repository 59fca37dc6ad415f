"""MPEG-1 and MPEG-2 video: sequence headers and key frames (ISO/IEC 11172-2, 13818-2 section 6.2)."""

from __future__ import annotations

from dataclasses import dataclass

from polycast.codecs.bits import BitReader
from polycast.codecs.bitstream import Bitstream
from polycast.errors import RemoteProtocolError
from polycast.media.codec import MPEG2Video

_PICTURE = b"\x00\x00\x01\x00"
_SEQUENCE_HEADER = b"\x00\x00\x01\xb3"
_EXTENSION = b"\x00\x00\x01\xb5"
_GROUP = b"\x00\x00\x01\xb8"
_SEQUENCE_EXTENSION = 1
_CODING_TYPE_I = 1
_FRAME_RATES = (0.0, 24_000 / 1001, 24.0, 25.0, 30_000 / 1001, 30.0, 50.0, 60_000 / 1001, 60.0)
"""By frame rate code (table 6-4), pictures per second."""
_SEQUENCE_HEADER_SIZE = 160
"""Bytes behind a start code that hold a sequence header with both of its matrices."""


@dataclass(frozen=True, slots=True)
class SequenceHeader:
    """The fields of a sequence header and its extension."""

    width: int
    height: int
    frame_rate: float
    """Pictures per second."""
    mpeg2: bool
    """There is a sequence extension; MPEG-1 has none."""
    progressive: bool
    profile_level: int | None
    """``profile_and_level_indication`` of MPEG-2."""


def picture_type(frame: bytes) -> int | None:
    """Return the type of a frame's first picture: 1 I, 2 P, 3 B; None if there is no picture."""
    position = frame.find(_PICTURE) + 5
    return frame[position] >> 3 & 7 if 5 <= position < len(frame) else None


def is_key(frame: bytes) -> bool:
    """Return whether decoding can start at a frame: an I picture behind a sequence header."""
    return _SEQUENCE_HEADER in frame and picture_type(frame) == _CODING_TYPE_I


def parse_sequence_header(frame: bytes) -> SequenceHeader:
    """Parse the first sequence header in a frame, with its extension (section 6.2.2). Raises `RemoteProtocolError`."""
    position = frame.find(_SEQUENCE_HEADER)
    if position < 0:
        raise RemoteProtocolError("there is no MPEG-2 sequence header")
    position += 4
    reader = BitReader(frame[position : position + 8])
    width, height = reader.read(12), reader.read(12)
    reader.skip(4)  # aspect_ratio_information
    rate_code = reader.read(4)
    reader.skip(30)  # bit_rate_value, marker_bit, vbv_buffer_size_value, constrained_parameters_flag
    if not 0 < rate_code < len(_FRAME_RATES):
        raise RemoteProtocolError(f"MPEG-2 frame rate code {rate_code} is not valid")
    rate = _FRAME_RATES[rate_code]
    following = frame.find(_EXTENSION, position, position + _SEQUENCE_HEADER_SIZE) + 4
    mpeg2 = following >= 4
    progressive, profile_level = True, None
    if mpeg2:
        reader = BitReader(frame[following : following + 6])
        if reader.read(4) != _SEQUENCE_EXTENSION:
            raise RemoteProtocolError("an MPEG-2 sequence header lacks its extension")
        profile_level = reader.read(8)
        progressive = reader.flag()
        reader.skip(2)  # chroma_format
        width |= reader.read(2) << 12
        height |= reader.read(2) << 12
        reader.skip(22)  # bit_rate_extension, marker_bit, vbv_buffer_size_extension, low_delay
        rate = rate * (reader.read(2) + 1) / (reader.read(5) + 1)
    if width == 0 or height == 0:
        raise RemoteProtocolError("an MPEG-2 sequence header has no picture size")
    return SequenceHeader(width, height, rate, mpeg2, progressive, profile_level)


def sequence_headers(frame: bytes) -> bytes:
    """Return the sequence header of a frame with its extensions, up to its first group or picture."""
    start = max(frame.find(_SEQUENCE_HEADER), 0)
    ends = [frame.find(code, start, start + _SEQUENCE_HEADER_SIZE * 2) for code in (_GROUP, _PICTURE)]
    return frame[start : min((end for end in ends if end >= 0), default=start)]


def resolution(frame: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels as a frame with a sequence header tells them; None for any other frame."""
    try:
        header = parse_sequence_header(frame)
    except RemoteProtocolError:
        return None
    return header.width, header.height


def codec_string(codec: MPEG2Video) -> str:
    """Return the codec string: MPEG-2 main profile (RFC 6381 section 3.3)."""
    return "mp4v.61"


BITSTREAM = Bitstream(MPEG2Video, is_key=lambda units: is_key(units[0]), codec_string=codec_string)
