"""The event loop that servers run on."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Final


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop (winloop on Windows) if it is installed, otherwise asyncio's."""
    with contextlib.suppress(ImportError):
        module = __import__("winloop" if sys.platform == "win32" else "uvloop")
        loop: asyncio.AbstractEventLoop = module.new_event_loop()
        return loop
    return asyncio.new_event_loop()


STALL_SECONDS: Final = 1.0
"""A timer that is this late means that the loop was blocked: reading what arrived meanwhile takes as long."""

_POLLING_TURNS: Final = 3
"""Turns after which all sockets were polled and read, on any loop: a callback may run before the poll of its turn, and
uvloop calls readers of datagrams in the turn after their poll."""


class LateTimer:
    """Calls a function after some seconds, but not before the loop has read its sockets once more.

    After a long turn, timers are due before the loop has read what arrived meanwhile. A check for silent peers at that
    time would close those that never stopped sending.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._due = loop.time() + seconds
        self._turns = _POLLING_TURNS
        self._handle: asyncio.Handle = loop.call_at(self._due, self._on_due)

    def cancel(self) -> None:
        self._handle.cancel()

    def _on_due(self) -> None:
        if self._loop.time() - self._due >= STALL_SECONDS:
            self._handle = self._loop.call_later(STALL_SECONDS, self._on_turn)
        else:
            self._on_turn()

    def _on_turn(self) -> None:
        if self._turns:
            self._turns -= 1
            self._handle = self._loop.call_soon(self._on_turn)
        else:
            self._handle.cancel()  # it refers to the timer
            self._callback()


async def sleep_and_read(seconds: float) -> None:
    """Sleep, and let the loop read its sockets once more; see `LateTimer`."""
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds
    await asyncio.sleep(seconds)
    if loop.time() - due >= STALL_SECONDS:
        await asyncio.sleep(STALL_SECONDS)
    for _ in range(_POLLING_TURNS):
        await asyncio.sleep(0)
