"""RTP header extensions with one-byte and two-byte headers (RFC 8285)."""

from __future__ import annotations

from typing import Final

_HEADER_SIZE: Final = 12
_ONE_BYTE_PROFILE: Final = 0xBEDE
_TWO_BYTE_PROFILE: Final = 0x100
_RESERVED: Final = 15


def find_extension(packet: bytes, wanted: int) -> bytes | None:
    """Return the value of the extension element with an identifier in an RTP packet; None if there is none.

    A truncated element counts as absent.
    """
    if len(packet) < _HEADER_SIZE + 4 or not packet[0] & 0x10:
        return None
    position = _HEADER_SIZE + 4 * (packet[0] & 0x0F)
    profile = packet[position] << 8 | packet[position + 1] if len(packet) >= position + 4 else 0
    if not profile:
        return None
    end = min(len(packet), position + 4 + 4 * (packet[position + 2] << 8 | packet[position + 3]))
    position += 4
    has_one_byte_headers = profile == _ONE_BYTE_PROFILE
    if not has_one_byte_headers and profile >> 4 != _TWO_BYTE_PROFILE:
        return None
    while position < end:
        first = packet[position]
        if first == 0:  # padding
            position += 1
            continue
        if has_one_byte_headers:
            number, size, value = first >> 4, (first & 0x0F) + 1, position + 1
            if number == _RESERVED:
                return None
        else:
            if position + 1 >= end:
                return None
            number, size, value = first, packet[position + 1], position + 2
        position = value + size
        if number == wanted:
            return packet[value:position] if position <= end else None
    return None
