"""E-AC-3: synchronization frames (ATSC A/52 annex E) and the dec3 box (ETSI TS 102 366 annex F.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from polycast.codecs.bits import BitReader, BitWriter
from polycast.codecs.bitstream import Bitstream, Units
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import EAC3

HEADER_SIZE: Final = 12
"""Bytes of the smallest valid synchronization frame, which include all fields that `parse_sync_frame` reads."""

MAXIMUM_UNITS: Final = 256
"""Access units in one buffer: 8 seconds at 48 kHz."""
MAXIMUM_SYNC_FRAMES: Final = 64
"""Synchronization frames of one access unit: six of the independent substream, each with some of dependent ones."""

_SYNC_WORD: Final = 0x0B77
_SAMPLE_RATES: Final = (48_000, 44_100, 32_000)
_BLOCKS: Final = (1, 2, 3, 6)
_BLOCKS_OF_UNIT: Final = 6
"""Audio blocks of an access unit: those of a sample of MP4 (annex F.6.1)."""
_SAMPLES_PER_BLOCK: Final = 256
_DEPENDENT: Final = 1
"""Stream type of a substream that adds channels to another one."""
_RESERVED_TYPE: Final = 3
_LOWEST_BSID, _HIGHEST_BSID = 11, 16

# Locations of channels, as the channel map of a dependent substream has them (table E2.5), the left one first.
_LEFT, _CENTER, _RIGHT, _LEFT_SURROUND, _RIGHT_SURROUND = 0x8000, 0x4000, 0x2000, 0x1000, 0x0800
_CENTER_SURROUND, _LOW_FREQUENCY = 0x0100, 0x0001
_PAIRS: Final = 0x0674
"""Locations that are two channels."""
_SURROUND: Final = _LEFT_SURROUND | _RIGHT_SURROUND
_LOCATIONS: Final = (
    _LEFT | _RIGHT,
    _CENTER,
    _LEFT | _RIGHT,
    _LEFT | _CENTER | _RIGHT,
    _LEFT | _RIGHT | _CENTER_SURROUND,
    _LEFT | _CENTER | _RIGHT | _CENTER_SURROUND,
    _LEFT | _RIGHT | _SURROUND,
    _LEFT | _CENTER | _RIGHT | _SURROUND,
)
"""By audio coding mode (table 5.8)."""


@dataclass(frozen=True, slots=True)
class SyncFrame:
    """The header of a synchronization frame."""

    size: int
    """In bytes, including the header."""
    is_first: bool
    """Whether it belongs to the main program's own substream, so that an access unit may begin here."""
    is_dependent: bool
    sample_rate: int
    blocks: int
    locations: int
    """Of its channels."""


def parse_sync_frame(data: bytes) -> SyncFrame:
    """Parse the header of the frame at the start of ``data``. Raises `RemoteProtocolError`, also for AC-3."""
    reader = BitReader(data[:HEADER_SIZE])
    if reader.read(16) != _SYNC_WORD:
        raise RemoteProtocolError("not an E-AC-3 frame")
    stream_type, substream, words = reader.read(2), reader.read(3), reader.read(11)
    rate_code, blocks_code = reader.read(2), reader.read(2)
    mode, low_frequency, version = reader.read(3), reader.flag(), reader.read(5)
    size = (words + 1) * 2
    if stream_type == _RESERVED_TYPE or not _LOWEST_BSID <= version <= _HIGHEST_BSID or size < HEADER_SIZE:
        raise RemoteProtocolError("an E-AC-3 frame has a type, size or version that is not supported")
    if rate_code < len(_SAMPLE_RATES):
        sample_rate, blocks = _SAMPLE_RATES[rate_code], _BLOCKS[blocks_code]
    elif blocks_code < len(_SAMPLE_RATES):  # half the rate (section E2.3.1.4)
        sample_rate, blocks = _SAMPLE_RATES[blocks_code] // 2, _BLOCKS_OF_UNIT
    else:
        raise RemoteProtocolError("an E-AC-3 frame has a sample rate that is not supported")
    locations = _LOCATIONS[mode] | (_LOW_FREQUENCY if low_frequency else 0)
    if stream_type == _DEPENDENT:
        _skip_levels(reader, programs=2 if mode == 0 else 1)
        if reader.flag():
            locations = reader.read(16)
    return SyncFrame(
        size=size,
        is_first=stream_type != _DEPENDENT and not substream,
        is_dependent=stream_type == _DEPENDENT,
        sample_rate=sample_rate,
        blocks=blocks,
        locations=locations,
    )


def _skip_levels(reader: BitReader, programs: int) -> None:
    """Skip dialnorm and compr."""
    for _ in range(programs):
        reader.skip(5)
        if reader.flag():
            reader.skip(8)


class AccessUnit(NamedTuple):
    """Synchronization frames that are decoded together: six audio blocks of all substreams, if the data is whole."""

    size: int
    """In bytes."""
    frames: int
    """Synchronization frames."""
    samples: int
    """Per channel."""
    codec: EAC3


def read_access_unit(data: bytes, offset: int = 0) -> AccessUnit | None:
    """Return the access unit at ``offset``; None if its end is not in the data. It may end with the data.

    Raises `RemoteProtocolError`.
    """
    position, blocks, locations, sample_rate, is_main = offset, 0, 0, 0, True
    for frames in range(MAXIMUM_SYNC_FRAMES):  # noqa: B007
        if blocks >= _BLOCKS_OF_UNIT and position == len(data):
            break
        if position + HEADER_SIZE > len(data):
            return None
        frame = parse_sync_frame(data[position : position + HEADER_SIZE])
        if frame.is_first:
            if blocks >= _BLOCKS_OF_UNIT:
                break
            blocks += frame.blocks
            sample_rate = frame.sample_rate
        elif not blocks:
            raise RemoteProtocolError("E-AC-3 does not start with the substream of the main program")
        if not frame.is_dependent:
            is_main = frame.is_first
        if is_main:
            locations |= frame.locations
        position += frame.size
        if position > len(data):
            return None
    else:
        raise RemoteProtocolError("an E-AC-3 access unit has too many frames")
    codec = EAC3(sample_rate, locations.bit_count() + (locations & _PAIRS).bit_count())
    return AccessUnit(position - offset, frames, blocks * _SAMPLES_PER_BLOCK, codec)


def split_access_units(data: bytes) -> list[tuple[bytes, AccessUnit]]:
    """Return the access units in ``data``, which starts with one and ends with a whole one.

    Raises `RemoteProtocolError` if a header is invalid, the last one is truncated, or there are too many.
    """
    units: list[tuple[bytes, AccessUnit]] = []
    position = 0
    while position < len(data):
        unit = read_access_unit(data, position)
        if unit is None:
            raise RemoteProtocolError("an E-AC-3 access unit ends too early")
        if len(units) == MAXIMUM_UNITS:
            raise RemoteProtocolError("there are too many E-AC-3 access units in one buffer")
        units.append((data[position : position + unit.size], unit))
        position += unit.size
    return units


# Audio coding mode, low frequency channel, and what a dependent substream adds (table F.6.1), by number of channels.
_LAYOUTS: Final = {
    1: (1, 0, 0),
    2: (2, 0, 0),
    3: (3, 0, 0),
    4: (6, 0, 0),
    5: (7, 0, 0),
    6: (7, 1, 0),
    7: (7, 1, 1 << 2),  # the center surround
    8: (7, 1, 1 << 1),  # left and right rear surround
}
_BIT_RATES: Final = {1: 96, 2: 192, 6: 384, 7: 768, 8: 768}
"""In kbit/s: the usual ones, as decoders read the actual one in each frame."""
_USUAL_BIT_RATE: Final = 384


def build_configuration_record(codec: EAC3) -> bytes:
    """Return the payload of a dec3 box. Raises `LocalProtocolError` for a codec that it cannot describe."""
    layout = _LAYOUTS.get(codec.channels)
    half = codec.sample_rate * 2 in _SAMPLE_RATES
    if layout is None or not (half or codec.sample_rate in _SAMPLE_RATES):
        raise LocalProtocolError(f"E-AC-3 cannot have {codec.sample_rate} Hz and {codec.channels} channels")
    mode, low_frequency, added = layout
    writer = BitWriter()
    writer.write(_BIT_RATES.get(codec.channels, _USUAL_BIT_RATE), 13)
    writer.write(0, 3)  # one independent substream
    writer.write(3 if half else _SAMPLE_RATES.index(codec.sample_rate), 2)
    writer.write(_HIGHEST_BSID, 5)
    writer.write(0, 5)  # reserved, asvc, and bsmod: the main service
    writer.write(mode, 3)
    writer.write(low_frequency, 1)
    writer.write(0, 3)
    writer.write(1 if added else 0, 4)
    writer.write(added, 9 if added else 1)
    return writer.to_bytes()


def parse_configuration_record(data: bytes, sample_rate: int) -> EAC3:
    """Parse the payload of a dec3 box. ``sample_rate`` is that of the sample entry, for boxes that have none.

    Raises `RemoteProtocolError`.
    """
    reader = BitReader(data[:6])
    reader.skip(16)
    rate_code = reader.read(2)
    reader.skip(10)
    mode, low_frequency = reader.read(3), reader.read(1)
    reader.skip(3)
    channels = _LOCATIONS[mode].bit_count() + low_frequency
    if reader.read(4):
        added = reader.read(9)
        # Pairs: left and right center, rear surround, side surround, wide, and height.
        channels += added.bit_count() + (added & 0b001110011).bit_count()
    if rate_code < len(_SAMPLE_RATES):
        sample_rate = _SAMPLE_RATES[rate_code]
    if not sample_rate:
        raise RemoteProtocolError("a dec3 box has no sample rate")
    return EAC3(sample_rate, channels)


def codec_string(codec: EAC3) -> str:
    """Return the codec string."""
    return "ec-3"


def updated(codec: EAC3, units: Units) -> EAC3:
    """Return the codec with the number of channels of the access unit; the same object if it is unchanged."""
    unit = read_access_unit(units[0])
    if unit is None or unit.codec.channels == codec.channels:
        return codec
    return EAC3(codec.sample_rate, unit.codec.channels)


BITSTREAM = Bitstream(EAC3, updated=updated, codec_string=codec_string)
