"""The work queue of an event loop: what its connections have left to do, and how much of a turn they get for it.

A loop reads a socket until it is empty, and calls the protocol for each read; the data of one client could keep all
others waiting for seconds. So a connection works for at most `SLICE_SECONDS`, and the rest goes into the work queue of
its loop. Once per turn, the queue gives its members slices in rotation, `TURN_SECONDS` for all of them together.
However many connections have work left, the loop polls its sockets again after that time, and connections without
leftover work are served as soon as they are read.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from polycast.net.loop_local import LoopLocal

SLICE_SECONDS: Final = 0.001
"""Seconds that one connection works before others are served. One event is never divided, so a client can use this
time plus that of one event."""

TURN_SECONDS: Final = 0.005
"""Seconds of a turn for all connections with work left: the longest delay that they cause for the others."""


READ_SIZE: Final = 256 * 1024
"""Bytes that uvloop and asyncio read at once. A read of that size is probably followed by more, of which uvloop would
do up to 32 in one turn."""

SHARE: Final = 0.05
"""Share of the loop's time that one connection may use permanently: a stream of 50 Mbit/s takes less."""

BURST_SECONDS: Final = 0.02
"""Seconds of work by which a connection may exceed its share: a large key frame."""

CROWDED_BURST_SECONDS: Final = 0.002
"""The same while others have work left: hundreds of new connections would take a slice each in every turn."""

LONGEST_SECONDS: Final = 0.005
"""The most that one piece of work counts for. One that takes longer was probably interrupted by other processes, which
is not the connection's fault; a connection whose events really take that long uses up its share soon anyway."""


class Share:
    """How much of the loop's time a connection has used. Times are monotonic seconds."""

    __slots__ = ("_used_until", "weight")

    def __init__(self) -> None:
        self.weight = 1
        """It may use this many times `SHARE`."""
        self._used_until = 0.0
        """Time until which its share is used up."""

    def use(self, seconds: float, now: float) -> None:
        """Count the time that it has used just now."""
        if self._used_until < now:
            self._used_until = now
        self._used_until += min(seconds, LONGEST_SECONDS) / (SHARE * self.weight)

    def is_used_up(self, now: float, lead: float) -> bool:
        """Whether it is to be served only by the queue; ``lead`` is that of the queue."""
        return self._used_until > now + lead


class Worker(Protocol):
    """A connection with work left."""

    def work(self) -> bool:
        """Work for one slice; return whether there is more. Called by the queue."""


class WorkQueue:
    """The work queue of one event loop. ``clock`` returns monotonic seconds."""

    def __init__(
        self, call_soon: Callable[[Callable[[], None]], object], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._call_soon = call_soon
        self._clock = clock
        self._workers: deque[Worker] = deque()
        self.lead = BURST_SECONDS / SHARE
        """Seconds by which a connection may use up its share in advance before it is served only by the queue."""
        self._is_scheduled = False

    def __len__(self) -> int:
        return len(self._workers)

    def add(self, worker: Worker) -> None:
        """Serve a worker in the next turn, and in the following ones until it has nothing left. It must not be in the
        queue already."""
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
            # Workers that have been served wait for the next turn: the sockets are polled in between.
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


_QUEUES: Final = LoopLocal("work_queue", lambda loop: WorkQueue(loop.call_soon))


def work_queue_of(loop: asyncio.AbstractEventLoop) -> WorkQueue:
    """Return the queue of a loop."""
    return _QUEUES.get(loop)
