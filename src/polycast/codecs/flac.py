"""FLAC: the STREAMINFO block, frame headers and the dfLa box (RFC 9639)."""

from __future__ import annotations

from polycast.codecs.bits import BitReader
from polycast.codecs.bitstream import Bitstream
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import FLAC

STREAM_INFO_SIZE = 34
"""In bytes, without the metadata block header (section 8.2)."""

_STREAM_MARKER = b"fLaC"
_LAST_BLOCK = 0x80
_FRAME_SYNC = 0x7FFC
_MAXIMUM_SAMPLE_RATE = 1_048_575
_BLOCK_SIZES = (0, 192, 576, 1152, 2304, 4608, 0, 0, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768)
"""By block size code (section 9.1.1); 6 and 7 say that the size is at the end of the header."""


def parse_stream_info(data: bytes) -> FLAC:
    """Return the codec of a STREAMINFO block (section 8.2). Raises `RemoteProtocolError`.

    The block may have its metadata block header in front, or the marker ``fLaC`` and that.
    """
    data = data.removeprefix(_STREAM_MARKER)
    if len(data) >= STREAM_INFO_SIZE + 4 and data[0] & 0x7F == 0 and data[1:4] == b"\x00\x00\x22":
        data = data[4:]
    if len(data) < STREAM_INFO_SIZE:
        raise RemoteProtocolError("a FLAC STREAMINFO block ends too early")
    stream_info = data[:STREAM_INFO_SIZE]
    reader = BitReader(stream_info)
    minimum_block, maximum_block = reader.read(16), reader.read(16)
    reader.skip(48)  # frame sizes
    sample_rate, channels, bit_depth = reader.read(20), reader.read(3) + 1, reader.read(5) + 1
    if not 16 <= minimum_block <= maximum_block or sample_rate == 0 or bit_depth < 4:
        raise RemoteProtocolError("a FLAC STREAMINFO block is not valid")
    return FLAC(stream_info=stream_info, sample_rate=sample_rate, channels=channels)


def frame_samples(frame: bytes) -> int:
    """Return how many samples a frame has per channel (section 9.1). Raises `RemoteProtocolError`."""
    reader = BitReader(frame[:16])
    if reader.read(15) != _FRAME_SYNC:
        raise RemoteProtocolError("not a FLAC frame")
    reader.skip(1)  # blocking strategy
    code = reader.read(4)
    reader.skip(12)  # sample rate, channels, bit depth, reserved
    if code not in (6, 7):
        if code == 0:
            raise RemoteProtocolError("a FLAC frame has a block size that is not valid")
        return _BLOCK_SIZES[code]
    first = reader.read(8)
    # The frame or sample number is coded like UTF-8, extended to 36 bits: leading ones count its bytes.
    ones = 8 - (first ^ 0xFF).bit_length()
    if ones == 1 or ones == 8:
        raise RemoteProtocolError("a FLAC frame has a number that is not valid")
    reader.skip(8 * max(ones - 1, 0))
    return reader.read(8 if code == 6 else 16) + 1


def build_configuration_record(codec: FLAC) -> bytes:
    """Return the metadata blocks of a dfLa box: STREAMINFO with its header.

    The box has version 0 and flags 0 (4 bytes) in front of it. Raises `LocalProtocolError` if it is not known.
    """
    if len(codec.stream_info) != STREAM_INFO_SIZE:
        raise LocalProtocolError("the FLAC STREAMINFO block is not known yet")
    return bytes((_LAST_BLOCK, 0, 0, STREAM_INFO_SIZE)) + codec.stream_info


def parse_configuration_record(data: bytes) -> FLAC:
    """Parse the payload of a dfLa box, with its version and flags or without. Raises `RemoteProtocolError`."""
    if data[:4] == b"\x00\x00\x00\x00":
        data = data[4:]
    if data[1:4] != b"\x00\x00\x22" or data[0] & 0x7F != 0:
        raise RemoteProtocolError("a dfLa box does not start with STREAMINFO")
    return parse_stream_info(data)


def codec_string(codec: FLAC) -> str:
    """Return the codec string."""
    return "fLaC"


BITSTREAM = Bitstream(FLAC, codec_string=codec_string)
