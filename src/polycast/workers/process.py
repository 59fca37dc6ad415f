"""The processes of the workers, as the supervisor sees them: started, watched, replaced."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from typing import Final

from polycast.config.schema import Configuration
from polycast.log import Log
from polycast.workers.channel import Channel
from polycast.workers.log_lines import LineReader

START_SECONDS: Final = 120.0
"""For the start of a worker: on a busy machine, imports alone take long."""

STOP_SECONDS: Final = 35.0
"""For the orderly end of a worker. Commands get up to 15, sources 8; the supervisor itself has 40."""

LAST_LINES_SECONDS: Final = 1.0
"""For the last lines of a worker that has ended."""


class WorkerProcess:
    """One process. It ends when its channel is closed, whatever it does; see `polycast.workers.worker`."""

    def __init__(self, number: int, process: Process, channel: Channel, lines: LineReader, sent: socket.socket) -> None:
        self.number = number
        """From 1."""
        self.channel = channel
        self._process = process
        self._lines = lines
        self._sent = sent
        """What sockets are sent over."""

    @classmethod
    async def start(cls, number: int, log: Log) -> WorkerProcess:
        """Start a process, which waits for its first call. Raises OSError."""
        pairs = [socket.socketpair() for _ in range(3)]
        theirs = [pair[1] for pair in pairs]
        (control, lines_end, sent), channel = [pair[0] for pair in pairs], Channel(log)
        lines = LineReader(log.logger, _prefix(number))
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "polycast.workers.worker",
                *(str(end.fileno()) for end in theirs),
                stdin=DEVNULL,
                pass_fds=[end.fileno() for end in theirs],
            )
        except BaseException:
            for end in (control, lines_end, sent):
                end.close()
            raise
        finally:
            for end in theirs:
                end.close()
        await channel.open(control)
        await lines.open(lines_end)
        return cls(number, process, channel, lines, sent)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def prepare(self, configuration: Configuration) -> None:
        """Let it import what a configuration needs, which is most of the work of a start. Raises ChannelError."""
        await self.channel.call("prepare", pickle.dumps(configuration), seconds=START_SECONDS)

    def become(self, number: int) -> None:
        """Use the process as worker ``number``, whatever it was started for."""
        self.number = number
        self._lines.prefix = _prefix(number)

    def send_socket(self, shared: socket.socket) -> None:
        """Send a socket; the worker waits for it. Raises OSError."""
        socket.send_fds(self._sent, [b"s"], [shared.fileno()])

    async def wait(self) -> int:
        """Wait until the process has ended, and its last lines are written; return its exit status."""
        status = await self._process.wait()
        self.channel.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._lines.ended), LAST_LINES_SECONDS)
        self._lines.close()
        self._sent.close()
        return status

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


def _prefix(number: int) -> str:
    return f"[worker {number}] "
