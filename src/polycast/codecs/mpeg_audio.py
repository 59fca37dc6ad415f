"""MPEG-1 and MPEG-2 audio, layers I to III: frame headers (ISO/IEC 11172-3 section 2.4.1.3, 13818-3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from polycast.codecs.bitstream import Bitstream, Units
from polycast.errors import RemoteProtocolError
from polycast.media.codec import MPEGAudio

MAXIMUM_FRAMES = 256
"""Frames in one buffer: 6 seconds at 48 kHz."""

HEADER_SIZE = 4
"""In bytes."""

_BIT_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""In kbit/s, by version and layer, from index 1."""

_SAMPLE_RATES = (44_100, 48_000, 32_000)
_MONO = 3
_VERSION_2_5 = 0


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The header of one audio frame."""

    layer: int
    """1, 2 or 3."""
    version: int
    """1 or 2; 2 also for the extension to low sample rates that is called MPEG-2.5."""
    bit_rate: int
    """In bit/s."""
    sample_rate: int
    """In Hz."""
    channels: int
    frame_size: int
    """In bytes, including the header."""
    samples: int
    """Per channel."""

    @property
    def codec(self) -> MPEGAudio:
        """The codec that this header describes."""
        return MPEGAudio(sample_rate=self.sample_rate, channels=self.channels, layer=self.layer)


def parse_frame_header(data: bytes) -> FrameHeader:
    """Parse the header at the start of ``data``. Raises `RemoteProtocolError`, also for the free format."""
    return _parse(data[:HEADER_SIZE])


@lru_cache(maxsize=256)
def _parse(data: bytes) -> FrameHeader:
    if len(data) < HEADER_SIZE:
        raise RemoteProtocolError("an MPEG audio frame ends too early")
    header = int.from_bytes(data, "big")
    version_bits, layer_bits = header >> 19 & 3, header >> 17 & 3
    bit_rate_index, rate_index = header >> 12 & 0xF, header >> 10 & 3
    if header >> 21 != 0x7FF or version_bits == 1 or layer_bits == 0:
        raise RemoteProtocolError("not an MPEG audio frame")
    if bit_rate_index in (0, 15) or rate_index == 3:
        raise RemoteProtocolError("an MPEG audio frame has a bit rate or sample rate that is not supported")
    layer = 4 - layer_bits
    version = 1 if version_bits == 3 else 2
    bit_rate = _BIT_RATES[version, layer][bit_rate_index - 1] * 1000
    sample_rate = _SAMPLE_RATES[rate_index] >> (version - 1) >> (version_bits == _VERSION_2_5)
    samples = 384 if layer == 1 else 1152 if layer == 2 or version == 1 else 576
    padding = header >> 9 & 1
    if layer == 1:
        frame_size = (12 * bit_rate // sample_rate + padding) * 4
    else:
        frame_size = samples // 8 * bit_rate // sample_rate + padding
    channels = 1 if header >> 6 & 3 == _MONO else 2
    return FrameHeader(layer, version, bit_rate, sample_rate, channels, frame_size, samples)


def split_frames(data: bytes) -> list[bytes]:
    """Return the frames in ``data``, which starts with a header and ends with a whole frame.

    Raises `RemoteProtocolError` if a header is invalid, the last frame is truncated, or there are too many.
    """
    frames: list[bytes] = []
    position = 0
    while position < len(data):
        end = position + parse_frame_header(data[position : position + HEADER_SIZE]).frame_size
        if end > len(data):
            raise RemoteProtocolError("an MPEG audio frame ends too early")
        if len(frames) == MAXIMUM_FRAMES:
            raise RemoteProtocolError("there are too many MPEG audio frames in one buffer")
        frames.append(data[position:end])
        position = end
    return frames


def codec_string(codec: MPEGAudio) -> str:
    """Return the codec string: ``mp4a.6B`` for MPEG-1, ``mp4a.69`` for MPEG-2 (RFC 6381 section 3.3)."""
    return "mp4a.69" if 0 < codec.sample_rate < 32_000 else "mp4a.6B"


def updated(codec: MPEGAudio, units: Units) -> MPEGAudio:
    """Return the codec with what a frame says of it while that is unknown; the same object later."""
    if codec.sample_rate:
        return codec
    header = parse_frame_header(units[0])
    return MPEGAudio(header.sample_rate, header.channels, header.layer)


BITSTREAM = Bitstream(MPEGAudio, updated=updated, codec_string=codec_string)
