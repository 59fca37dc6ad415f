"""What broken and hostile clients send: a clear end with a reason in the log, while a good pair beside goes on."""

from __future__ import annotations

import contextlib
import gc
import resource
import struct
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from tests.protocols.rtmp.support import Fixture, RawClient, RtmpClient, video_frame
from tests.wire.rtmp.support import (
    IDR,
    SIMPLE_HANDSHAKE,
    SLICE,
    audio_header,
    video_header,
    video_message,
    wire,
)

from polycast.wire.rtmp import amf0
from polycast.wire.rtmp.client import Mode
from polycast.wire.rtmp.messages import Command

MEGABYTE = 1 << 20
CONNECT = wire(20, Command("connect", 1.0, {"app": "live", "tcUrl": "rtmp://127.0.0.1/live"}).payload(), stream_id=0)


@dataclass
class GoodPair:
    """A publisher and a reader that must not notice anything."""

    publisher: RtmpClient
    reader: RtmpClient
    number: int = 0

    async def check(self) -> None:
        self.number += 1
        self.publisher.send_video([self.number], keys=[self.number])
        assert (await self.reader.frames(self.number))[-1].frame.units == video_frame(self.number, key=True).units


@pytest.fixture
async def pair(it: Fixture) -> AsyncIterator[GoodPair]:
    """A pair that works, before and after the test."""
    good = GoodPair(await it.publisher("good"), await it.reader("good"))
    await good.check()
    yield good
    await good.check()
    assert len(it.connections) == 2


def chunk_header(length: int, message_type: int, chunk_stream: int = 4) -> bytes:
    return bytes((chunk_stream, 0, 0, 0)) + length.to_bytes(3, "big") + bytes((message_type,)) + b"\x01\0\0\0"


# What is sent, and what the log says of it.
BROKEN = {
    "rtmpe": (b"\x06" + bytes(1536), "RTMPE"),
    "http": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP"),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), "TLS"),
    "command before connect": (
        SIMPLE_HANDSHAKE + wire(20, Command("publish", 1.0, None, ("key",)).payload()),
        "instead of 'connect'",
    ),
    "message of 16 MiB": (SIMPLE_HANDSHAKE + CONNECT + chunk_header(0xFFFFFF, 9) + bytes(100), "16777215 bytes"),
    "command of 1 MiB": (SIMPLE_HANDSHAKE + CONNECT + chunk_header(MEGABYTE, 20) + bytes(100), "1048576 bytes"),
    "chunk size 0": (SIMPLE_HANDSHAKE + wire(1, struct.pack(">I", 0), stream_id=0), "chunk size of 0"),
    "chunk size 1": (SIMPLE_HANDSHAKE + wire(1, struct.pack(">I", 1), stream_id=0), "chunk size of 1"),
    "deep objects": (SIMPLE_HANDSHAKE + wire(20, b"\x03\x00\x01a" * 10_000, stream_id=0), "nested deeper"),
    "deep arrays": (SIMPLE_HANDSHAKE + wire(20, b"\x0a\x00\x00\x00\x01" * 10_000, stream_id=0), "nested deeper"),
    "huge array": (SIMPLE_HANDSHAKE + wire(20, b"\x0a\xff\xff\xff\xff", stream_id=0), "AMF0"),
    "no application": (SIMPLE_HANDSHAKE + wire(20, Command("connect", 1.0, {}).payload()), "without 'app'"),
    "chunk without a header": (SIMPLE_HANDSHAKE + CONNECT + b"\xc7" + bytes(200), "chunk"),
    "too many chunk streams": (
        SIMPLE_HANDSHAKE + CONNECT + b"".join(chunk_header(200, 9, 3 + index) + bytes(128) for index in range(61))
        + b"".join(b"\x00" + bytes((index,)) + chunk_header(200, 9)[1:] + bytes(128) for index in range(40)),
        "chunk streams",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_clients(it: Fixture, pair: GoodPair, name: str) -> None:
    data, reason = BROKEN[name]
    client = await it.raw()
    client.send(data)
    await client.receive_all()
    await it.log.wait(rf"INFO \[RTMP\] \[conn .*\] closed \(invalid data: .*{reason}")
    await it.until(lambda: len(it.connections) == 2)


async def publishing(it: Fixture) -> RawClient:
    client = await it.raw()
    client.send_connect("live", "rtmp://127.0.0.1/live")
    client.send_publish("bad")
    await client.receive_until(b"onStatus")
    return client


# Messages of a publisher: type and payload; and what the log says.
BROKEN_MEDIA = {
    "truncated configuration": (9, video_header()[:12], "H264|configuration|avcC|AVC"),
    "broken length prefix": (9, b"\x17\x01\x00\x00\x00\xff\xff\xff\xff" + IDR, "NAL"),
    "truncated AAC configuration": (8, b"\xaf\x00\x12", "header ends too early"),
    "broken aggregate": (22, b"\x09\x00\x10\x00" + bytes(7) + IDR, "aggregate"),
    "broken metadata": (18, b"\x02\x00\x50onMetaData", "AMF0"),
}


@pytest.mark.parametrize("name", BROKEN_MEDIA)
async def test_broken_media(it: Fixture, pair: GoodPair, name: str) -> None:
    message_type, payload, reason = BROKEN_MEDIA[name]
    client = await publishing(it)
    client.send_message(9, video_header())
    client.send_message(message_type, payload)
    await client.receive_all()
    await it.log.wait(rf"closed \(invalid data: .*({reason})")
    await it.until(lambda: "live/bad" not in it.app.hub.paths)


async def test_a_chunk_size_of_two_gigabytes_reserves_nothing(it: Fixture, pair: GoodPair) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    client = await publishing(it)
    client.send_message(1, struct.pack(">I", 0x7FFFFFFF), stream_id=0)
    client.send(chunk_header(8 * MEGABYTE, 9) + bytes(1000))
    await pair.check()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4 * 1024
    await client.close()
    await it.until(lambda: len(it.connections) == 2)


async def test_metadata_that_lies(it: Fixture, pair: GoodPair) -> None:
    """It announces audio and another codec than what comes; what comes is served."""
    client = await publishing(it)
    lie = {"videocodecid": 2.0, "audiocodecid": 10.0, "width": 1e9, "framerate": float("nan"), "duration": -1.0}
    client.send_message(18, amf0.encode("@setDataFrame", "onMetaData", lie))
    client.send_message(9, video_header())
    for number in range(100):
        client.send_message(9, video_message(IDR if number % 10 == 0 else SLICE, key=number % 10 == 0), number * 40)
    await it.log.wait(r"is publishing to path 'live/bad', 1 track \(H264\)")
    reader = await it.reader("live/bad")
    client.send_message(9, video_message(IDR), 4000)
    await reader.frames(1)
    await client.close()
    await reader.ended()
    await it.until(lambda: len(it.connections) == 2)


async def test_media_before_anything_was_asked_for(it: Fixture, pair: GoodPair) -> None:
    client = await it.raw()
    client.send_connect("live", "rtmp://127.0.0.1/live")
    for number in range(50):
        client.send_message(9, video_message(IDR * 100), number * 40)
    await pair.check()
    await client.close()
    await it.until(lambda: len(it.connections) == 2)


@pytest.mark.parametrize("start", [b"", b"\x03", b"\x03" + bytes(1000), b"\x03" + bytes(1536), SIMPLE_HANDSHAKE])
async def test_stalled_handshake(it: Fixture, pair: GoodPair, start: bytes) -> None:
    client = await it.raw()
    client.send(start)
    await it.until(lambda: len(it.connections) == 3)
    connection = it.connections[-1]
    await it.until(lambda: connection.counters.bytes_received == len(start))
    it.pass_time(9)
    await pair.check()
    assert len(it.connections) == 3
    await it.until(lambda: it.connections[0].counters.packets_received >= pair.number)
    it.pass_time(2)
    await client.receive_all()
    await it.log.wait(r"closed \(no data for 10 seconds in state '(handshake|connect)'\)")
    await it.until(lambda: len(it.connections) == 2)


async def test_a_silent_publisher_is_closed(it: Fixture) -> None:
    publisher = await it.publisher("live/cam")
    reader = await it.reader("live/cam")
    it.pass_time(11)
    await reader.ended()
    await publisher.until(lambda: publisher.lost)
    await it.log.wait(r"closed \(no data for 10 seconds in state 'publishing'\)")


async def test_a_publisher_without_key_frames_costs_nothing(it: Fixture, pair: GoodPair) -> None:
    client = await publishing(it)
    client.send_message(18, amf0.encode("onMetaData", {"videocodecid": 7.0}))
    client.send_message(9, video_header())
    client.send_message(9, video_message(SLICE, key=False))
    await it.log.wait(r"is publishing to path 'live/bad'")
    reader = await it.reader("live/bad")
    connection = next(item for item in it.connections if item.mode == "read" and item.path_name == "live/bad")
    sent = connection.outbox.written
    for number in range(1, 500):
        client.send_message(9, video_message(SLICE * 40, key=False), number * 40)
    publisher = next(item for item in it.connections if item.path_name == "live/bad" and item.mode == "publish")
    await it.until(lambda: publisher.counters.packets_received == 500)
    assert connection.outbox.written == sent
    await client.close()
    await reader.ended()
    await it.until(lambda: len(it.connections) == 2)


async def test_a_client_that_hangs_up_at_any_point(it: Fixture, pair: GoodPair) -> None:
    whole = (
        SIMPLE_HANDSHAKE
        + CONNECT
        + wire(20, Command("createStream", 2.0, None).payload(), stream_id=0)
        + wire(20, Command("publish", 3.0, None, ("hang", "live")).payload(), stream_id=1)
        + wire(8, audio_header())
        + wire(9, video_header())
        + wire(9, video_message(IDR))
    )
    for end in range(1, len(whole), 97):
        client = await it.raw()
        client.send(whole[:end])
        await client.close()
    await it.until(lambda: len(it.connections) == 2)
    assert list(it.app.hub.paths) == ["good"]


async def test_a_player_that_disconnects_during_authorization(it: Fixture, pair: GoodPair) -> None:
    for _ in range(20):
        client = await it.client(Mode.PLAY, "good")
        client.transport.abort()
    await it.until(lambda: len(it.connections) == 2)
    assert len(it.path("good").readers) == 1


@pytest.mark.parametrize("is_playing", [False, True])
async def test_a_client_that_does_not_read_the_answers(it: Fixture, pair: GoodPair, is_playing: bool) -> None:
    client = await it.raw()
    client.send_connect("", "rtmp://127.0.0.1/")
    if is_playing:
        client.send_command(Command("play", 3.0, None, ("good",)), stream_id=1)
        await client.receive_until(b"NetStream.Play.Start")
    answered = wire(20, Command("FCSubscribe", 2.0, None, ("a" * 2_000,)).payload(), stream_id=0)
    it.clients.remove(client)
    with contextlib.suppress(ConnectionError):
        while True:
            client.send(answered * 100)
            await client.writer.drain()
    await it.log.wait(r"closed \(the client does not read")
    await it.until(lambda: len(it.connections) == 2)


@pytest.mark.parametrize("is_accepted", [False, True])
async def test_a_connection_that_is_gone_is_freed_at_once(it: Fixture, is_accepted: bool) -> None:
    """It may hold megabytes; nothing waits for the collector of cycles."""
    gc.collect()
    gc.disable()
    try:
        client = await it.raw()
        client.send_connect("live", "rtmp://127.0.0.1/live")
        if is_accepted:
            client.send_publish("bad")
            await client.receive_until(b"onStatus")
            client.send_message(9, video_header())
        client.send(chunk_header(MEGABYTE, 9) + bytes(100))
        await it.until(lambda: bool(it.connections) and it.connections[0].held_size >= 100)
        found = weakref.ref(it.connections[0])
        await client.close()
        await it.until(lambda: not it.connections)
        await it.until(lambda: found() is None)
    finally:
        gc.enable()
