"""What the chaos tests share: an origin that can be killed, readers of every protocol, a path that must not notice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.protocols.rtmp.support import Fixture, RtmpClient, running
from tests.protocols.rtsp.support import RtspClient
from tests.support.ports import free_port
from tests.support.rtp import key_unit, rtp
from tests.support.waiting import PATIENCE

from polycast.protocols.hls import remuxer
from polycast.wire.rtmp.events import FrameReceived

SCRIPT = Path(__file__).with_name("origin_process.py")

QUICK = {"sourceRetryPause": "50ms", "sourceRetryPauseMax": "200ms"}

SERVER: dict[str, Any] = {
    "readTimeout": "1s",
    "hlsDisable": False,
    "hlsAddress": "127.0.0.1:0",
    "hlsVariant": "fmp4",
    "hlsSegmentDuration": "100ms",
    "hlsSegmentCount": 300,  # for half a minute: a busy machine is not the origin that is looked at
}
"""Settings of the server that pulls."""


class Origin:
    """The program of `origin_process`, always on the same ports."""

    def __init__(self, host: str = "127.0.0.1", prefix: Sequence[str] = (), *, listens_on: str = "127.0.0.1") -> None:
        self.host = host
        self._prefix = prefix
        self._listens_on = listens_on
        self.ports = [free_port() for _ in range(3)]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, codec: str = "h264") -> None:
        """Start it, and wait until the stream is there."""
        command = [*self._prefix, sys.executable, str(SCRIPT), self._listens_on, *map(str, self.ports), codec]
        process = self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"

    async def start_again(self, codec: str = "h264") -> None:
        """Start it while the loop goes on."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.to_thread(self.start, codec)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it without a clean shutdown."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def sources(self) -> dict[str, dict[str, Any]]:
        """Paths that pull from it, one for each protocol."""
        return sources(self.host, self.ports)


def sources(host: str, ports: Sequence[int], *, encrypted: bool = False, **settings: Any) -> dict[str, dict[str, Any]]:
    """Return paths that pull from RTSP, RTMP and HLS ports: one for each protocol."""
    rtsp, rtmp, hls = ports
    end = "s" if encrypted else ""
    paths = {
        "rtsp": {"source": f"rtsp{end}://{host}:{rtsp}/cam", "sourceProtocol": "tcp"},
        "rtmp": {"source": f"rtmp{end}://{host}:{rtmp}/cam"},
        "hls": {"source": f"http{end}://{host}:{hls}/cam/index.m3u8"},
    }
    if not encrypted:
        paths["udp"] = {"source": f"rtsp://{host}:{rtsp}/cam", "sourceProtocol": "udp"}
    return {name: {**path, **QUICK, **settings} for name, path in paths.items()}


@contextlib.contextmanager
def origin(host: str = "127.0.0.1", prefix: Sequence[str] = (), **options: Any) -> Iterator[Origin]:
    found = Origin(host, prefix, **options)
    try:
        found.start()
        yield found
    finally:
        found.kill()


def source_paths(app: Fixture) -> list[str]:
    """Names of the paths that pull."""
    return [path.name for path in app.app.hub if path.source is not None]


async def all_ready(app: Fixture) -> None:
    """Wait until all sources are ready."""
    await app.until(lambda: all(app.path(name).stream is not None for name in source_paths(app)))


async def none_ready(app: Fixture) -> None:
    """Wait until no source is ready any more."""
    await app.until(lambda: all(app.path(name).stream is None for name in source_paths(app)))


# Readers


@dataclass
class Readers:
    """One reader of each protocol for each path that pulls."""

    app: Fixture
    http: httpx2.AsyncClient
    rtsp: dict[str, RtspClient] = field(default_factory=dict)
    rtmp: dict[str, RtmpClient] = field(default_factory=dict)

    def hls_url(self, path: str, file: str = "stream.m3u8") -> str:
        return f"http://127.0.0.1:{self.app.app.servers['HLS'].ports['hlsAddress']}/{path}/{file}"

    async def join(self) -> None:
        """Connect, and see that each of them gets the stream."""
        for name in source_paths(self.app):
            self.rtsp[name] = await self.app.rtsp()
            await self.rtsp[name].play(self.app.rtsp_url(name))
            self.rtmp[name] = await self.app.reader(name)
        await self.get_frames()

    async def get_frames(self) -> None:
        """See that each of them gets what is new."""
        await asyncio.gather(*map(self._get_frames_of, source_paths(self.app)))

    async def _get_frames_of(self, name: str) -> None:
        await self.rtsp[name].sync(self.app.rtsp_url(name))
        self.rtsp[name].frames.clear()
        await self.rtsp[name].packets(3)
        client = self.rtmp[name]
        count = len(client.all(FrameReceived))
        await client.until(lambda: len(client.all(FrameReceived)) > count)
        playlist = await self.http.get(self.hls_url(name))
        assert playlist.status_code == 200, (name, playlist.text)
        segment = [line for line in playlist.text.splitlines() if line and not line.startswith("#")][-1]
        assert (await self.http.get(self.hls_url(name, segment))).status_code == 200

    async def have_ended(self) -> None:
        """See that the server has ended all of them, as its documentation says."""
        self.app.pass_time(remuxer.LINGER_SECONDS)
        for name in self.rtsp:
            assert await self.rtsp[name].ended()
            await self.rtmp[name].ended()
            response = await self.http.get(self.hls_url(name))
            assert response.status_code == 404, (name, response.text)
            assert response.text.startswith(f"no one is publishing to path '{name}'")


@contextlib.asynccontextmanager
async def readers(app: Fixture) -> AsyncIterator[Readers]:
    # A playlist stays for a while when its stream has ended; not for so long here that others time out meanwhile.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remuxer, "LINGER_SECONDS", 0.5)
        async with httpx2.AsyncClient(timeout=PATIENCE, trust_env=False, verify=False) as http:
            yield Readers(app, http)


# The path that must not notice


class Bystander:
    """Publishes numbered packets on a path of its own and reads them again, over TCP."""

    NAME = "bystander"
    PAUSE = 0.01
    """Seconds between two packets."""

    def __init__(self, app: Fixture, publisher: RtspClient, reader: RtspClient) -> None:
        self._app = app
        self._publisher = publisher
        self._reader = reader
        self._sent = 0
        self._received: list[int] = []

    async def publish(self) -> None:
        while True:
            self.send()
            await asyncio.sleep(self.PAUSE)

    def send(self) -> None:
        self._publisher.send_frame(0, rtp(self._sent, key_unit(100) + struct.pack("!I", self._sent)))
        self._sent += 1

    async def read(self) -> None:
        while True:
            (packet,) = await self._reader.packets(1)
            self._received.append(struct.unpack("!I", packet[-4:])[0])

    async def check(self, publishing: asyncio.Task[None]) -> None:
        """Stop, and see that every single packet has come, in order."""
        await self._app.until(lambda: self._sent > 20)
        publishing.cancel()
        await self._app.until(lambda: len(self._received) >= self._sent)
        assert self._received == list(range(self._sent))
        lines = [line for line in self._app.log.lines if f"[path {self.NAME}]" in line]
        assert not [line for line in lines if "WARNING" in line or "ERROR" in line], lines


@contextlib.asynccontextmanager
async def undisturbed(app: Fixture) -> AsyncIterator[None]:
    """A path that is published and read for the length of the block; none of its packets may be lost."""
    publisher = await app.rtsp()
    await publisher.publish(app.rtsp_url(Bystander.NAME))
    reader = await app.rtsp()
    await reader.play(app.rtsp_url(Bystander.NAME))
    bystander = Bystander(app, publisher, reader)
    reading = asyncio.create_task(bystander.read())
    publishing = asyncio.create_task(bystander.publish())
    try:
        yield
        await bystander.check(publishing)
        assert not reading.done(), reading.exception()
    finally:
        for task in (publishing, reading):
            task.cancel()
        await asyncio.gather(publishing, reading, return_exceptions=True)


@contextlib.asynccontextmanager
async def pulling(paths: dict[str, Any], **settings: Any) -> AsyncIterator[Fixture]:
    """A server that pulls ``paths``, with one more path that must not notice what becomes of them."""
    paths = {**paths, Bystander.NAME: {}}
    async with running(paths=paths, **{**SERVER, **settings}) as app, undisturbed(app):
        yield app


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
