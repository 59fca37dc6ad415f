"""A server in this process with a publisher of made-up frames, a clock that tests move, and clients for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from tests.support.running import Clock, Lines, application
from tests.support.waiting import PATIENCE, until
from tests.wire.hls.streams import AUDIO, VIDEO, audio, merge, regular, track, video

from polycast.app import Application
from polycast.config import LoadedConfiguration, from_mapping
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import LEGACY
from polycast.hub.access import AuthenticateCallback
from polycast.hub.path import Path, Publisher
from polycast.hub.stats import Reference
from polycast.hub.stream import Stream
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.protocols.hls.server import HlsServer

__all__ = ["PATIENCE", "Fixture", "FramePublisher", "running"]

BASE: Mapping[str, Any] = {
    "rtspDisable": True,
    "rtmpDisable": True,
    "hlsAddress": "127.0.0.1:0",
    "hlsVariant": "fmp4",
    "authenticationFailurePause": "5ms",
    "paths": {"all": {}},
}
BOTH = (track(0, VIDEO), track(1, AUDIO))
RATES = {0: 90_000, 1: 48_000}


class FramePublisher(Publisher):
    """Publishes on a path what tests hand it; time is that of the frames."""

    def __init__(self, path: Path, tracks: Sequence[Track] = BOTH) -> None:
        self.path = path
        path.set_publisher(self)
        self.stream: Stream = path.start_publishing(self, tracks, publishes_packets=False)
        self.seconds = 0
        self.has_audio = len(tracks) > 1

    def close_publisher(self, reason: str) -> None:
        pass

    def reference(self) -> Reference:
        return Reference("test")

    def write(self, frames: Sequence[tuple[int, Frame]]) -> None:
        for index, frame in frames:
            self.stream.publish_frame(index, frame, asyncio.get_running_loop().time())
            self.stream.flush()

    def frames(self, seconds: int, *, size: int = 200, gop: int = 30) -> Iterator[tuple[int, Frame]]:
        """Return the next seconds: 30 pictures a second, a key frame each second, and sound."""
        start, self.seconds = self.seconds, self.seconds + seconds
        times = regular(seconds, gop=gop, start=start * 90_000)
        lanes = [video(0, times, size=size)]
        if self.has_audio:
            lanes.append(audio(1, seconds, start=start * 48_000))
        yield from merge(RATES, *lanes)

    def play(self, seconds: int, *, size: int = 200, gop: int = 30) -> None:
        """Publish the next seconds at once."""
        self.write(list(self.frames(seconds, size=size, gop=gop)))

    def stop(self) -> None:
        self.path.remove_publisher(self, "the test stops it")


@dataclass
class Fixture:
    """A running application."""

    app: Application
    log: Lines
    clock: Clock
    client: httpx2.AsyncClient
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def server(self) -> HlsServer:
        server = self.app.servers["HLS"]
        assert isinstance(server, HlsServer)
        return server

    @property
    def port(self) -> int:
        return self.server.ports["hlsAddress"]

    def publish(self, name: str, tracks: Sequence[Track] = BOTH) -> FramePublisher:
        return FramePublisher(self.app.hub.path(name), tracks)

    async def get(self, target: str, status: int = 200, **headers: str) -> httpx2.Response:
        """Return the answer to GET; names of headers are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = await self.client.get(target, headers=named)
        assert response.status_code == status, f"{target}: {response.status_code} {response.text[:300]}"
        return response

    def soon(self, target: str) -> asyncio.Task[httpx2.Response]:
        """Send a request that may be held."""
        task = asyncio.get_running_loop().create_task(self.client.get(target))
        self.tasks.add(task)
        return task

    def soon_with(self, target: str, headers: Mapping[str, str]) -> asyncio.Task[httpx2.Response]:
        """Send a request with headers that may be held."""
        task = asyncio.get_running_loop().create_task(self.client.get(target, headers=headers))
        self.tasks.add(task)
        return task

    async def held(self, name: str, count: int) -> None:
        """Wait until so many requests wait at a muxer."""
        await self.until(lambda: name in self.server.remuxers and self.waiting(name) == count)

    def waiting(self, name: str) -> int:
        return self.server.remuxers[name]._blocked.count

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until a condition holds."""
        await until(condition, self.log.lines)

    def pass_time(self, seconds: float) -> None:
        """Let time pass and the server do its housekeeping."""
        self.clock.value += seconds
        server = self.server
        server.housekeeping.begin_round()

    async def playing(self, name: str, seconds: int = 4, **options: Any) -> tuple[FramePublisher, str]:
        """Publish, make the muxer, and return the publisher with the media playlist after some seconds."""
        publisher = self.publish(name)
        first = self.soon(f"/{name}/stream.m3u8")
        await self.until(lambda: name in self.server.remuxers)
        publisher.play(seconds, **options)
        assert (await first).status_code == 200
        return publisher, (await self.get(f"/{name}/stream.m3u8")).text


def names(playlist: str) -> list[str]:
    """Return the segments that a playlist lists."""
    return [line for line in playlist.splitlines() if line and not line.startswith("#")]


def attribute(playlist: str, pattern: str) -> str:
    """Return the first group of a pattern that must be in a playlist."""
    found = re.search(pattern, playlist)
    assert found is not None, f"{pattern} is not in\n{playlist}"
    return found[1]


@contextlib.asynccontextmanager
async def running(
    authenticate: AuthenticateCallback | None = None,
    *,
    tls: ssl.SSLContext | bool = False,
    level: int = logging.INFO,
    dialect: Dialect = LEGACY,
    **values: Any,
) -> AsyncIterator[Fixture]:
    """Run an application with the keys ``values`` of the configuration; ``tls`` is what the client verifies with."""
    loaded = LoadedConfiguration(from_mapping({**BASE, **values}, dialect), None, [], frozenset())
    async with application(loaded, level=level, authenticate=authenticate) as (app, lines):
        scheme = "https" if tls is not False else "http"
        port = app.servers["HLS"].ports["hlsAddress"]
        client = httpx2.AsyncClient(
            base_url=f"{scheme}://127.0.0.1:{port}",
            timeout=PATIENCE,
            trust_env=False,
            verify=tls,
            limits=httpx2.Limits(max_connections=None),
        )
        fixture = Fixture(app, lines, Clock(), client)
        fixture.server.now = fixture.clock
        async with client:
            yield fixture
            for task in fixture.tasks:
                task.cancel()
