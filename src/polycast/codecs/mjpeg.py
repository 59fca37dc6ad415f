"""JPEG images as video frames: their size (ISO/IEC 10918-1). How RTP carries them is in ``rtp/payload/mjpeg.py``."""

from __future__ import annotations

import struct

from polycast.codecs.bitstream import Bitstream
from polycast.errors import RemoteProtocolError
from polycast.media.codec import MJPEG

MAXIMUM_SEGMENTS = 256
"""Marker segments in front of the frame header. A camera's image has about 10; each may have up to 64 KiB."""

_START_OF_IMAGE = b"\xff\xd8"
_START_OF_SCAN = 0xDA
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""0xC0 is baseline; the others are extended, progressive, lossless and arithmetic coding."""


def parse_size(frame: bytes) -> tuple[int, int]:
    """Return width and height of an image in pixels (section B.2.2). Raises `RemoteProtocolError`."""
    if not frame.startswith(_START_OF_IMAGE):
        raise RemoteProtocolError("not a JPEG image")
    position = 2
    for _ in range(MAXIMUM_SEGMENTS):
        while frame[position : position + 2] == b"\xff\xff":
            position += 1  # fill byte
        if position + 9 > len(frame) or frame[position] != 0xFF or frame[position + 1] == _START_OF_SCAN:
            break
        if frame[position + 1] in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", frame, position + 5)
            if width == 0 or height == 0:
                break
            return width, height
        position += 2 + max(int.from_bytes(frame[position + 2 : position + 4], "big"), 2)
    raise RemoteProtocolError("a JPEG image has no frame header")


def resolution(frame: bytes) -> tuple[int, int] | None:
    """Return width and height of an image in pixels; None if it is invalid."""
    try:
        return parse_size(frame)
    except RemoteProtocolError:
        return None


def codec_string(codec: MJPEG) -> str:
    """Return the codec string."""
    return "mjpeg"


BITSTREAM = Bitstream(MJPEG, codec_string=codec_string)
