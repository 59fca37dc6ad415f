"""Nodes without media: what they publish, and what they are told."""

from __future__ import annotations

import asyncio
import logging

from tests.cluster.memory import MemoryStore, Network

from polycast.cluster import (
    HEARTBEAT_SECONDS,
    Claim,
    KeyValueRegistry,
    NodeInfo,
    Ownership,
    RegistryAway,
)
from polycast.log import Log

LOG = Log(logging.Logger("polycast.test.cluster"))


class TestNode:
    """A node whose publishers are names of paths."""

    __test__ = False

    def __init__(self, network: Network, name: str, instance: str = "1") -> None:
        loop = asyncio.get_running_loop()
        self.store = MemoryStore(network)
        self.registry = KeyValueRegistry(self.store, loop, LOG)
        self.info = NodeInfo(name, f"{name}-{instance}", f"{name}:8600", started=float(instance))
        self.ownership = Ownership(self.registry, self.info.instance, loop, LOG, self._on_lost)
        self.publishing: set[str] = set()
        self.lost: list[tuple[str, str]] = []
        self.seen: list[tuple[str, str | None, int]] = []
        """(path, node, revision) of the claims that it was told of."""
        self.gone: list[str] = []
        self._beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.registry.join(self.info, self)
        self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            try:
                await self.registry.heartbeat(self.info)
            except RegistryAway:
                pass
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def publish(self, path: str, *, moves: bool = False) -> None:
        self.publishing.add(path)
        self.ownership.hold(path, moves=moves)

    def unpublish(self, path: str) -> None:
        self.publishing.discard(path)
        self.ownership.give_up(path)

    def owner(self, path: str) -> str | None:
        claim = self.registry.directory.owner_of(path)
        return None if claim is None else claim.node

    def _on_lost(self, path: str, reason: str) -> None:
        self.publishing.discard(path)
        self.lost.append((path, reason))

    def kill(self) -> None:
        """End without a word, as a process that is killed does."""
        self.store.kill()
        if self._beating is not None:
            self._beating.cancel()
        self.publishing.clear()

    async def leave(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
        await self.ownership.close()
        await self.registry.leave()

    # Watcher

    def on_claim(self, path: str, claim: Claim | None) -> None:
        self.seen.append((path, None, 0) if claim is None else (path, claim.node, claim.revision))
        self.ownership.on_claim(path, claim)

    def on_node(self, name: str, info: NodeInfo | None) -> None:
        if info is None:
            self.gone.append(name)

    def on_connection(self, *, is_connected: bool) -> None:
        self.ownership.on_connection(is_connected=is_connected)

    async def on_request(self, subject: str, body: bytes) -> bytes:
        return f"{self.info.name} {subject} ".encode() + body
