"""Incomplete input of all connections together: the one that holds most is ended."""

from __future__ import annotations

from tests.protocols.rtmp.support import Fixture

from polycast.protocols.rtmp.held import MAXIMUM_ADDRESS_SIZE, MAXIMUM_TOTAL_SIZE, MINIMUM_SIZE, HeldInput
from polycast.wire.rtmp.server import MAXIMUM_EARLY_SIZE


class Holder:
    """Stands for a connection."""

    def __init__(self) -> None:
        self.reason = ""

    def abort(self, reason: str) -> None:
        self.reason = reason


def test_the_largest_of_an_address_is_ended() -> None:
    held = HeldInput()
    small, large, other = Holder(), Holder(), Holder()
    half = MAXIMUM_ADDRESS_SIZE // 2
    held.update(large, "10.0.0.1", half + MINIMUM_SIZE)
    held.update(other, "10.0.0.2", half)
    held.update(small, "10.0.0.1", half - MINIMUM_SIZE)
    assert not any(holder.reason for holder in (small, large, other))
    held.update(small, "10.0.0.1", half)
    assert "all clients of 10.0.0.1 together" in large.reason
    held.update(small, "10.0.0.1", MAXIMUM_ADDRESS_SIZE)
    assert not small.reason
    assert not other.reason


def test_the_largest_of_all_is_ended() -> None:
    held = HeldInput()
    count = MAXIMUM_TOTAL_SIZE // MAXIMUM_ADDRESS_SIZE
    holders = [Holder() for _ in range(count)]
    for number, holder in enumerate(holders):
        held.update(holder, f"10.0.0.{number}", MAXIMUM_ADDRESS_SIZE)
    assert not any(holder.reason for holder in holders)
    late = Holder()
    held.update(late, "10.0.1.1", MINIMUM_SIZE)
    assert not late.reason
    assert [bool(holder.reason) for holder in holders].count(True) == 1


def test_what_is_used_counts_no_more() -> None:
    held = HeldInput()
    holders = [Holder() for _ in range(100)]
    for holder in holders:
        held.update(holder, "10.0.0.1", MAXIMUM_ADDRESS_SIZE)
        held.update(holder, "10.0.0.1", 0)
    assert not any(holder.reason for holder in holders)


async def test_many_connections_of_one_client(it: Fixture) -> None:
    """None of them is too large, and what they hold is given back when they go."""
    clients = []
    for number in range(MAXIMUM_ADDRESS_SIZE // MAXIMUM_EARLY_SIZE + 2):
        client = await it.raw()
        client.send_connect("live", "rtmp://127.0.0.1/live")
        client.send_publish(f"cam{number}")
        await client.receive_until(b"onStatus")
        client.send_message(1, (1 << 24).to_bytes(4, "big"), stream_id=0)
        client.send(b"\x06\x00\x00\x00\x7f\xff\xff\x09\x01\x00\x00\x00" + bytes(MAXIMUM_EARLY_SIZE - 1000))
        clients.append(client)
    await it.log.wait(r"closed \(\d+ bytes of unfinished messages; all clients of 127.0.0.1 together have sent more")
    for client in clients:
        await client.close()
    await it.until(lambda: not it.connections)
    assert not it.server.held_input._sizes
