"""The process that imports the server once, and forks the servers of `tests.support.preloaded`."""

from __future__ import annotations

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
from typing import Any

REQUEST_SIZE = 1 << 17
"""Bytes of the largest request: arguments, and an environment."""
DESCRIPTORS = 4
"""Of a request: standard input, output and error, and the socket for the new process's number and status."""
OPEN_DESCRIPTORS = 1024
"""A new process closes so many of those of the process that it was forked from, at most."""
NETWORK = 0x40000000
"""``CLONE_NEWNET`` of setns(2), for which Python 3.11 has no function."""


class Forking:
    """Forks processes, and tells how they end, until the test run has ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._running: dict[int, int] = {}
        """By the descriptor of a process: its number."""

    def run(self) -> list[str] | None:
        """Return in a new process, with the arguments of its command; in this one, return None in the end."""
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    self._report_end(key.fd, key.data)
                    continue
                message, descriptors, _, _ = socket.recv_fds(self._control, REQUEST_SIZE, DESCRIPTORS)
                if not message:
                    self._end_all()
                    return None
                if (arguments := self._fork(json.loads(message), descriptors)) is not None:
                    return arguments

    def _fork(self, request: dict[str, Any], descriptors: list[int]) -> list[str] | None:
        *standard, status = descriptors
        process = os.fork()
        if process == 0:
            become(request, standard)
            return list(request["arguments"])
        for descriptor in standard:
            os.close(descriptor)
        os.write(status, b"%d" % process)
        ended = os.pidfd_open(process)
        self._running[ended] = process
        self._selector.register(ended, selectors.EVENT_READ, status)
        return None

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
    arguments = Forking(control).run()
    if arguments is None:
        return 0
    from polycast.cli import main

    return main(arguments)


if __name__ == "__main__":
    sys.exit(main())
