"""With which numbers a muxer begins, so that those at one address never decrease (RFC 8216 section 6.2.2).

Players that find lower numbers than before wait until the numbers have come up to where they were. A muxer begins where
the one before it ended, or where the clock says when the server does not know: after a restart, or on another machine.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

SEGMENTS_PER_SECOND: Final = 4
"""Media sequence numbers per second of the clock: segments that are not shorter than a quarter of a second, on the
average, never get ahead of it."""
DISCONTINUITY_SECONDS: Final = 3600
"""Seconds of the clock for one discontinuity sequence number. hls.js walks through all numbers from 0 on with each
playlist: a number per second would cost it seconds each time."""
EPOCH: Final = 1_767_225_600
"""2026-01-01 in Unix time: media sequence numbers stay within 32 bits, which is all that some players have, to 2043."""
MAXIMUM_PATHS: Final = 10_000
"""Paths whose last numbers are remembered; the clock does for the others."""


@dataclass(frozen=True, slots=True)
class FirstNumbers:
    """With what a muxer begins."""

    sequence: int
    discontinuity_sequence: int


def numbers_of(unix_time: float) -> FirstNumbers:
    """Return what the clock says."""
    seconds = max(unix_time - EPOCH, 0.0)
    return FirstNumbers(int(seconds * SEGMENTS_PER_SECOND), int(seconds) // DISCONTINUITY_SECONDS)


class Numbering:
    """Remembers by path where muxers ended."""

    def __init__(self) -> None:
        self._next: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def begin(self, name: str, unix_time: float) -> FirstNumbers:
        """Return with what the next muxer of a path begins."""
        first = numbers_of(unix_time)
        known = self._next.get(name)
        if known is None:
            return first
        return FirstNumbers(max(first.sequence, known[0]), max(first.discontinuity_sequence, known[1]))

    def end(self, name: str, following: tuple[int, int]) -> None:
        """Note the media sequence and discontinuity sequence numbers that come after those of a muxer."""
        self._next[name] = following
        self._next.move_to_end(name)
        if len(self._next) > MAXIMUM_PATHS:
            self._next.popitem(last=False)
