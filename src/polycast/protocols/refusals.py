"""Which refused HTTP requests are worth a line in the log: players and pages repeat theirs every few seconds."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

WINDOW_SECONDS: Final = 60.0
"""A refusal for the same reason is logged again after this time."""

MAXIMUM_OF_ADDRESS: Final = 10
"""Refusals of one address that are logged in a window: programs that look for weaknesses ask for hundreds of paths."""

MAXIMUM_ADDRESSES: Final = 1_000
"""Addresses that are remembered; the oldest are forgotten first."""


class Refusals:
    """The refusals of the last minute by address of the client."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, tuple[float, set[int]]] = OrderedDict()
        """Start of the window, and hashes of (path, reason): paths have any length that requests may have."""

    def is_worth_telling(self, address: str, path: str, reason: str, now: float) -> bool:
        """Return whether to log that a client was refused a path; ``now`` is in monotonic seconds."""
        window = self._told.get(address)
        if window is None or now - window[0] >= WINDOW_SECONDS:
            self._told.pop(address, None)
            window = self._told[address] = (now, set())
            if len(self._told) > MAXIMUM_ADDRESSES:
                self._told.popitem(last=False)
        told, refusal = window[1], hash((path, reason))
        if refusal in told or len(told) >= MAXIMUM_OF_ADDRESS:
            return False
        told.add(refusal)
        return True
