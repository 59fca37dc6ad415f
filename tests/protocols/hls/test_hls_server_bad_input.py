"""Hostile clients and poor publishers: the right statuses, bounded memory, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.protocols.hls.support import RATES, Fixture, attribute, names, running
from tests.protocols.hls.test_hls_server_files import low_latency
from tests.wire.hls.streams import audio, merge, regular, video

from polycast.media.timebase import WallTime
from polycast.net.http import connection

HELD = 2_000


def resident_megabytes() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    return 0.0


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("_HLS_msn=99999999999", 400),
        ("_HLS_msn=-1", 400),
        ("_HLS_msn=1e3", 400),
        (f"_HLS_msn={10**40}", 400),
        ("_HLS_msn=", 400),
        ("_HLS_part=1", 400),
        ("_HLS_msn={next}&_HLS_part=1000000", 400),
        ("_HLS_msn=%31{next}", 400),
        ("_HLS_msn=1&" + "&".join(f"a{index}=1" for index in range(100)), 400),
        ("_HLS_msn=1&_HLS_msn=9999999999", 400),
        ("_HLS_skip=whatever", 200),
        ("_HLS_msn=0", 200),
        ("&&&===&%ff%fe", 200),
    ],
)
async def test_absurd_directives(tmp_path: Path, query: str, status: int) -> None:
    async with low_latency(tmp_path) as it:
        await it.playing("cam")
        following = it.server.remuxers["cam"].next_numbers[0] - 1
        await it.get(f"/cam/stream.m3u8?{query.replace('{next}', str(following))}", status)


def connections(it: Fixture, count: int, request: str, receive_buffer: int = 0) -> Iterator[socket.socket]:
    for _ in range(count):
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect(("127.0.0.1", it.port))
        client.sendall(f"GET {request} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.setblocking(False)
        yield client


async def test_thousands_of_held_requests() -> None:
    async with running() as it:
        publisher = it.publish("cam")
        first = it.soon("/cam/stream.m3u8")
        await it.held("cam", 1)
        before = resident_megabytes()
        clients = list(connections(it, HELD, "/cam/stream.m3u8"))
        await it.held("cam", HELD + 1)
        assert resident_megabytes() - before < 60, "30 kB for each"
        await it.get("/nothing/stream.m3u8", 404)  # others are served
        loop = asyncio.get_running_loop()
        for client in clients[: HELD // 2]:
            client.close()
        it.pass_time(3)
        await it.held("cam", HELD // 2 + 1)
        publisher.play(4)
        assert (await first).status_code == 200
        for client in clients[HELD // 2 :]:
            assert (await loop.sock_recv(client, 4096)).startswith(b"HTTP/1.1 200 OK\r\n")
            client.close()
        assert it.waiting("cam") == 0


async def test_more_requests_than_may_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polycast.protocols.hls.remuxer.MAXIMUM_WAITING", 5)
    async with running() as it:
        publisher = it.publish("cam")
        waiting = [it.soon("/cam/stream.m3u8") for _ in range(5)]
        await it.held("cam", 5)
        assert "too many" in (await it.get("/cam/stream.m3u8", 503)).text
        publisher.play(4)
        assert {(await each).status_code for each in waiting} == {200}


async def test_clients_that_read_a_byte_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STALL_TIMEOUT", 5)
    async with running() as it:
        _, playlist = await it.playing("cam", size=800_000)  # segments of 24 MB
        name = names(playlist)[0]
        size = int((await it.client.head(f"/cam/{name}")).headers["content-length"])
        assert size > 20_000_000
        before = resident_megabytes()
        opened = len(it.server._connections)
        clients = list(connections(it, 20, f"/cam/{name}", receive_buffer=4096))
        await it.until(lambda: len(it.server._connections) == opened + 20)
        loop = asyncio.get_running_loop()
        for client in clients:
            assert len(await loop.sock_recv(client, 1)) == 1
        assert resident_megabytes() - before < 100, "20 slow clients do not cost 20 segments"
        whole = await it.get(f"/cam/{name}")  # others are served at full speed
        assert len(whole.content) == size
        it.pass_time(4)
        assert len(it.server._connections) == opened + 20
        it.pass_time(5)
        await it.until(lambda: len(it.server._connections) == opened)  # they are given up
        for client in clients:
            client.close()


async def test_heads_that_never_end(it: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
    with contextlib.suppress(ConnectionError):
        writer.write(b"GET /cam/ HTTP/1.1\r\n" + b"x: " + b"y" * 2_000_000)
        await writer.drain()
        answer = await reader.read()
        assert answer[:12] in (b"", b"HTTP/1.1 431", b"HTTP/1.1 400")
    writer.close()
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01",
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff" * 9,
    ):
        _, writer = await asyncio.open_connection("127.0.0.1", it.port)
        writer.write(garbage)
        writer.write_eof()
        writer.close()
    it.publish("cam")
    await it.get("/cam/")


@pytest.mark.parametrize("variant", ["mpegts", "fmp4"])
async def test_a_publisher_without_key_frames(variant: str) -> None:
    async with running(hlsVariant=variant) as it:
        publisher = it.publish("cam")
        waiting = it.soon("/cam/stream.m3u8")
        await it.held("cam", 1)
        muxer = it.server.remuxers["cam"]._muxer
        publisher.write([(0, frame) for _, frame in video(0, [(n * 3000, False) for n in range(20_000)], size=1000)])
        assert it.waiting("cam") == 1
        assert muxer.size < 1_000_000
        assert not muxer._main.files
        waiting.cancel()


@pytest.mark.parametrize("variant", ["mpegts", "fmp4"])
async def test_one_key_frame_and_no_other(variant: str) -> None:
    async with running(hlsVariant=variant) as it:
        publisher = it.publish("cam")
        waiting = it.soon("/cam/stream.m3u8")
        await it.held("cam", 1)
        frames = merge(RATES, video(0, regular(300, gop=100_000)), audio(1, 300))
        publisher.write(frames)
        assert (await waiting).status_code == 200
        playlist = (await it.get("/cam/stream.m3u8")).text
        assert int(attribute(playlist, r"TARGETDURATION:(\d+)")) <= 61
        assert it.server.remuxers["cam"]._muxer.size < 5_000_000


@pytest.mark.parametrize("variant", ["mpegts", "fmp4"])
async def test_no_audio_for_minutes(variant: str) -> None:
    async with running(hlsVariant=variant) as it:
        publisher, _ = await it.playing("cam")
        start = publisher.seconds
        publisher.write(list(video(0, regular(300, start=start * 90_000))))
        silent = (await it.get("/cam/stream.m3u8")).text
        assert len(names(silent)) == 7, "the picture goes on"
        publisher.seconds += 300
        publisher.play(10)
        assert names((await it.get("/cam/stream.m3u8")).text)[0] not in names(silent)
        assert it.server.remuxers["cam"]._muxer.size < 1_000_000


@pytest.mark.parametrize("seconds", [-(2**40), -1, 2**33, 2**45])
async def test_a_publisher_with_a_wrong_clock(seconds: int) -> None:
    async with running() as it:
        publisher, _ = await it.playing("cam")
        captured = WallTime(seconds * 1_000_000_000)
        for index, frame in publisher.frames(10):
            publisher.write([(index, frame.__class__(frame.units, frame.pts, frame.dts, key=frame.key,
                                                     duration=frame.duration, wall_time=captured))])  # fmt: skip
        playlist = (await it.get("/cam/stream.m3u8")).text
        assert 2020 < int(attribute(playlist, r"PROGRAM-DATE-TIME:(\d{4})-")) < 2100


async def test_times_that_jump(it: Fixture) -> None:
    publisher, before = await it.playing("cam")
    publisher.seconds += 100_000
    publisher.play(5)
    publisher.seconds -= 50_000
    publisher.play(5)
    after = (await it.get("/cam/stream.m3u8")).text
    assert "#EXT-X-DISCONTINUITY" in after
    it.pass_time(1)
    assert it.log.find(r"WARNING \[path cam\] the time of track \d \(\w+\) jumped by \+100000\.\d s")
    assert set(names(before)) != set(names(after))


@pytest.mark.parametrize(
    "name",
    ["Authorization", "Range", "If-Range", "If-None-Match", "Origin", "Accept", "Accept-Encoding", "X-Forwarded-For",
     "X-Real-IP", "Access-Control-Request-Headers"],
)  # fmt: skip
async def test_junk_in_headers(name: str) -> None:
    paths = {"cam": {}, "locked": {"readUser": "u", "readPass": "p"}}
    async with running(paths=paths, hlsTrustedProxies=["127.0.0.1"]) as it:
        _, playlist = await it.playing("cam")
        targets = ["/", "/cam/", "/cam/stream.m3u8", f"/cam/{names(playlist)[0]}", "/locked/", "/locked/stream.m3u8"]
        junk = [b"\xff", b"Basic \xff", b"Basic ==", b"[", b";;;", b"http://[", b'"', b"bytes=9-1", b"::", b"1.2.3.4.5"]
        for value in (*junk, b"bytes=" + b"9" * 400 + b"-", b"," * 999, b"W/", b"%"):
            for target in targets:
                for method in ("GET", "OPTIONS"):
                    answer = await it.client.request(method, target, headers={name: value})
                    assert answer.status_code < 500, (method, target, value)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            b"OPTIONS rtsp://localhost:8888/cam RTSP/1.0\r\nCSeq: 1\r\n\r\n",
            r"request refused \(505\): the peer speaks RTSP, but this is an HTTP port",
        ),
        (
            b"\x16\x03\x01\x02\x00\x01\x00",
            r"request refused \(400\): the peer speaks TLS, but this port is not encrypted",
        ),
    ],
)
async def test_clients_of_other_protocols_are_logged(data: bytes, line: str) -> None:
    async with running() as it:
        _, writer = await asyncio.open_connection("127.0.0.1", it.port)
        writer.write(data)
        await it.log.wait(rf"^INFO \[HLS\] \[conn .*\] {line}")
        writer.close()
