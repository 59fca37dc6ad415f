"""Measures the lag of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

# Seconds between two measurements: anything that blocks the loop for at least this long is fully measured.
INTERVAL: Final = 0.05

# Measurements over which the maximum is computed: one minute.
MEASUREMENTS: Final = round(60 / INTERVAL)


class LoopLag:
    """A timer that measures how late it is called."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._lags: deque[float] = deque(maxlen=MEASUREMENTS)

    @property
    def last(self) -> float:
        """The last lag, in seconds."""
        return self._lags[-1] if self._lags else 0.0

    @property
    def maximum(self) -> float:
        """The longest lag of the last minute, in seconds."""
        return max(self._lags, default=0.0)

    def start(self) -> None:
        """Start measuring."""
        if self._timer is None:
            self._schedule()

    def stop(self) -> None:
        """Stop measuring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        self._due = self._loop.time() + INTERVAL
        self._timer = self._loop.call_at(self._due, self._on_timer)

    def _on_timer(self) -> None:
        self._lags.append(max(0.0, self._loop.time() - self._due))
        self._schedule()
