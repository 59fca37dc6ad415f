"""A stretch of network between a browser and the media port: it loses and delays datagrams, the same ones each time."""

from __future__ import annotations

import asyncio
import random
from typing import Self, cast


class _Side(asyncio.DatagramProtocol):
    def __init__(self, network: LossyNetwork, peer: tuple[str, int] | None) -> None:
        self._network = network
        self._peer = peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if self._peer is None:
            self._network.from_client(data, address)
        else:
            self._network.from_server(data, self._peer)


class LossyNetwork:
    """Forwards between clients and ``server``. ``loss`` is the part of media that is dropped; ``delay`` is seconds."""

    def __init__(self, server: tuple[str, int], loss: float, delay: float, seed: int) -> None:
        self._server = server
        self._loss = loss
        self._delay = delay
        self._random = random.Random(seed)
        self._clients: dict[tuple[str, int], _Side] = {}
        self._opening: set[tuple[str, int]] = set()
        self._front: _Side | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.dropped = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        transport, self._front = await loop.create_datagram_endpoint(
            lambda: _Side(self, None), local_addr=("127.0.0.1", 0)
        )
        self.port = transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for side in [*self._clients.values(), self._front]:
            if side is not None:
                side.transport.close()

    def from_client(self, data: bytes, address: tuple[str, int]) -> None:
        """A client has sent a datagram."""
        side = self._clients.get(address)
        if side is not None:
            self._pass(data, side, self._server)
        elif address not in self._opening:
            self._opening.add(address)
            task = asyncio.get_running_loop().create_task(self._open(data, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def from_server(self, data: bytes, client: tuple[str, int]) -> None:
        """The server has sent a datagram to a client."""
        if self._front is not None:
            self._pass(data, self._front, client)

    async def _open(self, data: bytes, address: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        _, side = await loop.create_datagram_endpoint(lambda: _Side(self, address), local_addr=("127.0.0.1", 0))
        self._clients[address] = side
        self._pass(data, side, self._server)

    def _pass(self, data: bytes, side: _Side, destination: tuple[str, int]) -> None:
        # Only media is lost, so that the test is not about how long a handshake takes.
        if 128 <= data[0] <= 191 and self._random.random() < self._loss:
            self.dropped += 1
            return
        asyncio.get_running_loop().call_later(self._delay, self._deliver, data, side, destination)

    @staticmethod
    def _deliver(data: bytes, side: _Side, destination: tuple[str, int]) -> None:
        if not side.transport.is_closing():
            side.transport.sendto(data, destination)
