"""Failed attempts to authenticate, by IP address: whoever keeps guessing waits, whatever connection is used."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

# Failures with credentials within the window that are taken for mistakes; more are guessing.
TOLERATED_FAILURES: Final = 10
WINDOW_SECONDS: Final = 60.0

# Attempts of one address that wait for their turn. More are refused, whether they are right or wrong.
LONGEST_LINE: Final = 30

# Addresses remembered; the oldest are forgotten first.
MAXIMUM_ADDRESSES: Final = 10_000


class FailureTracker:
    """Counts failures by address over a window of time, and lets guesses of one address take turns."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._turns: OrderedDict[str, float] = OrderedDict()
        """When the last of the attempts that wait has its turn."""

    def note(self, address: str, now: float) -> bool:
        """Count a failure at ``now`` (monotonic seconds); return whether the address is guessing."""
        since, count = self._counts.pop(address, (now, 0))
        if now - since > WINDOW_SECONDS:
            since, count = now, 0
        self._counts[address] = (since, count + 1)
        if len(self._counts) > MAXIMUM_ADDRESSES:
            self._counts.popitem(last=False)
        return count + 1 > TOLERATED_FAILURES

    def is_guessing(self, address: str, now: float) -> bool:
        """Return whether the address had too many failures lately."""
        since, count = self._counts.get(address, (now, 0))
        return count > TOLERATED_FAILURES and now - since <= WINDOW_SECONDS

    def turn(self, address: str, now: float, pause: float) -> float | None:
        """Let an attempt wait for its turn: one each ``pause`` seconds, however many connections make them.

        Returns the seconds until then, or None when too many wait.
        """
        last = max(now, self._turns.pop(address, now))
        if last - now > pause * LONGEST_LINE:
            self._turns[address] = last
            return None
        self._turns[address] = last + pause
        if len(self._turns) > MAXIMUM_ADDRESSES:
            self._turns.popitem(last=False)
        return last + pause - now
