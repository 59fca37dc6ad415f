"""AC-3: synchronization frames (ATSC A/52 section 5) and the dac3 box (annex F)."""

from __future__ import annotations

from dataclasses import dataclass

from polycast.codecs.bits import BitReader, BitWriter
from polycast.codecs.bitstream import Bitstream, Units
from polycast.errors import RemoteProtocolError
from polycast.media.codec import AC3

SAMPLES_PER_FRAME = 1536
"""Per channel."""

MAXIMUM_FRAMES = 256
"""Frames in one buffer: 8 seconds at 48 kHz."""

HEADER_SIZE = 8
"""Bytes of a frame that `parse_sync_frame` needs."""

_SYNC_WORD = 0x0B77
_SAMPLE_RATES = (48_000, 44_100, 32_000)
_BIT_RATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_CHANNELS = (2, 1, 2, 3, 3, 4, 4, 5)
"""By audio coding mode (table 5.8); mode 0 is two independent channels."""
_STEREO_MODE = 2
HIGHEST_VERSION = 10
"""Highest bit stream identification of AC-3: 16 is E-AC-3. 9 and 10 are AC-3 at half and a quarter of
the sample rate."""


@dataclass(frozen=True, slots=True)
class SyncFrame:
    """The header of one synchronization frame."""

    sample_rate: int
    """In Hz."""
    bit_rate: int
    """In bit/s."""
    channels: int
    """The low frequency channel included."""
    frame_size: int
    """In bytes, including the header."""
    sample_rate_code: int
    bit_rate_code: int
    """``frmsizecod`` without its lowest bit."""
    bsid: int
    """Bit stream identification: 8, or 6 with the alternate syntax."""
    bsmod: int
    """Bit stream mode: 0 is the main service."""
    acmod: int
    """Audio coding mode: which channels there are."""
    low_frequency_channel: bool

    @property
    def codec(self) -> AC3:
        """The codec that this header describes."""
        return AC3(sample_rate=self.sample_rate, channels=self.channels)


def parse_sync_frame(data: bytes) -> SyncFrame:
    """Parse the header of the frame at the start of ``data``. Raises `RemoteProtocolError`, also for E-AC-3."""
    reader = BitReader(data[:HEADER_SIZE])
    if reader.read(16) != _SYNC_WORD:
        raise RemoteProtocolError("not an AC-3 frame")
    reader.skip(16)  # crc1
    rate_code, size_code = reader.read(2), reader.read(6)
    bsid, bsmod = reader.read(5), reader.read(3)
    if rate_code == 3 or size_code >> 1 >= len(_BIT_RATES) or bsid > HIGHEST_VERSION:
        raise RemoteProtocolError("an AC-3 frame has a sample rate, size or version that is not supported")
    acmod = reader.read(3)
    if acmod & 1 and acmod != 1:
        reader.skip(2)  # cmixlev
    if acmod & 4:
        reader.skip(2)  # surmixlev
    if acmod == _STEREO_MODE:
        reader.skip(2)  # dsurmod
    low_frequency = reader.flag()
    bit_rate = _BIT_RATES[size_code >> 1]
    words = bit_rate * 96_000 // _SAMPLE_RATES[rate_code]
    if rate_code == 1:
        words += size_code & 1
    shift = max(bsid - 8, 0)
    return SyncFrame(
        sample_rate=_SAMPLE_RATES[rate_code] >> shift,
        bit_rate=bit_rate * 1000 >> shift,
        channels=_CHANNELS[acmod] + low_frequency,
        frame_size=words * 2,
        sample_rate_code=rate_code,
        bit_rate_code=size_code >> 1,
        bsid=bsid,
        bsmod=bsmod,
        acmod=acmod,
        low_frequency_channel=low_frequency,
    )


def split_frames(data: bytes) -> list[bytes]:
    """Return the frames in ``data``, which starts with a header and ends with a whole frame.

    Raises `RemoteProtocolError` if a header is invalid, the last frame is truncated, or there are too many.
    """
    frames: list[bytes] = []
    position = 0
    while position < len(data):
        end = position + parse_sync_frame(data[position : position + HEADER_SIZE]).frame_size
        if end > len(data):
            raise RemoteProtocolError("an AC-3 frame ends too early")
        if len(frames) == MAXIMUM_FRAMES:
            raise RemoteProtocolError("there are too many AC-3 frames in one buffer")
        frames.append(data[position:end])
        position = end
    return frames


def build_configuration_record(frame: SyncFrame) -> bytes:
    """Return the payload of a dac3 box (annex F section F.4), 3 bytes."""
    writer = BitWriter()
    writer.write(frame.sample_rate_code, 2)
    writer.write(frame.bsid, 5)
    writer.write(frame.bsmod, 3)
    writer.write(frame.acmod, 3)
    writer.write(frame.low_frequency_channel, 1)
    writer.write(frame.bit_rate_code, 5)
    writer.write(0, 5)
    return writer.to_bytes()


def parse_configuration_record(data: bytes) -> AC3:
    """Parse the payload of a dac3 box. Raises `RemoteProtocolError`."""
    reader = BitReader(data[:3])
    rate_code, bsid = reader.read(2), reader.read(5)
    reader.skip(3)
    acmod, low_frequency = reader.read(3), reader.read(1)
    reader.skip(10)
    if rate_code == 3 or bsid > HIGHEST_VERSION:
        raise RemoteProtocolError("a dac3 box is not valid")
    return AC3(sample_rate=_SAMPLE_RATES[rate_code] >> max(bsid - 8, 0), channels=_CHANNELS[acmod] + low_frequency)


def codec_string(codec: AC3) -> str:
    """Return the codec string."""
    return "ac-3"


def updated(codec: AC3, units: Units) -> AC3:
    """Return the codec with the number of channels that a frame has; the same object if it is unchanged."""
    channels = parse_sync_frame(units[0]).channels
    return codec if channels == codec.channels else AC3(codec.sample_rate, channels)


BITSTREAM = Bitstream(AC3, updated=updated, codec_string=codec_string)
