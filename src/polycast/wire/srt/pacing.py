"""The pace of a sender (draft-sharabayko-srt-01 section 5.1.2)."""

from __future__ import annotations

import math
from typing import Final

from polycast.wire.srt.counters import PacketRate

_BURST_SECONDS: Final = 0.01
"""What may be sent at once after a pause."""
_OVERHEAD: Final = 1.25
"""A pace relative to the input leaves a quarter for retransmissions."""

UNLIMITED: Final = math.inf
AS_INPUT: Final = 0.0


class Pace:
    """Limits the bandwidth of a sender."""

    __slots__ = ("_bandwidth", "_bytes", "_input", "_packets", "is_limited", "next_time")

    def __init__(self, bandwidth: float, now: float) -> None:
        """``bandwidth``: bytes per second, `UNLIMITED`, or `AS_INPUT`: a quarter more than what is to be sent."""
        self._bandwidth = bandwidth
        self.is_limited = bandwidth != UNLIMITED
        """Whether packets may have to wait."""
        self._input = PacketRate(now)
        self._packets = 0
        self._bytes = 0
        self.next_time = now
        """When the next packet may be sent."""

    @property
    def rate(self) -> float:
        """Bytes per second; infinity for no limit."""
        return self._bandwidth if self._bandwidth != AS_INPUT else self._input.bytes * _OVERHEAD or UNLIMITED

    def count(self, packets: int, size: int, now: float) -> None:
        """Count what is to be sent."""
        self._packets += packets
        self._bytes += size
        self._input.sample(self._packets, self._bytes, now)

    def spend(self, size: int, now: float) -> None:
        """A packet of ``size`` bytes is sent."""
        if self.is_limited:
            self.next_time = max(self.next_time, now - _BURST_SECONDS) + size / self.rate
