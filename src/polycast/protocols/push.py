"""Keeps clients that publish connected: connects, monitors and reconnects."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from polycast.hub.path import Path
from polycast.hub.retry import Ended, Next, RetryPauses, StopRetrying, Supervisor
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
        log: Log,
        make_pusher: Callable[[], Pusher],
        *,
        on_connected: Callable[[], None],
        on_failed: Callable[[BaseException, bool], bool],
    ) -> None:
        """``on_failed`` gets the error and whether it was connected before; it returns whether to try again."""
        self._path = path
        self._make_pusher = make_pusher
        self._on_connected = on_connected
        self._on_failed = on_failed
        self._supervisor = Supervisor(
            self._attempt, self._on_ended, pauses=lambda: RETRY_PAUSES, describe=describe_failure, log=lambda: log
        )

    def start(self) -> None:
        """Start, in the background."""
        self._supervisor.start(asyncio.get_running_loop())

    async def stop(self) -> None:
        """Close the connection."""
        task = self._supervisor.stop()
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)

    async def _attempt(self) -> None:
        stream = self._path.stream
        if stream is None:
            raise StopRetrying
        pusher = self._make_pusher()
        try:
            await pusher.open(self._path, stream)
            self._supervisor.worked()
            self._on_connected()
            await pusher.wait()
        finally:
            await pusher.close(self._path)

    def _on_ended(self, ended: Ended) -> Next:
        return Next.PAUSE if self._on_failed(ended.error, ended.has_worked) else Next.STOP
