"""This node: what it owns, what it copies from others, and what it tells them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import msgspec

from polycast.cluster.copying import Dial, NodeSource, Owner, dial
from polycast.cluster.directory import HEARTBEAT_SECONDS, Claim, Load, NodeInfo
from polycast.cluster.encryption import EncryptedDial
from polycast.cluster.ownership import Ownership
from polycast.cluster.registry import Registry, RegistryAway
from polycast.cluster.subscribers import SubscriptionServer
from polycast.hub.errors import CannotPublish
from polycast.hub.hub import Hub
from polycast.hub.path import Path, PathObserver
from polycast.hub.publisher import Source
from polycast.log import Log
from polycast.net.tls import MutualCertificate

Handler = Callable[[bytes], Awaitable[bytes]]
"""Answers a request of another node."""

DRAIN_SUBJECT: Final = "drain"
DRAIN: Final = b"yes"
"""Body of a request to drain; any other one ends it."""

SPREAD_SECONDS: Final = 0.5
"""Within which the nodes start a source that the node which ran it has given up."""
LEAVE_SECONDS: Final = 2.0
"""For the registry to take note that the node leaves."""


class _Means(NamedTuple):
    """What a node needs to copy from others."""

    token: bytes
    placed: Callable[[str], str]
    dial: Dial
    clock: Callable[[], float]
    on_replaced: Callable[[], None]
    clients: Callable[[], dict[str, str]] | None


class Node(PathObserver):
    """One node of a cluster: it observes the paths of its hub, and is what they ask about other nodes."""

    def __init__(
        self,
        registry: Registry,
        info: NodeInfo,
        hub: Hub,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        *,
        token: bytes = b"",
        placed: Callable[[str], str] = lambda path: "",
        dial: Dial = dial,
        clock: Callable[[], float] = time.monotonic,
        certificate: MutualCertificate | None = None,
        on_replaced: Callable[[], None] = lambda: None,
        clients: Callable[[], dict[str, str]] | None = None,
    ) -> None:
        """``token``: what all nodes of the cluster know. ``placed`` returns the name of the node that is to run the
        source of a path, or an empty text; it may be this one. ``clock`` returns monotonic seconds. ``certificate``:
        for TLS with all other nodes, in place of ``dial``; None without. ``on_replaced`` is called when a later process
        has joined under the same name. ``clients`` returns where clients reach this node (`NodeInfo.clients`); with it,
        they are redirected to other nodes."""
        self.registry = registry
        self.info = info
        self.handlers: dict[str, Handler] = {DRAIN_SUBJECT: self._on_drain}
        """What answers requests of other nodes, by their subject."""
        self._hub = hub
        self._loop = loop
        self._log = log
        dial = dial if certificate is None else EncryptedDial(certificate)
        self._means = _Means(token, placed, dial, clock, on_replaced, clients)
        self._sources: dict[str, NodeSource] = {}
        self._stopped: set[str] = set()
        """The paths whose own sources do not run because another node runs them."""
        self._ownership = Ownership(registry, info.instance, loop, log, self._on_lost)
        self.server = SubscriptionServer(
            hub,
            self,
            loop,
            log,
            token=token,
            is_owned_elsewhere=self.is_owned_elsewhere,
            clock=clock,
            certificate=certificate,
        )
        hub.other_nodes = self
        hub.observers.append(self)
        self._beating: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return self.info.name

    @property
    def token(self) -> bytes:
        """What all nodes of the cluster know."""
        return self._means.token

    def clock(self) -> float:
        """Return monotonic seconds."""
        return self._means.clock()

    # Life

    async def start(self, listen: str = "") -> None:
        """Accept subscriptions, and join the cluster. ``listen``: where, if not at its address.

        Raises OSError with a text for the user, PolycastError for a registry that cannot be used.
        """
        await self.server.start(listen or self.info.address)
        host, _, port = self.info.address.rpartition(":")
        if port == "0":
            self.info = msgspec.structs.replace(self.info, address=f"{host}:{self.server.port}")
        for path in self._hub:
            if path.is_online:
                self.on_path_online(path)
        await self.registry.join(self.info, self)
        self._beating = self._loop.create_task(self._beat())

    async def stop(self, reason: str = "the server stops") -> None:
        """Leave the cluster."""
        if self._beating is not None:
            self._beating.cancel()
        if self._hub.other_nodes is self:
            self._hub.other_nodes = None
        if self in self._hub.observers:
            self._hub.observers.remove(self)
        for source in tuple(self._sources.values()):
            source.path.stop_copying(reason)
        await self.server.stop(reason)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._ownership.close()
                await self.registry.leave()

    async def _beat(self) -> None:
        used, then = time.process_time(), self._loop.time()
        while True:
            with contextlib.suppress(RegistryAway):
                await self.registry.heartbeat(self.info)
            await asyncio.sleep(HEARTBEAT_SECONDS)
            now_used, now = time.process_time(), self._loop.time()
            cpu = round((now_used - used) / max(now - then, 0.001), 2)
            used, then = now_used, now
            clients = self._means.clients() if self._means.clients is not None else {}
            self.info = msgspec.structs.replace(self.info, load=self._load(cpu), clients=clients)

    def _load(self, cpu: float) -> Load:
        own = [path for path in self._hub if path.is_online and not path.is_copy]
        return Load(
            cpu=cpu,
            bit_rate=sum(path.stream.meter.bit_rate for path in own if path.stream is not None),
            readers=sum(len(reader.clients()) for path in self._hub for reader in path.readers),
            publishers=len(own),
        )

    # For the API

    async def _on_drain(self, body: bytes) -> bytes:
        self.drain(is_draining=body == DRAIN)
        return b"ok"

    def drain(self, *, is_draining: bool) -> None:
        """Take no new publishers and sources, so that the server can be stopped; or take them again."""
        if is_draining == self.info.is_draining:
            return
        self._log.info("draining: no new publishers and sources" if is_draining else "not draining any more")
        self.info = msgspec.structs.replace(self.info, is_draining=is_draining)
        if not is_draining:
            self._start_later()
            return
        for path in self._hub:
            source = _permanent_source(path)
            if source is not None and path.name not in self._stopped:
                self._stopped.add(path.name)
                path.yield_to_node("the node is draining")
                source.stop("the node is draining")

    # OtherNodes

    def source_of(self, path: Path) -> Source | None:
        if self.owner_of(path.name) is None:
            return None
        source = self._sources[path.name] = NodeSource(path, self, self._loop, self._means.dial)
        return source

    def check_publisher(self, path: Path) -> None:
        if self.info.is_draining:
            raise CannotPublish(f"can't publish to path '{path.name}': the server is going to be stopped")
        claim = self.registry.directory.owner_of(path.name)
        if claim is not None and claim.node != self.name and not path.configuration.override_publisher:
            raise CannotPublish(f"someone is already publishing to path '{path.name}'")

    def redirection(self, path: str, server: str) -> str:
        if self._means.clients is None:
            return ""
        directory = self.registry.directory
        others = {name: info for name, info in directory.nodes.items() if name != self.name and not info.is_draining}
        claim = directory.owner_of(path)
        node = others.get(claim.node) if claim is not None else None
        if node is None and self.info.is_draining and claim is not None:
            # Any other one, which copies the stream from here: readers are not sent to a node that is draining.
            node = min(others.values(), key=lambda info: (info.load.cpu, info.name), default=None)
        return "" if node is None else node.clients.get(server, "")

    # Neighbours

    def owner_of(self, path: str) -> Owner | None:
        claim = self.registry.directory.owner_of(path)
        name = claim.node if claim is not None else self._means.placed(path)
        if not name or name == self.name:
            return None
        info = self.registry.directory.node(name)
        return None if info is None else Owner(name, info.address, claim.revision if claim is not None else 0)

    def remove_source(self, source: NodeSource) -> None:
        if self._sources.get(source.path.name) is source:
            del self._sources[source.path.name]

    # Claims of this node

    def own_revision(self, path: str) -> int:
        claim = self._ownership.claim_on(path)
        return 0 if claim is None else claim.revision

    def is_owned_elsewhere(self, path: str) -> bool:
        """Whether another node publishes a path."""
        claim = self.registry.directory.owner_of(path)
        return claim is not None and claim.node != self.name

    def on_path_online(self, path: Path) -> None:
        if not path.is_copy:
            # A source never takes a path from another node; a client does, if it may replace publishers.
            moves = not isinstance(path.publisher, Source) and path.configuration.override_publisher
            self._ownership.hold(path.name, moves=moves)

    def on_path_offline(self, path: Path) -> None:
        if not path.is_copy:
            self._ownership.give_up(path.name)

    def _on_lost(self, name: str, reason: str) -> None:
        path = self._hub.paths.get(name)
        if path is not None and not path.is_copy:
            path.log.info("%s", reason)
            if _permanent_source(path) is not None:
                self._stopped.add(name)
            path.yield_to_node(reason)

    def _leave_to_owner(self, name: str) -> None:
        """Another node publishes a path now: its own source here is not needed, and readers that wait continue."""
        path = self._hub.paths.get(name)
        if path is None or (path.publisher is not None and path.publisher is path.source):
            return  # the publisher here is closed by `_on_lost`, once the claim is refused
        source = _permanent_source(path)
        if source is not None and name not in self._stopped:
            self._stopped.add(name)
            source.stop("another node publishes the path")
        path.follow_node()

    def _start_later(self) -> None:
        """Start the sources of paths that no node publishes any more; not all nodes at the same time."""
        if self._stopped:
            self._loop.call_later(random.uniform(0.0, SPREAD_SECONDS), self._start_sources)

    def _start_sources(self) -> None:
        self.start_sources(lambda name: self.registry.directory.owner_of(name) is None)

    def start_sources(self, which: Callable[[str], bool] = lambda name: True) -> None:
        """Start the sources of this node that were left to another one: all, or those of paths that ``which`` names."""
        for name in () if self.info.is_draining else tuple(filter(which, self._stopped)):
            self._stopped.discard(name)
            path = self._hub.paths.get(name)
            if path is not None and path.source is not None:
                path.source.start()

    # Watcher

    def on_claim(self, path: str, claim: Claim | None) -> None:
        self._ownership.on_claim(path, claim)
        source = self._sources.get(path)
        if source is not None:
            source.on_claim(claim)
        if claim is None:
            self._start_later()
        elif self.is_owned_elsewhere(path):
            self._leave_to_owner(path)

    def on_node(self, name: str, info: NodeInfo | None) -> None:
        if info is None:
            self._start_later()
        elif name == self.name and info.replaces(self.info):
            self._means.on_replaced()

    def on_connection(self, *, is_connected: bool) -> None:
        # Processes of one server have a registry as long as they live.
        write = self._log.debug if self.info.address.startswith("/") else self._log.info
        write("connected to NATS" if is_connected else "the connection to NATS is lost")
        self._ownership.on_connection(is_connected=is_connected)

    async def on_request(self, subject: str, body: bytes) -> bytes:
        handler = self.handlers.get(subject)
        return b"" if handler is None else await handler(body)


def _permanent_source(path: Path) -> Source | None:
    """Return a path's own source if that does not wait for readers; `Path.on_demand` may be that of a copy."""
    return None if path.configuration.source_on_demand else path.source
