"""A process that waits to take the place of a worker that ends.

Imports take most of the time that a new process needs: from half a second to several on a busy machine. The spare
process has done them, so that clients can connect again at once.
"""

from __future__ import annotations

import asyncio
import contextlib

from polycast.config.schema import Configuration
from polycast.log import Log
from polycast.workers.channel import ChannelError
from polycast.workers.process import WorkerProcess

NUMBER = 0
"""Number of a process that is not a worker yet."""


class Spare:
    """Keeps at most one such process."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._process: WorkerProcess | None = None
        self._starting: asyncio.Task[None] | None = None

    def refill(self, configuration: Configuration) -> None:
        """Start a process, unless there is one; it imports what ``configuration`` needs."""
        if self._process is None and (self._starting is None or self._starting.done()):
            self._starting = asyncio.get_running_loop().create_task(self._start(configuration))

    async def take(self, number: int) -> WorkerProcess:
        """Return a process that waits for its start as a worker: the spare one, or a new one. Raises OSError."""
        process, self._process = self._process, None
        if process is not None:
            if self._starting is not None:
                self._starting.cancel()  # it only waits for the imports
            if not process.channel.lost.done():
                process.become(number)
                return process
            await process.wait()
        return await WorkerProcess.start(number, self._log)

    async def close(self) -> None:
        """End it."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait((self._starting,))
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.wait()

    async def _start(self, configuration: Configuration) -> None:
        try:
            self._process = process = await WorkerProcess.start(NUMBER, self._log)
        except OSError as error:
            self._log.warning("the spare process cannot be started: %s", error)
            return
        with contextlib.suppress(ChannelError):  # it has ended
            await process.prepare(configuration)
