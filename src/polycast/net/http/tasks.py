"""Tasks that answer requests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Final

from polycast.net.http.transaction import Transaction

MAXIMUM_REQUESTS: Final = 4_096
"""Concurrent requests of a server, including those that listen to events."""

Answer = Callable[[], Coroutine[None, None, None]]


class RequestTasks:
    """Answers each request in a task. Few tasks start per turn of the loop, so that a client that sends many requests
    at once does not block it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, maximum: int, *, per_turn: int = 1) -> None:
        """``maximum``: how many requests at once. ``per_turn``: how many of them start in one turn of the loop,
        together in no more than a few milliseconds."""
        self._loop = loop
        self._maximum = maximum
        self._per_turn = per_turn
        self._waiting: deque[tuple[Transaction, Answer]] = deque()
        self._is_scheduled = False
        self._running = 0

    @property
    def is_full(self) -> bool:
        """Whether there are so many requests that others have to be refused."""
        return len(self._waiting) + self._running >= self._maximum

    def start(self, transaction: Transaction, answer: Answer) -> None:
        """Run the coroutine that ``answer`` returns as the task of a request, unless its client leaves before."""
        self._waiting.append((transaction, answer))
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._begin_next)

    def _begin_next(self) -> None:
        self._is_scheduled = False
        started = 0
        while self._waiting and started < self._per_turn:
            transaction, answer = self._waiting.popleft()
            if transaction.is_cancelled:
                continue
            started += 1
            self._running += 1
            transaction.task = task = self._loop.create_task(answer())
            task.add_done_callback(self._on_done)
        if self._waiting:
            self._schedule()

    def _on_done(self, _: asyncio.Task[None]) -> None:
        self._running -= 1
