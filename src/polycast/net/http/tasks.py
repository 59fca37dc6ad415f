"""Tasks that answer requests."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final

from polycast.net.http.transaction import Transaction
from polycast.security.addresses import network_of

MAXIMUM_REQUESTS: Final = 4_096
"""Concurrent requests of a server, including those that listen to events."""

Answer = Callable[[], Coroutine[None, None, None]]


class RequestTasks:
    """Answers each request in a task. Few tasks start per turn of the loop, so that a client that sends many requests
    at once does not block it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, maximum: int, *, per_turn: int = 1, maximum_of_address: int = 0
    ) -> None:
        """``maximum``: how many requests at once. ``per_turn``: how many of them start in one turn of the loop,
        together in no more than a few milliseconds. ``maximum_of_address``: how many of one IP address, or of one
        network of IPv6, at once; 0 for no such limit."""
        self._loop = loop
        self._maximum = maximum
        self._per_turn = per_turn
        self._maximum_of_address = maximum_of_address
        self._by_network: Counter[str] = Counter()
        """Only counted if there is a limit."""
        self._waiting: deque[tuple[Transaction, Answer, str]] = deque()
        self._is_scheduled = False
        self._running = 0

    @property
    def is_full(self) -> bool:
        """Whether there are so many requests that others have to be refused."""
        return len(self._waiting) + self._running >= self._maximum

    def is_full_for(self, address: str) -> bool:
        """Return whether a request from an IP address has to be refused."""
        limit = self._maximum_of_address
        return self.is_full or (limit > 0 and self._by_network[network_of(address)] >= limit)

    def start(self, transaction: Transaction, answer: Answer) -> None:
        """Run the coroutine that ``answer`` returns as the task of a request, unless its client leaves before."""
        network = network_of(transaction.client) if self._maximum_of_address else ""
        if network:
            self._by_network[network] += 1
        self._waiting.append((transaction, answer, network))
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._begin_next)

    def _begin_next(self) -> None:
        self._is_scheduled = False
        started = 0
        while self._waiting and started < self._per_turn:
            transaction, answer, network = self._waiting.popleft()
            if transaction.is_cancelled:
                self._forget(network)
                continue
            started += 1
            self._running += 1
            transaction.task = task = self._loop.create_task(answer())
            task.add_done_callback(partial(self._on_done, network))
        if self._waiting:
            self._schedule()

    def _on_done(self, network: str, _: asyncio.Task[None]) -> None:
        self._running -= 1
        self._forget(network)

    def _forget(self, network: str) -> None:
        if network:
            self._by_network[network] -= 1
            if not self._by_network[network]:
                del self._by_network[network]
