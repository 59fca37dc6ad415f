"""The process that imports the server once, and forks the servers of `tests.support.preloaded`.

A server with several workers starts a process for each, which would import everything again. It can have them forked,
too: by a process beside it that was forked before the server had a thread, as no other may be. They are children of the
server, as those that it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

REQUEST_SIZE = 1 << 17
"""Bytes of the largest request: arguments, and an environment."""
DESCRIPTORS = 4
"""Of a request: standard input, output and error, and the socket for the new process's number and status."""
OPEN_DESCRIPTORS = 1024
"""A new process closes so many of those of the process that it was forked from, at most."""
NETWORK = 0x40000000
"""``CLONE_NEWNET`` of setns(2), for which Python 3.11 has no function."""
SET_NAME, SET_SUBREAPER = 15, 36
"""``PR_SET_NAME`` and ``PR_SET_CHILD_SUBREAPER`` of prctl(2)."""
FORKS_WORKERS = b"forks-workers"
"""Name of the process that forks the workers of a server."""
WORKER_SOCKETS = 3
"""That a worker inherits; see `polycast.workers.worker`."""


class Forking:
    """Forks processes, and tells how they end, until the test run has ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._running: dict[int, int] = {}
        """By the descriptor of a process: its number."""

    def run(self) -> dict[str, Any] | None:
        """Return in a new process, with the request for it; in this one, return None in the end."""
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    self._report_end(key.fd, key.data)
                    continue
                message, descriptors, _, _ = socket.recv_fds(self._control, REQUEST_SIZE, DESCRIPTORS)
                if not message:
                    self._end_all()
                    return None
                request = json.loads(message)
                if self._fork(request, descriptors):
                    return dict(request)

    def _fork(self, request: dict[str, Any], descriptors: list[int]) -> bool:
        """Return whether this is the new process."""
        *standard, status = descriptors
        if request["forks_workers"]:
            for name in ("polycast.workers.supervisor", "polycast.workers.worker"):
                import_module(name)  # once
        process = os.fork()
        if process == 0:
            # Now, not when they are collected: others have their numbers by then.
            self._selector.close()
            self._control.close()
            become(request, standard)
            return True
        for descriptor in standard:
            os.close(descriptor)
        os.write(status, b"%d" % process)
        ended = os.pidfd_open(process)
        self._running[ended] = process
        self._selector.register(ended, selectors.EVENT_READ, status)
        return False

    def _report_end(self, ended: int, status: int) -> None:
        self._selector.unregister(ended)
        _, code = os.waitpid(self._running.pop(ended), 0)
        with contextlib.suppress(BrokenPipeError):  # nobody wants to know
            os.write(status, b"%d" % os.waitstatus_to_exitcode(code))
        os.close(status)
        os.close(ended)

    def _end_all(self) -> None:
        """End what a test run that was killed has left behind."""
        for process in self._running.values():
            os.kill(process, signal.SIGKILL)


def become(request: dict[str, Any], standard: list[int]) -> None:
    """Make this process, just forked, what it would be if it had been started."""
    os.setsid()
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
    os.closerange(3, OPEN_DESCRIPTORS)
    if request["namespace"]:
        enter(request["namespace"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["arguments"]


def enter(namespace: str) -> None:
    """Enter a network namespace by its name. Raises OSError."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, NETWORK) != 0:
        raise OSError(ctypes.get_errno(), f"setns to {namespace}")
    os.close(descriptor)


def prctl(option: int, argument: int | bytes) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


class ForkedWorker:
    """As `asyncio.subprocess.Process`."""

    def __init__(self, process: int) -> None:
        self.pid = process
        loop = asyncio.get_running_loop()
        self._status: asyncio.Future[int] = loop.create_future()
        ended = os.pidfd_open(process)
        loop.add_reader(ended, self._on_end, loop, ended)

    def _on_end(self, loop: asyncio.AbstractEventLoop, ended: int) -> None:
        loop.remove_reader(ended)
        os.close(ended)
        self._status.set_result(os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]))

    async def wait(self) -> int:
        return await asyncio.shield(self._status)

    def kill(self) -> None:
        if self._status.done():
            raise ProcessLookupError
        os.kill(self.pid, signal.SIGKILL)


def fork_workers() -> list[str] | None:
    """From now on, workers of this process are forked. Return the arguments in each of them; None in this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = os.fork()
    if process == 0:
        ours.close()
        arguments = serve_workers(theirs)
        if arguments is None:
            os._exit(0)
        return arguments
    theirs.close()
    start_process = asyncio.create_subprocess_exec

    async def start(program: str, *arguments: str, **options: Any) -> Any:
        if arguments[:2] != ("-m", "polycast.workers.worker"):
            return await start_process(program, *arguments, **options)
        prctl(SET_SUBREAPER, 1)
        socket.send_fds(ours, [b"w"], options["pass_fds"])
        worker = int(ours.recv(64))
        prctl(SET_SUBREAPER, 0)
        return ForkedWorker(worker)

    asyncio.create_subprocess_exec = start
    return None


def serve_workers(control: socket.socket) -> list[str] | None:
    """Return in each worker, with its arguments; in this process, return None when the server has ended."""
    name = Path("/proc/self/comm").read_bytes().rstrip()
    prctl(SET_NAME, FORKS_WORKERS)
    while True:
        message, sockets, _, _ = socket.recv_fds(control, 64, WORKER_SOCKETS)
        if not message:
            return None
        reading, writing = os.pipe()
        go, ready = os.pipe()
        between = os.fork()
        if between == 0:
            worker = os.fork()
            if worker:
                # This one ends, so that the nearest ancestor that wants to be becomes the parent: the server.
                os.write(writing, b"%d" % worker)
                os._exit(0)
            prctl(SET_NAME, name)
            control.close()
            os.close(ready)
            os.read(go, 1)  # until then, the parent is another one
            for each in (reading, writing, go):
                os.close(each)
            return list(map(str, sockets))
        os.waitpid(between, 0)
        control.send(os.read(reading, 64))
        for each in (*sockets, reading, writing, go, ready):
            os.close(each)


def load() -> None:
    """Import what a server with all its services imports. None of it starts a thread or an event loop."""
    import_module("polycast.cli.serve")
    from polycast.app.prepare import import_for, load_pages
    from polycast.config import from_mapping
    from polycast.config.dialects.polycast import POLYCAST

    configuration = from_mapping({"api": True, "metrics": True, "pprof": True, "playback": True}, POLYCAST)
    import_for(configuration)
    load_pages(configuration)
    with contextlib.suppress(ImportError):
        import_module("uvloop")
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads cannot be forked"
    gc.collect()
    gc.freeze()  # so that the collector of the forked ones does not write into what they share


def main() -> int:
    """Serve the test run at the other end of the socket whose number is the first argument."""
    control = socket.socket(fileno=int(sys.argv[1]))
    load()
    request = Forking(control).run()
    if request is None:
        return 0
    arguments = fork_workers() if request["forks_workers"] else None
    if arguments is not None:
        from polycast.workers.worker import main as work

        work(arguments)
        return 0
    from polycast.cli import main

    return main(request["arguments"])


if __name__ == "__main__":
    sys.exit(main())
