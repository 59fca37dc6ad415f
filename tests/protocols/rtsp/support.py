"""A server in this process, a clock that tests move, the log as it is written, and a client on plain sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

import pytest
from tests.support.connections import open_connection
from tests.support.rtp import PPS as PPS
from tests.support.rtp import SPS as SPS
from tests.support.rtp import key_unit as key_unit
from tests.support.rtp import rtp as rtp
from tests.support.rtp import slice_unit as slice_unit
from tests.support.running import Clock, Lines, application
from tests.support.waiting import PATIENCE, until

from polycast.app import Application
from polycast.config import LoadedConfiguration, from_mapping
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.legacy import LEGACY
from polycast.hub.access import AuthenticateCallback
from polycast.hub.access_request import AccessRequest
from polycast.hub.batch import FramedRun, Run
from polycast.hub.path import Path, PathObserver
from polycast.hub.stream import Stream
from polycast.protocols.rtsp.reading import Reading
from polycast.protocols.rtsp.recording import Recording
from polycast.protocols.rtsp.server import RtspServer
from polycast.protocols.rtsp.session import Session
from polycast.wire.rtsp.headers.transport import Transport, parse_transports
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.message import Headers, Request, Response
from polycast.wire.rtsp.parser import MessageParser

VIDEO = (
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
    "a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LADdoFB+wEQAAAAwBAAAAPA8UKqA==,aM48gA==\r\n"
)
AUDIO = (
    "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/48000/2\r\n"
    "a=fmtp:97 profile-level-id=1; mode=AAC-hbr; sizelength=13; indexlength=3; indexdeltalength=3; config=1190\r\n"
)
G711 = "m=audio 0 RTP/AVP 0\r\n"

TCP_PLAY = "RTP/AVP/TCP;unicast;interleaved=0-1"
TCP_RECORD = "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record"


def sdp(*medias: str, controls: Sequence[str] | None = None) -> str:
    """Return a session description; media N gets ``a=control:trackID=N`` or what ``controls`` says."""
    names = controls if controls is not None else [f"trackID={index}" for index in range(len(medias))]
    text = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=Test\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    return text + "".join(f"{media}a=control:{name}\r\n" for media, name in zip(medias, names, strict=True))


H264_ONLY = sdp(VIDEO)


def record_framed_runs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that gets, for each run of interleaved packets from now on, whether it was taken as a whole."""
    results: list[bool] = []
    publish = Stream.publish

    def recorded(stream: Stream, run: Run, now: float) -> bool:
        result = publish(stream, run, now)
        if isinstance(run, FramedRun):
            results.append(result)
        return result

    monkeypatch.setattr(Stream, "publish", recorded)
    return results


@dataclass
class Fixture:
    """A running application."""

    app: Application
    log: Lines
    clock: Clock
    clients: list[RtspClient] = field(default_factory=list)
    sockets: list[UdpEnd] = field(default_factory=list)

    @property
    def server(self) -> RtspServer:
        server = self.app.servers.get("RTSP") or self.app.servers["RTSPS"]
        assert isinstance(server, RtspServer)
        return server

    @property
    def port(self) -> int:
        return self.server.ports["rtspsAddress" if self.server.is_encrypted else "rtspAddress"]

    def url(self, path: str) -> str:
        return f"rtsp{'s' if self.server.is_encrypted else ''}://127.0.0.1:{self.port}/{path}"

    @property
    def sessions(self) -> list[Session]:
        return list(self.server._sessions)

    @property
    def recording(self) -> tuple[Session, Recording]:
        """The one session that records, and its recording half."""
        (found,) = [
            (each, each.media)
            for each in self.sessions
            if isinstance(each.media, Recording) and each.media.receiver is not None
        ]
        return found

    @property
    def reading(self) -> tuple[Session, Reading]:
        """The one session that plays, and its reading half."""
        (found,) = [
            (each, each.media) for each in self.sessions if isinstance(each.media, Reading) and each.media.reader
        ]
        return found

    @property
    def connection_count(self) -> int:
        return len(self.server._connections)

    def path(self, name: str) -> Path:
        return self.app.hub.paths[name]

    async def client(self, *, tls: ssl.SSLContext | None = None, port: int | None = None) -> RtspClient:
        """Return a new connection."""
        client = await RtspClient.connect(self.port if port is None else port, tls)
        self.clients.append(client)
        return client

    async def udp(self) -> UdpEnd:
        """Return a UDP socket on this machine."""
        end = await UdpEnd.open()
        self.sockets.append(end)
        return end

    def pass_time(self, seconds: float = 0.0) -> None:
        """Let time pass and the server do its housekeeping."""
        self.clock.value += seconds
        server = self.server
        server.housekeeping.begin_round()

    async def reload(self, **values: Any) -> None:
        """Apply another configuration."""
        await self.app.reload(loaded(values).configuration)

    async def until(self, condition: Any) -> None:
        """Wait until a condition of the server holds; it is asked at each turn of the loop."""
        await until(condition, self.log.lines)

    async def publisher(self, path: str, description: str = H264_ONLY, tracks: int = 1) -> RtspClient:
        """Return a client that publishes over TCP."""
        client = await self.client()
        await client.publish(self.url(path), description, tracks)
        return client

    async def reader(self, path: str, tracks: int = 1) -> RtspClient:
        """Return a client that plays over TCP."""
        client = await self.client()
        await client.play(self.url(path), tracks)
        return client


BASE: Mapping[str, Any] = {
    "rtspAddress": "127.0.0.1:0",
    "rtspsAddress": "127.0.0.1:0",
    "rtpAddress": "127.0.0.1:0",
    "rtcpAddress": "127.0.0.1:0",
    "rtmpDisable": True,
    "hlsDisable": True,
    "authenticationFailurePause": "5ms",
    "paths": {"all": {}},
}


class Held:
    """An ``authenticate`` function that keeps requests, or those of one path, until it is told to go on."""

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self.waiting = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, request: AccessRequest) -> bool:
        if self._path in (None, request.path):
            self.waiting.set()
            await self.release.wait()
        return True


def loaded(values: Mapping[str, Any], dialect: Dialect = LEGACY) -> LoadedConfiguration:
    """Return the configuration of a test: ports 0, and ``values`` over it."""
    base = BASE if dialect is LEGACY else {**BASE, "webrtc": False}
    return LoadedConfiguration(from_mapping({**base, **values}, dialect), None, [], frozenset())


@contextlib.asynccontextmanager
async def running(
    authenticate: AuthenticateCallback | None = None,
    *,
    level: int = logging.INFO,
    dialect: Dialect = LEGACY,
    observers: Sequence[PathObserver] = (),
    **values: Any,
) -> AsyncIterator[Fixture]:
    """Run an application with the keys ``values`` of the configuration, and observers of its paths."""
    options: dict[str, Any] = {"authenticate": authenticate, "observers": observers}
    async with application(loaded(values, dialect), level=level, **options) as (app, lines):
        clock = Clock()
        fixture = Fixture(app, lines, clock)
        for server in app.servers.values():
            if isinstance(server, RtspServer):
                server.now = clock
        try:
            yield fixture
        finally:
            for client in fixture.clients:
                await client.close()
            for end in fixture.sockets:
                end.close()


class RtspClient:
    """One connection. Interleaved frames that come before a response are kept in `frames`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.parser = MessageParser()
        self.frames: deque[tuple[int, bytes]] = deque()
        self.order: list[str] = []
        """What came, in order: ``response`` and ``frame``."""
        self.session: str | None = None
        self.cseq = 0

    @classmethod
    async def connect(cls, port: int, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Self:
        name = "localhost" if tls is not None else None
        reader, writer = await open_connection(host, port, ssl=tls, server_hostname=name)
        return cls(reader, writer)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                # Shielded: if this is cancelled, the writer would tell the next one who waits that it was.
                await asyncio.shield(self.writer.wait_closed())

    @property
    def address(self) -> str:
        return "{}:{}".format(*self.writer.get_extra_info("sockname")[:2])

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def send_request(self, method: str, url: str, headers: Mapping[str, str] | None = None, body: str = "") -> None:
        self.cseq += 1
        items = {"CSeq": str(self.cseq)}
        if self.session is not None:
            items["Session"] = self.session
        if body:
            items["Content-Type"] = "application/sdp"
        items.update(headers or {})
        self.send(Request(method, url, Headers(items.items()), body.encode()).serialize())

    async def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: str = ""
    ) -> Response:
        """Send a request with the session's name, once there is one, and return its response."""
        self.send_request(method, url, headers, body)
        response = await self.response()
        assert response.cseq == (headers or {}).get("CSeq", str(self.cseq))
        name = response.headers.get("Session")
        if name is not None:
            self.session = name.partition(";")[0]
        return response

    async def event(self) -> Request | Response | InterleavedRun | None:
        """Return what comes next; None at the end."""
        async with asyncio.timeout(PATIENCE):
            while (event := self.parser.next_event()) is None:
                try:
                    data = await self.reader.read(65536)
                except (ConnectionError, ssl.SSLError):
                    return None
                if not data:
                    return None
                self.parser.receive_data(data)
        return event

    def _keep(self, run: InterleavedRun) -> None:
        for channel, start, end in run.frames():
            self.frames.append((channel, bytes(run.data[start:end])))
            self.order.append("frame")

    async def response(self) -> Response:
        while True:
            event = await self.event()
            if isinstance(event, InterleavedRun):
                self._keep(event)
                continue
            assert isinstance(event, Response), f"no response, but {event}"
            self.order.append("response")
            return event

    async def frame(self) -> tuple[int, bytes]:
        """Return channel and bytes of the next interleaved frame."""
        while not self.frames:
            event = await self.event()
            assert isinstance(event, InterleavedRun), f"no frame, but {event}"
            self._keep(event)
        return self.frames.popleft()

    async def packets(self, count: int, channel: int = 0) -> list[bytes]:
        """Return the next packets of a channel; frames of others are dropped."""
        found: list[bytes] = []
        while len(found) < count:
            number, data = await self.frame()
            if number == channel:
                found.append(data)
        return found

    async def ended(self) -> bool:
        """Return whether the server closes the connection; what it still sends is dropped."""
        while True:
            event = await self.event()
            if event is None:
                return True

    def send_frame(self, channel: int, data: bytes) -> None:
        """Send one interleaved frame (RFC 2326 section 10.12)."""
        self.send(struct.pack("!BBH", 0x24, channel, len(data)) + data)

    async def sync(self, url: str) -> None:
        """Return once the server has taken in everything sent so far."""
        assert (await self.request("OPTIONS", url)).status == 200

    async def announce(self, url: str, description: str = H264_ONLY) -> None:
        assert (await self.request("ANNOUNCE", url, body=description)).status == 200

    async def publish(self, url: str, description: str = H264_ONLY, tracks: int = 1) -> None:
        await self.announce(url, description)
        for index in range(tracks):
            transport = f"RTP/AVP/TCP;unicast;interleaved={2 * index}-{2 * index + 1};mode=record"
            assert (await self.request("SETUP", f"{url}/trackID={index}", {"Transport": transport})).status == 200
        assert (await self.request("RECORD", url)).status == 200

    async def setup(self, url: str, track: int = 0, transport: str = TCP_PLAY) -> Response:
        response = await self.request("SETUP", f"{url}/trackID={track}", {"Transport": transport})
        assert response.status == 200
        return response

    async def play(self, url: str, tracks: int = 1) -> Response:
        for index in range(tracks):
            await self.setup(url, index, f"RTP/AVP/TCP;unicast;interleaved={2 * index}-{2 * index + 1}")
        response = await self.request("PLAY", f"{url}/")
        assert response.status == 200
        return response


class UdpEnd(asyncio.DatagramProtocol):
    """A UDP socket whose datagrams are kept."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue()

    @classmethod
    async def open(cls) -> UdpEnd:
        _, end = await asyncio.get_running_loop().create_datagram_endpoint(cls, local_addr=("127.0.0.1", 0))
        return end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait((data, addr))

    @property
    def port(self) -> int:
        return int(self.transport.get_extra_info("sockname")[1])

    def send(self, data: bytes, port: int) -> None:
        self.transport.sendto(data, ("127.0.0.1", port))

    async def get(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            data, _ = await self.received.get()
        return data

    def close(self) -> None:
        self.transport.close()


def transport_of(response: Response) -> Transport:
    """Return the one transport of a response to SETUP."""
    header = response.headers.get("Transport")
    assert header is not None
    (transport,) = parse_transports(header)
    return transport


def udp_transport(rtp_end: UdpEnd, rtcp_end: UdpEnd, *, record: bool = False) -> str:
    return f"RTP/AVP;unicast;client_port={rtp_end.port}-{rtcp_end.port}{';mode=record' if record else ''}"
