"""Which refused requests are worth a line in the log: players and pages repeat theirs every few seconds."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

WINDOW_SECONDS: Final = 60.0
"""A refusal for the same reason is logged again after this time."""

MAXIMUM_OF_ADDRESS: Final = 10
"""Refusals of one address that are logged in a window: programs that look for weaknesses ask for hundreds of paths."""

MAXIMUM_ADDRESSES: Final = 1_000
"""Addresses that are remembered; the oldest are forgotten first."""


class _Window:
    """The refusals of one address since the start of a window."""

    __slots__ = ("count_of_unlogged", "logged", "start")

    def __init__(self) -> None:
        self.start = -WINDOW_SECONDS
        self.logged: set[int] = set()
        """Hashes of (path, reason): paths have any length that requests may have."""
        self.count_of_unlogged = 0


class Refusals:
    """The refusals of the last minute by address of the client."""

    def __init__(self) -> None:
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def log_suffix(self, address: str, path: str, reason: str, now: float) -> str | None:
        """Count a refusal. Returns None if it is not worth a line, otherwise what to append to the line: the number of
        refusals that were not logged.

        ``now`` is in monotonic seconds.
        """
        window = self._windows.get(address)
        if window is None:
            window = self._windows[address] = _Window()
            if len(self._windows) > MAXIMUM_ADDRESSES:
                self._windows.popitem(last=False)
        suffix = ""
        if now - window.start >= WINDOW_SECONDS:
            self._windows.move_to_end(address)
            count, window.count_of_unlogged = window.count_of_unlogged, 0
            suffix = f" (and {count} more refused requests of this address before)" if count else ""
            window.start = now
            window.logged.clear()
        refusal = hash((path, reason))
        if refusal in window.logged or len(window.logged) >= MAXIMUM_OF_ADDRESS:
            window.count_of_unlogged += 1
            return None
        window.logged.add(refusal)
        return suffix
