"""A server in this process with WebRTC, and aiortc as its peer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx2
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from tests.protocols.rtsp.support import loaded
from tests.support.running import Lines, application
from tests.support.waiting import PATIENCE, until

from polycast.app import Application
from polycast.hub.path import Path
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.protocols.webrtc.server import WebRtcServer

WEBRTC: dict[str, Any] = {
    "rtspDisable": True,
    "rtmpDisable": True,
    "hlsDisable": True,
    "webrtc": True,
    "webrtcAddress": "127.0.0.1:0",
    "webrtcLocalUDPAddress": "127.0.0.1:0",
    "paths": {"all": {}},
}


@dataclass
class Fixture:
    """A running application and an HTTP client for it."""

    app: Application
    log: Lines
    http: httpx2.AsyncClient

    @property
    def server(self) -> WebRtcServer:
        server = self.app.servers["WebRTC"]
        assert isinstance(server, WebRtcServer)
        return server

    def path(self, name: str) -> Path:
        return self.app.hub.path(name)

    def publish(self, name: str, tracks: list[Track]) -> Publication:
        """Publish frames on a path, as a program does."""
        return Publication(self.path(name), tracks)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is asked at each turn of the loop."""
        await until(condition, self.log.lines)


class Publication:
    """A publisher of frames."""

    def __init__(self, path: Path, tracks: list[Track]) -> None:
        from polycast.hub.path import Publisher
        from polycast.hub.stats import Reference

        class _Publisher(Publisher):
            key_frame_requests = 0

            def close_publisher(self, reason: str) -> None:
                pass

            def reference(self) -> Reference:
                return Reference("test")

            def request_key_frame(self) -> None:
                self.key_frame_requests += 1

        self.publisher = _Publisher()
        self._path = path
        path.set_publisher(self.publisher)
        self.stream = path.start_publishing(self.publisher, tracks, publishes_packets=False)

    def write(self, index: int, frame: Frame) -> None:
        """Write one frame, and send it out."""
        self.stream.publish_frame(index, frame, asyncio.get_running_loop().time())
        self.stream.end_of_read()

    def end(self) -> None:
        """Stop publishing."""
        self._path.remove_publisher(self.publisher, "the test is over")


@contextlib.asynccontextmanager
async def running(**values: Any) -> AsyncIterator[Fixture]:
    """Run an application with the keys ``values`` of the configuration."""
    async with application(loaded({**WEBRTC, **values}), level=logging.DEBUG) as (app, lines):
        port = app.servers["WebRTC"].ports["webrtcAddress"]
        address = f"http://127.0.0.1:{port}"
        async with httpx2.AsyncClient(base_url=address, trust_env=False, verify=False, timeout=PATIENCE) as http:
            yield Fixture(app, lines, http)


async def exchange(http: httpx2.AsyncClient, peer: RTCPeerConnection, endpoint: str) -> httpx2.Response:
    """Send the offer of an aiortc connection to a WHIP or WHEP endpoint, and take its answer."""
    await peer.setLocalDescription(await peer.createOffer())
    response = await http.post(endpoint, content=peer.localDescription.sdp, headers={"Content-Type": "application/sdp"})
    if response.status_code == 201:
        await peer.setRemoteDescription(RTCSessionDescription(response.text, "answer"))
    return response


async def receive(track: MediaStreamTrack, count: int) -> list[Any]:
    """Return the next frames of a track."""
    frames: list[Any] = []
    async with asyncio.timeout(PATIENCE):
        while len(frames) < count:
            try:
                frames.append(await track.recv())
            except MediaStreamError:
                break
    return frames
