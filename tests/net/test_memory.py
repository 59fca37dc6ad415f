"""Memory of all connections together: the one that holds most is ended."""

from __future__ import annotations

import random

import pytest

from polycast.net.memory import (
    MAXIMUM_ADDRESS_SIZE,
    MAXIMUM_RECEIVED_SIZE,
    MINIMUM_RECEIVED_SIZE,
    MINIMUM_SIZE,
    HeldMemory,
)


class BufferingConnection:
    """Stands for a connection, and counts how often connections are looked at."""

    looked_at = 0

    def __hash__(self) -> int:
        BufferingConnection.looked_at += 1
        return id(self) >> 4

    def __init__(self) -> None:
        self.reason = ""

    def abort(self, reason: str) -> None:
        self.reason = reason


def test_the_largest_of_an_address_is_ended() -> None:
    held = HeldMemory()
    small, large, other = BufferingConnection(), BufferingConnection(), BufferingConnection()
    half = MAXIMUM_ADDRESS_SIZE // 2
    held.update(large, "10.0.0.1", half + MINIMUM_SIZE, 0)
    held.update(other, "10.0.0.2", half, 0)
    held.update(small, "10.0.0.1", half - MINIMUM_SIZE, 0)
    assert not any(holder.reason for holder in (small, large, other))
    held.update(small, "10.0.0.1", half, 0)
    assert "all of 10.0.0.1 together have sent more than may wait" in large.reason
    held.update(small, "10.0.0.1", MAXIMUM_ADDRESS_SIZE, 0)
    assert not small.reason
    assert not other.reason


def test_the_addresses_of_a_network_count_as_one() -> None:
    held = HeldMemory()
    holders = [BufferingConnection() for _ in range(5)]
    for number, holder in enumerate(holders):
        held.update(holder, f"2001:db8::{number}", MAXIMUM_ADDRESS_SIZE // 4, 0)
    assert [bool(holder.reason) for holder in holders].count(True) == 1
    mapped, other = BufferingConnection(), BufferingConnection()
    held.update(mapped, "::ffff:10.0.0.1", MAXIMUM_ADDRESS_SIZE // 2, 0)
    held.update(other, "10.0.0.1", MAXIMUM_ADDRESS_SIZE // 2 + MINIMUM_SIZE, 0)
    assert "all of 10.0.0.1 together" in other.reason


def test_the_largest_sender_of_all_is_ended() -> None:
    held = HeldMemory()
    count = MAXIMUM_RECEIVED_SIZE // MAXIMUM_ADDRESS_SIZE
    holders = [BufferingConnection() for _ in range(count)]
    for number, holder in enumerate(holders):
        held.update(holder, f"10.0.0.{number}", MAXIMUM_ADDRESS_SIZE, 0)
    assert not any(holder.reason for holder in holders)
    late = BufferingConnection()
    held.update(late, "10.0.1.1", MINIMUM_SIZE, 0)
    assert not late.reason
    assert [bool(holder.reason) for holder in holders].count(True) == 1


def test_the_one_that_holds_most_is_ended() -> None:
    held = HeldMemory(maximum=10 * MINIMUM_SIZE)
    readers = [BufferingConnection() for _ in range(4)]
    for number, reader in enumerate(readers):
        held.update(reader, "10.0.0.1", 0, (number + 1) * MINIMUM_SIZE)
    assert not any(reader.reason for reader in readers)
    assert held.size == 10 * MINIMUM_SIZE
    held.update(readers[0], "10.0.0.1", 0, 2 * MINIMUM_SIZE)
    assert [bool(reader.reason) for reader in readers] == [False, False, False, True]
    assert "all together hold more than may wait" in readers[3].reason
    assert held.size == 7 * MINIMUM_SIZE


def test_what_is_used_counts_no_more() -> None:
    held = HeldMemory()
    holders = [BufferingConnection() for _ in range(100)]
    for holder in holders:
        held.update(holder, "10.0.0.1", MAXIMUM_ADDRESS_SIZE, 0)
        held.update(holder, "10.0.0.1", 0, 0)
    assert not any(holder.reason for holder in holders)
    held.update(holders[0], "10.0.0.1", MAXIMUM_ADDRESS_SIZE, 5)
    held.forget(holders[0])
    held.forget(holders[0])
    assert (held.received, held.size, held._by_address) == (0, 0, {})


def test_slow_readers_of_one_address_leave() -> None:
    held = HeldMemory()
    slow = [BufferingConnection() for _ in range(3)]
    for holder in slow:
        held.update(holder, "10.0.0.1", 0, MINIMUM_SIZE)
    for holder in slow:
        held.forget(holder)
    assert (held.received, held.size) == (0, 0)


def test_many_connections_of_an_address_that_hold_little_are_added_up() -> None:
    held = HeldMemory()
    size = MINIMUM_SIZE - 1
    holders = [BufferingConnection() for _ in range(MAXIMUM_ADDRESS_SIZE // size)]
    for holder in holders:
        held.update(holder, "10.0.0.1", size, 0)
    assert not any(holder.reason for holder in holders)
    for holder in (one := BufferingConnection(), two := BufferingConnection()):
        held.update(holder, "10.0.0.1", MINIMUM_RECEIVED_SIZE, 0)
        held.update(holder, "10.0.0.1", size, 0)
    assert sum(bool(holder.reason) for holder in (*holders, one, two)) == 2


def test_what_waits_for_slow_readers_is_not_what_their_address_has_sent() -> None:
    held = HeldMemory()
    readers = [BufferingConnection() for _ in range(1000)]
    for reader in readers:
        held.update(reader, "10.0.0.1", 0, MINIMUM_SIZE - 1)
        held.update(reader, "10.0.0.1", 0, MINIMUM_SIZE)
    assert not any(reader.reason for reader in readers)


@pytest.mark.parametrize("addresses", [1, 1_000])
def test_closing_many_connections_looks_at_each_a_few_times(addresses: int) -> None:
    held = HeldMemory(maximum=MAXIMUM_ADDRESS_SIZE)
    count = 4_000
    small, large = MAXIMUM_ADDRESS_SIZE // count, 2 * MAXIMUM_ADDRESS_SIZE // count
    holders = [BufferingConnection() for _ in range(count)]
    for number, holder in enumerate(holders):
        held.update(holder, f"10.0.{number % addresses}", small, 0)
    assert not any(holder.reason for holder in holders)
    BufferingConnection.looked_at = 0
    for number, holder in enumerate(holders):
        if not holder.reason:
            held.update(holder, f"10.0.{number % addresses}", large, 0)
    assert held.size <= MAXIMUM_ADDRESS_SIZE
    assert sum(bool(holder.reason) for holder in holders) >= count // 2 - 1
    assert BufferingConnection.looked_at < 50 * count


def test_the_largest_is_found_whatever_was_updated_and_forgotten() -> None:
    chance = random.Random(1)
    held = HeldMemory(maximum=200 * MINIMUM_SIZE)
    sizes: dict[BufferingConnection, int] = {}
    for _ in range(5_000):
        holder = chance.choice([*sizes, BufferingConnection()])
        if chance.random() < 0.1:
            held.forget(holder)
            sizes.pop(holder, None)
            continue
        sizes[holder] = chance.randrange(MINIMUM_SIZE, 20 * MINIMUM_SIZE)
        held.update(holder, "10.0.0.1", 0, sizes[holder])
        ended = [other for other in sizes if other.reason]
        assert len(ended) == (sum(sizes.values()) > held.maximum)
        for other in ended:
            assert sizes[other] == max(sizes.values())
            del sizes[other]
        assert held.size == sum(sizes.values())
