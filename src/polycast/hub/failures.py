"""Failed attempts to authenticate, by IP address: who keeps guessing waits, whatever connection it uses."""

from __future__ import annotations

from collections import OrderedDict

# Failures with credentials within the window that are taken for mistakes; more are guessing.
TOLERATED_FAILURES = 10
WINDOW_SECONDS = 60.0

# Addresses remembered; the oldest are forgotten first.
MAXIMUM_ADDRESSES = 10_000


class FailureTracker:
    """Counts failures by address over a window of time."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def note(self, address: str, now: float) -> bool:
        """Count a failure at ``now`` (monotonic seconds); return whether the address is guessing."""
        since, count = self._counts.pop(address, (now, 0))
        if now - since > WINDOW_SECONDS:
            since, count = now, 0
        self._counts[address] = (since, count + 1)
        if len(self._counts) > MAXIMUM_ADDRESSES:
            self._counts.popitem(last=False)
        return count + 1 > TOLERATED_FAILURES
