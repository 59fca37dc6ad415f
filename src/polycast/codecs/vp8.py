"""VP8: frame headers (RFC 6386 section 9.1)."""

from __future__ import annotations

from dataclasses import dataclass

from polycast.codecs.bitstream import Bitstream
from polycast.errors import RemoteProtocolError
from polycast.media.codec import VP8

_START_CODE = b"\x9d\x01\x2a"
_KEY_FRAME_HEADER_SIZE = 10


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The uncompressed data at the start of a frame."""

    key: bool
    version: int
    show_frame: bool
    width: int = 0
    """In pixels, before the decoder's scaling; 0 but for key frames."""
    height: int = 0


def is_key(frame: bytes) -> bool:
    """Return whether a frame is a key frame."""
    return len(frame) >= 6 and frame[0] & 1 == 0 and frame[3:6] == _START_CODE


def parse_frame_header(frame: bytes) -> FrameHeader:
    """Parse the start of a frame. Raises `RemoteProtocolError`."""
    if len(frame) < 3:
        raise RemoteProtocolError("a VP8 frame ends too early")
    tag = frame[0]
    version, show_frame = tag >> 1 & 7, tag & 0x10 != 0
    if tag & 1:
        return FrameHeader(False, version, show_frame)
    if len(frame) < _KEY_FRAME_HEADER_SIZE or frame[3:6] != _START_CODE:
        raise RemoteProtocolError("a VP8 key frame lacks its start code")
    width = int.from_bytes(frame[6:8], "little") & 0x3FFF
    height = int.from_bytes(frame[8:10], "little") & 0x3FFF
    return FrameHeader(True, version, show_frame, width, height)


def resolution(frame: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels as a key frame tells them; None for any other frame."""
    try:
        header = parse_frame_header(frame)
    except RemoteProtocolError:
        return None
    return (header.width, header.height) if header.key else None


def codec_string(codec: VP8) -> str:
    """Return the codec string."""
    return "vp8"


BITSTREAM = Bitstream(VP8, is_key=lambda units: is_key(units[0]), codec_string=codec_string)
