"""The round-trip time of a connection (draft-sharabayko-srt-01 section 4.10)."""

from __future__ import annotations

from typing import Final

_INITIAL: Final = 0.1
_MAXIMUM: Final = 60.0
"""Seconds; longer ones are errors of a peer."""
_MAXIMUM_REPORT: Final = int(_MAXIMUM * 1e6)


class RoundTrip:
    """Smoothed round-trip time and its variation, in seconds."""

    __slots__ = ("_is_own", "is_known", "time", "variation")

    def __init__(self) -> None:
        self.time = _INITIAL
        self.variation = _INITIAL / 2
        self.is_known = False
        """Whether there was a sample."""
        self._is_own = False

    def sample(self, seconds: float) -> None:
        """Take a measured time."""
        seconds = min(max(seconds, 0.0), _MAXIMUM)
        if not self._is_own:
            self._is_own = self.is_known = True
            self.time, self.variation = seconds, seconds / 2
            return
        self.variation += (abs(seconds - self.time) - self.variation) / 4
        self.time += (seconds - self.time) / 8

    def report(self, time: int, variation: int) -> None:
        """Use the peer's measurements, in microseconds, unless this side has its own."""
        if not self._is_own:
            self.is_known = True
            self.time = time * 1e-6 if time < _MAXIMUM_REPORT else _MAXIMUM
            self.variation = variation * 1e-6 if variation < _MAXIMUM_REPORT else _MAXIMUM

    @property
    def timeout(self) -> float:
        """Seconds after which an answer counts as lost."""
        return self.time + 4 * self.variation
