"""The first numbers of a muxer, chosen so that those at one address never decrease (RFC 8216 section 6.2.2).

Players that see lower numbers than before wait until the numbers reach the old values. A muxer starts where the
previous one ended, or, if that is not known (after a restart, or on another machine), at a number derived from the
clock.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

SEGMENTS_PER_SECOND: Final = 4
"""Media sequence numbers per second of the clock: segments of a quarter of a second or more on average never get ahead
of it."""
DISCONTINUITY_SECONDS: Final = 3600
"""Seconds of the clock for one discontinuity sequence number. hls.js loops over all numbers from 0 on for each
playlist: one number per second would take it seconds each time."""
EPOCH: Final = 1_767_225_600
"""2026-01-01 in Unix time: until 2043, media sequence numbers fit in 32 bits, which is all that some players
support."""
MAXIMUM_PATHS: Final = 10_000
"""Paths whose last numbers are stored; for others, the clock is sufficient."""


@dataclass(frozen=True, slots=True)
class FirstNumbers:
    """The first numbers of a muxer."""

    sequence: int
    discontinuity_sequence: int


def numbers_of(unix_time: float) -> FirstNumbers:
    """Return the numbers derived from the clock."""
    seconds = max(unix_time - EPOCH, 0.0)
    return FirstNumbers(int(seconds * SEGMENTS_PER_SECOND), int(seconds) // DISCONTINUITY_SECONDS)


class Numbering:
    """Stores the last numbers of each path."""

    def __init__(self) -> None:
        self._next: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def begin(self, name: str, unix_time: float) -> FirstNumbers:
        """Return the first numbers of the next muxer of a path."""
        first = numbers_of(unix_time)
        known = self._next.get(name)
        if known is None:
            return first
        return FirstNumbers(max(first.sequence, known[0]), max(first.discontinuity_sequence, known[1]))

    def end(self, name: str, following: tuple[int, int]) -> None:
        """Store the media sequence and discontinuity sequence numbers that follow those of a muxer."""
        self._next[name] = following
        self._next.move_to_end(name)
        if len(self._next) > MAXIMUM_PATHS:
            self._next.popitem(last=False)
