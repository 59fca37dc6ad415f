"""The other workers, as the servers of one worker use them (`protocols.base.Workers`)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from polycast.errors import PolycastError
from polycast.hub.path import Path, PathObserver
from polycast.net.http.transaction import Transaction
from polycast.protocols.handing_over import HandedOver
from polycast.wire.http.response import Response
from polycast.workers.channel import Channel, ChannelError
from polycast.workers.claims import node_name, number_of_node
from polycast.workers.messages import ReaderCount, StartWorker
from polycast.workers.neighbours import Neighbours, PassedClient


class WorkerContext(PathObserver):
    """What a worker knows of the others."""

    def __init__(
        self,
        start: StartWorker,
        channel: Channel,
        received: socket.socket,
        neighbours: Neighbours,
        owner: Callable[[str], str],
        is_always_available: Callable[[str], bool],
    ) -> None:
        """``received`` sends and receives sockets. ``owner`` returns the node that has the stream of a path.
        ``is_always_available`` returns whether it has one while nobody publishes.
        """
        self.index = start.number - 1
        self.secret = start.shared.secret
        self.count = start.shared.count
        self.placed: Mapping[str, int] = start.placed
        """The numbers of the workers that run what provides the streams of paths."""
        self._on_demand: dict[str, int] = {}
        """The same for paths that exist while somebody reads them."""
        self._readers: dict[str, dict[int, int]] = {}
        """By path and worker."""
        channel.notices["readers"] = self._on_readers
        self._channel = channel
        self._received = received
        self._neighbours = neighbours
        self._owner = owner
        self._is_always_available = is_always_available

    async def take_socket(self, key: str, address: str) -> socket.socket:
        try:
            await self._channel.call("socket", (key, address))
        except PolycastError as error:
            raise OSError(str(error)) from error
        # It was sent before the answer.
        _, descriptors, _, _ = socket.recv_fds(self._received, 1, 1)
        taken = socket.socket(fileno=descriptors[0])
        taken.setblocking(False)
        return taken

    def placed_on(self, path: str) -> str:
        """Return the node that runs what provides the stream of a path; empty if nothing is known to."""
        number = self._on_demand.get(path) or self.placed.get(path, 0)
        return node_name(number) if number else ""

    async def settle(self, path: str) -> None:
        """Learn which worker is to start what a path gets its stream from on demand."""
        if path not in self.placed:
            number = await self._ask(path)
            if number:
                self._on_demand[path] = number

    def on_path_closed(self, path: Path) -> None:
        self._on_demand.pop(path.name, None)

    def is_run_here(self, path: str) -> bool:
        """Whether this worker runs the source and the commands of a path."""
        return self.placed.get(path, self.index + 1) == self.index + 1

    def readers_of(self, path: str) -> int:
        """Return how many clients read a path in the other workers, if their number is limited."""
        return sum(self._readers.get(path, {}).values())

    def _on_readers(self, body: Raw) -> None:
        count = msgspec.msgpack.decode(body, type=ReaderCount)
        if count.worker != self.index + 1:
            self._readers.setdefault(count.path, {})[count.worker] = count.readers
            if not any(self._readers[count.path].values()):
                del self._readers[count.path]

    def owner_of(self, path: str, transaction: Transaction) -> int | None:
        if isinstance(transaction.connection, PassedClient):
            return None  # it was passed on once already
        return self.streaming(path)

    def streaming(self, path: str) -> int | None:
        return self._other(number_of_node(self._owner(path)) or self.placed.get(path, 0))

    def home_of(self, path: str) -> int | None:
        return self._other(self.placed.get(path, 0)) if self._is_always_available(path) else None

    async def place(self, path: str) -> int | None:
        return self._other(await self._ask(path))

    async def _ask(self, path: str) -> int:
        try:
            number: int = await self._channel.call("place", path, int)
        except ChannelError:
            return 0
        return number

    async def pass_on(self, index: int, server: str, transaction: Transaction) -> Response:
        return await self._neighbours.pass_on(index + 1, server, transaction)

    async def hand_over(self, index: int, server: str, connection: HandedOver, descriptor: int) -> bool:
        return await self._neighbours.hand_over(index + 1, server, connection, descriptor)

    def pass_datagram(self, index: int, server: str, data: bytes, address: tuple[Any, ...]) -> None:
        self._neighbours.pass_datagram(index + 1, server, data, address)

    def _other(self, number: int) -> int | None:
        return number - 1 if number and number != self.index + 1 else None
