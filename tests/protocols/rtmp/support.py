"""A server in this process with RTMP, RTMPS and RTSP, and RTMP clients: the client engine, and plain bytes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Self, TypeVar, cast

import trustme
from tests.protocols.rtsp.support import RtspClient, loaded
from tests.support.connections import open_connection
from tests.support.running import Clock, Lines, application
from tests.support.waiting import PATIENCE, until
from tests.wire.rtmp.support import AUDIO, IDR, SEED, SIMPLE_HANDSHAKE, SLICE, VIDEO, messages_of, wire

from polycast.app import Application
from polycast.errors import RemoteProtocolError
from polycast.hub.access import AuthenticateCallback
from polycast.hub.path import Path
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.protocols.rtmp.connection import Connection
from polycast.protocols.rtmp.server import RtmpServer
from polycast.protocols.tcp_server import TcpServer
from polycast.wire.rtmp.address import parse_url
from polycast.wire.rtmp.amf import Value
from polycast.wire.rtmp.chunks import RawMessage
from polycast.wire.rtmp.client import ClientConnection, Mode
from polycast.wire.rtmp.events import (
    Event,
    FrameReceived,
    PeerClosedStream,
    RequestAccepted,
    RequestRefused,
    TracksKnown,
)
from polycast.wire.rtmp.messages import Command, Message
from polycast.wire.rtmp.muxer import OUTPUT_CHUNK_SIZE

EventType = TypeVar("EventType")

RTMP: Mapping[str, Any] = {
    "rtmpDisable": False,
    "rtmpAddress": "127.0.0.1:0",
    "rtmpsAddress": "127.0.0.1:0",
}


def video_frame(number: int, *, key: bool = False, size: int = 0, composition: int = 0) -> Frame:
    """Frame ``number`` of a video track at 25 frames per second; ``composition`` in ticks."""
    unit = (IDR if key else SLICE) + bytes((number & 0xFF,)) + bytes(size)
    return Frame((unit,), number * 3600 + composition, number * 3600, key=key)


def audio_frame(number: int) -> Frame:
    """Frame ``number`` of an AAC track."""
    return Frame((b"\x21\x10\x04\x60\x8c\x1c" + bytes((number & 0xFF,)),), number * 1024, number * 1024, key=True)


@dataclass
class Fixture:
    """A running application."""

    app: Application
    log: Lines
    clock: Clock
    clients: list[Any] = field(default_factory=list)

    @property
    def server(self) -> RtmpServer:
        server = self.app.servers.get("RTMP") or self.app.servers["RTMPS"]
        assert isinstance(server, RtmpServer)
        return server

    @property
    def connections(self) -> list[Connection]:
        return list(self.server._clients.values())

    def path(self, name: str) -> Path:
        return self.app.hub.paths[name]

    def port(self, kind: str = "RTMP") -> int:
        server = self.app.servers[kind]
        assert isinstance(server, TcpServer)
        return server.port

    async def client(self, mode: Mode, path: str, *, tls: ssl.SSLContext | None = None, app: str = "") -> RtmpClient:
        """Return a client that has connected and asks for ``path`` (with its query)."""
        client = await RtmpClient.connect(self.port("RTMPS" if tls else "RTMP"), mode, path, tls)
        self.clients.append(client)
        return client

    async def publisher(
        self, path: str, tracks: Sequence[Track] = (VIDEO, AUDIO), *, tls: ssl.SSLContext | None = None
    ) -> RtmpClient:
        """Return a client that publishes; the stream is there."""
        client = await self.client(Mode.PUBLISH, path, tls=tls)
        await client.accepted()
        client.send_tracks(tracks)
        name = path.partition("?")[0]
        # The first frames tell the server that all tracks have come.
        for track in tracks:
            client.send_frame(track.index, audio_frame(0) if track.kind == "audio" else video_frame(0, key=True))
        await self.until(lambda: name in self.app.hub.paths and self.path(name).stream is not None)
        return client

    async def reader(self, path: str, *, tls: ssl.SSLContext | None = None) -> RtmpClient:
        """Return a client that plays."""
        client = await self.client(Mode.PLAY, path, tls=tls)
        await client.accepted()
        return client

    async def rtsp(self) -> RtspClient:
        """Return a connected RTSP client."""
        client = await RtspClient.connect(self.port("RTSP"))
        self.clients.append(client)
        return client

    def rtsp_url(self, path: str) -> str:
        return f"rtsp://127.0.0.1:{self.port('RTSP')}/{path}"

    async def raw(self) -> RawClient:
        """Return a connection on which a test writes the bytes."""
        client = await RawClient.connect(self.port())
        self.clients.append(client)
        return client

    def pass_time(self, seconds: float = 0.0) -> None:
        """Let time pass and the servers do their housekeeping."""
        self.clock.value += seconds
        for server in self.app.servers.values():
            if isinstance(server, TcpServer):
                server.housekeeping.begin_round()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition of the server holds; it is asked at each turn of the loop."""
        await until(condition, self.log.lines)


@contextlib.asynccontextmanager
async def running(authenticate: AuthenticateCallback | None = None, **values: Any) -> AsyncIterator[Fixture]:
    """Run an application with the keys ``values`` of the configuration."""
    async with application(loaded({**RTMP, **values}), authenticate=authenticate) as (app, lines):
        fixture = Fixture(app, lines, Clock())
        for server in app.servers.values():
            if isinstance(server, TcpServer):
                server.now = fixture.clock
        try:
            yield fixture
        finally:
            for client in fixture.clients:
                await client.close()


class RtmpClient(asyncio.Protocol):
    """The client engine on a socket."""

    def __init__(self, engine: ClientConnection, clock: Callable[[], float]) -> None:
        self.engine = engine
        self.clock = clock
        self.events: list[Event] = []
        self.received = b""
        """All bytes of the server."""
        self.lost = False
        self.error: RemoteProtocolError | None = None
        self._grown = asyncio.Event()

    @classmethod
    async def connect(cls, port: int, mode: Mode, path: str, tls: ssl.SSLContext | None = None) -> Self:
        loop = asyncio.get_running_loop()
        address = parse_url(f"rtmp://127.0.0.1:{port}/{path}")
        engine = ClientConnection(address, mode, loop.time(), seed=SEED, timeout=PATIENCE)
        _, client = await loop.create_connection(
            lambda: cls(engine, loop.time), "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None
        )
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.flush()

    def data_received(self, data: bytes) -> None:
        self.received += data
        try:
            self.events += self.engine.receive_data(data, self.clock())
            while self.engine.has_more:
                self.events += self.engine.receive_data(b"", self.clock())
        except RemoteProtocolError as error:
            self.error = error
        self.flush()
        self._grown.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._grown.set()

    def flush(self) -> None:
        data = self.engine.data_to_send()
        if data and not self.lost:
            self.transport.write(data)

    async def close(self) -> None:
        self.transport.abort()
        await self.until(lambda: self.lost)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition of this client holds."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            raise AssertionError(f"this is all that came: {self.events[-5:]}, lost {self.lost}") from None

    def all(self, kind: type[EventType]) -> list[EventType]:
        return [event for event in self.events if isinstance(event, kind)]

    async def event(self, kind: type[EventType], index: int = 0) -> EventType:
        await self.until(lambda: len(self.all(kind)) > index)
        return self.all(kind)[index]

    async def accepted(self) -> None:
        await self.until(lambda: bool(self.all(RequestAccepted) or self.all(RequestRefused)) or self.lost)
        assert self.all(RequestAccepted), f"not accepted: {self.all(RequestRefused)}"

    async def refused(self) -> RequestRefused:
        """Return the refusal; nothing was granted before it, and the connection is closed after it."""
        refusal = await self.event(RequestRefused)
        await self.until(lambda: self.lost)
        assert not self.all(RequestAccepted)
        statuses = [
            item for item in messages_of(self.received) if isinstance(item, Command) and item.name == "onStatus"
        ]
        informations: list[Any] = [status.arguments[0] for status in statuses]
        plays = self.engine.mode is Mode.PLAY
        assert [each["level"] for each in informations] == (["status", "error"] if plays else ["error"])
        assert {(each["code"], each["description"]) for each in informations} == {(refusal.code, refusal.description)}
        return refusal

    async def tracks(self) -> tuple[Track, ...]:
        return (await self.event(TracksKnown)).tracks

    async def frames(self, count: int) -> list[FrameReceived]:
        """Return the first ``count`` frames that came."""
        await self.until(lambda: len(self.all(FrameReceived)) >= count or self.lost)
        frames = self.all(FrameReceived)
        assert len(frames) >= count, f"only {len(frames)} frames came"
        return frames[:count]

    async def ended(self) -> None:
        """Wait for the end of the stream, which the server tells, and of the connection."""
        await self.event(PeerClosedStream)
        await self.until(lambda: self.lost)

    def send_message(self, message_type: int, payload: bytes, timestamp: int = 0) -> None:
        """Send a message that the engine would not send."""
        self.transport.write(wire(message_type, payload, timestamp, chunk_size=OUTPUT_CHUNK_SIZE))

    def send_tracks(self, tracks: Sequence[Track]) -> None:
        self.engine.send_tracks(tracks)
        self.flush()

    def send_frame(self, track: int, frame: Frame) -> None:
        self.engine.send_frame(track, frame)
        self.flush()

    def send_video(self, numbers: Sequence[int], *, keys: Sequence[int] = (), size: int = 0) -> None:
        for number in numbers:
            self.send_frame(0, video_frame(number, key=number in keys, size=size))


class RawClient:
    """A connection without an engine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.received = b""

    @classmethod
    async def connect(cls, port: int) -> Self:
        return cls(*await open_connection("127.0.0.1", port))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def send_message(self, message_type: int, payload: bytes, timestamp: int = 0, stream_id: int = 1) -> None:
        self.send(wire(message_type, payload, timestamp, stream_id))

    def send_command(self, command: Command, stream_id: int = 0) -> None:
        self.send(wire(20, command.payload(), 0, stream_id))

    def send_connect(self, app: str, tc_url: str, **values: Value) -> None:
        """Shake hands and connect, without waiting for answers."""
        self.send(SIMPLE_HANDSHAKE)
        self.send_command(Command("connect", 1.0, {"app": app, "tcUrl": tc_url, **values}))

    def send_publish(self, key: str) -> None:
        self.send_command(Command("createStream", 2.0, None))
        self.send_command(Command("publish", 3.0, None, (key, "live")), stream_id=1)

    async def receive(self, size: int) -> None:
        """Wait until so many bytes have come."""
        async with asyncio.timeout(PATIENCE):
            while len(self.received) < size:
                data = await self.reader.read(65536)
                assert data, f"the server closed the connection after {len(self.received)} bytes"
                self.received += data

    async def receive_until(self, text: bytes) -> None:
        """Wait until the server has sent these bytes."""
        async with asyncio.timeout(PATIENCE):
            while text not in self.received:
                data = await self.reader.read(65536)
                assert data, f"the server closed the connection before it sent {text!r}"
                self.received += data

    async def receive_all(self) -> bytes:
        """Return everything that the server sent, once it has closed the connection."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    return self.received
                if not data:
                    return self.received
                self.received += data

    def messages(self) -> list[Message | RawMessage]:
        return messages_of(self.received)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.shield(self.writer.wait_closed())  # see the client of RTSP


def write_certificate(folder: FilePath, name: str = "localhost") -> ssl.SSLContext:
    """Write ``server.crt`` and ``server.key`` of a new authority; return the context of a client that trusts it."""
    authority = trustme.CA()
    certificate = authority.issue_cert(name)
    certificate.private_key_pem.write_to_path(folder / "server.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.crt")
    return ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
