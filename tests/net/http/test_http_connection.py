"""Connections as clients see them on the wire: plain and TLS, on asyncio's own loop and on uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.interop import tools
from tests.support.running import Clock, Lines
from tests.support.waiting import PATIENCE
from tests.wire.http.cases import (
    CANCEL,
    DATA,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    START,
    WINDOW_UPDATE,
    frame,
    get,
    literal,
    long,
)

from polycast.log import Log
from polycast.net.http import connection
from polycast.net.http.server import HttpServer
from polycast.net.http.transaction import BODY_LIMIT, Transaction
from polycast.net.tcp import CLOSE_GRACE_SECONDS
from polycast.wire.http.http1 import PIPELINE_LIMIT
from polycast.wire.http.message import Header
from polycast.wire.http.response import Response

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LARGE = bytes(range(256)) * 20_000
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def loops() -> list[object]:
    found: list[object] = [pytest.param(asyncio.new_event_loop, id="asyncio")]
    if sys.platform != "win32":
        found.append(pytest.param(__import__("uvloop").new_event_loop, id="uvloop"))
    return found


@pytest.fixture(params=loops())
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    factory: Callable[[], asyncio.AbstractEventLoop] = request.param
    return factory


@pytest.fixture(params=[False, True], ids=["plain", "TLS"])
def encrypted(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class Handler:
    """Answers what the test says: `/large` has 5 MB, `/later` comes from a task, the others say their method."""

    body_limit = BODY_LIMIT

    def __init__(self) -> None:
        self.handled: list[str] = []
        self.later: Callable[[], Awaitable[Response]] = later
        self.waiting: list[int] = []
        """How many requests waited at each."""

    def handle(self, transaction: Transaction) -> None:
        path = transaction.request.target.decode()
        self.handled.append(path)
        engine = transaction.connection._engine
        assert engine is not None
        self.waiting.append(len(engine.events))
        if path == "/later":
            transaction.task = asyncio.get_running_loop().create_task(self._answer_later(transaction))
            return
        headers: list[Header] = [(b"content-type", b"text/plain")]
        body = LARGE if path == "/large" else transaction.request.method.encode()
        transaction.respond(Response(200, headers, body))

    async def _answer_later(self, transaction: Transaction) -> None:
        transaction.respond(await self.later())


async def later() -> Response:
    return Response(200, [], b"later")


class Server:
    """A server with a clock that tests move, and clients for it."""

    def __init__(self, http: HttpServer, handler: Handler, log: Lines, context: ssl.SSLContext | None) -> None:
        self.http = http
        self.handler = handler
        self.log = log
        self.context = context
        self.clock = Clock()
        http.now = self.clock

    @property
    def handled(self) -> list[str]:
        return self.handler.handled

    async def connect(self, receive_buffer: int = 0) -> Streams:
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.http.port))
        name = "localhost" if self.context else None
        return await asyncio.open_connection(sock=client, ssl=self.context, server_hostname=name)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    def pass_time(self, seconds: float) -> None:
        """Let time pass and the server do its housekeeping."""
        self.clock.value += seconds
        self.http.housekeeping.begin_round()


@contextlib.asynccontextmanager
async def serving(folder: Path, encrypted: bool) -> AsyncIterator[Server]:
    context = None
    files = {}
    if encrypted:
        tools.make_certificate(folder)
        context = ssl.create_default_context(cafile=folder / "ca.crt")
        files = {"certificate": str(folder / "server.crt"), "key": str(folder / "server.key")}
    logger = logging.Logger("polycast.test", logging.INFO)
    lines = Lines()
    logger.addHandler(lines)
    handler = Handler()
    http = HttpServer(handler, "127.0.0.1:0", Log(logger), **files)
    await http.start()
    try:
        yield Server(http, handler, lines, context)
    finally:
        await http.stop("the test ends")
    assert not [line for line in lines.lines if "internal error" in line]


@pytest.fixture
def run(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], encrypted: bool, tmp_path: Path
) -> Callable[[Callable[[Server], Awaitable[None]]], None]:
    """Run a coroutine function with a server on a loop."""

    def run_it(test: Callable[[Server], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(PATIENCE), serving(tmp_path, encrypted) as server:
                await test(server)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

    return run_it


Run = Callable[[Callable[[Server], Awaitable[None]]], None]


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return await reader.readexactly(length)


def test_a_large_answer_and_others_on_one_connection(run: Run) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        for _ in range(2):
            writer.write(GET + GET.replace(b"/ ", b"/large ") + GET)
            assert [await read_answer(reader) for _ in range(3)] == [b"GET", LARGE, b"GET"]
        writer.close()

    run(test)


@pytest.mark.parametrize("size", [70_000, 3_000_000], ids="{} bytes".format)
def test_a_body_that_is_too_large_does_not_cost_the_answer(run: Run, size: int) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
        assert (await reader.readexactly(15)) == b"HTTP/1.1 200 OK"
        with contextlib.suppress(ConnectionError):  # over TLS the server's end ends both sides
            for _ in range(size // 1000):
                writer.write(bytes(1000))
                await writer.drain()
        answer = await reader.read()
        assert b"connection: close" in answer
        assert answer.endswith(b"POST")
        writer.close()
        await server.until(lambda: not server.http._connections)

    run(test)


def test_earlier_responses_are_sent_before_an_error(run: Run) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(GET + b"\0" * 1000)
        answers = await reader.read()
        assert [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]] == [b"200", b"400"]
        writer.close()
        await server.until(lambda: not server.http._connections)

    run(test)


def test_a_client_that_does_not_close_is_cut(run: Run, encrypted: bool) -> None:
    if encrypted:
        pytest.skip("TLS transports have a time limit of their own")

    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 999999\r\n\r\n")
        assert (await reader.read()).endswith(b"POST")
        assert server.http._connections
        server.pass_time(CLOSE_GRACE_SECONDS)
        await server.until(lambda: not server.http._connections)
        writer.close()

    run(test)


def test_the_last_answer_has_its_time(run: Run, encrypted: bool) -> None:
    """A client that takes its last answer slowly gets all of it: there is no hurry to close."""

    async def test(server: Server) -> None:
        reader, writer = await server.connect(receive_buffer=4096)
        writer.write(b"GET /large HTTP/1.0\r\n\r\n")
        received = await reader.readuntil(b"\r\n\r\n")
        assert b"connection: close" in received
        body = bytearray()
        while len(body) < len(LARGE):
            body += await reader.readexactly(min(500_000, len(LARGE) - len(body)))
            server.pass_time(3)
        assert body == LARGE
        assert await reader.read() == b""
        writer.close()

    run(test)


def test_a_client_that_ends_its_own_side(run: Run, encrypted: bool) -> None:
    if encrypted:
        pytest.skip("TLS connections end as a whole here")

    async def test(server: Server) -> None:
        reader, writer = await server.connect(receive_buffer=4096)
        writer.write(GET.replace(b"/ ", b"/large "))
        writer.write_eof()
        assert await read_answer(reader) == LARGE
        assert await reader.read() == b""
        writer.close()
        await server.until(lambda: not server.http._connections)

    run(test)


def test_pipelining_without_reading(run: Run) -> None:
    """Requests wait until the answers before them were taken; and no more are read than a few."""

    async def test(server: Server) -> None:
        reader, writer = await server.connect(receive_buffer=4096)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        asked = GET.replace(b"/ ", b"/large ") * 2000
        writer.write(asked)
        await server.until(lambda: server.handled)
        [served] = server.http._connections
        assert isinstance(served, connection.HttpConnection)
        await server.until(lambda: served._pauses)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(server.handled) < 5
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(3):
            assert await read_answer(reader) == LARGE
        writer.transport.abort()

    run(test)


def test_thousands_in_a_row(run: Run) -> None:
    """All are answered, in order, and only a few of them are read before it is their turn."""

    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        one = GET.replace(b"/ ", b"/later ") + GET * 9
        writer.write(one * 400)
        for _ in range(400):
            assert await read_answer(reader) == b"later"
            for _ in range(9):
                assert await read_answer(reader) == b"GET"
        assert server.handled == (["/later"] + ["/"] * 9) * 400
        assert max(server.handler.waiting) <= connection.RECEIVE_SIZE // len(GET) + PIPELINE_LIMIT
        writer.close()

    run(test)


def test_a_head_is_cut_where_the_server_stopped_reading(run: Run) -> None:
    """That the rest of it has not been read is not the client's fault, however long its first answer takes."""

    async def test(server: Server) -> None:
        released = asyncio.Event()

        async def hold() -> Response:
            await released.wait()
            return Response(200, [], b"held")

        server.handler.later = hold
        server.pass_time(0)
        reader, writer = await server.connect()
        padded = GET[:-2] + b"X: " + b"x" * 150 + b"\r\n\r\n"
        count = 2 * connection.RECEIVE_SIZE // len(padded)
        writer.write(padded.replace(b"/ ", b"/later ") + padded * count)
        await server.until(lambda: any(each._pauses for each in connections(server)))
        for _ in range(int(server.http.read_timeout) + 2):
            server.pass_time(1)
        released.set()
        assert await read_answer(reader) == b"held"
        for _ in range(count):
            assert await read_answer(reader) == b"GET"
        writer.close()

    run(test)


def test_heads_that_come_a_byte_at_a_time(run: Run) -> None:
    async def test(server: Server) -> None:
        server.pass_time(0)
        reader, writer = await server.connect()
        writer.write(GET[:-2])
        await server.until(lambda: any(each._engine and each._engine.is_incomplete for each in connections(server)))
        timeout = int(server.http.read_timeout)
        for _ in range(timeout + 1):
            assert connections(server)
            server.pass_time(1)
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        assert not server.handled
        writer.close()

    run(test)


def connections(server: Server) -> list[connection.HttpConnection]:
    return [each for each in server.http._connections if isinstance(each, connection.HttpConnection)]


def test_bodies_count_as_held_until_their_requests_are_answered(run: Run) -> None:
    async def test(server: Server) -> None:
        answer = asyncio.get_running_loop().create_future()
        server.handler.later = lambda: answer
        reader, writer = await server.connect()
        writer.write(b"POST /later HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\n" + bytes(50_000))
        await server.until(lambda: server.handled)
        (held,) = connections(server)
        assert held.held_size == 50_000
        answer.set_result(Response(200, [], b"later"))
        await read_answer(reader)
        assert held.held_size == 0
        writer.close()

    run(test)


def test_a_client_that_only_connects(run: Run, encrypted: bool) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        await server.until(lambda: connections(server))
        server.pass_time(0)
        server.pass_time(server.http.read_timeout)
        assert await reader.read() == b""
        writer.close()

    run(test)


def test_a_bug_of_ours_costs_one_connection(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(GET)
        assert await read_answer(reader) == b"GET"
        [served] = connections(server)
        with monkeypatch.context() as patch:
            patch.setattr(type(served._engine), "receive_data", None)
            writer.write(GET)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        assert server.http.internal_errors == 1
        server.log.lines[:] = [line for line in server.log.lines if "internal error" not in line]
        reader, writer = await server.connect()
        writer.write(GET)
        assert await read_answer(reader) == b"GET"
        writer.close()

    run(test)


def path_block(path: bytes) -> bytes:
    return b"\x82\x86\x01\x01h" + literal(b":path", path)


async def read_frame(reader: asyncio.StreamReader, kind: int) -> bytes:
    """Return the payload of the next frame of a type."""
    while True:
        header = await reader.readexactly(9)
        payload = await reader.readexactly(int.from_bytes(header[:3], "big"))
        if header[3] == kind:
            return payload


def test_http_2_clients_that_open_no_window_are_cut(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        async with serving(Path(), encrypted=False) as server:
            reader, writer = await server.connect()
            writer.write(PREFACE + frame(SETTINGS, 0, 0, b"\0\x04" + long(0)) + get(1, path_block(b"/large")))
            await read_frame(reader, HEADERS)
            server.pass_time(0)
            server.pass_time(connection.STALL_TIMEOUT - 1)
            assert connections(server)
            server.pass_time(1)
            await server.until(lambda: not connections(server))
            writer.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_slow_http_2_clients_are_not_idle(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        async with serving(Path(), encrypted=False) as server:
            reader, writer = await server.connect()
            writer.write(PREFACE + frame(SETTINGS, 0, 0, b"\0\x04" + long(1 << 30)) + get(1, path_block(b"/large")))
            body = await read_frame(reader, DATA)
            while len(body) < len(LARGE):
                while len(body) % 65_535:
                    body += await read_frame(reader, DATA)
                server.pass_time(connection.STALL_TIMEOUT / 4)
                writer.write(frame(WINDOW_UPDATE, 0, 0, long(65_535)))
                body += await read_frame(reader, DATA)
                if len(body) > 30 * 65_535:  # 150 seconds, longer than IDLE_TIMEOUT
                    break
            assert connections(server)
            writer.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_request_that_is_given_up_before_its_task_has_begun(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        async with serving(Path(), encrypted=False) as server:
            reader, writer = await server.connect()
            later = path_block(b"/later")
            writer.write(START + get(1, later) + frame(RST_STREAM, 0, 1, long(CANCEL)) + get(3, later))
            assert await read_frame(reader, DATA) == b"later"
            assert server.handled == ["/later"] * 2
            writer.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
