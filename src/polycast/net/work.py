"""Work that connections of one event loop have left, and how much of a turn they get for it.

A loop reads a socket until it is empty, and calls the protocol for each read; what one client sends could keep all
others waiting for seconds. So a connection works for `SLICE_SECONDS` at most, and puts what is left into the queue of
its loop. Once a turn the queue gives its members slices in rotation, `TURN_SECONDS` for all of them together. However
many connections have work left, the loop polls its sockets again after that time, and those that have nothing left
over are served as soon as they are read.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

SLICE_SECONDS: Final = 0.001
"""Seconds that one connection works before others have their turn. One event is never divided, so that much and the
time of an event is what a client can take."""

TURN_SECONDS: Final = 0.005
"""Seconds of a turn of the loop for all connections with work left: what they delay everybody else by at most."""


READ_SIZE: Final = 256 * 1024
"""Bytes that uvloop and asyncio read at once. A read that long is most likely followed by more, of which uvloop would
take up to 32 in one turn."""

SHARE: Final = 0.05
"""Part of the loop's time that one connection may use for long: a stream of 50 Mbit/s takes less."""

BURST_SECONDS: Final = 0.02
"""Seconds of work by which a connection may be ahead of its share: a large key frame."""

CROWDED_BURST_SECONDS: Final = 0.002
"""The same while others have work left: hundreds of new connections would take a slice each, turn by turn."""

LONGEST_SECONDS: Final = 0.005
"""Of work at once that counts. What takes longer has most likely been interrupted by other processes, which is not the
fault of the connection; one whose events really take as long has soon used up its share all the same."""


class Worker(Protocol):
    """A connection with work left."""

    def work(self) -> bool:
        """Work for a slice; return whether there is more. Called by the queue."""


class WorkQueue:
    """Of one event loop. ``clock`` returns monotonic seconds."""

    def __init__(
        self, call_soon: Callable[[Callable[[], None]], object], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._call_soon = call_soon
        self._clock = clock
        self._workers: deque[Worker] = deque()
        self.lead = BURST_SECONDS / SHARE
        """Seconds by which the share of a connection may be used up in advance, before it works in the queue only."""
        self._is_scheduled = False

    def __len__(self) -> int:
        return len(self._workers)

    def add(self, worker: Worker) -> None:
        """Let a worker work in the next turn, and in the following ones until it has nothing left. It must not be a
        member already."""
        self._workers.append(worker)
        self.lead = CROWDED_BURST_SECONDS / SHARE
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._call_soon(self._on_turn)

    def _on_turn(self) -> None:
        self._is_scheduled = False
        workers, clock = self._workers, self._clock
        end = clock() + TURN_SECONDS
        try:
            # Members that have been served wait for the next turn: the sockets are polled in between.
            for _ in range(len(workers)):
                worker = workers.popleft()
                if worker.work():
                    workers.append(worker)
                if clock() >= end:
                    break
        finally:
            if workers:
                self._schedule()
            else:
                self.lead = BURST_SECONDS / SHARE


_by_loop: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, WorkQueue]] = weakref.WeakKeyDictionary()


def work_queue_of(loop: asyncio.AbstractEventLoop) -> WorkQueue:
    """Return the queue of a loop."""
    queue = _by_loop.get(loop)
    if queue is None:
        queue = _by_loop[loop] = WorkQueue(loop.call_soon)
    return queue
