"""Claims on paths: one owner, moved by overriding publishers, kept while the registry is away, gone with their node."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cluster.memory import Network
from tests.cluster.nodes import TestNode
from tests.cluster.virtual import run

from polycast.cluster import NODE_LIFETIME_SECONDS, ClaimRefused, NodeUnreachable


async def start(network: Network, *names: str) -> list[TestNode]:
    nodes = [TestNode(network, name) for name in names]
    for node in nodes:
        await node.start()
    await asyncio.sleep(0.1)
    return nodes


def test_a_claim_is_known_everywhere_and_refused_to_others() -> None:
    async def main() -> None:
        a, b, c = await start(Network(1), "a", "b", "c")
        a.publish("cam")
        await asyncio.sleep(0.1)
        assert [node.owner("cam") for node in (a, b, c)] == ["a", "a", "a"]
        b.publish("cam")
        await asyncio.sleep(0.1)
        assert b.lost == [("cam", "node 'a' publishes the path now")]
        a.unpublish("cam")
        await asyncio.sleep(0.1)
        assert [node.owner("cam") for node in (a, b, c)] == [None, None, None]
        b.publish("cam")
        await asyncio.sleep(0.1)
        assert [node.owner("cam") for node in (a, b, c)] == ["b", "b", "b"]

    run(main())


def test_a_publisher_that_comes_before_the_node_has_joined() -> None:
    async def main() -> None:
        (a,) = await start(network := Network(1), "a")
        b = TestNode(network, "b")
        b.publish("cam")
        await asyncio.sleep(0.1)
        await b.start()
        await asyncio.sleep(2.0)
        assert a.owner("cam") == b.owner("cam") == "b"

    run(main())


def test_an_overriding_publisher_moves_the_claim_with_a_higher_revision() -> None:
    async def main() -> None:
        a, b, c = await start(Network(2), "a", "b", "c")
        a.publish("cam")
        await asyncio.sleep(0.1)
        b.publish("cam", moves=True)
        await asyncio.sleep(0.1)
        assert a.lost == [("cam", "node 'b' publishes the path now")]
        assert b.lost == []
        assert [(path, node) for path, node, _ in c.seen] == [("cam", "a"), ("cam", "b")]
        first, second = (revision for _, _, revision in c.seen)
        assert second > first

    run(main())


def test_two_that_claim_at_the_same_time_are_told_who_was_first() -> None:
    async def main() -> None:
        a, b = await start(Network(3), "a", "b")
        a.publish("cam")
        b.publish("cam")
        await asyncio.sleep(2)
        owners = {a.owner("cam"), b.owner("cam")}
        assert len(owners) == 1
        assert len(a.lost) + len(b.lost) == 1
        assert owners == {node.info.name for node in (a, b) if not node.lost}

    run(main())


def test_the_claims_of_a_killed_node_lapse_and_can_be_taken() -> None:
    async def main() -> None:
        a, b, c = await start(Network(4), "a", "b", "c")
        a.publish("cam")
        await asyncio.sleep(0.1)
        a.kill()
        await asyncio.sleep(NODE_LIFETIME_SECONDS - 1)
        assert b.owner("cam") == "a"
        await asyncio.sleep(1.1)
        assert b.owner("cam") is None
        assert b.gone == ["a"]
        b.publish("cam")
        await asyncio.sleep(0.1)
        assert c.owner("cam") == "b"

    run(main())


def test_a_node_that_leaves_is_gone_at_once() -> None:
    async def main() -> None:
        a, b = await start(Network(5), "a", "b")
        a.publish("cam")
        await asyncio.sleep(0.1)
        await a.leave()
        await asyncio.sleep(0.1)
        assert b.owner("cam") is None
        assert b.gone == ["a"]

    run(main())


def test_a_node_that_starts_again_takes_back_what_its_former_process_claimed() -> None:
    async def main() -> None:
        network = Network(6)
        a, b = await start(network, "a", "b")
        a.publish("cam")
        await asyncio.sleep(0.1)
        a.kill()
        again = TestNode(network, "a", "2")
        await again.start()
        await asyncio.sleep(0.1)
        assert b.owner("cam") is None, "the claim is that of the former process"
        again.publish("cam")
        await asyncio.sleep(0.1)
        assert b.owner("cam") == "a"
        assert again.lost == []

    run(main())


def test_nothing_lapses_while_the_registry_is_away() -> None:
    async def main() -> None:
        network = Network(7)
        a, b = await start(network, "a", "b")
        a.publish("cam")
        await asyncio.sleep(0.1)
        for node in (a, b):
            node.store.cut()
        await asyncio.sleep(10 * NODE_LIFETIME_SECONDS)
        assert b.owner("cam") == "a"
        b.publish("new")
        await asyncio.sleep(1)
        for node in (a, b):
            node.store.heal()
        await asyncio.sleep(3)
        assert (a.owner("cam"), b.owner("cam")) == ("a", "a")
        assert (a.owner("new"), b.owner("new")) == ("b", "b")
        assert a.lost == b.lost == []

    run(main())


def test_a_registry_that_forgot_everything_is_told_again() -> None:
    async def main() -> None:
        network = Network(8)
        a, b = await start(network, "a", "b")
        a.publish("cam")
        await asyncio.sleep(0.1)
        network.forget()
        await asyncio.sleep(1)
        assert (a.owner("cam"), b.owner("cam")) == ("a", "a")
        assert a.lost == []

    run(main())


def test_a_claim_whose_answer_was_lost_is_given_up_with_its_publisher() -> None:
    async def main() -> None:
        network = Network(9)
        a, b = await start(network, "a", "b")
        a.publish("cam")
        network.loss = 0.0
        await asyncio.sleep(0.005)
        a.unpublish("cam")
        await asyncio.sleep(5)
        assert b.owner("cam") is None
        assert network.entries == {}

    run(main())


def test_a_loop_that_stood_still_takes_nobody_for_dead() -> None:
    async def main() -> None:
        a, b = await start(Network(10), "a", "b")
        a.publish("cam")
        await asyncio.sleep(0.1)
        directory = b.registry.directory
        now = asyncio.get_running_loop().time()
        assert directory.handle_timeout(now + 60) == []
        assert b.owner("cam") == "a"

    run(main())


def test_a_registry_that_is_silent_tells_nothing_about_the_nodes() -> None:
    """It is connected, but slow: not even a node's own heartbeats come back to it."""

    async def main() -> None:
        network = Network(14)
        a, b = await start(network, "a", "b")
        a.publish("cam")
        await asyncio.sleep(0.1)
        network.loss = 1.0
        await asyncio.sleep(3.5 * NODE_LIFETIME_SECONDS)
        assert (b.owner("cam"), b.gone, a.gone) == ("a", [], [])
        network.loss = 0.0
        await asyncio.sleep(2)
        a.kill()
        await asyncio.sleep(NODE_LIFETIME_SECONDS + 1)
        assert (b.owner("cam"), b.gone) == (None, ["a"])

    run(main())


def test_of_two_with_one_name_the_later_one_is_the_node() -> None:
    async def main() -> None:
        network = Network(15)
        a, b = await start(network, "a", "b")
        a.publish("cam")
        await asyncio.sleep(0.1)
        again = TestNode(network, "a", "2")
        await again.start()
        network.stores["a, the first"] = a.store  # it lives on
        for _ in range(20):
            await asyncio.sleep(0.25)
            infos = {node.registry.directory.nodes["a"].instance for node in (a, b, again)}
            assert infos == {"a-2"}
        assert b.owner("cam") is None

    run(main())


def test_requests_reach_the_node_that_they_name() -> None:
    async def main() -> None:
        a, b = await start(Network(11), "a", "b")
        assert await a.registry.request("b", "hello", b"body", timeout=1) == b"b hello body"
        b.store.cut()
        with pytest.raises(NodeUnreachable):
            await a.registry.request("b", "hello", b"", timeout=1)
        with pytest.raises(NodeUnreachable, match="no node 'z'"):
            await a.registry.request("z", "hello", b"", timeout=1)

    run(main())


def test_invalid_entries_and_messages_are_ignored() -> None:
    async def main() -> None:
        a, b = await start(Network(12), "a", "b")
        for value in (b"", b"\xff", b"\x92\xa1a", b"\xc0", b"\x93\x01\x02\x03"):
            b.registry.on_entry("cam", value, 7)
            b.registry.on_message(value, is_last=False)
        assert b.owner("cam") is None
        a.publish("cam")
        await asyncio.sleep(0.1)
        assert b.owner("cam") == "a"

    run(main())


def test_a_refused_claim_names_the_owner() -> None:
    async def main() -> None:
        a, b = await start(Network(13), "a", "b")
        a.publish("cam")
        await asyncio.sleep(0.1)
        with pytest.raises(ClaimRefused, match="path 'cam' is published on node 'a'"):
            await b.registry.claim("cam", moves=False)

    run(main())


ACTIONS = st.one_of(
    st.tuples(st.just("publish"), st.integers(0, 3), st.sampled_from(["x", "y"]), st.booleans()),
    st.tuples(st.just("unpublish"), st.integers(0, 3), st.sampled_from(["x", "y"]), st.just(False)),
    st.tuples(st.sampled_from(["cut", "heal", "kill", "join"]), st.integers(0, 3), st.just(""), st.just(False)),
    st.tuples(st.just("forget"), st.just(0), st.just(""), st.just(False)),
)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.0, 0.2, 0.5]),
    actions=st.lists(st.tuples(st.floats(0, 8), ACTIONS), max_size=25),
)
def test_whatever_happens_there_is_one_owner_in_the_end(
    seed: int, loss: float, actions: list[tuple[float, tuple[str, int, str, bool]]]
) -> None:
    """And no revision ever has two owners; no node is told an older claim after a newer one."""

    async def main() -> None:
        network = Network(seed, loss=loss)
        nodes = await start(network, "a", "b", "c", "d")
        everyone = list(nodes)
        starts = 1
        for pause, (kind, index, path, moves) in actions:
            await asyncio.sleep(pause)
            node = nodes[index]
            if node.store.listener is None and kind != "join":
                continue
            if kind == "publish":
                node.publish(path, moves=moves)
            elif kind == "unpublish":
                node.unpublish(path)
            elif kind == "cut":
                node.store.cut()
            elif kind == "heal":
                node.store.heal()
            elif kind == "kill":
                node.kill()
            elif kind == "join" and node.store.listener is None:
                starts += 1
                nodes[index] = TestNode(network, node.info.name, str(starts))
                await nodes[index].start()
                everyone.append(nodes[index])
            elif kind == "forget":
                network.forget()
        network.loss = 0.0
        for node in nodes:
            node.store.heal()
        await asyncio.sleep(4 * NODE_LIFETIME_SECONDS)
        alive = [node for node in nodes if node.store.listener is not None]
        for path in ("x", "y"):
            publishing = {node.info.name for node in alive if path in node.publishing}
            assert len(publishing) <= 1
            for node in alive:
                assert node.owner(path) == (next(iter(publishing)) if publishing else None)
        owners: dict[tuple[str, int], str] = {}
        for node in everyone:
            for path in ("x", "y"):
                revisions = [revision for each, owner, revision in node.seen if each == path and owner is not None]
                assert revisions == sorted(set(revisions))
            for path, owner, revision in node.seen:
                if owner is not None:
                    assert owners.setdefault((path, revision), owner) == owner

    run(main())
