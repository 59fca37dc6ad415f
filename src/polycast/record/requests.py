"""Recordings that are asked for while the server runs: by programs, or because of an event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

MAXIMUM_REQUESTS: Final = 10_000
"""Paths; those of an API client that never stops what it started."""


class TooManyRequests(Exception):
    """The recordings of too many paths are asked for."""


class Requests:
    """The names of the paths that are to be recorded, and until when."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_changed: Callable[[str], None]) -> None:
        """``on_changed`` is called with the name of a path that is asked for from now on, or no longer."""
        self._loop = loop
        self._on_changed = on_changed
        self._timers: dict[str, asyncio.TimerHandle | None] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._timers

    @property
    def names(self) -> Iterable[str]:
        """The paths that are asked for."""
        return self._timers.keys()

    def add(self, name: str, duration: float | None) -> None:
        """Ask for a path, for ``duration`` seconds from now on, or until it is removed (None).

        What was asked for before is never shortened. Raises TooManyRequests.
        """
        is_new = name not in self._timers
        if is_new and len(self._timers) >= MAXIMUM_REQUESTS:
            raise TooManyRequests
        timer = self._timers.get(name)
        if not is_new and timer is None:
            return
        end = None if duration is None else self._loop.time() + duration
        if timer is not None:
            if end is not None and end <= timer.when():
                return
            timer.cancel()
        self._timers[name] = None if end is None else self._loop.call_at(end, self.remove, name)
        if is_new:
            self._on_changed(name)

    def remove(self, name: str) -> bool:
        """Ask for a path no longer; return whether it was asked for."""
        if name not in self._timers:
            return False
        timer = self._timers.pop(name)
        if timer is not None:
            timer.cancel()
        self._on_changed(name)
        return True

    def close(self) -> None:
        """Stop all timers."""
        for timer in self._timers.values():
            if timer is not None:
                timer.cancel()
