"""Streams that are published in one worker and read in another one: every frame arrives, over every protocol."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import signal
import sys
import urllib.request
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tests.interop.copies import AUDIO, NO_H264_SETS, VIDEO, compare_track, hash_arguments, hashes_of_media
from tests.interop.tools import HashedPacket, ffmpeg, read_framemd5, require
from tests.support import made
from tests.support.waiting import PATIENCE
from tests.workers.support import KEPT, Server, command, running

import polycast

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")

SECONDS = 60
"""Of the file: longer than any test. It ends with the publisher."""


@pytest.fixture(scope="session")
def clip() -> tuple[Path, list[HashedPacket]]:
    """Return a file with a picture and sound, and its packets."""
    require("ffmpeg")
    file = made.by_ffmpeg(
        ".mkv", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=25", "-f", "lavfi", "-i", "sine=sample_rate=48000",
        "-t", str(SECONDS), "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25",
        "-c:a", "aac",
    )  # fmt: skip
    return file, hashes_of_media(file, NO_H264_SETS)


@contextlib.asynccontextmanager
async def publishing(server: Server, file: Path, url: str, *options: str) -> AsyncIterator[Process]:
    """Publish a file until the block ends."""
    publisher = await asyncio.create_subprocess_exec(
        *ffmpeg("-re", "-i", file, "-c", "copy", *options, url), stdin=DEVNULL, stdout=DEVNULL
    )
    try:
        await server.until("/v3/paths/list", lambda paths: any(path["ready"] for path in paths["items"]))
        yield publisher
    finally:
        with contextlib.suppress(ProcessLookupError):
            publisher.kill()
        await publisher.wait()


_files = itertools.count()


async def read(folder: Path, url: str, packets: int, *options: str) -> list[HashedPacket]:
    """Return the first packets of a stream as FFmpeg gets them."""
    output = folder / f"{next(_files)}.md5"
    reader = await asyncio.create_subprocess_exec(
        *ffmpeg(*options, "-i", url, *hash_arguments(NO_H264_SETS, output)), stdin=DEVNULL, stdout=DEVNULL
    )
    try:
        async with asyncio.timeout(PATIENCE):
            while len(found := read_framemd5(output.read_text() if output.exists() else "")) < packets:
                assert reader.returncode is None, f"{url} has ended after {len(found)} packets"
                await asyncio.sleep(0.1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            reader.kill()
        await reader.wait()
    return found


def check(published: Sequence[HashedPacket], received: Sequence[HashedPacket], tracks: Sequence[int]) -> None:
    for track in tracks:
        assert compare_track(published, received, track)


async def test_every_protocol_in_another_worker(tmp_path: Path, clip: tuple[Path, list[HashedPacket]]) -> None:
    file, published = clip
    async with (
        running(tmp_path, hlsVariant="fmp4", **KEPT) as server,
        server.at(1, "rtmp") as first,
        publishing(server, file, f"rtmp://127.0.0.1:{first}/cam", "-f", "flv"),
        server.at(2, "rtsp") as rtsp,
        server.at(2, "rtmp") as rtmp,
    ):
        hls = f"http://127.0.0.1:{server.ports['hls']}/cam/index.m3u8"
        srt = f"srt://127.0.0.1:{server.ports['srt']}?streamid=read:cam"
        received = await asyncio.gather(
            read(tmp_path, f"rtsp://127.0.0.1:{rtsp}/cam", 100, "-rtsp_transport", "tcp"),
            read(tmp_path, f"rtsp://127.0.0.1:{rtsp}/cam", 100, "-rtsp_transport", "udp"),
            read(tmp_path, f"rtmp://127.0.0.1:{rtmp}/cam", 100),
            *(read(tmp_path, hls, 100) for _ in range(2)),
            *(read(tmp_path, srt, 100) for _ in range(2)),
        )
        for each in received[:-2]:
            check(published, each, (VIDEO, AUDIO))
        for each in received[-2:]:  # in MPEG-TS, sound has headers of its own
            check(published, each, (VIDEO,))
        (path,) = (await server.get("/v3/paths/list"))["items"]
        assert path["source"]["type"] == "rtmpConn"
        assert "node" not in {reader["type"] for reader in path["readers"]}


async def test_hls_has_the_same_names_everywhere(tmp_path: Path, clip: tuple[Path, list[HashedPacket]]) -> None:
    def get(url: str) -> tuple[bytes, str]:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.read(), answer.headers.get("Set-Cookie", "")

    values = {
        "authInternalUsers": [
            {"user": "any", "permissions": [{"action": "publish"}, {"action": "api"}, {"action": "metrics"}]},
            {"user": "me", "pass": "secret", "permissions": [{"action": "read"}]},
        ],
        "hlsVariant": "fmp4",
    }
    async with (
        running(tmp_path, **values) as server,
        server.at(1, "rtmp") as first,
        publishing(server, clip[0], f"rtmp://127.0.0.1:{first}/cam", "-f", "flv"),
    ):
        base = f"http://127.0.0.1:{server.ports['hls']}/cam/"
        names: set[str] = set()
        # Each request has a connection of its own, which reaches any worker; credentials are only sent once.
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

        def open_once(path: str, *, has_credentials: bool = False) -> bytes:
            request = urllib.request.Request(base + path)
            if has_credentials:
                request.add_header("Authorization", "Basic bWU6c2VjcmV0")
            with opener.open(request, timeout=PATIENCE) as answer:
                return bytes(answer.read())

        index = (await asyncio.to_thread(open_once, "index.m3u8", has_credentials=True)).decode()
        media = next(line for line in index.splitlines() if line and not line.startswith("#"))
        for _ in range(12):
            playlist = (await asyncio.to_thread(open_once, media)).decode()
            names.add(re.findall(r"(?m)^\S+\.mp4\S*$", playlist)[0].partition("_")[0])
        segment = re.findall(r"(?m)^\S+\.mp4\S*$", playlist)[-1]
        bodies = {await asyncio.to_thread(open_once, segment) for _ in range(8)}
        assert len(bodies) == 1
        with pytest.raises(urllib.error.HTTPError, match="401"):
            await asyncio.to_thread(get, f"{base}index.m3u8")
        muxers = (await server.get("/v3/hlsmuxers/list"))["items"]
        assert [muxer["path"] for muxer in muxers] == ["cam"]
        sessions = (await server.get("/v3/hlssessions/list"))["items"]
        assert [session["user"] for session in sessions] == ["me"]


async def test_webrtc_in_any_worker(tmp_path: Path, clip: tuple[Path, list[HashedPacket]]) -> None:
    pytest.importorskip("av")
    async with (
        running(tmp_path) as server,
        server.at(1, "rtmp") as first,
        publishing(server, clip[0], f"rtmp://127.0.0.1:{first}/cam", "-an", "-f", "flv"),
    ):
        url = f"whep://127.0.0.1:{server.ports['webrtc']}/cam/whep"

        def watch() -> int:
            count = 0
            with polycast.read(url, timeout=PATIENCE) as frames:
                for _ in frames:
                    count += 1
                    if count == 10:
                        break
            return count

        assert await asyncio.gather(*(asyncio.to_thread(watch) for _ in range(4))) == [10] * 4
        status, shown = await asyncio.to_thread(
            command, tmp_path, "top", "--once", f"http://127.0.0.1:{server.ports['api']}"
        )
        assert status == 0, shown
        assert "2 workers" in shown
        for number, pid in (await server.pids()).items():
            assert re.search(rf"(?m)^\s*{number}\s+{pid}\s+\d+%\s+\d+ MB\s", shown), shown
        picture = await asyncio.to_thread(
            server.fetch, f"http://127.0.0.1:{server.ports['api']}/v1/paths/thumbnail/cam"
        )
        assert picture.startswith(b"\xff\xd8\xff")  # JPEG
        # Each session was ended by a request that any worker may have got.
        await server.until("/v3/webrtcsessions/list", lambda sessions: not sessions["items"])


async def test_publishers_replace_each_other_and_may_be_limited(
    tmp_path: Path, clip: tuple[Path, list[HashedPacket]]
) -> None:
    paths = {"kept": {"overridePublisher": False}, "few": {"maxReaders": 1}, "all_others": {}}
    async with (
        running(tmp_path, paths=paths, **KEPT) as server,
        server.at(1, "rtmp") as one,
        server.at(2, "rtmp") as other,
        server.at(2, "rtsp") as reading,
    ):
        for name in ("cam", "kept", "few"):
            async with publishing(server, clip[0], f"rtmp://127.0.0.1:{one}/{name}", "-f", "flv") as first:
                start = len(server.lines)
                if name == "few":
                    async with server.at(1, "rtsp") as near:
                        near_reader = asyncio.ensure_future(read(tmp_path, f"rtsp://127.0.0.1:{near}/few", 10_000))
                        await server.wait(r"\[worker 1\] \[RTSP\] .*is reading from path 'few'", start)
                        with pytest.raises(AssertionError, match="has ended after 0 packets"):
                            await read(tmp_path, f"rtsp://127.0.0.1:{reading}/few", 1)
                        near_reader.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await near_reader
                    continue
                second = await asyncio.create_subprocess_exec(
                    *ffmpeg("-re", "-i", clip[0], "-c", "copy", "-f", "flv", f"rtmp://127.0.0.1:{other}/{name}"),
                    stdin=DEVNULL,
                )
                async with asyncio.timeout(PATIENCE):
                    await (first if name == "cam" else second).wait()
                if name == "cam":
                    await server.wait(r"\[worker 2\] .* is publishing to path 'cam'", start)
                    second.kill()
                else:
                    await server.wait("someone is already publishing to path 'kept'", start)
                await second.wait()
            await server.until("/v3/paths/list", lambda found: not any(each["ready"] for each in found["items"]))


async def test_reloads_and_the_end_of_a_worker_disturb_no_other_stream(
    tmp_path: Path, clip: tuple[Path, list[HashedPacket]]
) -> None:
    file, published = clip
    async with (
        running(tmp_path, **KEPT) as server,
        server.at(2, "rtmp") as two,
        server.at(2, "rtsp") as reading,
        server.at(1, "rtsp") as across,
        publishing(server, file, f"rtmp://127.0.0.1:{two}/safe", "-f", "flv"),
    ):
        copied = asyncio.ensure_future(read(tmp_path, f"rtsp://127.0.0.1:{across}/safe", 300, "-rtsp_transport", "tcp"))
        await server.wait("is reading from path 'safe'")
        for number in range(10):
            await server.post(f"/v3/config/paths/add/other{number}", {"maxReaders": number})
            await server.post("/v3/config/global/patch", {"readTimeout": f"{20 + number}s"}, "PATCH")
        check(published, await copied, (VIDEO, AUDIO))
        start = len(server.lines)
        reader = asyncio.ensure_future(
            read(tmp_path, f"rtsp://127.0.0.1:{reading}/safe", 500, "-rtsp_transport", "tcp")
        )
        await server.wait("is reading from path 'safe'", start)
        pids = await server.pids()
        start = len(server.lines)
        os.kill(pids[1], signal.SIGKILL)
        await server.wait(r"\[worker 1\] replaced", start)
        check(published, await reader, (VIDEO, AUDIO))
        async with server.at(1, "rtsp") as again:
            received = await read(tmp_path, f"rtsp://127.0.0.1:{again}/safe", 50, "-rtsp_transport", "tcp")
            check(published, received, (VIDEO, AUDIO))
