"""Conversion between clock rates, in integers, and the extension of timestamps that wrap.

This is the only module that converts clock rates: one place to get rounding and wrap-around right.

Three notions of time are kept apart:

* ``now``: monotonic seconds (``float``), an argument of every engine;
* media time: ``int`` ticks of a track's clock rate;
* wall-clock time: ``int`` nanoseconds since the Unix epoch (`WallTime`).
"""

from __future__ import annotations

from typing import NewType

WallTime = NewType("WallTime", int)
"""Wall-clock time in nanoseconds since 1970-01-01 00:00:00 UTC."""

NANOSECONDS = 1_000_000_000
MILLISECONDS = 1_000

# Seconds between 1900-01-01 (NTP era 0) and 1970-01-01 (RFC 5905 section 6).
_NTP_OFFSET = 2_208_988_800


def rescale(value: int, source_rate: int, target_rate: int) -> int:
    """Convert ``value`` ticks of ``source_rate`` Hz to ticks of ``target_rate`` Hz, rounded down.

    Rounding down for negative values too keeps differences stable across zero.
    """
    if source_rate == target_rate:
        return value
    return value * target_rate // source_rate


def rescale_nearest(value: int, source_rate: int, target_rate: int) -> int:
    """Convert ``value`` ticks of ``source_rate`` Hz to ticks of ``target_rate`` Hz, rounded to the nearest tick."""
    if source_rate == target_rate:
        return value
    return (value * target_rate * 2 + source_rate) // (source_rate * 2)


def timestamp_difference(difference: int) -> int:
    """Return a difference of 32-bit timestamps as the nearest one to zero that is the same in 32 bits."""
    return (difference + 0x80000000 & 0xFFFFFFFF) - 0x80000000


def ticks_to_seconds(value: int, rate: int) -> float:
    """Return ``value`` ticks of ``rate`` Hz in seconds. For display and timers, never for further media arithmetic."""
    return value / rate


def seconds_to_ticks(seconds: float, rate: int) -> int:
    """Return ``seconds`` as the nearest whole number of ticks of ``rate`` Hz."""
    return round(seconds * rate)


def wall_time_to_ntp(wall_time: WallTime) -> int:
    """Return ``wall_time`` as a 64-bit NTP timestamp: 32 bits of seconds, 32 bits of fraction (RFC 3550 section 4)."""
    seconds, nanoseconds = divmod(wall_time, NANOSECONDS)
    return ((seconds + _NTP_OFFSET) & 0xFFFFFFFF) << 32 | (nanoseconds << 32) // NANOSECONDS


def ntp_to_wall_time(ntp: int) -> WallTime:
    """Return a 64-bit NTP timestamp as wall-clock time.

    Seconds with a clear top bit are taken as era 1 (after 2036-02-07), as RFC 4330 section 3 proposes.
    """
    seconds = ntp >> 32
    if not seconds & 0x80000000:
        seconds += 1 << 32
    fraction = ((ntp & 0xFFFFFFFF) * NANOSECONDS + (1 << 31)) >> 32
    return WallTime((seconds - _NTP_OFFSET) * NANOSECONDS + fraction)


class TimestampExtender:
    """Turns 32-bit (or narrower) wrapping timestamps into integers that keep increasing.

    Each value is taken as the nearest one to the value before it, so reordering up to half the range is safe.
    The first value is returned as it is, or as the nearest one to ``near``.
    """

    __slots__ = ("_half", "_range", "last")

    def __init__(self, bits: int = 32, near: int | None = None) -> None:
        self._range = 1 << bits
        self._half = 1 << (bits - 1)
        self.last = near
        """The last value; None before the first one."""

    def extend(self, value: int) -> int:
        """Return ``value`` (``bits`` wide) as an unwrapped integer."""
        last = self.last
        if last is None:
            self.last = value
            return value
        difference = (value - last) % self._range
        if difference >= self._half:
            difference -= self._range
        extended = last + difference
        self.last = extended
        return extended
