"""NAL units in their two framings: Annex B start codes and length prefixes (H.264, H.265)."""

from __future__ import annotations

from collections.abc import Iterable

from polycast.codecs.bits import BitReader, BitWriter
from polycast.errors import RemoteProtocolError

__all__ = [
    "MAXIMUM_FRAME_SIZE",
    "MAXIMUM_NAL_UNITS_PER_FRAME",
    "BitReader",
    "BitWriter",
    "join_annexb",
    "join_length_prefixed",
    "remove_emulation_prevention",
    "split_annexb",
    "split_length_prefixed",
]

MAXIMUM_NAL_UNITS_PER_FRAME = 1024
"""Units in one access unit. Encoders with one slice per RTP packet reach some hundreds at 4K; 600 is the most slices
that H.265 allows at level 6.2 (Rec. ITU-T H.265 table A.8)."""

MAXIMUM_FRAME_SIZE = 16 * 1024 * 1024
"""In bytes. An intra frame of 8K video at a high rate takes some megabytes."""

_START_CODE = b"\x00\x00\x01"
_LONG_START_CODE = b"\x00\x00\x00\x01"


def split_annexb(data: bytes) -> list[bytes]:
    """Return the NAL units of an Annex B byte stream (Rec. ITU-T H.264 section B.1), without start codes.

    Bytes in front of the first start code, padding zeros and empty units are dropped.
    Raises `RemoteProtocolError` if there are too many units or bytes.
    """
    if len(data) > MAXIMUM_FRAME_SIZE:
        raise RemoteProtocolError(f"a frame of {len(data)} bytes is too large")
    parts = data.split(_START_CODE, MAXIMUM_NAL_UNITS_PER_FRAME + 1)
    if len(parts) > MAXIMUM_NAL_UNITS_PER_FRAME + 1:
        raise RemoteProtocolError("a frame has too many NAL units")
    # A unit never ends in a zero byte: those belong to a 4-byte start code or are trailing_zero_8bits.
    return [unit for part in parts[1:] if (unit := part.rstrip(b"\x00"))]


def join_annexb(units: Iterable[bytes]) -> bytes:
    """Return the units as an Annex B byte stream with 4-byte start codes."""
    parts: list[bytes] = []
    for unit in units:
        parts.append(_LONG_START_CODE)
        parts.append(unit)
    return b"".join(parts)


def split_length_prefixed(data: bytes, length_size: int = 4, start: int = 0) -> list[bytes]:
    """Return the units of a sample with big-endian length prefixes (ISO/IEC 14496-15 section 5.3.4.2).

    ``length_size`` is the size of a prefix in bytes, 1 to 4. The sample begins at ``start``. Empty units are dropped.
    Raises `RemoteProtocolError` if a length reaches over the end or there are too many units or bytes.
    """
    size = len(data)
    if size > MAXIMUM_FRAME_SIZE:
        raise RemoteProtocolError(f"a frame of {size} bytes is too large")
    if not 1 <= length_size <= 4:
        raise RemoteProtocolError(f"a length prefix of {length_size} bytes is not valid")
    position = start
    start = position + length_size
    if start < size and start + int.from_bytes(data[position:start], "big") == size:
        return [data[start:]]  # the usual case: one unit
    units: list[bytes] = []
    while position < size:
        start = position + length_size
        position = start + int.from_bytes(data[position:start], "big")
        if start > size or position > size:
            raise RemoteProtocolError("a NAL unit reaches over the end of its frame")
        if position > start:
            if len(units) == MAXIMUM_NAL_UNITS_PER_FRAME:
                raise RemoteProtocolError("a frame has too many NAL units")
            units.append(data[start:position])
    return units


def join_length_prefixed(units: Iterable[bytes]) -> bytes:
    """Return the units with 4-byte big-endian length prefixes."""
    parts: list[bytes] = []
    for unit in units:
        parts.append(len(unit).to_bytes(4, "big"))
        parts.append(unit)
    return b"".join(parts)


def remove_emulation_prevention(unit: bytes) -> bytes:
    """Return the unit without its emulation prevention bytes (Rec. ITU-T H.264 section 7.4.1)."""
    return unit.replace(b"\x00\x00\x03", b"\x00\x00")
