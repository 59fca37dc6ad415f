"""A relay for datagrams between programs and a server that loses some, in both directions."""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import threading
from collections.abc import Iterator
from typing import Any

BUFFER_SIZE = 4 * 1024 * 1024
POLL_SECONDS = 0.1


class LossyRelay:
    """Forwards what comes to `port` to another port, from a socket of its own for each client."""

    def __init__(self, target: int, loss: float, seed: int) -> None:
        """``loss``: the part of datagrams that is lost; handshakes of SRT never are."""
        self._target = ("127.0.0.1", target)
        self._loss = loss
        self._random = random.Random(seed)
        self._selector = selectors.DefaultSelector()
        self._clients: dict[Any, socket.socket] = {}
        self._inner = self._socket()
        self._ends = False
        self.port: int = self._inner.getsockname()[1]
        self.lost = 0
        self._selector.register(self._inner, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ends = True
        self._thread.join()
        for opened in (self._inner, *self._clients.values()):
            opened.close()
        self._selector.close()

    @staticmethod
    def _socket() -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_SIZE)
        opened.bind(("127.0.0.1", 0))
        opened.setblocking(False)
        return opened

    def _run(self) -> None:
        while not self._ends:
            for key, _ in self._selector.select(POLL_SECONDS):
                with contextlib.suppress(OSError):
                    self._forward(key.fileobj, key.data)  # type: ignore[arg-type]

    def _forward(self, opened: socket.socket, client: Any) -> None:
        data, address = opened.recvfrom(2048)
        is_handshake = data[:2] == b"\x80\x00"
        if not is_handshake and self._random.random() < self._loss:
            self.lost += 1
            return
        if client is not None:
            self._inner.sendto(data, client)
            return
        if address not in self._clients:
            self._clients[address] = self._socket()
            self._selector.register(self._clients[address], selectors.EVENT_READ, address)
        self._clients[address].sendto(data, self._target)


@contextlib.contextmanager
def lossy_relay(target: int, loss: float, seed: int = 1) -> Iterator[LossyRelay]:
    """Run a relay in a thread."""
    relay = LossyRelay(target, loss, seed)
    try:
        yield relay
    finally:
        relay.close()
