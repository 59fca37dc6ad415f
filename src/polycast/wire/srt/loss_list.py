"""Lists of lost packets as NAKs carry them (draft-sharabayko-srt-01 appendix A)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from polycast.wire.srt.packet import SEQUENCE_MASK, WORD

MAXIMUM_WORDS: Final = 360
"""Words of one list: what fits in a packet."""

_RANGE: Final = 0x80000000
"""Bit of the first number of a range."""

Range = tuple[int, int]
"""The first and the last number."""


def build_loss_list(ranges: Iterable[Range]) -> bytes:
    """Return the list of ranges of sequence numbers (integers of any size), as many as fit in one packet."""
    parts: list[bytes] = []
    words = 0
    for first, last in ranges:
        words += 1 if first == last else 2
        if words > MAXIMUM_WORDS:
            break
        if first == last:
            parts.append(WORD.pack(first & SEQUENCE_MASK))
        else:
            parts.append(WORD.pack(first & SEQUENCE_MASK | _RANGE) + WORD.pack(last & SEQUENCE_MASK))
    return b"".join(parts)


def parse_loss_list(body: bytes) -> Sequence[Range]:
    """Return the ranges of a list, as numbers of 31 bits; what is not valid at its end is left out."""
    ranges: list[Range] = []
    offset = 0
    end = min(len(body) // 4, MAXIMUM_WORDS + 1) * 4
    while offset < end:
        (first,) = WORD.unpack_from(body, offset)
        offset += 4
        last = first
        if first & _RANGE:
            if offset >= end:
                break
            first &= SEQUENCE_MASK
            (last,) = WORD.unpack_from(body, offset)
            offset += 4
            if last & _RANGE:
                break
        ranges.append((first, last))
    return ranges
