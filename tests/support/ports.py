"""Ports for programs that have to be told which one to listen on.

A port that the system chose is free only until something else on the machine opens a connection: it may be given out
again as the local port of that. These are below the range that the system chooses from, and workers that run side by
side take theirs from different parts.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator

FIRST_PORT = 12_000
PORTS_OF_A_WORKER = 2_000
WORKERS = 10
"""More of them share their ports; so do several test runs at once. Then it is the probe that tells what is free."""


def _candidates() -> Iterator[int]:
    worker = int("".join(filter(str.isdecimal, os.environ.get("PYTEST_XDIST_WORKER", ""))) or 0)
    worker = (worker + int(os.environ.get("POLYCAST_FIRST_WORKER", "0"))) % WORKERS
    start = os.getpid() * 20 % PORTS_OF_A_WORKER
    for number in itertools.count(start, 2):
        yield FIRST_PORT + worker * PORTS_OF_A_WORKER + number % PORTS_OF_A_WORKER


_PORTS = _candidates()


def free_port() -> int:
    """Return an even port that is free for TCP and UDP, as is the next one; nothing else of this process was given
    either of them lately.
    """
    for port in itertools.islice(_PORTS, PORTS_OF_A_WORKER):
        if _is_free(port) and _is_free(port + 1):
            return port
    raise OSError("no free port")


def free_media_port(workers: int) -> int:
    """Return a port for RTP from which each worker of a server can take one, eight after that of the one before it."""
    port = following = free_port()
    while workers > 1 and following < port + 8 * workers:
        before, following = following, free_port()
        if following != before + 2:  # one between them is in use, or the numbers have begun again
            port = following
    return port


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError), contextlib.ExitStack() as sockets:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            probe = sockets.enter_context(socket.socket(socket.AF_INET, kind))
            if kind == socket.SOCK_STREAM:
                # Old connections that wait for their last packets do not keep a server from listening.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
        return True
    return False
