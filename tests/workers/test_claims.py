"""The registry in the supervisor: one owner per path, and what is left of a worker that has ended."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import sys

import msgspec
import pytest
from msgspec import Raw
from tests.support.waiting import until

import polycast
from polycast.app.servers import StartError
from polycast.app.workers import worker_count
from polycast.cluster import Claim, ClaimRefused, KeyValueRegistry, NodeInfo, NodeUnreachable
from polycast.config.schema import Configuration
from polycast.errors import ConfigurationError
from polycast.log import Log
from polycast.workers.channel import Channel
from polycast.workers.claims import Claims, ClaimStore, Entry, node_name, number_of_node
from polycast.workers.messages import ReaderCount

LOG = Log(logging.getLogger("test"))


class Node:
    """A worker that only has a registry."""

    def __init__(self) -> None:
        self.claims: list[tuple[str, str]] = []
        self.gone: list[str] = []

    def on_claim(self, path: str, claim: Claim | None) -> None:
        self.claims.append((path, claim.node if claim is not None else ""))

    def on_node(self, name: str, info: NodeInfo | None) -> None:
        if info is None:
            self.gone.append(name)

    def on_connection(self, *, is_connected: bool) -> None:
        assert is_connected

    async def on_request(self, subject: str, body: bytes) -> bytes:
        return f"{subject} {body.decode()}".encode()


class Machine:
    """A supervisor and its workers."""

    def __init__(self) -> None:
        self.channels: dict[int, Channel] = {}
        self.workers: dict[int, Channel] = {}
        self.loads: dict[int, float] = {}
        self.claims = Claims(self.loads.__setitem__)

    async def add(self, number: int) -> tuple[KeyValueRegistry, Node]:
        ends = socket.socketpair()
        self.channels[number], self.workers[number] = Channel(LOG), Channel(LOG)
        self.claims.attach(number, self.channels[number])
        await self.channels[number].open(ends[0])
        await self.workers[number].open(ends[1])
        node = Node()
        registry = KeyValueRegistry(ClaimStore(self.workers[number]), asyncio.get_running_loop(), LOG)
        info = NodeInfo(node_name(number), "instance", f"/worker-{number}")
        await registry.join(info, node)
        await registry.heartbeat(info)
        return registry, node

    def end(self, number: int) -> None:
        self.workers.pop(number).close()
        self.channels.pop(number).close()
        self.claims.on_ended(number)

    def close(self) -> None:
        for number in list(self.channels):
            self.end(number)


async def test_a_path_has_one_owner_and_everybody_knows_it() -> None:
    machine = Machine()
    one, _ = await machine.add(1)
    other, watcher = await machine.add(2)
    await until(lambda: len(one.directory.nodes) == len(other.directory.nodes) == 2)
    assert machine.loads == {1: 0.0, 2: 0.0}
    first = await one.claim("cam", moves=False)
    await until(lambda: watcher.claims == [("cam", "worker-1")])
    with pytest.raises(ClaimRefused, match="path 'cam' is published on node 'worker-1'"):
        await other.claim("cam", moves=False)
    second = await other.claim("cam", moves=True)
    assert second.revision > first.revision
    await until(lambda: one.directory.owner_of("cam") == second)
    await one.release(first)
    assert other.directory.owner_of("cam") == second
    await other.release(second)
    await until(lambda: one.directory.owner_of("cam") is None)
    machine.close()


async def test_of_many_that_want_a_path_one_gets_it() -> None:
    machine = Machine()
    registries = [(await machine.add(number))[0] for number in range(1, 5)]
    await until(lambda: all(len(registry.directory.nodes) == 4 for registry in registries))
    results = await asyncio.gather(*(each.claim("cam", moves=False) for each in registries), return_exceptions=True)
    (winner,) = [result for result in results if isinstance(result, Claim)]
    assert [type(result) for result in results].count(ClaimRefused) == 3
    await until(lambda: all(each.directory.owner_of("cam") == winner for each in registries))
    machine.close()


async def test_what_a_worker_had_lapses_when_it_ends() -> None:
    machine = Machine()
    one, _ = await machine.add(1)
    other, watcher = await machine.add(2)
    await until(lambda: len(other.directory.nodes) == 2)
    await one.claim("a", moves=False)
    kept = await other.claim("b", moves=False)
    machine.workers[1].tell("readers", ReaderCount(1, "b", 3))
    counts: list[object] = []
    machine.workers[2].notices["readers"] = counts.append
    await until(lambda: counts)
    machine.end(1)
    await until(lambda: watcher.gone == ["worker-1"] and len(counts) == 2)
    assert other.directory.owner_of("a") is None
    assert other.directory.owner_of("b") == kept
    # The one that replaces it knows what there is.
    third, _ = await machine.add(1)
    assert third.directory.claim_of("b") == kept
    await until(lambda: third.directory.owner_of("b") == kept)
    assert (await third.claim("a", moves=False)).node == "worker-1"
    machine.close()


async def test_what_changes_while_a_worker_starts_is_not_forgotten() -> None:
    """The answer and the changes after it arrive in one read: the changes are processed first."""
    machine = Machine()
    one, _ = await machine.add(1)
    await until(lambda: len(one.directory.nodes) == 1)
    first = await one.claim("gone", moves=False)
    opening = machine.claims._open
    machine.claims.attach(2, channel := Channel(LOG))

    async def open_and_change(body: Raw) -> list[Entry]:
        entries = await opening(2, channel, body)
        await machine.claims._write(1, Raw(msgspec.msgpack.encode(Entry("gone", None, first.revision))))
        value = msgspec.msgpack.encode(("worker-1", "instance"))
        await machine.claims._write(1, Raw(msgspec.msgpack.encode(Entry("new", value, 0))))
        return entries

    channel.calls["claims"] = open_and_change
    ends = socket.socketpair()
    await channel.open(ends[0])
    machine.channels[2], machine.workers[2] = channel, Channel(LOG)
    await machine.workers[2].open(ends[1])
    registry, node = KeyValueRegistry(ClaimStore(machine.workers[2]), asyncio.get_running_loop(), LOG), Node()
    await registry.join(NodeInfo("worker-2", "instance", "/worker-2"), node)
    assert registry.directory.claim_of("gone") is None
    assert registry.directory.claim_of("new") is not None
    assert node.claims == [("gone", "worker-1"), ("gone", ""), ("new", "worker-1")]
    machine.close()


async def test_requests_reach_a_worker() -> None:
    machine = Machine()
    one, _ = await machine.add(1)
    await machine.add(2)
    await until(lambda: len(one.directory.nodes) == 2)
    assert await one.request("worker-2", "hello", b"you", 10) == b"hello you"
    machine.end(2)
    with pytest.raises(NodeUnreachable):
        await one.request("worker-2", "hello", b"you", 10)
    machine.close()


async def test_a_worker_that_is_slow_has_not_ended() -> None:
    registry = KeyValueRegistry(ClaimStore(Channel(LOG)), asyncio.get_running_loop(), LOG, lifetime=math.inf)
    directory = registry.directory
    directory.on_connection(is_connected=True, now=0.0)
    directory.on_node(NodeInfo("worker-1", "instance", "/worker-1"), 0.0)
    assert directory.next_timeout() is None
    assert directory.handle_timeout(1e9) == []
    assert "worker-1" in directory.nodes


def test_the_executable_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert worker_count(Configuration()) == 1
    with pytest.raises(StartError, match="the executable is a single process"):
        worker_count(Configuration(workers=2))


def test_a_program_that_embeds_a_server_has_one_process() -> None:
    with pytest.raises(ConfigurationError, match="a server in a Python program is one process"):
        polycast.Server({"workers": 4})


def test_names() -> None:
    assert [number_of_node(node_name(number)) for number in (1, 256)] == [1, 256]
    assert number_of_node("") == 0
