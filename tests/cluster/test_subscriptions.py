"""Who may connect to a node, and how its connections are checked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from tests.cluster.virtual import VirtualLoop

from polycast.cluster import subscriptions
from polycast.cluster.subscribers import Subscriber, SubscriptionServer
from polycast.cluster.subscriptions import Subscriptions
from polycast.hub.access import AccessControl
from polycast.hub.hub import Hub
from polycast.log import Log
from polycast.net.connection_slots import SILENT_SECONDS
from polycast.net.work import SLICE_SECONDS
from polycast.wire.subscription.connection import GREETING_SECONDS, NONCE_SIZE, SubscriberConnection
from polycast.wire.subscription.messages import Kind, message

LOG = Log(logging.Logger("polycast.test.cluster"))
TOKEN = b"secret"


class Transport(asyncio.Transport):
    """Notes what is sent, and whether it is open."""

    def __init__(self, host: str) -> None:
        super().__init__({"peername": (host, 5000)})
        self.is_open = True
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.is_open = False

    def abort(self) -> None:
        self.is_open = False

    def is_closing(self) -> bool:
        return not self.is_open

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class Owner:
    """A node that others connect to; ``limit``: of those that have not proven that they belong to the cluster."""

    def __init__(self, limit: int) -> None:
        self.loop = VirtualLoop()
        self.now = 1000.0
        hub = Hub(loop=self.loop, log=LOG, access=AccessControl())
        self.server = SubscriptionServer(
            hub, self, self.loop, LOG, token=TOKEN, is_owned_elsewhere=lambda path: False, clock=lambda: self.now
        )
        self.server.subscriptions.strangers.limit = limit

    def own_revision(self, path: str) -> int:
        return 0

    def connect(self, host: str) -> tuple[Subscriber, Transport]:
        connection, transport = self.server.make_connection(), Transport(host)
        connection.connection_made(transport)
        return connection, transport

    def connect_node(self, host: str) -> Transport:
        """Connect, and prove that the token is known."""
        connection, transport = self.connect(host)
        node = SubscriberConnection(TOKEN, bytes(NONCE_SIZE), self.now, node="b", path="cam", revision=1)
        connection.data_received(node.data_to_send())
        for data in transport.written:
            node.receive_data(data, self.now)
        connection.data_received(node.data_to_send())
        return transport


@pytest.fixture
def owner() -> Any:
    made = Owner(limit=8)
    yield made
    for connection in tuple(made.server.subscriptions.members):
        connection.abort("the test is over")
    made.loop.run_until_complete(asyncio.sleep(0))
    made.loop.close()


def test_strangers_of_one_address_leave_places_for_the_nodes_of_others(owner: Owner) -> None:
    strangers = [owner.connect("192.0.2.1")[1] for _ in range(20)]
    assert sum(stranger.is_open for stranger in strangers) == 4
    assert owner.connect_node("192.0.2.2").is_open


def test_a_silent_stranger_loses_its_place_to_a_node_of_the_same_address(owner: Owner) -> None:
    strangers = [owner.connect("192.0.2.1")[1] for _ in range(4)]
    owner.now += SILENT_SECONDS
    assert owner.connect_node("192.0.2.1").is_open
    assert [stranger.is_open for stranger in strangers] == [False, True, True, True]


def test_nodes_are_not_counted_as_strangers(owner: Owner) -> None:
    nodes = [owner.connect_node("192.0.2.1") for _ in range(20)]
    owner.now += SILENT_SECONDS
    strangers = [owner.connect("192.0.2.1")[1] for _ in range(4)]
    assert all(each.is_open for each in nodes + strangers)


def test_subscriptions_of_nodes_have_a_limit(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MAXIMUM_CONNECTIONS", 3)
    nodes = [owner.connect_node("192.0.2.1") for _ in range(4)]
    assert [node.is_open for node in nodes] == [True, True, True, False]


def test_a_stranger_that_proves_nothing_is_closed(owner: Owner) -> None:
    connection, transport = owner.connect("192.0.2.1")
    owner.now += GREETING_SECONDS
    connection.tick(owner.now)
    assert not transport.is_open


def test_a_client_with_another_token_is_closed_at_once(owner: Owner) -> None:
    connection, transport = owner.connect("192.0.2.1")
    other = SubscriberConnection(b"another", bytes(NONCE_SIZE), owner.now, node="b", path="cam", revision=1)
    hello = other.data_to_send()
    connection.data_received(hello)
    assert transport.is_open
    connection.data_received(message(Kind.PROOF, bytes(32)))
    assert not transport.is_open


class Member:
    """A connection whose check takes as long as a slice."""

    silent_since: float | None = None

    def __init__(self, tick: Callable[[], None]) -> None:
        self.errors = 0
        self._tick = tick

    def tick(self, now: float) -> None:
        self._tick()

    def on_internal_error(self) -> None:
        self.errors += 1

    def evict(self) -> None: ...

    def close(self, reason: str) -> None: ...

    def abort(self, reason: str) -> None: ...


def test_connections_are_checked_in_slices_and_a_failure_ends_only_one() -> None:
    loop = VirtualLoop()
    over = loop.create_future()
    now = 1000.0
    order: list[str] = []

    def tick() -> None:
        nonlocal now
        now += SLICE_SECONDS
        order.append("check")
        loop.call_soon(order.append, "something else")
        if order.count("check") == 2:
            raise AssertionError("a bug")

    checked = Subscriptions(loop, lambda: now, over.set_result)
    members = [Member(tick) for _ in range(5)]
    for member in members:
        checked.add(member)
    checked.housekeeping.start()
    loop.run_until_complete(over)
    checked.housekeeping.stop()
    loop.close()
    assert order == ["check", "something else"] * 5
    assert sum(member.errors for member in members) == 1
