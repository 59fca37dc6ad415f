"""Who gets a place, and who has to give one up."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from polycast.net.connection_slots import MAXIMUM_CONNECTIONS, ConnectionSlots, connection_limit


@dataclass(eq=False)
class Client:
    silent_since: float | None = 0.0


def fill(slots: ConnectionSlots[Client], host: str, count: int, silent_since: float | None = 0.0) -> list[Client]:
    clients = [Client(silent_since) for _ in range(count)]
    for client in clients:
        slots.acquire(client, host)
    return clients


def test_no_connection_is_evicted_while_there_is_room() -> None:
    slots: ConnectionSlots[Client] = ConnectionSlots(10, 1.0)
    fill(slots, "192.0.2.1", 5)
    fill(slots, "192.0.2.2", 5)
    assert len(slots) == 10
    assert not slots.is_exceeded("192.0.2.1")
    assert not slots.is_exceeded("192.0.2.3")


def test_the_oldest_silent_one_of_the_address_with_most_gives_way() -> None:
    slots: ConnectionSlots[Client] = ConnectionSlots(10, 1.0)
    fill(slots, "192.0.2.1", 2)
    many = fill(slots, "192.0.2.2", 5)
    fill(slots, "192.0.2.3", 4)
    many[0].silent_since = None
    assert slots.is_exceeded("192.0.2.3")
    assert slots.oldest_silent("192.0.2.3", 100.0) is many[1]
    slots.release(many[1])
    slots.release(many[1])
    assert not slots.is_exceeded("192.0.2.3")


def test_the_young_are_spared() -> None:
    slots: ConnectionSlots[Client] = ConnectionSlots(2, 1.0)
    fill(slots, "192.0.2.1", 3, silent_since=99.5)
    assert slots.oldest_silent("192.0.2.1", 100.0) is None
    assert slots.oldest_silent("192.0.2.1", 100.5) is not None


def test_those_who_said_what_they_want_are_spared() -> None:
    slots: ConnectionSlots[Client] = ConnectionSlots(2, 1.0)
    fill(slots, "192.0.2.1", 3, silent_since=None)
    assert slots.is_exceeded("192.0.2.1")
    assert slots.oldest_silent("192.0.2.1", 100.0) is None


def test_one_address_cannot_take_all_slots() -> None:
    slots: ConnectionSlots[Client] = ConnectionSlots(10, 1.0)
    own = fill(slots, "192.0.2.1", 6)
    assert slots.is_exceeded("192.0.2.1")
    assert slots.oldest_silent("192.0.2.1", 100.0) is own[0]
    assert not slots.is_exceeded("192.0.2.2")


@pytest.mark.parametrize(("other", "is_same"), [("2001:db8::2", True), ("2001:db8:0:1::1", False)])
def test_a_network_of_ipv6_counts_as_one_address(other: str, is_same: bool) -> None:
    slots: ConnectionSlots[Client] = ConnectionSlots(10, 1.0)
    fill(slots, "2001:db8::1", 5)
    fill(slots, other, 1)
    assert slots.is_exceeded("2001:db8::1") == is_same


def test_ipv4_addresses_written_as_ipv6_are_different_ones() -> None:
    slots: ConnectionSlots[Client] = ConnectionSlots(10, 1.0)
    fill(slots, "::ffff:192.0.2.1", 5)
    assert not slots.is_exceeded("::ffff:192.0.2.2")
    fill(slots, "192.0.2.1", 1)
    assert slots.is_exceeded("::ffff:192.0.2.1")


def test_slots_are_limited_by_the_open_files_limit() -> None:
    assert 16 <= connection_limit() <= MAXIMUM_CONNECTIONS
