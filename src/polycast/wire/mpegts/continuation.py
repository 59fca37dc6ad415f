"""Finds the packets that continue a unit: all of one PID, in order, and with nothing but payload.

These are nearly all packets of a stream of pictures. They are recognised together: each byte of their headers is
compared for all of them at once.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Final

from polycast.wire.mpegts.constants import PACKET_SIZE, PAYLOAD_SIZE, SYNC_BYTE

MAXIMUM_RUN: Final = 64
"""Packets that are compared at once, so that an attempt costs the same however much data there is."""

_SYNC_BYTES: Final = bytes((SYNC_BYTE,)) * MAXIMUM_RUN
_CONTROLS: Final = bytes(0x10 | counter & 0x0F for counter in range(16 + MAXIMUM_RUN))
"""The fourth bytes of consecutive packets that have a payload, no adaptation field, and are not scrambled."""
_ERROR_OR_UNIT_START: Final = 0xC0


@lru_cache(MAXIMUM_RUN)
def _payloads(count: int) -> Struct:
    return Struct(f"4x{PAYLOAD_SIZE}s" * count)


def count_continuations(data: bytes, start: int, counter: int) -> int:
    """Return how many packets from ``start`` on continue a unit of the PID of the first one, at most `MAXIMUM_RUN`.

    ``counter`` is the continuity counter that the first one must have; there is a whole packet at ``start``.
    """
    second = data[start + 1]
    if second & _ERROR_OR_UNIT_START:
        return 0
    count = min((len(data) - start) // PACKET_SIZE, MAXIMUM_RUN)
    expected = (
        _SYNC_BYTES,
        bytes((second,)) * count,
        data[start + 2 : start + 3] * count,
        _CONTROLS[counter : counter + count],
    )
    for index, column in enumerate(expected):
        found = data[start + index : start + count * PACKET_SIZE : PACKET_SIZE]
        count = _count_equal(found, column[:count])
    return count


def payloads_of(data: bytes, start: int, count: int) -> tuple[bytes, ...]:
    """Return the payloads of packets that `count_continuations` has counted."""
    return _payloads(count).unpack_from(data, start)


def _count_equal(one: bytes, other: bytes) -> int:
    """Return how many bytes at the start of two strings of the same size are equal."""
    if one == other:
        return len(one)
    difference = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return len(one) - (difference.bit_length() + 7) // 8
