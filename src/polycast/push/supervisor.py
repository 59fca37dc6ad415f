"""What all clients that publish have in common: connect, stay connected, come back."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from polycast.errors import PolycastError
from polycast.hub.path import Path
from polycast.hub.stream import Stream
from polycast.log import Log

# Seconds before the first attempt after a failure; doubled by each further one, up to the longest.
SHORTEST_PAUSE = 0.5
LONGEST_PAUSE = 10.0

# Seconds for a server to answer, and to take what is sent.
PATIENCE = 10.0

# Seconds for the last bytes of a connection that is closed.
CLOSE_SECONDS = 0.5


class Pusher(ABC):
    """Sends a stream to one server, once. Made anew for each attempt."""

    @abstractmethod
    async def open(self, path: Path, stream: Stream) -> None:
        """Connect and agree, then attach to the stream. Raises OSError, TimeoutError or PolycastError."""

    @abstractmethod
    async def wait(self) -> None:
        """Wait until the connection is lost; always ends with an exception, as `open`."""

    @abstractmethod
    async def close(self, path: Path) -> None:
        """Say goodbye and close. Must not raise."""


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
        self._log = log
        self._make_pusher = make_pusher
        self._on_connected = on_connected
        self._on_failed = on_failed
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the background."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Close the connection."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        pause = SHORTEST_PAUSE
        while (stream := self._path.stream) is not None:
            pusher = self._make_pusher()
            connected = False
            try:
                await pusher.open(self._path, stream)
                connected = True
                pause = SHORTEST_PAUSE
                self._on_connected()
                await pusher.wait()
            except (OSError, TimeoutError, PolycastError) as error:
                if not self._on_failed(error, connected):
                    return
            except Exception as error:
                self._log.exception("internal error")
                if not self._on_failed(error, connected):
                    return
            finally:
                await pusher.close(self._path)
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)
