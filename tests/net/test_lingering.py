"""Closing so that the peer can read all: the stages one by one, and what clients of all servers see."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import ssl
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import pytest
from tests.control.support import Server, running
from tests.interop import tools
from tests.support.waiting import PATIENCE
from tests.wire.http.cases import GOAWAY, PING, SETTINGS, START, frame, get, literal
from tests.wire.rtmp.support import SIMPLE_HANDSHAKE, wire

from polycast.net.lingering import DISCARD_LIMIT, LingeringClose
from polycast.net.tcp import ConnectionState, TcpConnection
from polycast.net.work import READ_SIZE

RESET: Final = struct.pack("ii", 1, 0)
"""Value of SO_LINGER with which close sends a reset."""

# Stages


class Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Transport(asyncio.Transport):
    """Is the loop, too."""

    def __init__(self, waiting: int = 0) -> None:
        super().__init__()
        self.waiting = waiting
        self.is_gone = False
        self.told: list[str] = []
        self.timers: list[Timer] = []
        self.soon: list[Callable[[], None]] = []

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.told.append("protocol")

    def write_eof(self) -> None:
        if self.is_gone:
            raise OSError
        self.told.append("end")

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.told.append("abort")

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        assert delay == 5
        self.timers.append(Timer(callback))
        return self.timers[-1]

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)


class Protocol(asyncio.Protocol):
    def __init__(self) -> None:
        self.lost: list[Exception | None] = []

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


def begin(transport: Transport) -> tuple[LingeringClose, Protocol]:
    protocol = Protocol()
    return LingeringClose(transport, protocol, cast("asyncio.AbstractEventLoop", transport), 5), protocol


def test_the_peer_ends_its_side() -> None:
    transport = Transport()
    closing, protocol = begin(transport)
    closing.data_received(b"x" * 100)
    assert transport.told == ["protocol", "end", "resume"]
    [timer] = transport.timers
    assert not closing.eof_received()
    assert not protocol.lost
    error = ConnectionResetError()
    closing.connection_lost(error)
    assert protocol.lost == [error]
    assert timer.is_cancelled


def test_the_peer_has_its_time_from_when_all_was_written() -> None:
    transport = Transport(waiting=1)
    closing, _ = begin(transport)
    assert not transport.timers
    closing.resume_writing()
    closing.resume_writing()
    [timer] = transport.timers
    timer.callback()
    assert transport.told[-1] == "abort"


def test_the_peer_has_gone() -> None:
    transport = Transport()
    transport.is_gone = True
    closing, protocol = begin(transport)
    assert transport.told == ["protocol", "abort"]
    assert not transport.timers
    closing.connection_lost(None)
    assert protocol.lost == [None]


def test_incoming_data_is_discarded_in_slices_up_to_a_limit() -> None:
    transport = Transport()
    closing, _ = begin(transport)
    transport.told.clear()
    for _ in range(DISCARD_LIMIT // READ_SIZE):
        closing.data_received(bytes(READ_SIZE))
        assert transport.told == ["pause"]
        transport.soon.pop()()
        assert transport.told == ["pause", "resume"]
        transport.told.clear()
    closing.data_received(b"x")
    assert transport.told == ["abort"]


# On the wire


def loops() -> list[Any]:
    found = [pytest.param(asyncio.new_event_loop, id="asyncio")]
    if sys.platform != "win32":
        found.append(pytest.param(__import__("uvloop").new_event_loop, id="uvloop"))
    return found


class Client:
    """A client of which a test decides when it sends and reads."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.plain = plain
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls: ssl.SSLObject | None = None
        if context is not None:
            self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    @classmethod
    async def connect(cls, port: int, context: ssl.SSLContext | None) -> Client:
        plain = socket.socket()
        plain.setblocking(False)
        client = cls(plain, context)
        await client.loop.sock_connect(plain, ("127.0.0.1", port))
        if client.tls is not None:
            await client._step(client.tls.do_handshake)
        return client

    async def _step(self, function: Callable[[], Any]) -> Any:
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                return function()
            await self.send_records()
            data = await self.loop.sock_recv(self.plain, 65536)
            if data:
                self.incoming.write(data)
            else:
                self.incoming.write_eof()

    async def send_records(self) -> None:
        await self.loop.sock_sendall(self.plain, self.outgoing.read())

    def encode(self, data: bytes) -> bytes:
        """Return data as it goes over the wire."""
        if self.tls is None:
            return data
        self.tls.write(data)
        return self.outgoing.read()

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.plain, self.encode(data))

    async def read_to_end(self) -> bytes:
        """Return all that the server sent. Raises OSError when it ends in anything but the orderly end of it."""
        received = bytearray()
        while self.tls is not None:
            try:
                data = await self._step(lambda: cast("ssl.SSLObject", self.tls).read(65536))
            except ssl.SSLZeroReturnError:
                break
            if not data:
                break
            received += data
        while data := await self.loop.sock_recv(self.plain, 65536):
            if self.tls is None:
                received += data
        return bytes(received)


class Case(NamedTuple):
    service: str
    provocation: bytes
    """What makes the server close the connection."""
    more: bytes
    """What comes when it has."""
    answer: bytes
    """A part of what the client must be able to read."""


SETTINGS_ACK: Final = frame(SETTINGS, 1, 0)
GET: Final = b"GET /none/index.m3u8 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
HTTP: Final = ("hls", "api", "webrtc")
DESCRIBE: Final = b"DESCRIBE rtsp://127.0.0.1/none RTSP/1.0\r\nCSeq: 1\r\n\r\n"

CASES: Final = {
    "HTTP/2 GOAWAY": Case("HLS", START + frame(GOAWAY, 0, 0, bytes(8)), frame(PING, 0, 0, bytes(8)), SETTINGS_ACK),
    "HTTP/2 error": Case("HLS", START + frame(PING, 0, 0, b"short"), frame(PING, 0, 0, bytes(8)), b"\0\0\0\x06"),
    "HTTP/1 close": Case("HLS", GET + b"Connection: close\r\n\r\n", GET + b"\r\n", b"HTTP/1.1 404 "),
    "HTTP/1.0": Case("API", b"GET /none HTTP/1.0\r\n\r\n", b"GET /none HTTP/1.0\r\n\r\n", b"HTTP/1.1 404 "),
    "HTTP/1 error": Case("API", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", GET, b"HTTP/1.1 400 "),
    "HTTP/1 long head": Case("HLS", GET + b"X: " + b"x" * 65536, b"x" * 65536, b"HTTP/1.1 431 "),
    "HTTP/1 body": Case("API", GET[:-2] + b"\r\nContent-Length: 9999999\r\n\r\n", bytes(9999), b"HTTP/1.1 "),
    "no HTTP": Case("HLS", b"OPTIONS rtsp://h/ RTSP/1.0\r\n\r\n", DESCRIBE, b""),
    "RTSP error": Case("RTSP", b"OPTIONS * RTSP/1.0\r\nno colon\r\n\r\n", DESCRIBE, b"RTSP/1.0 400 "),
    "RTSP body": Case("RTSP", DESCRIBE[:-2] + b"Content-Length: 999999\r\n\r\n", bytes(9999), b"RTSP/1.0 413 "),
    "RTMP error": Case("RTMP", SIMPLE_HANDSHAKE + wire(1, bytes(4), stream_id=0), bytes(99999), bytes(1536)),
}  # fmt: skip


def port_of(server: Server, service: str, *, encrypted: bool) -> int:
    if service == "API":
        return server.app.control.ports["apiAddress"]
    if service in ("RTSP", "RTMP") and encrypted:
        service += "S"
    return next(iter(server.app.servers[service].ports.values()))


Connect = Callable[..., Awaitable[Client]]
Run = Callable[[Callable[[Server, Connect], Awaitable[None]]], None]


@pytest.fixture(params=[False, True], ids=["plain", "TLS"])
def encrypted(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=loops())
def run(request: pytest.FixtureRequest, encrypted: bool, tmp_path: Path) -> Run:
    """Run a coroutine function with a server, and a function that connects to one of its services."""

    def run_it(test: Callable[[Server, Connect], Awaitable[None]]) -> None:
        values: dict[str, Any] = {
            "webrtc": True,
            "webrtcAddress": "127.0.0.1:0",
            "webrtcLocalUDPAddress": "127.0.0.1:0",
        }
        context: ssl.SSLContext | None = None
        if encrypted:
            tools.make_certificate(tmp_path)
            context = ssl.create_default_context(cafile=tmp_path / "ca.crt")
            files = {"Key": str(tmp_path / "server.key"), "Cert": str(tmp_path / "server.crt")}
            values |= {f"{name}{kind}": file for kind, file in files.items() for name in ("server", "rtmpServer")}
            values |= {f"{name}Server{kind}": file for kind, file in files.items() for name in HTTP}
            values |= {f"{name}Encryption": True for name in HTTP}
            values |= {"encryption": "strict", "rtmpEncryption": "strict"}
            values |= {"rtspsAddress": "127.0.0.1:0", "rtmpsAddress": "127.0.0.1:0"}

        async def main() -> None:
            clients: list[Client] = []
            async with asyncio.timeout(PATIENCE), running(**values) as server:

                async def connect(service: str, protocol: str = "http/1.1") -> Client:
                    if context is not None:
                        context.set_alpn_protocols([protocol])
                    clients.append(await Client.connect(port_of(server, service, encrypted=encrypted), context))
                    return clients[-1]

                try:
                    await test(server, connect)
                finally:
                    for client in clients:
                        client.plain.close()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run_it


@pytest.mark.parametrize("name", CASES)
def test_a_client_that_sends_more_reads_the_answer_and_the_end(
    run: Run, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    closing: list[TcpConnection] = []
    step = TcpConnection._step

    def noted(connection: TcpConnection, *arguments: Any) -> bool:
        result = step(connection, *arguments)
        if connection.state is ConnectionState.DRAINING:
            closing.append(connection)
        return result

    monkeypatch.setattr(TcpConnection, "_step", noted)

    async def test(server: Server, connect: Connect) -> None:
        client = await connect(case.service, "h2" if case.provocation.startswith(START) else "http/1.1")
        await client.send(case.provocation)
        await server.until(lambda: closing)
        for _ in range(10):  # it has its time to close; it must not depend on it
            await asyncio.sleep(0)
        for _ in range(3):
            await client.send(case.more)
            await asyncio.sleep(0)
        assert case.answer in await client.read_to_end()
        client.plain.close()
        await server.until(lambda: closing[0].state is ConnectionState.CLOSED)

    run(test)


BLOCK: Final = b"\x82\x86\x01\x09127.0.0.1" + literal(b":path", b"/none")
REQUESTS: Final = {
    "HLS": (START, b"".join(get(stream, BLOCK) for stream in range(1, 41, 2))),
    "API": (START, b"".join(get(stream, BLOCK) for stream in range(1, 41, 2))),
    "WebRTC": (START, b"".join(get(stream, BLOCK) for stream in range(1, 41, 2))),
    "RTSP": (DESCRIBE, DESCRIBE * 20),
}


@pytest.mark.parametrize("service", REQUESTS)
def test_a_client_that_has_left_is_not_written_to(run: Run, service: str, caplog: pytest.LogCaptureFixture) -> None:
    """Both loops count writes to a lost connection, and complain from the sixth on."""

    async def test(server: Server, connect: Connect) -> None:
        start, requests = REQUESTS[service]
        client = await connect(service, "h2")
        await client.send(start)
        await client.loop.sock_recv(client.plain, 65536)
        # All of it before the server's loop has a turn: it reads the requests when the client is gone.
        client.plain.send(client.encode(requests))
        client.plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.plain.close()
        seen = await connect(service, "h2")
        await seen.send(start)
        assert await seen.loop.sock_recv(seen.plain, 65536)

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(test)
    gc.collect()  # coroutines that were never awaited
    assert "socket.send()" not in caplog.text
