"""Random joins, leaves, partitions and moves of publishers: what readers at all nodes get, on a network with a seed."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cluster.memory import Network
from tests.cluster.streams import MediaNode, NumberedPublisher, Viewer, start
from tests.cluster.virtual import run

from polycast.hub.errors import CannotPublish

NAMES = ("a", "b", "c")
GRACE = 30.0
CALM_SECONDS = 45.0
"""Longer than anything that waits."""

NODE = st.integers(0, len(NAMES) - 1)
HARMLESS = st.one_of(
    st.tuples(st.just("publish"), NODE, st.booleans()),
    st.tuples(st.just("stop publishing"), NODE, st.just(False)),
    st.tuples(st.just("read"), NODE, st.booleans()),
    st.tuples(st.just("stop reading"), NODE, st.just(False)),
)
FAILURES = st.one_of(
    st.tuples(st.sampled_from(["lose the registry", "find the registry", "separate", "join", "kill", "start"]), NODE,
              st.just(False)),
    st.tuples(st.just("forget"), st.just(0), st.just(False)),
)  # fmt: skip


class World:
    """The nodes, who publishes and who reads."""

    def __init__(self, network: Network, nodes: list[MediaNode]) -> None:
        self.network = network
        self.nodes = nodes
        self.everybody = list(nodes)
        self.publishers: list[NumberedPublisher] = []
        self.viewers: list[Viewer] = []
        self.starts = 1

    async def act(self, kind: str, index: int, flag: bool) -> None:
        node = self.nodes[index]
        other = self.nodes[(index + 1) % len(self.nodes)]
        if kind == "start" and not node.is_alive:
            self.starts += 1
            node = self.nodes[index] = MediaNode(self.network, node.name, self.starts, **SETTINGS)
            self.everybody.append(node)
            await node.start()
        elif kind == "join":
            self.network.join(node.name, other.name)
        elif kind == "separate":
            self.network.separate(node.name, other.name)
        elif kind == "forget":
            self.network.forget()
        elif node.is_alive:
            self.act_at(node, kind, flag)

    def act_at(self, node: MediaNode, kind: str, flag: bool) -> None:
        if kind == "publish":
            try:
                self.publishers.append(NumberedPublisher(node, "cam", frames=flag))
            except CannotPublish:
                return
        elif kind == "stop publishing":
            for publisher in self.publishers:
                if publisher.node is node:
                    publisher.leave()
        elif kind == "read":
            self.viewers.append(Viewer(node, "cam", frames=flag))
        elif kind == "stop reading":
            for viewer in self.viewers:
                if viewer.node is node:
                    viewer.leave()
        elif kind == "lose the registry":
            node.store.cut()
        elif kind == "find the registry":
            node.store.heal()
        elif kind == "kill":
            node.kill()

    def mend(self) -> None:
        self.network.loss = 0.0
        for one in NAMES:
            for other in NAMES:
                if one < other:
                    self.network.join(one, other)
        for node in self.nodes:
            node.store.heal()

    @property
    def publishing(self) -> list[NumberedPublisher]:
        return [each for each in self.publishers if each.node.is_alive and not each.closed]


SETTINGS: dict[str, Any] = {"publisherGrace": f"{GRACE:g}s", "sourceOnDemandCloseAfter": "2s"}


def check_order(viewer: Viewer) -> None:
    """No picture twice, none out of order; and whoever was followed by another publisher does not come back."""
    for session in viewer.sessions:
        last: dict[int, int] = {}
        order: list[int] = []
        for publisher, picture in session.pictures:
            assert picture > last.get(publisher, -1), (publisher, picture)
            last[publisher] = picture
            if not order or order[-1] != publisher:
                order.append(publisher)
        assert len(order) == len(set(order)), order


def check_complete(viewer: Viewer) -> None:
    """Nothing is missing between the first and the last picture of a publisher, as nothing has failed."""
    for session in viewer.sessions:
        for publisher in {publisher for publisher, _ in session.pictures}:
            own = [picture for each, picture in session.pictures if each == publisher]
            assert own == list(range(own[0], own[0] + len(own))), (publisher, own)


def check_owners(world: World) -> None:
    """No revision has two owners, and no node accepts an owner after one with a higher revision."""
    owners: dict[int, str] = {}
    for node in world.everybody:
        revisions = [revision for _, revision in node.accepted]
        assert revisions == sorted(revisions), node.accepted
        for name, revision in node.accepted:
            assert owners.setdefault(revision, name) == name


def check_end(world: World, before: dict[Viewer, int]) -> None:
    """One publisher is left at most, and everybody who reads gets its pictures."""
    assert len(world.publishing) <= 1
    for viewer in world.viewers:
        check_order(viewer)
        if world.publishing and viewer.node.is_alive and not viewer.is_leaving:
            numbers = {publisher for publisher, _ in viewer.pictures[before[viewer] :]}
            assert numbers == {world.publishing[0].number}, viewer.node.log.lines[-10:]


async def play(seed: int, loss: float, actions: list[tuple[float, tuple[str, int, bool]]]) -> World:
    network = Network(seed, loss=loss)
    world = World(network, await start(network, *NAMES, **SETTINGS))
    for pause, action in actions:
        await asyncio.sleep(pause)
        await world.act(*action)
    world.mend()
    await asyncio.sleep(CALM_SECONDS)
    before = {viewer: len(viewer.pictures) for viewer in world.viewers}
    await asyncio.sleep(3)
    check_owners(world)
    check_end(world, before)
    return world


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    actions=st.lists(st.tuples(st.sampled_from([0.0, 0.3, 2.0, 7.0]), HARMLESS), max_size=12),
)
def test_without_failures_nothing_is_missing(seed: int, actions: list[tuple[float, tuple[str, int, bool]]]) -> None:
    async def main() -> None:
        for viewer in (await play(seed, 0.0, actions)).viewers:
            check_complete(viewer)

    run(main())


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.1, 0.4]),
    actions=st.lists(
        st.tuples(st.sampled_from([0.0, 0.3, 2.0, 7.0]), st.one_of(HARMLESS, HARMLESS, FAILURES)), max_size=16
    ),
)
def test_whatever_fails_readers_end_with_the_publisher_that_is_left(
    seed: int, loss: float, actions: list[tuple[float, tuple[str, int, bool]]]
) -> None:
    async def main() -> None:
        await play(seed, loss, actions)

    run(main())
