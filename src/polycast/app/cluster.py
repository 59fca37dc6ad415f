"""This server as a node of a cluster, if one is configured."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from polycast.app.servers import StartError
from polycast.cluster.directory import NodeInfo
from polycast.cluster.key_value import KeyValueRegistry
from polycast.cluster.node import DRAIN, DRAIN_SUBJECT, Node
from polycast.cluster.registry import NodeUnreachable, RegistryAway
from polycast.config.schema import Configuration
from polycast.control.contract import ClusterNode, ClusterPath, StreamAddress
from polycast.errors import PolycastError, missing_packages
from polycast.hub.hub import Hub
from polycast.log import Log
from polycast.net.address import join_host_port
from polycast.net.tls import MutualCertificate
from polycast.security.addresses import parse_address

if TYPE_CHECKING:
    from polycast.cluster.nats_store import NatsStore

CLUSTER_KEYS: Final = frozenset(
    {
        "cluster",
        "clusterCredentials",
        "clusterToken",
        "clusterEncryption",
        "clusterServerKey",
        "clusterServerCert",
        "clusterCA",
        "nodeName",
        "nodeAddress",
        "nodeHost",
        "clusterRedirect",
    }
)

PATHS_SUBJECT: Final = "paths"
"""Subject of requests for the paths of a node."""
MAXIMUM_ANSWER: Final = 64 * 1024 * 1024
"""Bytes of the description of all paths of a node."""
ANSWER_SECONDS: Final = 2.0
"""For another node to answer."""

_NATS_PORT: Final = 4222


class ClusterMember:
    """Joins and leaves the cluster as the configuration says. Streams are not interrupted by either."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        hub: Hub,
        log: Log,
        addresses: Callable[[], Mapping[str, StreamAddress]] = dict,
    ) -> None:
        """``addresses`` returns those of the running servers, by their names."""
        self._addresses = addresses
        self._loop = loop
        self._hub = hub
        self._log = log.child("cluster")
        self._describe: Callable[[], bytes] = lambda: b"[]"
        self.node: Node | None = None
        """None without a cluster."""
        self._leaving: asyncio.Task[None] | None = None

    @property
    def nodes(self) -> list[ClusterNode]:
        """The living nodes, sorted by name; none without a cluster."""
        if self.node is None:
            return []
        known = {**self.node.registry.directory.nodes, self.node.name: self.node.info}
        return [
            ClusterNode(
                name=name,
                address=info.address,
                is_self=name == self.node.name,
                is_draining=info.is_draining,
                cpu=round(info.load.cpu, 3),
                bit_rate=round(info.load.bit_rate),
                publishers=info.load.publishers,
                readers=info.load.readers,
            )
            for name, info in sorted(known.items())
        ]

    @property
    def owners(self) -> list[ClusterPath]:
        """The published paths of the cluster with their nodes, sorted by name; empty without a cluster."""
        if self.node is None:
            return []
        claims = sorted(self.node.registry.directory.claims(), key=lambda claim: claim.path)
        return [ClusterPath(name=claim.path, node=claim.node) for claim in claims]

    async def start(self, configuration: Configuration) -> None:
        """Join the cluster, if there is one. Raises StartError."""
        if not configuration.cluster:
            return
        try:
            node = await self._make_node(configuration)
        except ModuleNotFoundError as error:
            raise StartError(missing_packages("'cluster'", "nats-py")) from error
        except OSError as error:
            raise StartError(f"the cluster cannot be joined: {error.strerror or error}") from error
        node.handlers[PATHS_SUBJECT] = self._on_paths
        try:
            await node.start(configuration.node_address)
        except (OSError, PolycastError) as error:
            await node.stop()
            raise StartError(f"the cluster cannot be joined: {error}") from error
        self.node = node
        self._log.info("node '%s' accepts nodes on %s", node.name, node.info.address)

    async def stop(self, reason: str) -> None:
        """Leave it."""
        node, self.node = self.node, None
        if node is not None:
            await node.stop(reason)

    async def restart(self, old: Configuration, new: Configuration) -> None:
        """Leave the old cluster and join the new one; if that fails, the old one again. Raises StartError."""
        node = self.node
        await self.stop("the configuration changed")
        if node is not None:
            node.start_sources()
        try:
            await self.start(new)
        except StartError:
            await self.start(old)
            raise

    # For the API

    async def drain(self, name: str, *, is_draining: bool) -> bool:
        """Let a node take no new publishers and sources, or take them again; return whether it has answered."""
        node = self.node
        if node is None:
            return False
        if name == node.name:
            node.drain(is_draining=is_draining)
            return True
        return await self._ask(node, name, DRAIN_SUBJECT, DRAIN if is_draining else b"no") == b"ok"

    def answer_paths(self, describe: Callable[[], bytes]) -> None:
        """Set what other nodes get that ask for the paths of this one."""
        self._describe = describe

    async def paths_elsewhere(self) -> list[tuple[str, bytes]]:
        """Return what the other nodes answer, by their names."""
        node = self.node
        if node is None:
            return []
        names = [name for name in sorted(node.registry.directory.nodes) if name != node.name]
        answers = await asyncio.gather(*(self._ask(node, name, PATHS_SUBJECT, b"") for name in names))
        return [(name, _decompressed(answer)) for name, answer in zip(names, answers, strict=True) if answer]

    async def _ask(self, node: Node, name: str, subject: str, body: bytes) -> bytes:
        try:
            return await node.registry.request(name, subject, body, ANSWER_SECONDS)
        except (NodeUnreachable, RegistryAway) as error:
            self._log.info("node '%s' does not answer: %s", name, error)
            return b""

    async def _on_paths(self, body: bytes) -> bytes:
        return zlib.compress(self._describe(), level=1)

    async def _make_node(self, configuration: Configuration) -> Node:
        """Raises OSError for certificates that cannot be used."""
        certificate = await asyncio.to_thread(_certificate, configuration)
        store = await asyncio.to_thread(_import_store)
        name = configuration.node_name or await asyncio.to_thread(socket.gethostname)
        address = await asyncio.to_thread(_announced_address, configuration)
        host = configuration.node_host or parse_address(address)[0]
        return Node(
            KeyValueRegistry(
                store(configuration.cluster, configuration.cluster_credentials, self._loop, self._log),
                self._loop,
                self._log,
            ),
            NodeInfo(name, secrets.token_hex(8), address, started=time.time()),
            self._hub,
            self._loop,
            self._log,
            token=configuration.cluster_token.encode(),
            certificate=certificate,
            on_replaced=self._on_replaced,
            clients=partial(self._clients, host) if configuration.cluster_redirect else None,
        )

    def _clients(self, host: str) -> dict[str, str]:
        return {
            name: f"{address.scheme}://{join_host_port(host, address.port)}"
            for name, address in self._addresses().items()
        }

    def _on_replaced(self) -> None:
        if self.node is not None and self._leaving is None:
            self._log.error(
                "another server is node '%s' now: this one leaves the cluster. 'nodeName' must be unique",
                self.node.name,
            )
            self._leaving = self._loop.create_task(self._leave())

    async def _leave(self) -> None:
        await self.stop("another server has the name of this node")
        self._leaving = None


def _decompressed(answer: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(answer, MAXIMUM_ANSWER)
    except zlib.error:
        return b""


def _import_store() -> type[NatsStore]:
    from polycast.cluster.nats_store import NatsStore  # needs an optional package

    return NatsStore


def _certificate(configuration: Configuration) -> MutualCertificate | None:
    if not configuration.cluster_encryption:
        return None
    return MutualCertificate(
        configuration.cluster_server_cert, configuration.cluster_server_key, configuration.cluster_ca
    )


def _announced_address(configuration: Configuration) -> str:
    """Return what the other nodes connect to. Looks up names."""
    host, port = parse_address(configuration.node_address)
    if host:
        return join_host_port(host, port)
    server = urlsplit(configuration.cluster[0])
    try:
        target = socket.getaddrinfo(server.hostname, server.port or _NATS_PORT, type=socket.SOCK_DGRAM)[0]
        with socket.socket(target[0], socket.SOCK_DGRAM) as probe:
            probe.connect(target[4])  # sends nothing
            host = str(probe.getsockname()[0])
    except OSError:
        host = socket.gethostname()
    return join_host_port(host, port)
