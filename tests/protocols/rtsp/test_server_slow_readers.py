"""Readers that are too slow: what they lose, when they are closed, and that nobody else notices."""

from __future__ import annotations

import asyncio
import socket

from tests.protocols.rtsp.support import (
    Fixture,
    RtspClient,
    key_unit,
    rtp,
    running,
    slice_unit,
)

FRAME_SIZE = 1400


async def stuck_reader(it: Fixture, path: str) -> RtspClient:
    """Return a reader whose socket takes little and that reads nothing until it is asked to."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
    plain.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(plain, ("127.0.0.1", it.port))
    reader, writer = await asyncio.open_connection(sock=plain)
    client = RtspClient(reader, writer)
    it.clients.append(client)
    await client.play(it.url(path))
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    return client


async def test_slow_reader_loses_packets_until_the_next_key_frame() -> None:
    async with running() as it:
        publisher = await it.publisher("cam")
        slow = await stuck_reader(it, "cam")
        swift = await it.reader("cam")
        (session,) = [session for session in it.sessions if session.wire.secret == slow.session]

        sequence = 0
        while not session.counters.packets_dropped:
            for _ in range(100):
                publisher.send_frame(0, rtp(sequence, slice_unit(FRAME_SIZE)))
                sequence += 1
            await publisher.sync(it.url("cam"))
            assert len(await swift.packets(100)) == 100  # nobody else loses anything
        assert sequence < 10_000
        it.pass_time()
        line = await it.log.wait(
            r"^WARNING \[RTSP\] \[conn .*\] the client is too slow to read the stream: \d+ packets"
        )
        assert f"[conn {slow.address}]" in line

        # It reads again: what was queued comes, then nothing until a key frame.
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        received = session.counters.packets_sent
        assert len(await slow.packets(received)) == received
        publisher.send_frame(0, rtp(sequence, slice_unit(FRAME_SIZE)))
        await publisher.sync(it.url("cam"))
        publisher.send_frame(0, rtp(sequence + 1, slice_unit(20), marker=False))
        publisher.send_frame(0, rtp(sequence + 2, key_unit(20)))
        assert (await slow.packets(1)) == [rtp(sequence + 2, key_unit(20))]
        item = it.server.sessions()[session.id]
        assert item.packets_dropped + item.packets_sent == sequence + 3


async def test_stuck_reader_is_closed_after_the_write_timeout() -> None:
    async with running(writeTimeout="10s") as it:
        publisher = await it.publisher("cam")
        slow = await stuck_reader(it, "cam")
        swift = await it.reader("cam")
        (session,) = [session for session in it.sessions if session.wire.secret == slow.session]
        sequence = 0

        async def publish(count: int) -> None:
            nonlocal sequence
            for _ in range(count):
                publisher.send_frame(0, rtp(sequence, slice_unit(FRAME_SIZE)))
                sequence += 1
            await publisher.sync(it.url("cam"))
            assert len(await swift.packets(count)) == count

        while not session.counters.packets_dropped:
            await publish(100)
        it.pass_time()
        for _ in range(2):
            it.pass_time(4.5)
            await publish(1)
            assert it.connection_count == 3
        it.pass_time(1)
        await it.log.wait(rf"\[conn {slow.address}\] closed \(the client took no data for 10 s\)$")
        await it.log.wait(rf"\[session {session.id}\] destroyed \(the client took no data for 10 s\)$")
        await publish(10)


async def test_client_that_takes_no_responses_is_closed() -> None:
    async with running() as it:
        publisher = await it.publisher("cam")
        reader = await it.reader("cam")
        slow = await stuck_reader(it, "cam")
        (connection,) = [each for each in it.server._connections if each.peer[1] == int(slow.address.partition(":")[2])]
        request = f"OPTIONS {it.url('cam')} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode()
        while connection.is_open:
            # Not through the socket: while the client's buffer is full, acknowledgements to it may get lost, too.
            connection.data_received(request * 500)
            await publisher.sync(it.url("cam"))
        await it.log.wait(rf"\[conn {slow.address}\] closed \(the client does not read the responses\)$")
        publisher.send_frame(0, rtp(1, slice_unit()))
        assert await reader.packets(1) == [rtp(1, slice_unit())]


async def test_stream_without_readers_costs_nothing_to_keep() -> None:
    async with running() as it:
        publisher = await it.publisher("cam")
        for index in range(1000):
            publisher.send_frame(0, rtp(index, slice_unit()))
        await publisher.sync(it.url("cam"))
        stream = it.path("cam").stream
        assert stream is not None
        assert not stream._runs
        assert stream.tracks[0].counters.packets == 1000
