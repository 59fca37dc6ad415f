"""What a node pays for paths that others publish and nobody reads here."""

from __future__ import annotations

import asyncio
import tracemalloc

from tests.cluster.memory import Network
from tests.cluster.nodes import TestNode
from tests.cluster.virtual import run

PATHS = 1000
MAXIMUM = 2 * 1024 * 1024
"""Bytes for all of them."""


def test_a_thousand_known_paths_take_little_memory() -> None:
    async def main() -> None:
        network = Network(1)
        publishing, idle = TestNode(network, "a"), TestNode(network, "b")
        await publishing.start()
        for number in range(PATHS):
            publishing.publish(f"building/floor{number % 20}/camera{number}")
        await asyncio.sleep(1)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await idle.start()
            await asyncio.sleep(2.5)
            idle.seen.clear()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert sum(1 for _ in idle.registry.directory.claims()) == PATHS
        assert after - before < MAXIMUM

    run(main())
