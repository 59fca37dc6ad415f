"""Sockets of clients on their way from one worker to another: copies of the descriptors are sent (``SCM_RIGHTS``)."""

from __future__ import annotations

import os
import socket
import struct
from array import array
from typing import Final

MAXIMUM_WAITING: Final = 64
"""Received sockets that nobody took, because their worker ended in between."""

_NUMBER: Final = struct.Struct("=QQ")
"""Number of the worker, and of the socket among those that it has sent."""


class SocketBox:
    """Receives sockets from other workers, and sends them some."""

    def __init__(self, folder: str, number: int) -> None:
        """``folder`` has the boxes of all workers; ``number`` is that of this one."""
        self.folder = folder
        self._number = number
        self._box: socket.socket | None = None
        self._waiting: dict[tuple[int, int], int] = {}
        """Descriptors."""

    def open(self) -> None:
        """Receive sockets from now on. Raises OSError."""
        path = self._path(self._number)
        if os.path.exists(path):  # left by the process that this one replaces
            os.unlink(path)
        box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            box.bind(path)
            box.setblocking(False)
        except OSError:
            box.close()
            raise
        self._box = box

    def close(self) -> None:
        """Neither receive nor send any more."""
        if self._box is not None:
            self._box.close()
            self._box = None
        for descriptor in self._waiting.values():
            os.close(descriptor)
        self._waiting = {}

    def send(self, worker: int, number: int, descriptor: int) -> None:
        """Send a copy of a socket under a number. Raises OSError, also if the queue of the other worker is full."""
        if self._box is None:
            raise OSError("the worker stops")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [descriptor]))]
        self._box.sendmsg([_NUMBER.pack(self._number, number)], rights, 0, self._path(worker))

    def take(self, worker: int, number: int) -> socket.socket | None:
        """Return the socket that a worker has sent under a number; None if it has not."""
        self._receive()
        descriptor = self._waiting.pop((worker, number), None)
        return socket.socket(fileno=descriptor) if descriptor is not None else None

    def _receive(self) -> None:
        while self._box is not None:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._box, _NUMBER.size, 1)
            except OSError:
                return
            for descriptor in descriptors:
                self._waiting[_NUMBER.unpack(data)] = descriptor
                if len(self._waiting) > MAXIMUM_WAITING:
                    os.close(self._waiting.pop(next(iter(self._waiting))))

    def _path(self, number: int) -> str:
        return os.path.join(self.folder, f"worker-{number}.sockets")
