"""Readers that are too slow: what they lose, when they are closed, and that nobody else notices."""

from __future__ import annotations

import asyncio
import socket

from tests.protocols.rtmp.support import Fixture, RtmpClient, running, video_frame
from tests.wire.rtmp.support import SEED

from polycast.protocols.rtmp.connection import Connection
from polycast.wire.rtmp.address import parse_url
from polycast.wire.rtmp.client import ClientConnection, Mode
from polycast.wire.rtmp.events import FrameReceived

FRAME_SIZE = 20_000
BATCH = 20


async def slow_reader(it: Fixture, path: str) -> tuple[RtmpClient, Connection]:
    """Return a reader whose socket takes little and that stops reading, and the server's side of it."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
    plain.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(plain, ("127.0.0.1", it.port()))
    known = {connection.id for connection in it.connections}
    engine = ClientConnection(parse_url(f"rtmp://127.0.0.1/{path}"), Mode.PLAY, loop.time(), seed=SEED)
    _, client = await loop.create_connection(lambda: RtmpClient(engine, loop.time), sock=plain)
    it.clients.append(client)
    await client.accepted()
    client.transport.pause_reading()
    (connection,) = [connection for connection in it.connections if connection.id not in known]
    return client, connection


async def test_slow_reader_loses_frames_until_the_next_key_frame(it: Fixture) -> None:
    publisher = await it.publisher("live/cam")
    slow, connection = await slow_reader(it, "live/cam")
    swift = await it.reader("live/cam")
    publisher.send_video([1], keys=[1], size=FRAME_SIZE)
    number = 1
    while not connection.counters.packets_dropped:
        publisher.send_video(range(number + 1, number + 1 + BATCH), size=FRAME_SIZE)
        number += BATCH
        assert len(await swift.frames(number)) == number  # nobody else loses anything
        assert number < 3000
    it.pass_time()
    await it.log.wait(r"^WARNING \[RTMP\] \[conn .*\] the client is too slow to read the stream: \d+ frames dropped")

    # It reads again: what was queued comes, then nothing until a key frame.
    slow.transport.resume_reading()
    sent = connection.counters.packets_sent
    received = await slow.frames(sent)
    assert [event.frame.dts // 3600 for event in received] == list(range(1, sent + 1))
    publisher.send_video([number + 1])
    await swift.frames(number + 1)
    publisher.send_video([number + 2, number + 3], keys=[number + 2])
    await slow.frames(sent + 2)
    resumed = [event.frame for event in slow.all(FrameReceived)[sent:]]
    assert [frame.units for frame in resumed] == [
        video_frame(number + 2, key=True).units,
        video_frame(number + 3).units,
    ]
    assert connection.counters.packets_dropped + connection.counters.packets_sent == number + 3


async def test_stuck_reader_is_closed_after_the_write_timeout() -> None:
    async with running(writeTimeout="10s", readTimeout="100s") as it:
        publisher = await it.publisher("live/cam")
        stuck, connection = await slow_reader(it, "live/cam")
        swift = await it.reader("live/cam")
        publisher.send_video([1], keys=[1], size=FRAME_SIZE)
        number = 1
        while not connection.counters.packets_dropped:
            publisher.send_video(range(number + 1, number + 1 + BATCH), size=FRAME_SIZE)
            number += BATCH
            await swift.frames(number)
        it.pass_time()
        it.pass_time(9)
        assert connection in it.connections
        it.pass_time(2)
        await it.log.wait(r"closed \(the client took no data for 10 s\)")
        await it.until(lambda: connection not in it.connections)
        publisher.send_video([number + 1], size=FRAME_SIZE)
        await swift.frames(number + 1)
        assert not stuck.all(FrameReceived)[number:]


async def test_memory_of_a_stuck_reader_is_bounded(it: Fixture) -> None:
    publisher = await it.publisher("live/cam")
    _, connection = await slow_reader(it, "live/cam")
    swift = await it.reader("live/cam")
    publisher.send_video([1], keys=[1], size=FRAME_SIZE)
    number = 2
    while connection.counters.packets_dropped <= 100:
        publisher.send_video(range(number, number + BATCH), keys=[number], size=FRAME_SIZE)
        number += BATCH
        await swift.frames(number - 1)
        assert number < 3000
    assert connection.transport.get_write_buffer_size() <= connection.outbox.limit + BATCH * (FRAME_SIZE + 1000)
