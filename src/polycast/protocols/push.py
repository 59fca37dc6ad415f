"""Keeps clients that publish connected: connects, monitors and reconnects."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from polycast.hub.path import Path
from polycast.hub.retry import Ended, Failure, Next, RetryPauses, StopRetrying, Supervisor
from polycast.hub.stats import Counters
from polycast.hub.stream import Stream
from polycast.log import Log
from polycast.net.dial import describe_failure

RETRY_PAUSES = RetryPauses(first=0.5, longest=10.0)

# Seconds for a server to answer, and to read sent data.
PATIENCE = 10.0

# Seconds for the last bytes of a connection that is closing.
CLOSE_SECONDS = 0.5


class Pusher(ABC):
    """Sends a stream to one server, once. Created for each attempt."""

    counters: Counters
    """Its traffic; also that of the reader that it attaches to the stream."""

    def __init__(self) -> None:
        self.counters = Counters()

    @abstractmethod
    async def open(self, path: Path, stream: Stream) -> None:
        """Connect and negotiate, then attach to the stream. Raises OSError, TimeoutError or PolycastError."""

    @abstractmethod
    async def wait(self) -> None:
        """Wait until the connection is lost; always ends with an exception, like `open`."""

    @abstractmethod
    async def close(self, path: Path) -> None:
        """Close in order. Must not raise."""


class Push:
    """Keeps a path connected to a server."""

    def __init__(
        self,
        path: Path,
        log: Callable[[], Log],
        make_pusher: Callable[[], Pusher],
        *,
        on_connected: Callable[[], None],
        on_failed: Callable[[Ended], bool],
        pauses: RetryPauses = RETRY_PAUSES,
        trial: float = 0.0,
    ) -> None:
        """``on_connected`` is called when a connection has lasted for ``trial`` seconds; one that ends before does not
        count as a success. ``on_failed`` is called after each attempt; it returns whether to try again.
        """
        self._trial = trial
        self._path = path
        self._make_pusher = make_pusher
        self._on_connected = on_connected
        self._on_failed = on_failed
        self._supervisor = Supervisor(
            self._attempt, self._on_ended, pauses=lambda: pauses, describe=describe_failure, log=log
        )
        self._pusher: Pusher | None = None
        """That of the current attempt."""
        self._sent_before = 0
        """Bytes that the earlier ones have sent."""
        self._ending: set[asyncio.Task[None]] = set()
        """What was stopped and is still closing its connection."""

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._supervisor.is_running

    @property
    def failure(self) -> Failure | None:
        """The current failure; None while it works."""
        return self._supervisor.failure

    @property
    def bytes_sent(self) -> int:
        """Bytes sent since it was created, over all connections."""
        return self._sent_before + (self._pusher.counters.bytes_sent if self._pusher is not None else 0)

    def start(self) -> None:
        """Start, in the background; a connection that is still closing has time to end first."""
        self._supervisor.failure = None
        self._supervisor.start(asyncio.get_running_loop())

    def begin_to_stop(self) -> asyncio.Task[None] | None:
        """Close the connection, in the background; return the task that does it, None if there is none."""
        task = self._supervisor.stop()
        if task is not None:
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        return task

    async def stop(self) -> None:
        """Close the connection."""
        self.begin_to_stop()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _attempt(self) -> None:
        if self._ending:
            await asyncio.wait(self._ending)
        stream = self._path.stream
        if stream is None:
            raise StopRetrying
        timer: asyncio.TimerHandle | None = None
        pusher = self._pusher = self._make_pusher()
        try:
            await pusher.open(self._path, stream)
            if self._trial:
                self._supervisor.failure = None
                timer = asyncio.get_running_loop().call_later(self._trial, self._on_worked)
            else:
                self._on_worked()
            await pusher.wait()
        finally:
            if timer is not None:
                timer.cancel()
            try:
                await pusher.close(self._path)
            finally:
                self._sent_before = self.bytes_sent
                self._pusher = None

    def _on_worked(self) -> None:
        self._supervisor.worked()
        self._on_connected()

    def _on_ended(self, ended: Ended) -> Next:
        return Next.PAUSE if self._on_failed(ended) else Next.STOP
