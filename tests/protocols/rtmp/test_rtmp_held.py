"""Incomplete input of all connections together."""

from __future__ import annotations

import asyncio

from tests.protocols.rtmp.support import Fixture

from polycast.net.memory import MAXIMUM_ADDRESS_SIZE, held_memory_of
from polycast.wire.rtmp.server import MAXIMUM_EARLY_SIZE


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
    await it.log.wait(r"closed \(\d+ bytes wait; all of 127.0.0.1 together have sent more")
    for client in clients:
        await client.close()
    await it.until(lambda: not it.connections)
    assert held_memory_of(asyncio.get_running_loop()).size == 0
