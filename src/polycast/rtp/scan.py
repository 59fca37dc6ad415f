"""Looks through many RTP packets at once: the shortest way for what most publishers send most of the time."""

from __future__ import annotations

import struct
from typing import Final

from polycast.rtp.header import HEADER_SIZE
from polycast.rtp.payload.base import PayloadPattern, Peek

PLAIN: Final = 0x80
"""First byte of a plain packet: version 2; no padding, no extension, no CSRC list."""

# The first two bytes of the header, and the first four of the payload.
_START = struct.Struct("!BB10xI")

# What of the header is looked at in the first and in the last packet: marker, sequence number, timestamp.
_HEADER = struct.Struct("!xBHI")


Noticed = tuple[int, int, int]
"""(flags, start, end): what the peek saw in the packet ``data[start:end]``."""

PlainScan = tuple[int, int, bool, list[Noticed]]
"""Sequence number of the first packet; RTP timestamp and marker bit of the last one; packets that the peek noticed."""


def scan_plain(
    data: bytes,
    start: int,
    sizes: list[int],
    gap: int,
    payload_type: int,
    maximum: int,
    peek: Peek,
    continuation: PayloadPattern,
) -> PlainScan | None:
    """Look through packets that stand in ``data``: the first at ``start``, each of its size, ``gap`` bytes between two.

    ``peek`` and ``continuation`` are those of the codec (`payload.registry`). None where a packet is not plain: its
    header has more than 12 bytes, it has padding or another payload type, is longer than ``maximum`` or
    shorter than any useful one, or a sequence number is missing between the first and the last one. Nothing is said of
    such packets; parse them one by one.
    """
    if min(sizes) < _START.size or max(sizes) > maximum:
        return None
    unpack = _START.unpack_from
    mask, pattern = continuation.mask, continuation.pattern
    noticed: list[Noticed] = []
    place = start
    for size in sizes:
        first, second, payload = unpack(data, place)
        if first != PLAIN or second & 0x7F != payload_type:
            return None
        if payload & mask != pattern:
            flags = peek(data, place + HEADER_SIZE, place + size)
            if flags:
                noticed.append((flags, place, place + size))
        place += size + gap
    _, first_sequence, _ = _HEADER.unpack_from(data, start)
    second, sequence, timestamp = _HEADER.unpack_from(data, place - gap - sizes[-1])
    if (sequence - first_sequence & 0xFFFF) != len(sizes) - 1:
        return None
    return first_sequence, timestamp, second > 127, noticed
