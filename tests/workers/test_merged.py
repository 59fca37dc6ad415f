"""What the supervisor shows of its workers is what a single process would show."""

from __future__ import annotations

import dataclasses

import msgspec
from tests.control.support import Server, running
from tests.support.rtp import key_unit, rtp

from polycast.config.dialects.registry import LEGACY
from polycast.control.items import describe_path
from polycast.control.v3.state import collections_of, list_items, path_traffic
from polycast.control.v3.state import describe_path as describe_path_in_v3
from polycast.hub.access import AccessControl
from polycast.hub.entries import PathEntries
from polycast.hub.movement import CannotMove, Movement
from polycast.protocols.registry import server_kinds
from polycast.workers.merged import MergedForwarding, MergedHub, MergedServer, MergedTraffic
from polycast.workers.snapshot import ProcessNumbers, Snapshot, take_snapshot


async def move(path: str, movement: Movement) -> None:
    raise CannotMove(f"{path} does not move")


def snapshot(server: Server) -> Snapshot:
    """Return what a worker would send."""
    taken = take_snapshot(server.app, server.app.control.traffic, ProcessNumbers(0.0, 0.0, 1.0, 2))
    return msgspec.msgpack.decode(msgspec.msgpack.encode(taken), type=Snapshot)


def merged(server: Server, *snapshots: Snapshot) -> MergedHub:
    hub = MergedHub(AccessControl(server.app.configuration, None), move)
    hub.entries = PathEntries(server.app.configuration.paths)
    hub.update(snapshots)
    return hub


async def test_paths_and_sessions_are_the_same() -> None:
    async with running() as server, running() as empty:
        traffic = server.app.control.traffic
        publisher = await server.publisher("cam")
        await server.reader("cam")
        await server.until(lambda: len(server.app.hub.path("cam").readers) == 1)
        publisher.send_frame(0, rtp(1, key_unit()))
        await server.until(lambda: traffic.of(server.app.hub.path("cam")).bytes_sent)
        await server.reader("cam")
        await server.until(lambda: len(server.app.hub.path("cam").readers) == 2)
        parts = {1: snapshot(empty), 2: snapshot(server)}
        hub = merged(server, *parts.values())
        (shown,) = hub
        real = server.app.hub.path("cam")
        for path, counted in ((shown, MergedTraffic()), (real, traffic)):
            item = describe_path(path, counted, MergedForwarding().items(shown))
            in_v3 = describe_path_in_v3(server.app, path, counted)
            if path is shown:
                expected, expected_in_v3 = item, in_v3
        assert msgspec.structs.replace(item, uptime=0.0) == msgspec.structs.replace(expected, uptime=0.0)
        assert in_v3 == expected_in_v3
        assert path_traffic(shown, MergedTraffic())["outboundBytes"] > 0
        kicked: list[tuple[int, str, str]] = []
        for kind in server_kinds():
            running_server = server.app.servers.get(kind.name)
            if running_server is None:
                continue
            theirs = {
                number: next(each for each in part.servers if each.name == kind.name) for number, part in parts.items()
            }
            together = MergedServer(kind, theirs, lambda *what: kicked.append(what))
            for collection in collections_of(running_server):
                fields = [{**each(), "uptime": 0} for each in await list_items(together, collection)]
                own = [{**each(), "uptime": 0} for each in await list_items(running_server, collection)]
                assert fields == own
            assert set(together.items()) == set(running_server.items())
            for key in running_server.items():
                assert together.kick(key)
                assert kicked.pop() == (2, kind.name, key)
            assert not together.kick("unknown")
        assert server.app.configuration.dialect == LEGACY.name


async def test_a_path_in_several_workers() -> None:
    async with running() as server:
        await server.publisher("cam")
        await server.reader("cam")
        await server.until(lambda: len(server.app.hub.path("cam").readers) == 1)
        own = snapshot(server)
        (path,) = own.paths
        copy = msgspec.structs.replace(
            path,
            is_copy=True,
            publisher=None,
            counters=dataclasses.replace(path.counters, bytes_received=1_000, bytes_sent=500, packets_sent=5),
        )
        other = msgspec.structs.replace(own, paths=[copy])
        hub = merged(server, other, own)
        (shown,) = hub
        assert shown.publisher == path.publisher
        assert len(shown.readers) == 2
        assert shown.counters.bytes_received == path.counters.bytes_received
        assert shown.counters.bytes_sent == path.counters.bytes_sent + 500
        # The history of a stream goes on, and ends with it.
        stream = shown.stream
        hub.update([own])
        assert hub.paths["cam"] is shown
        assert shown.stream is stream
        hub.update([msgspec.structs.replace(own, paths=[msgspec.structs.replace(path, ready_since=1.0)])])
        assert shown.stream is not stream
        hub.update([])
        assert shown.is_closed
        assert not hub.paths
