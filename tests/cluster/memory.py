"""The store of a cluster in memory: a network between nodes that delays, loses and can be cut, as a seed says."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from polycast.cluster import Conflict, NodeUnreachable, RegistryAway, StoreListener

Result = TypeVar("Result")

ANSWER_SECONDS = 2.0
"""How long a node waits for an answer."""


class Network:
    """What lies between the nodes: the entries, and the way to them."""

    def __init__(self, seed: int, *, loss: float = 0.0, latency: tuple[float, float] = (0.001, 0.02)) -> None:
        """``loss``: the share of requests, answers and messages that never arrive; ``latency`` in seconds."""
        self.random = random.Random(seed)
        self.loss = loss
        self.latency = latency
        self.entries: dict[str, tuple[bytes, int]] = {}
        self.revision = 0
        self.stores: dict[str, MemoryStore] = {}
        self.listeners: dict[str, Callable[[], asyncio.BaseProtocol]] = {}
        """What accepts the connections to a node."""
        self.pipes: set[Any] = set()
        """The ends of the connections between nodes."""
        self.separated: set[frozenset[str]] = set()
        """Pairs of nodes that do not reach each other."""

    def is_separated(self, one: str, other: str) -> bool:
        return frozenset((one, other)) in self.separated

    def separate(self, one: str, other: str) -> None:
        """Cut the way between two nodes: what is on it is lost, as connections are after some time."""
        self.separated.add(frozenset((one, other)))

    def join(self, one: str, other: str) -> None:
        """Mend it: the connections from before are reset."""
        if self.is_separated(one, other):
            self.separated.discard(frozenset((one, other)))
            self.reset({one, other})

    def reset(self, names: set[str]) -> None:
        for pipe in sorted(self.pipes, key=lambda pipe: pipe.names):
            if set(pipe.names) == names:
                pipe.reset()

    def silence(self, name: str) -> None:
        """The process of a node has ended: its connections are reset, and it accepts no more."""
        self.listeners.pop(name, None)
        for pipe in sorted(self.pipes, key=lambda pipe: pipe.names):
            if name in pipe.names:
                pipe.reset()

    def delay(self) -> float:
        return self.random.uniform(*self.latency)

    def is_lost(self) -> bool:
        return self.random.random() < self.loss

    def changed(self, path: str, value: bytes | None) -> None:
        for store in self.stores.values():
            store.tell(path, value, self.revision)

    def write(self, path: str, value: bytes, revision: int) -> int:
        if self.entries.get(path, (b"", 0))[1] != revision:
            raise Conflict(path)
        self.revision += 1
        self.entries[path] = (value, self.revision)
        self.changed(path, value)
        return self.revision

    def delete(self, path: str, revision: int) -> None:
        if self.entries.get(path, (b"", 0))[1] != revision:
            raise Conflict(path)
        self.revision += 1
        del self.entries[path]
        self.changed(path, None)

    def forget(self) -> None:
        """Lose all entries, as a server does that was started anew without its disk."""
        for store in self.stores.values():
            store.cut()
        self.entries.clear()
        for store in self.stores.values():
            store.heal()


class MemoryStore:
    """The store as one node reaches it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.listener: StoreListener | None = None
        self.name = ""
        self.is_cut = False
        self.connection = 0
        self._told: deque[tuple[str, bytes | None, int]] = deque()
        """On their way to the node, in order."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def open(self, name: str, listener: StoreListener) -> None:
        self.name = name
        self.listener = listener
        self.network.stores[name] = self
        self.is_cut = True
        self.heal()

    # The network

    def cut(self) -> None:
        """Separate the node from the store."""
        if not self.is_cut and self.listener is not None:
            self.is_cut = True
            self._told.clear()
            self.listener.on_connection(is_connected=False)

    def heal(self) -> None:
        """End the separation: the node gets a snapshot."""
        if not self.is_cut or self.listener is None:
            return
        self.is_cut = False
        self.connection += 1
        for path, (value, revision) in self.network.entries.items():
            self.listener.on_entry(path, value, revision)
        self.listener.on_snapshot(frozenset(self.network.entries))
        self.listener.on_connection(is_connected=True)

    def tell(self, path: str, value: bytes | None, revision: int) -> None:
        """Send a change to the node; changes never overtake each other."""
        if not self.is_cut and self.listener is not None:
            self._told.append((path, value, revision))
            self.loop.call_later(self.network.delay(), self._arrive, len(self._told))

    def _arrive(self, count: int) -> None:
        # Together with those that were sent before it.
        for _ in range(min(count, len(self._told))):
            if self.listener is not None:
                self.listener.on_entry(*self._told.popleft())

    async def _ask(self, action: Callable[[], Result]) -> Result:
        if self.listener is None:
            await asyncio.Event().wait()  # the process does not exist any more
        if self.is_cut or self.network.is_lost():
            await asyncio.sleep(ANSWER_SECONDS)
            raise RegistryAway("no answer")
        connection = self.connection
        await asyncio.sleep(self.network.delay())
        if self.is_cut or self.connection != connection:
            raise RegistryAway("the connection was lost")
        result: Result | Conflict
        try:
            result = action()
        except Conflict as error:
            result = error
        if self.network.is_lost():
            await asyncio.sleep(ANSWER_SECONDS)
            raise RegistryAway("no answer")
        await asyncio.sleep(self.network.delay())
        if self.is_cut or self.connection != connection:
            raise RegistryAway("the connection was lost")
        if isinstance(result, Conflict):
            raise result
        return result

    # Store

    async def write(self, path: str, value: bytes, revision: int) -> int:
        return await self._ask(lambda: self.network.write(path, value, revision))

    async def delete(self, path: str, revision: int) -> None:
        await self._ask(lambda: self.network.delete(path, revision))

    async def send(self, value: bytes, *, is_last: bool) -> None:
        if self.listener is None:
            await asyncio.Event().wait()  # the process does not exist any more
        if self.is_cut:
            raise RegistryAway("the connection was lost")
        for other in self.network.stores.values():
            if not self.network.is_lost():
                self.loop.call_later(self.network.delay(), other.receive, value, is_last)

    def receive(self, value: bytes, is_last: bool) -> None:
        if not self.is_cut and self.listener is not None:
            self.listener.on_message(value, is_last=is_last)

    async def request(self, node: str, subject: str, body: bytes, timeout: float) -> bytes:
        other = self.network.stores.get(node)
        await self._ask(lambda: None)
        if other is None or other.is_cut or other.listener is None:
            await asyncio.sleep(timeout)
            raise NodeUnreachable(f"node '{node}' does not answer")
        answer = await other.listener.on_request(subject, body)
        await self._ask(lambda: None)
        return answer

    async def close(self) -> None:
        self.kill()

    def kill(self) -> None:
        """End without a word."""
        self.network.stores.pop(self.name, None)
        self.listener = None
