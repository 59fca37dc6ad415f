"""The round-trip time of a connection (draft-sharabayko-srt-01 section 4.10)."""

from __future__ import annotations

from typing import Final

_INITIAL: Final = 0.1
_MAXIMUM: Final = 60.0
"""Seconds; longer ones are errors of a peer."""


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

    def report(self, seconds: float, variation: float) -> None:
        """Take what the peer has measured, in seconds (not negative). The own measurements, if there are any, are
        preferred."""
        if not self._is_own:
            self.is_known = True
            self.time = min(seconds, _MAXIMUM)
            self.variation = min(variation, _MAXIMUM)

    @property
    def timeout(self) -> float:
        """Seconds after which an answer counts as lost."""
        return self.time + 4 * self.variation
