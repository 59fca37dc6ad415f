"""Failed authentication attempts by IP address: repeated guesses are delayed across all connections."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

# Failures with credentials within the window that count as mistakes; more are guessing.
TOLERATED_FAILURES: Final = 10
WINDOW_SECONDS: Final = 60.0

# Queued attempts of one address. More are refused, whether their credentials are valid or not.
LONGEST_LINE: Final = 30

# Addresses remembered; the oldest are forgotten first.
MAXIMUM_ADDRESSES: Final = 10_000


class FailureTracker:
    """Counts failures by address over a window of time, and serializes the guesses of one address."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._turns: OrderedDict[str, float] = OrderedDict()
        """When the last queued attempt is due."""

    def count(self, address: str, now: float) -> bool:
        """Count a failure at ``now`` (monotonic seconds); return whether the address is guessing."""
        since, count = self._counts.pop(address, (now, 0))
        if now - since > WINDOW_SECONDS:
            since, count = now, 0
        self._counts[address] = (since, count + 1)
        if len(self._counts) > MAXIMUM_ADDRESSES:
            self._counts.popitem(last=False)
        return count + 1 > TOLERATED_FAILURES

    def is_guessing(self, address: str, now: float) -> bool:
        """Return whether the address had too many recent failures."""
        since, count = self._counts.get(address, (now, 0))
        return count > TOLERATED_FAILURES and now - since <= WINDOW_SECONDS

    def turn(self, address: str, now: float, pause: float) -> float | None:
        """Queue an attempt: one per ``pause`` seconds, over all connections of the address.

        Returns the seconds until it is due, or None if the queue is full.
        """
        last = max(now, self._turns.pop(address, now))
        if last - now > pause * LONGEST_LINE:
            self._turns[address] = last
            return None
        self._turns[address] = last + pause
        if len(self._turns) > MAXIMUM_ADDRESSES:
            self._turns.popitem(last=False)
        return last + pause - now
