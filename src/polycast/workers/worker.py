"""A worker process: a whole server, without what the supervisor does for all workers.

Started as a script by the supervisor, with the numbers of three inherited sockets: for the channel, for the log, and
for sockets that are sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import pickle
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Raw

from polycast.app.prepare import import_for, load_pages
from polycast.config.schema import Configuration
from polycast.errors import PolycastError
from polycast.log import LEVELS, Log
from polycast.net.coalescing import coalesce_reads
from polycast.net.listen import port_sharing
from polycast.net.loop import new_event_loop
from polycast.workers.application import WorkerApplication
from polycast.workers.channel import Channel
from polycast.workers.log_lines import LineHandler
from polycast.workers.messages import ApplyConfiguration, StartWorker

GC_THRESHOLD: Final = 10_000
"""As in `polycast.cli.serve`."""

ORPHAN_SECONDS: Final = 3.0
"""For an orderly end when the supervisor has gone."""


class Worker:
    """The process."""

    def __init__(self, lines: LineHandler, received: socket.socket) -> None:
        self._lines = lines
        self._received = received
        self._logger = logging.getLogger("polycast")
        self._log = Log(self._logger)
        self._channel = Channel(self._log)
        self._application: WorkerApplication | None = None
        self._folder = ""
        self._parent = os.getppid()
        self.stopped = asyncio.Event()

    async def run(self, control: socket.socket) -> None:
        """Serve until the supervisor says that it is enough, or has gone."""
        coalesce_reads(asyncio.get_running_loop())
        port_sharing.set(asyncio.get_running_loop(), True)
        for logger in (self._logger, logging.getLogger()):
            logger.addHandler(self._lines)
        self._logger.propagate = False
        self._channel.calls |= {
            "prepare": self._prepare,
            "start": self._start,
            "apply": self._apply,
            "stop": self._stop,
        }
        await self._channel.open(control)
        self._channel.lost.add_done_callback(lambda _: self.stopped.set())
        await self.stopped.wait()
        if self._application is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ORPHAN_SECONDS if self._channel.lost.done() else None):
                    await self._application.stop()
        if self._folder and os.getppid() != self._parent:  # or the others still use the folder
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        self._channel.close()

    async def _prepare(self, body: Raw) -> None:
        """Prepare for a start: import the modules that a configuration needs. What fails is reported by the start."""
        configuration: Configuration = pickle.loads(msgspec.msgpack.decode(body, type=bytes))
        preparing = (asyncio.to_thread(prepare, configuration) for prepare in (import_for, load_pages))
        await asyncio.gather(*preparing, return_exceptions=True)

    async def _start(self, body: Raw) -> None:
        # The bytes are the supervisor's own.
        start: StartWorker = pickle.loads(msgspec.msgpack.decode(body, type=bytes))
        self._logger.setLevel(LEVELS[start.configuration.log_level.value])
        self._folder = start.shared.folder
        self._application = WorkerApplication(start, self._channel, self._received, self._log)
        await self._application.start()
        gc.collect()
        gc.freeze()

    async def _apply(self, body: Raw) -> None:
        if self._application is None:
            raise PolycastError("the worker has not started yet")
        change: ApplyConfiguration = pickle.loads(msgspec.msgpack.decode(body, type=bytes))
        self._logger.setLevel(LEVELS[change.configuration.log_level.value])
        await self._application.reconfigure(change)

    async def _stop(self, _: Raw) -> None:
        self.stopped.set()


def main(arguments: Sequence[str]) -> None:
    """Run a worker; the arguments are the numbers of the inherited sockets."""
    control, lines_end, received = (socket.socket(fileno=int(number)) for number in arguments)
    # The supervisor has these, too: a terminal and a service manager send them to all processes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    gc.set_threshold(GC_THRESHOLD, 20, 50)
    lines = LineHandler(lines_end)
    threading.Thread(target=_end_with_the_supervisor, args=(lines_end,), daemon=True).start()

    async def run() -> None:
        await Worker(lines, received).run(control)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(run())
    lines.end()


def _end_with_the_supervisor(lines_end: socket.socket) -> None:
    """Make sure that nothing is left when the supervisor was killed, whatever the loop is doing."""
    with contextlib.suppress(OSError):
        while lines_end.recv(1):
            pass
    threading.Event().wait(2 * ORPHAN_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
