"""On demand, by its keys: for sources and for commands, and for readers of each protocol."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.protocols.rtmp.support import Fixture, running
from tests.protocols.sources.camera import SILENCE, Camera, camera
from tests.support.rtp import key_unit, rtp
from tests.support.waiting import PATIENCE

from polycast.hub.on_demand import State
from polycast.protocols.hls.server import HlsServer
from polycast.wire.rtmp.client import Mode

HLS = {"hlsDisable": False, "hlsAddress": "127.0.0.1:0", "hlsVariant": "fmp4", "hlsSegmentDuration": "20ms"}
TIMED_OUT = "source of path 'cam' has timed out"
READERS_AT_ONCE = 10


def now() -> float:
    return asyncio.get_running_loop().time()


# What starts on demand


class Feed(ABC):
    """What is started on demand. ``starts`` and ``stops`` tell how often that has happened."""

    def __init__(self, *, works: bool = True) -> None:
        self.works = works

    @property
    @abstractmethod
    def starts(self) -> int: ...

    @property
    @abstractmethod
    def stops(self) -> int: ...

    @abstractmethod
    def settings(self, start_timeout: str, close_after: str) -> dict[str, Any]:
        """Return the entry of the path."""

    @abstractmethod
    async def run(self, app: Fixture) -> None:
        """Feed the path while it wants to be fed."""


class SourceFeed(Feed):
    """``sourceOnDemand``, with a camera."""

    def __init__(self, cam: Camera, *, works: bool = True) -> None:
        super().__init__(works=works)
        self.camera = cam
        if not works:
            cam.script["DESCRIBE"] = lambda *_: SILENCE

    @property
    def starts(self) -> int:
        return self.camera.connections

    @property
    def stops(self) -> int:
        return self.camera.connections - len(self.camera.clients)

    def settings(self, start_timeout: str, close_after: str) -> dict[str, Any]:
        return {
            "source": self.camera.url(),
            "sourceProtocol": "tcp",
            "sourceOnDemand": True,
            "sourceOnDemandStartTimeout": start_timeout,
            "sourceOnDemandCloseAfter": close_after,
        }

    async def run(self, app: Fixture) -> None:
        timestamp = 0
        while True:
            self.camera.send_key(timestamp)
            timestamp += 900
            await asyncio.sleep(0.01)


class CommandFeed(Feed):
    """``runOnDemand``, with a command that says when it starts and ends; the test publishes in its place."""

    def __init__(self, folder: Path, *, works: bool = True) -> None:
        super().__init__(works=works)
        self.file = folder / "commands"
        self.file.touch()

    @property
    def starts(self) -> int:
        return self.file.read_text().count("start")

    @property
    def stops(self) -> int:
        return self.file.read_text().count("SIGINT")

    def settings(self, start_timeout: str, close_after: str) -> dict[str, Any]:
        script = f"trap 'echo SIGINT >> {self.file}; exit' INT; echo start >> {self.file}; while :; do sleep 0.01; done"
        return {
            "runOnDemand": f"sh -c {shlex.quote(script)}",
            "runOnDemandStartTimeout": start_timeout,
            "runOnDemandCloseAfter": close_after,
        }

    async def run(self, app: Fixture) -> None:
        published = 0
        while self.works:
            await self._started(published + 1)
            published = self.starts
            publisher = await app.rtsp()
            await publisher.publish(app.rtsp_url("cam"))
            for number in range(10_000):
                if self.stops == published or publisher.reader.at_eof():
                    break
                publisher.send_frame(0, rtp(number, key_unit(), timestamp=900 * number))
                await asyncio.sleep(0.01)

    async def _started(self, times: int) -> None:
        await until(lambda: self.starts >= times)


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@pytest.fixture(params=["sourceOnDemand", "runOnDemand"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "runOnDemand" and os.name != "posix":
        pytest.skip("the command is a shell's")
    return str(request.param)


@contextlib.asynccontextmanager
async def feeding(
    kind: str, folder: Path, *, works: bool = True, start_timeout: str = "5s", close_after: str = "5s"
) -> AsyncIterator[tuple[Fixture, Feed]]:
    """A server whose path ``cam`` is fed on demand, and what feeds it."""
    async with camera() as cam:
        feed: Feed = SourceFeed(cam, works=works) if kind == "sourceOnDemand" else CommandFeed(folder, works=works)
        async with running(paths={"cam": feed.settings(start_timeout, close_after)}, **HLS) as app:
            task = asyncio.create_task(feed.run(app))
            try:
                yield app, feed
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


# Who reads


class Viewer(ABC):
    """A reader of one protocol."""

    def __init__(self, app: Fixture) -> None:
        self.app = app

    @abstractmethod
    async def join(self) -> str:
        """Ask for the stream; return an empty text, or why it is refused."""

    @abstractmethod
    async def leave(self) -> None: ...


class RtspViewer(Viewer):
    async def join(self) -> str:
        self.client = await self.app.rtsp()
        response = await self.client.request("DESCRIBE", self.app.rtsp_url("cam"))
        if response.status != 200:
            assert response.status == 404
            # RTSP has no place for the text: it is in the log.
            return (await self.app.log.wait(TIMED_OUT)) and TIMED_OUT
        await self.client.play(self.app.rtsp_url("cam"))
        return ""

    async def leave(self) -> None:
        await self.client.close()


class RtmpViewer(Viewer):
    async def join(self) -> str:
        self.client = await self.app.client(Mode.PLAY, "cam")
        try:
            await self.client.accepted()
        except AssertionError:
            return (await self.client.refused()).description
        return ""

    async def leave(self) -> None:
        await self.client.close()


class HlsViewer(Viewer):
    """It has left when it has not asked for anything for some time."""

    @property
    def server(self) -> HlsServer:
        server = self.app.app.servers["HLS"]
        assert isinstance(server, HlsServer)
        return server

    async def join(self) -> str:
        async with httpx2.AsyncClient(timeout=PATIENCE, trust_env=False, verify=False) as http:
            response = await http.get(f"http://127.0.0.1:{self.server.ports['hlsAddress']}/cam/stream.m3u8")
        if response.status_code != 200:
            assert response.status_code == 404
            return response.text.strip()
        return ""

    async def leave(self) -> None:
        muxer = self.server.remuxers.get("cam")
        if muxer is not None:  # several viewers have one
            muxer.tick(self.server.now() + 60.0, 60.0)


VIEWERS: dict[str, type[Viewer]] = {"rtsp": RtspViewer, "rtmp": RtmpViewer, "hls": HlsViewer}


@pytest.fixture(params=VIEWERS)
def viewer(request: pytest.FixtureRequest) -> type[Viewer]:
    return VIEWERS[request.param]


# The times


def state_of(app: Fixture) -> State:
    """Return where what feeds the path is."""
    on_demand = app.path("cam").on_demand
    assert on_demand is not None
    return on_demand.state


async def test_it_starts_with_the_first_reader_and_stops_after_the_last(
    kind: str, viewer: type[Viewer], tmp_path: Path
) -> None:
    async with feeding(kind, tmp_path, close_after="3s") as (app, feed):
        await asyncio.sleep(0.05)
        assert feed.starts == 0
        first = viewer(app)
        assert await first.join() == ""
        assert feed.starts == 1
        # Somebody is there for longer than the delay; it goes on.
        other = RtspViewer(app)
        assert await other.join() == ""
        await first.leave()
        await until(lambda: len(app.path("cam").readers) == 1)
        assert (feed.starts, feed.stops) == (1, 0)
        assert state_of(app) is State.READY, "no time runs"
        # Somebody comes before the delay is over; it goes on.
        await other.leave()
        await until(lambda: state_of(app) is State.CLOSING)
        again = viewer(app)
        assert await again.join() == ""
        assert (feed.starts, feed.stops) == (1, 0)
        assert state_of(app) is State.READY, "no time runs"
        left = now()
        await again.leave()
        await until(lambda: feed.stops == 1)
        assert now() - left >= 3
        await until(lambda: app.path("cam").stream is None)
        # And it starts once more.
        assert await viewer(app).join() == ""
        assert feed.starts == 2


async def test_held_requests_fail_when_it_does_not_start(kind: str, viewer: type[Viewer], tmp_path: Path) -> None:
    async with feeding(kind, tmp_path, works=False, start_timeout="300ms") as (app, feed):
        began = now()
        answers = await asyncio.gather(*(viewer(app).join() for _ in range(READERS_AT_ONCE)))
        assert now() - began >= 0.3
        assert answers == [TIMED_OUT] * READERS_AT_ONCE
        assert feed.starts == 1
        await until(lambda: feed.stops == 1)


async def test_ten_readers_at_once_start_it_once(kind: str, viewer: type[Viewer], tmp_path: Path) -> None:
    async with feeding(kind, tmp_path) as (app, feed):
        answers = await asyncio.gather(*(viewer(app).join() for _ in range(READERS_AT_ONCE)))
        assert answers == [""] * READERS_AT_ONCE
        assert (feed.starts, feed.stops) == (1, 0)


async def test_readers_of_all_protocols_at_once_start_it_once(kind: str, tmp_path: Path) -> None:
    async with feeding(kind, tmp_path) as (app, feed):
        viewers = [VIEWERS[name](app) for name in VIEWERS for _ in range(READERS_AT_ONCE)]
        assert set(await asyncio.gather(*(one.join() for one in viewers))) == {""}
        assert (feed.starts, feed.stops) == (1, 0)


async def test_a_description_alone_keeps_it_for_the_delay(kind: str, tmp_path: Path) -> None:
    async with feeding(kind, tmp_path, close_after="200ms") as (app, feed):
        client = await app.rtsp()
        assert (await client.request("DESCRIBE", app.rtsp_url("cam"))).status == 200
        began = now()
        await until(lambda: feed.stops == 1)
        assert now() - began >= 0.15  # the delay has begun a moment before the answer came
        assert feed.starts == 1


async def test_readers_that_do_not_wait_for_it(kind: str, viewer: type[Viewer], tmp_path: Path) -> None:
    async with feeding(kind, tmp_path, works=False, start_timeout="300ms") as (app, feed):
        waiting = asyncio.create_task(viewer(app).join())
        await until(lambda: feed.starts == 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        for client in app.clients:
            await client.close()
        # Nobody is told, but it does not go on for ever.
        await until(lambda: feed.stops == 1)
