"""A worker is killed while it is busy: what its clients see, and those of the other worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tests.interop.copies import AUDIO, NO_H264_SETS, VIDEO, hash_arguments
from tests.interop.tools import HashedPacket, ffmpeg, read_framemd5
from tests.support.waiting import PATIENCE
from tests.workers.support import KEPT, Server, running
from tests.workers.test_streams import check, clip, read

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")

__all__ = ["clip"]

TCP = ("-rtsp_transport", "tcp")


class Encoder:
    """Publishes a file, and again from its beginning whenever the connection ends, as encoders do."""

    def __init__(self, file: Path, first: str, later: str) -> None:
        """``first`` and ``later``: where the first connection goes, and all others."""
        self.connections = 0
        self._file = file
        self._urls = (first, later)

    async def run(self) -> None:
        while True:
            url = self._urls[min(self.connections, 1)]
            process = await asyncio.create_subprocess_exec(
                *ffmpeg("-re", "-i", self._file, "-c", "copy", "-f", "flv", url), stdin=DEVNULL, stdout=DEVNULL
            )
            self.connections += 1
            await ended(process)


class Player:
    """Reads a stream until its connection ends, and keeps the packets."""

    def __init__(self, folder: Path, name: str, url: str, *options: str) -> None:
        self._output = folder / f"{name}.md5"
        self._command = ffmpeg(*options, "-i", url, *hash_arguments(NO_H264_SETS, self._output))
        self.is_over = False

    async def run(self) -> None:
        await ended(await asyncio.create_subprocess_exec(*self._command, stdin=DEVNULL, stdout=DEVNULL))
        self.is_over = True

    @property
    def packets(self) -> list[HashedPacket]:
        return read_framemd5(self._output.read_text() if self._output.exists() else "")


async def ended(process: Process) -> None:
    """Wait for the end of a process; end it if nobody waits any more."""
    try:
        await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def more(players: Sequence[Player], count: int) -> None:
    """Wait until each player has got so many more packets."""
    wanted = [len(player.packets) + count for player in players]
    async with asyncio.timeout(PATIENCE):
        while any(len(player.packets) < each for player, each in zip(players, wanted, strict=True)):
            assert not any(player.is_over for player in players)
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def started(*runs: Encoder | Player) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each.run()) for each in runs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ready(server: Server, *paths: str) -> None:
    await server.until(
        "/v3/paths/list", lambda found: {each["name"] for each in found["items"] if each["ready"]} >= set(paths)
    )


def runs(published: Sequence[HashedPacket], received: Sequence[HashedPacket], track: int) -> list[int]:
    """Return the lengths of the runs of received packets that follow each other in the file."""
    sent = [packet.digest for packet in published if packet.stream == track]
    got = [packet.digest for packet in received if packet.stream == track]
    lengths: list[int] = []
    while got:
        # Some pictures and sounds are the same: the longest run is the one that was published.
        starts = (index for index, digest in enumerate(sent) if digest == got[0])
        length = max((common_length(sent[start:], got) for start in starts), default=0)
        assert length, f"track {track}: a packet was never published"
        lengths.append(length)
        got = got[length:]
    return lengths


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    return next(
        (index for index, (left, right) in enumerate(zip(one, other, strict=False)) if left != right),
        min(len(one), len(other)),
    )


async def test_a_worker_is_killed_under_load(tmp_path: Path, clip: tuple[Path, list[HashedPacket]]) -> None:
    file, published = clip
    async with (
        running(tmp_path, paths={"all_others": {"publisherGrace": "60s"}}, **KEPT) as server,
        server.at(1, "rtmp") as rtmp_1,
        server.at(2, "rtmp") as rtmp_2,
        server.at(1, "rtsp") as rtsp_1,
        server.at(2, "rtsp") as rtsp_2,
    ):
        any_worker = f"rtmp://127.0.0.1:{server.ports['rtmp']}"
        safe = [Encoder(file, f"rtmp://127.0.0.1:{rtmp_1}/safe{n}", f"{any_worker}/safe{n}") for n in (1, 2)]
        lost = [Encoder(file, f"rtmp://127.0.0.1:{rtmp_2}/lost{n}", f"{any_worker}/lost{n}") for n in (1, 2)]
        local = Player(tmp_path, "local", f"rtsp://127.0.0.1:{rtsp_1}/safe1", *TCP)
        other = Player(tmp_path, "other", f"rtmp://127.0.0.1:{rtmp_1}/safe2")
        waiting = [Player(tmp_path, f"waiting{n}", f"rtsp://127.0.0.1:{rtsp_1}/lost{n}", *TCP) for n in (1, 2)]
        gone = [
            Player(tmp_path, "gone1", f"rtsp://127.0.0.1:{rtsp_2}/safe1", *TCP),
            Player(tmp_path, "gone2", f"rtmp://127.0.0.1:{rtmp_2}/lost2"),
        ]
        async with started(*safe, *lost):
            await ready(server, "safe1", "safe2", "lost1", "lost2")
            async with started(local, other, *waiting, *gone):
                await more([local, other, *waiting, *gone], 50)
                pids = await server.pids()
                start = len(server.lines)
                os.kill(pids[2], signal.SIGKILL)
                await server.wait(r"\[worker 2\] replaced", start)
                for path in ("lost1", "lost2"):
                    await server.wait(rf"is publishing to path '{path}'", start)
                await more([local, other, *waiting], 100)
                # Those that were connected to it are disconnected, and may come back at once.
                assert [player.is_over for player in gone] == [True, True]
                again = await read(tmp_path, f"rtsp://127.0.0.1:{server.ports['rtsp']}/lost2", 50, *TCP)
        assert [encoder.connections for encoder in (*safe, *lost)] == [1, 1, 2, 2]
        check(published, local.packets, (VIDEO, AUDIO))
        check(published, other.packets, (VIDEO, AUDIO))
        check(published, again, (VIDEO, AUDIO))
        for player in waiting:
            for track in (VIDEO, AUDIO):
                # Nothing is lost, either, but between the two connections of the publisher.
                assert len(runs(published, player.packets, track)) == 2
