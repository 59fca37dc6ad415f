"""Looks through many RTP packets at once: the shortest way for what most publishers send most of the time."""

from __future__ import annotations

import struct

from polycast.rtp.header import HEADER_SIZE, MAXIMUM_PACKET_SIZE
from polycast.rtp.payload.base import Continuation, Peek

# Version 2; no padding, no extension, no CSRC list.
_PLAIN = 0x80

# The header without SSRC, and the first four bytes of the payload.
_START = struct.Struct("!BBHI4xI")


Noticed = tuple[int, int, int]
"""(flags, start, end): what the peek saw in the packet ``data[start:end]``."""

PlainScan = tuple[int, int, bool, list[Noticed]]
"""Sequence number of the first packet; RTP timestamp and marker bit of the last one; packets that the peek noticed."""


def scan_plain(
    data: bytes, start: int, sizes: list[int], gap: int, peek: Peek, continuation: Continuation
) -> PlainScan | None:
    """Look through packets that stand in ``data``: the first at ``start``, each of its size, ``gap`` bytes between two.

    ``peek`` and ``continuation`` are those of the codec (`payload.registry`). None where a packet is not plain: its
    header has more than 12 bytes, it has padding, is longer than `MAXIMUM_PACKET_SIZE` or shorter than any useful one,
    or its sequence number does not follow on the one before. Nothing is said of such packets; parse them one by one.
    """
    unpack = _START.unpack_from
    smallest = _START.size
    mask, pattern = continuation
    noticed: list[Noticed] = []
    first_sequence = sequence = int.from_bytes(data[start + 2 : start + 4], "big")
    timestamp = second = 0
    for size in sizes:
        if not smallest <= size <= MAXIMUM_PACKET_SIZE:
            return None
        first, second, found, timestamp, payload = unpack(data, start)
        if first != _PLAIN or found != sequence:
            return None
        if payload & mask != pattern:
            flags = peek(data, start + HEADER_SIZE, start + size)
            if flags:
                noticed.append((flags, start, start + size))
        sequence = sequence + 1 & 0xFFFF
        start += size + gap
    return first_sequence, timestamp, second > 127, noticed
