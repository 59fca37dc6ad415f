"""Handshakes that nobody has vouched for yet: what a flood of them may cost, and how much of it is logged."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Final

from polycast.log import Log
from polycast.net.udp import Address
from polycast.net.work import SLICE_SECONDS, work_queue_of

MAXIMUM_WAITING: Final = 1024
"""Handshakes that wait for their turn. Others are ignored: callers repeat theirs every 250 ms."""

LOGGED_CLIENTS: Final = 20
"""Clients that are logged in a window before it is known whether they are accepted."""
WINDOW_SECONDS: Final = 10.0


class Handshakes:
    """Processes handshakes in slices of the work queue, so that a flood of them delays no stream."""

    def __init__(self, loop: asyncio.AbstractEventLoop, process: Callable[[bytes, Address, bool], None]) -> None:
        """``process`` is called with what `add` got."""
        self._queue = work_queue_of(loop)
        self._process = process
        self._waiting: deque[tuple[bytes, Address, bool]] = deque()

    def add(self, packet: bytes, address: Address, *, is_passed: bool = False) -> None:
        """Process a handshake soon. ``is_passed``: another worker has received it."""
        if not self._waiting:
            self._queue.add(self)
        if len(self._waiting) < MAXIMUM_WAITING:
            self._waiting.append((packet, address, is_passed))

    def work(self) -> bool:
        """Process some; called by the work queue."""
        waiting = self._waiting
        end = perf_counter() + SLICE_SECONDS
        while waiting:
            self._process(*waiting.popleft())
            if perf_counter() >= end:
                break
        return bool(waiting)

    def close(self) -> None:
        """Forget those that wait."""
        self._waiting.clear()


class LogLines:
    """Which clients are logged before it is known whether they are accepted: of a flood of others, only the number."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._start = -math.inf
        self._taken = 0
        self._left_out = 0

    def take(self, now: float) -> bool:
        """Count a client; return whether it is logged."""
        self.summarise(now)
        if self._taken >= LOGGED_CLIENTS:
            self._left_out += 1
            return False
        self._taken += 1
        return True

    def summarise(self, now: float) -> None:
        """Log the number of those that were left out, at the end of a window."""
        if now - self._start < WINDOW_SECONDS:
            return
        if self._left_out:
            self._log.warning(
                "%d more clients have asked within %d s; only those that were accepted are logged",
                self._left_out,
                WINDOW_SECONDS,
            )
        self._start, self._taken, self._left_out = now, 0, 0
