"""Two nodes with real sockets in one process: Unix sockets, as between workers, and TCP, as between machines."""

from __future__ import annotations

import asyncio
import logging
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cluster.memory import MemoryStore, Network
from tests.cluster.streams import Lines, NumberedPublisher, Viewer
from tests.support.waiting import PATIENCE

from polycast.cluster import KeyValueRegistry, NodeInfo
from polycast.cluster.node import Node
from polycast.config import from_mapping
from polycast.hub.access import AccessControl
from polycast.hub.hub import Hub
from polycast.log import Log
from polycast.net.tls import MutualCertificate


class SocketNode:
    """A node as `NumberedPublisher` and `Viewer` want it."""

    is_alive = True

    def __init__(self, network: Network, name: str) -> None:
        loop = asyncio.get_running_loop()
        logger = logging.Logger("polycast.test.cluster")
        self.lines = Lines()
        logger.addHandler(self.lines)
        log = Log(logger)
        self.hub = Hub(loop=loop, log=log, access=AccessControl())
        self.registry = KeyValueRegistry(MemoryStore(network), loop, log)
        self.name = name
        self.log = log
        self.loop = loop

    async def start(
        self,
        address: str,
        certificate: MutualCertificate | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.node = Node(
            self.registry,
            NodeInfo(self.name, self.name, address),
            self.hub,
            self.loop,
            self.log,
            token=b"secret",
            clock=clock,
            certificate=certificate,
        )
        self.hub.configure(from_mapping({"paths": {"all": {}}}).paths)
        await self.node.start()


async def until(condition: object) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_a_path_is_copied_over_real_sockets(kind: str, tmp_path: Path) -> None:
    network = Network(1)
    a, b = SocketNode(network, "a"), SocketNode(network, "b")
    addresses = [str(tmp_path / "a.media"), str(tmp_path / "b.media")]
    if kind == "tcp":
        addresses = ["127.0.0.1:0"] * 2
    else:
        (tmp_path / "a.media").touch()  # left by a process that was killed
    for node, address in zip((a, b), addresses, strict=True):
        await node.start(address)
    try:
        if kind == "unix":
            assert stat.S_IMODE((tmp_path / "a.media").stat().st_mode) == 0o600
        await until(lambda: b.registry.directory.node("a") is not None)
        publisher = NumberedPublisher(a, "cam")  # type: ignore[arg-type]
        await until(lambda: b.registry.directory.owner_of("cam") is not None)
        viewer = Viewer(b, "cam")  # type: ignore[arg-type]
        await until(lambda: len(viewer.pictures) > 8)
        own = [picture for _, picture in viewer.pictures]
        assert own == list(range(own[0], own[0] + len(own)))
        publisher.leave()
        await until(lambda: bool(viewer.sessions[0].closed))
        viewer.leave()
    finally:
        for node in (a, b):
            node.hub.close("the test is over")
            await node.node.stop()
