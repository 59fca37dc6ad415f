"""Clients that are served by another worker than the one that accepted their connection."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import threading
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tests.interop.copies import AUDIO, VIDEO
from tests.interop.tools import HashedPacket, ffmpeg, make_certificate
from tests.support.ports import free_port
from tests.support.waiting import until
from tests.workers.support import Server, free_ports, running
from tests.workers.test_streams import check, clip, publishing, read

import polycast
from polycast.workers.application import FEW_READERS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")

__all__ = ["clip"]


def encrypted(folder: Path, port: int) -> dict[str, object]:
    make_certificate(folder)
    return {"rtspEncryption": "optional", "rtspsAddress": f"127.0.0.1:{port}"}


async def test_readers_get_to_the_worker_that_has_the_stream(
    tmp_path: Path, clip: tuple[Path, list[HashedPacket]]
) -> None:
    file, published = clip
    async with (
        running(tmp_path) as server,
        server.at(1, "rtmp") as first,
        publishing(server, file, f"rtmp://127.0.0.1:{first}/cam", "-f", "flv"),
        server.at(2, "rtsp") as rtsp,
        server.at(2, "rtmp") as rtmp,
    ):
        url = f"rtsp://127.0.0.1:{rtsp}/cam"
        ways: list[tuple[str, Sequence[str]]] = [
            (url, ("-rtsp_transport", "tcp")),
            (url, ("-rtsp_transport", "udp")),
            (f"rtmp://127.0.0.1:{rtmp}/cam", ()),
        ]
        assert len(ways) < FEW_READERS
        start = len(server.lines)
        readers = [asyncio.ensure_future(read(tmp_path, where, 75, *options)) for where, options in ways]
        for received in await asyncio.gather(*readers):
            check(published, received, (VIDEO, AUDIO))
        served = re.findall(r"\[worker (\d)\] .*is reading from path 'cam'", "\n".join(server.lines[start:]))
        assert served == ["1"] * len(ways)
        assert not any("copies from node" in line for line in server.lines)
        # The others are to use the second core.
        start = len(server.lines)
        # A client that leaves without TEARDOWN is a reader over UDP until its time is over.
        room = FEW_READERS - len((await server.get("/v3/paths/get/cam"))["readers"])
        many = [asyncio.ensure_future(read(tmp_path, url, 10_000)) for _ in range(room)]
        await until(lambda: reading(server, start) == ["1"] * room, server.lines)
        more = await read(tmp_path, url, 50, "-rtsp_transport", "tcp")
        check(published, more, (VIDEO, AUDIO))
        assert reading(server, start) == ["1"] * room + ["2"]
        for reader in many:
            reader.cancel()
        await asyncio.gather(*many, return_exceptions=True)


def reading(server: Server, start: int) -> list[str]:
    return re.findall(r"\[worker (\d)\] .*is reading from path 'cam'", "\n".join(server.lines[start:]))


async def test_tunnels_over_http(tmp_path: Path, clip: tuple[Path, list[HashedPacket]]) -> None:
    file, published = clip
    port = free_port()
    async with (
        running(tmp_path, **encrypted(tmp_path, port)) as server,
        publishing(server, file, f"rtmp://127.0.0.1:{server.ports['rtmp']}/cam", "-f", "flv"),
    ):
        start = len(server.lines)
        ways = ((f"rtsp://127.0.0.1:{server.ports['rtsp']}/cam", "http"), (f"rtsp://127.0.0.1:{port}/cam", "https"))
        # Each connection reaches any worker.
        with server.explained("a reader got nothing"):
            received = await asyncio.gather(
                *(read(tmp_path, url, 50, "-rtsp_transport", transport) for url, transport in ways for _ in range(3))
            )
        for each in received:
            check(published, each, (VIDEO, AUDIO))
        log = "\n".join(server.lines[start:])
        assert len(re.findall("is tunnelled over HTTP", log)) == len(received)
        # That all 12 reach the right one by chance: once in 4,000 runs.
        assert "handed over" in log


async def test_always_available(tmp_path: Path, clip: tuple[Path, list[HashedPacket]]) -> None:
    """The slate is in one worker, and so is whoever publishes to the path."""
    pytest.importorskip("av")
    ports = free_ports()
    paths = {"cam": {"alwaysAvailable": True, "alwaysAvailableTracks": [{"codec": "H264"}]}}
    async with contextlib.AsyncExitStack() as stack:
        values = {**encrypted(tmp_path, ports["rtsps"]), "readTimeout": "5s"}
        server = await stack.enter_async_context(running(tmp_path, ports=ports, paths=paths, **values))
        relays = {
            (protocol, worker): await stack.enter_async_context(server.at(worker, protocol))
            for protocol in ("rtsp", "rtmp", "rtsps")
            for worker in (1, 2)
        }
        readers = [
            await stack.enter_async_context(watching(f"rtsps://127.0.0.1:{relays['rtsps', worker]}/cam"))
            for worker in (1, 2)
        ]
        await until(lambda: sorted(reading(server, 0)) == ["1", "2"], server.lines)
        srt = f"srt://127.0.0.1:{ports['srt']}?streamid=publish:cam"
        for url, options in (
            (f"rtsp://127.0.0.1:{relays['rtsp', 2]}/cam", ("-f", "rtsp", "-rtsp_transport", "udp")),
            (f"rtsps://127.0.0.1:{relays['rtsps', 2]}/cam", ("-f", "rtsp", "-rtsp_transport", "tcp")),
            (f"rtsps://127.0.0.1:{relays['rtsps', 1]}/cam", ("-f", "rtsp", "-rtsp_transport", "tcp")),
            (f"rtmp://127.0.0.1:{relays['rtmp', 2]}/cam", ("-f", "flv")),
            (srt, ("-f", "mpegts")),
            (srt, ("-f", "mpegts")),
        ):
            start = len(server.lines)
            async with publishing(server, clip[0], url, "-an", *options):
                await server.wait(r"\[worker 1\] .* is publishing to path 'cam'", start)
                await server.wait(r"\[worker 1\] \[path cam\] stream is online", start)
            await server.wait(r"\[worker 1\] \[path cam\] stream is offline", start)
        for _ in range(2):
            start = len(server.lines)
            is_enough = threading.Event()
            publishing_it = asyncio.ensure_future(asyncio.to_thread(publish_over_whip, ports["webrtc"], is_enough))
            try:
                await server.wait(r"\[worker 1\] \[WebRTC\] .* is publishing to path 'cam'", start)
            finally:
                is_enough.set()
                await publishing_it
            await server.wait(r"\[worker 1\] \[path cam\] stream is offline", start)
        assert [reader.returncode for reader in readers] == [None, None]


@contextlib.asynccontextmanager
async def watching(url: str) -> AsyncIterator[Process]:
    """Read a stream until the block ends."""
    process = await asyncio.create_subprocess_exec(*ffmpeg("-i", url, "-c", "copy", "-f", "null", "-"), stdin=DEVNULL)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def publish_over_whip(port: int, is_enough: threading.Event) -> None:
    np = pytest.importorskip("numpy")
    with polycast.publish(f"whip://127.0.0.1:{port}/cam/whip", size=(320, 240), rate=25) as video:
        while not is_enough.is_set():
            video.write(np.zeros((240, 320, 3), np.uint8))
