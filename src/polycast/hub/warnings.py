"""Warnings about what a publisher may do many times a second: told at once, and then from time to time."""

from __future__ import annotations

from polycast.log import Log

INTERVAL_SECONDS = 60.0
"""Seconds between two warnings of one kind."""


class RepeatedWarning:
    """One kind of warning about one stream."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._untold = 0
        self._next = 0.0

    def tell(self, now: float, text: str, *values: object) -> None:
        """Log a warning, or count it if the last one was not long ago. ``now``: monotonic seconds."""
        if now < self._next:
            self._untold += 1
            return
        more = f" ({self._untold} times more before)" if self._untold else ""
        self._log.warning(f"{text}%s", *values, more)
        self._untold = 0
        self._next = now + INTERVAL_SECONDS
