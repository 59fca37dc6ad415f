"""Read coalescing: keeps an event loop from polling its sockets more often than is useful.

Hundreds of publishers that write packet by packet wake the loop for each packet: it reads the same frame in several
pieces, and each piece costs a wake-up, a system call and a pass through the whole server. Network cards have the same
problem with interrupts and solve it with adaptive interrupt coalescing. This module does the same: while reads arrive
at a high rate, the loop polls its sockets every two milliseconds, and each read returns what has accumulated since.

Measured with 300 publishers of 4 Mbit/s (`streams-300` of the benchmarks) and no processing but writing the data back:
9,000 frames per second in 28,000 to 33,000 reads took 0.89 CPU-seconds per gigabit, and 0.33 in the 9,000 to 10,000
reads that remain with coalescing. A frame waits for a millisecond on average.

Neither uvloop nor asyncio can be told to poll less often, so the thread sleeps: in a callback of the loop, once per
turn in which something was read, for the rest of the interval. Other threads run meanwhile. A turn that takes longer
than the interval is followed by the next one at once, so a loop under full load does not sleep at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from polycast.net.loop_local import LoopLocal

INTERVAL: Final = 0.002
"""Minimum seconds between two polls; no more than a frame may wait for its end in the hub (`FRAME_WAIT_SECONDS`).
Half of it would cost 5 % more of the server's core with 300 publishers."""

BEGIN_RATE: Final = 4_000
"""Reads per second above which coalescing starts. Below, the loop has time for each read."""

END_RATE: Final = 400
"""Reads per second below which coalescing stops: fewer than a single fast connection makes, one per poll."""

MEASURED_READS: Final = 400
"""Reads over which the rate is measured: more than one stream causes in a burst, such as a large key frame."""

MEASURED_SECONDS: Final = 0.2
"""Seconds over which the rate is measured while reads are coalesced."""


class ReadCoalescing:
    """Coalesces the reads of one event loop. ``clock`` returns monotonic seconds, ``sleep`` blocks the thread."""

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._call_soon = call_soon
        self._clock = clock
        self._sleep = sleep
        self.is_active = False
        """Whether the loop polls its sockets at most once per `INTERVAL`."""
        self._is_scheduled = False
        self._polls_now = False
        self._reads = 0
        self._measured_since = self._last_poll = clock()

    def on_read(self) -> None:
        """Count a read of a TCP connection. Called on the loop, in the course of its turn."""
        self._reads += 1
        if self.is_active:
            if not self._is_scheduled:
                self._is_scheduled = True
                self._call_soon(self._before_poll)
        elif self._reads >= MEASURED_READS:
            self._measure(self._clock())

    def poll_now(self) -> None:
        """Do not delay the next poll: a socket has more data than one turn may read."""
        self._polls_now = True

    def _before_poll(self) -> None:
        """Runs in the next turn, before it polls the sockets."""
        self._is_scheduled = False
        now = self._clock()
        rest = self._last_poll + INTERVAL - now
        if rest > 0 and not self._polls_now:
            self._sleep(rest)
            now = self._clock()
        self._polls_now = False
        self._last_poll = now
        if now - self._measured_since >= MEASURED_SECONDS:
            self._measure(now)

    def _measure(self, now: float) -> None:
        limit = END_RATE if self.is_active else BEGIN_RATE
        self.is_active = self._reads >= limit * (now - self._measured_since)
        self._reads = 0
        self._measured_since = now


class _NoCoalescing(ReadCoalescing):
    def on_read(self) -> None:
        """Do nothing: reads are not coalesced on a loop that runs other code."""

    def poll_now(self) -> None:
        """Do nothing: polls are not delayed on a loop that runs other code."""


_NONE: Final = _NoCoalescing(lambda callback: None)
_COALESCING: Final[LoopLocal[ReadCoalescing]] = LoopLocal("read_coalescing", lambda loop: _NONE)


def coalesce_reads(loop: asyncio.AbstractEventLoop) -> None:
    """Coalesce the reads of a loop; call it before its sockets are opened. Only for loops that run nothing but the
    server: everything else on them would be delayed by up to `INTERVAL` as well."""
    _COALESCING.set(loop, ReadCoalescing(loop.call_soon))


def coalescing_of(loop: asyncio.AbstractEventLoop) -> ReadCoalescing:
    """Return the read coalescing of a loop; one that does nothing if `coalesce_reads` was not called for it."""
    return _COALESCING.get(loop)
