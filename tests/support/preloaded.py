"""Servers in processes of their own that have nothing to import.

``python -m polycast`` takes more than half a second of a processor before it does anything, nearly all of it for
imports, and the tests start many servers. Here, one process per test run imports the server, and forks another process
whenever a test wants a server. That one gets its own arguments, environment, working directory, output, session and
network namespace, and runs the command's ``main`` from the beginning. There is no event loop and no thread before the
fork.

The workers of a server are forked as well, if ``forks_workers``; `preloaded_program` says how.

Tests of the start itself (command line, signals during the start, packages, service managers) or of what ``/proc`` says
of the process start the command. So does `start_server` if a variable that Python or the dynamic linker reads before
anything else has another value than in the test run.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tests.support.waiting import PATIENCE

PROGRAM = Path(__file__).with_name("preloaded_program.py")
SOURCE = Path(__file__).resolve().parents[2] / "src"


class Process:
    """As `subprocess.Popen`. The process is no child of this one; the one that forked it tells how it ended."""

    def __init__(self, arguments: Sequence[str], status: socket.socket) -> None:
        self.args = ["polycast", *arguments]
        self.returncode: int | None = None
        self._status = status
        self._status.settimeout(PATIENCE)
        self.pid = self._receive()

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._status.settimeout(timeout)
            try:
                self.returncode = self._receive()
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _receive(self) -> int:
        message = self._status.recv(64)
        if not message:
            raise ChildProcessError("the process that forks the servers has ended")
        return int(message)


def start_server(
    arguments: Sequence[str],
    *,
    stdout: IO[bytes],
    stderr: IO[bytes],
    cwd: Path,
    env: Mapping[str, str],
    namespace: str = "",
    forks_workers: bool = False,
) -> Process | subprocess.Popen[bytes]:
    """Run ``polycast``, without any input, as `subprocess.Popen` would; in a network namespace if it has a name."""
    if decisive(env) != decisive(os.environ):
        prefix = ("nsenter", f"--net=/run/netns/{namespace}") if namespace else ()
        command = [*prefix, sys.executable, "-m", "polycast", *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=cwd, env=env)
    status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request = {
        "arguments": arguments,
        "environment": dict(env),
        "folder": str(cwd),
        "namespace": namespace,
        "forks_workers": forks_workers,
    }
    with theirs, open(os.devnull, "rb") as nothing:
        descriptors = [each.fileno() for each in (nothing, stdout, stderr, theirs)]
        socket.send_fds(forking_process().control, [json.dumps(request).encode()], descriptors)
    return Process(arguments, status)


def decisive(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that Python or the dynamic linker read before a program runs; two of them have the same
    value for all servers.
    """
    names = {name for name in environment if name.startswith(("PYTHON", "LD_"))}
    return {name: environment[name] for name in names - {"PYTHONPATH", "PYTHONUNBUFFERED"}}


class ForkingProcess:
    """The process that forks the servers. It ends when this one does, and the servers with it."""

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", PROGRAM, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        self.number = self._process.pid


forking_process = functools.cache(ForkingProcess)
"""Return the only one of this test run, started when it is first needed."""
