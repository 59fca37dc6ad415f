"""A server with SRT in this process, and SRT clients: our own engine over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from tests.control.support import Server, running
from tests.support.waiting import PATIENCE, until
from tests.wire.rtmp.support import AUDIO, IDR, SLICE, VIDEO

from polycast.log import Log
from polycast.media.frame import Frame
from polycast.media.timebase import rescale
from polycast.media.track import Track
from polycast.protocols.srt.address import parse_address
from polycast.protocols.srt.client import Client
from polycast.protocols.srt.connection import Connection
from polycast.protocols.srt.server import SrtServer
from polycast.wire.mpegts.demuxer import Demuxer
from polycast.wire.mpegts.muxer import Muxer
from polycast.wire.srt.datagrams import split

SRT: Mapping[str, Any] = {"srt": True, "srtAddress": "127.0.0.1:0"}
TRACKS = (VIDEO, AUDIO)


def video_frame(number: int, *, key: bool = False, size: int = 0) -> Frame:
    """Frame ``number`` of a video track at 25 frames per second."""
    unit = (IDR if key else SLICE) + number.to_bytes(2, "big") + b"\x80" + bytes(size)
    return Frame((unit,), number * 3600, number * 3600, key=key)


def audio_frame(number: int) -> Frame:
    """Frame ``number`` of an AAC track."""
    return Frame((b"\x21\x10\x04\x60\x8c\x1c" + bytes((number & 0xFF,)),), number * 1024, number * 1024, key=True)


def server_of(app: Server) -> SrtServer:
    server = app.app.servers["SRT"]
    assert isinstance(server, SrtServer)
    return server


def port_of(app: Server) -> int:
    return server_of(app).ports["srtAddress"]


def connections(app: Server) -> list[Connection]:
    """Return the clients of the server."""
    return server_of(app)._clients.all()


class Peer:
    """A client that publishes or reads."""

    def __init__(self, url: str) -> None:
        self.received = b""
        self.largest = 0
        """Bytes of the largest payload that was received."""
        self.client = Client(parse_address(url), Log(), self._on_received)
        self._demuxer = Demuxer()
        self.frames: list[tuple[int, Frame]] = []
        """Frames that were received."""
        self._muxer: Muxer | None = None
        self._rates: list[int] = []

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks that were received."""
        return self._demuxer.tracks or ()

    def _on_received(self, payloads: Sequence[bytes], now: float) -> None:
        data = b"".join(payloads)
        self.largest = max(self.largest, *map(len, payloads))
        self.received += data
        self.frames += self._demuxer.receive_data(data)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        assert self.client.link is not None
        self.client.link.send(split(data, 1316), self.client.now())

    def begin(self, tracks: Sequence[Track] = TRACKS) -> None:
        """Send the tables of a stream with these tracks."""
        self._muxer = Muxer(tracks)
        self._rates = [track.clock_rate for track in tracks]
        self.send(self._muxer.tables())

    def send_frame(self, index: int, frame: Frame) -> None:
        """Send a frame."""
        assert self._muxer is not None
        time = rescale(frame.pts, self._rates[index], 90_000)
        self.send(self._muxer.write_frame(index, frame, time, time))

    async def until(self, frames: int) -> None:
        """Wait until so many frames were received."""
        await until(lambda: len(self.frames) >= frames)

    async def ended(self) -> str:
        """Return why the connection has ended, waiting for that."""
        await asyncio.wait((self.client.lost,), timeout=PATIENCE)
        return str(self.client.lost.exception())


def url(port: int, stream_id: str, **parameters: object) -> str:
    """Return an address on this machine."""
    values = {"streamid": stream_id, "conntimeo": 30_000, **parameters}
    return f"srt://127.0.0.1:{port}?" + "&".join(f"{key}={quote(str(value))}" for key, value in values.items())


@contextlib.asynccontextmanager
async def peer(app: Server, stream_id: str, **parameters: object) -> AsyncIterator[Peer]:
    """Connect a client."""
    connected = Peer(url(port_of(app), stream_id, **parameters))
    try:
        await connected.client.connect()
        yield connected
    finally:
        await connected.client.close(5.0)


async def refusal(app: Server, stream_id: str, **parameters: object) -> int:
    """Return the code with which a client is refused."""
    connecting = Peer(url(port_of(app), stream_id, **parameters))
    try:
        await connecting.client.connect()
    except Exception as error:
        return int(str(error).partition("(SRT rejection ")[2].rstrip(")"))
    finally:
        await connecting.client.close(0.1)
    raise AssertionError("the client was accepted")


@contextlib.asynccontextmanager
async def publishing(app: Server, path: str = "cam", **parameters: object) -> AsyncIterator[Peer]:
    """Publish a stream with a key frame and some audio."""
    async with peer(app, f"publish:{path}", **parameters) as publisher:
        publisher.begin()
        send_some(publisher, 0, 3)
        await app.until(lambda: path in app.app.hub.paths and app.app.hub.paths[path].stream is not None)
        yield publisher


def send_some(publisher: Peer, first: int, count: int) -> None:
    """Send frames of both tracks, the first one a key frame, and what ends the last one."""
    for number in range(first, first + count):
        publisher.send_frame(0, video_frame(number, key=number == first))
        publisher.send_frame(1, audio_frame(number))


def serving(**values: Any) -> contextlib.AbstractAsyncContextManager[Server]:
    """Run a server."""
    return running(**{**SRT, **values})
