"""TLS of accepted connections, against OpenSSL's client, on asyncio's own loop and on uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
import trustme
from tests.support.waiting import PATIENCE

from polycast.net.close_reason import describe_close
from polycast.net.listen import open_tcp_listener
from polycast.net.tls_listener import TlsListener
from polycast.net.tls_transport import RECORD_SIZE, RECORDS_AT_ONCE, TlsTransport, _records, end_of_records

LARGE = bytes(range(256)) * 16_000  # 4 MB: more than the kernel's buffers take

Test = Callable[["Server"], Awaitable[None]]


class Inner(asyncio.Protocol):
    """Notes what happens to it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.received = bytearray()
        self.reads = 0
        self.is_write_paused = False
        self.has_ended = False
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("TlsTransport", transport)
        self.server.connections.put_nowait(self)

    def data_received(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        self.received += data
        self.reads += 1
        self.server.on_data(self)
        self.server.changed.set()

    def eof_received(self) -> bool:
        assert not self.has_ended
        self.has_ended = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    def pause_writing(self) -> None:
        self.is_write_paused = True

    def resume_writing(self) -> None:
        self.is_write_paused = False
        self.server.changed.set()

    async def reason(self) -> str:
        return describe_close(await self.lost)


class Server:
    def __init__(self, authority: trustme.CA) -> None:
        self.authority = authority
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        authority.issue_cert("localhost").configure_cert(self.context)
        self.connections: asyncio.Queue[Inner] = asyncio.Queue()
        self.failures: asyncio.Queue[Exception] = asyncio.Queue()
        self.clients: list[socket.socket] = []
        self.changed = asyncio.Event()
        self.on_data: Callable[[Inner], None] = lambda inner: None

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        bound = open_tcp_listener("127.0.0.1", 0)
        self.port = bound.getsockname()[1]
        self.listener = TlsListener(
            bound, self.context, lambda: Inner(self), lambda _, error: self.failures.put_nowait(error),
            handshake_timeout=lambda: PATIENCE, shutdown_timeout=PATIENCE,
        )  # fmt: skip
        try:
            yield
        finally:
            for client in self.clients:
                client.close()
            self.listener.close()
            await self.listener.wait_closed()

    async def client(self, **options: Any) -> Client:
        """Return a client that has shaken hands."""
        client = await self.raw_client(**options)
        await client.shake_hands()
        return client

    async def raw_client(self, *, receive_buffer: int = 0, version: ssl.TLSVersion | None = None) -> Client:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.configure_trust(context)
        context.set_alpn_protocols(["http/1.1"])
        if version is not None:
            context.maximum_version = version
        plain = socket.socket()
        self.clients.append(plain)
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", self.port))
        return Client(plain, context)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until what a protocol was told makes a condition true."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()


class Client:
    """A client of which a test decides what goes over the wire when."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        self.loop = asyncio.get_running_loop()
        self.plain = plain
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.plain, data)

    async def fill(self) -> None:
        data = await self.loop.sock_recv(self.plain, 65536)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    async def shake_hands(self, piece: int = 1_000_000, behind: bytes = b"") -> None:
        """Send the messages in pieces, and data right behind the last of them."""
        is_over = False
        while not is_over:
            try:
                self.tls.do_handshake()
                is_over = True
            except ssl.SSLWantReadError:
                pass
            if is_over and behind:
                self.tls.write(behind)
            flight = self.outgoing.read()
            for start in range(0, len(flight), piece):
                await self.send(flight[start : start + piece])
            if not is_over:
                await self.fill()

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
            await self.send(self.outgoing.read())

    async def read(self, size: int = 65536) -> bytes:
        """Return some data; b"" after the server's close_notify. Raises ssl.SSLEOFError if it closed without."""
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLWantReadError:
                await self.fill()
            except ssl.SSLZeroReturnError:
                return b""

    async def read_all(self) -> bytes:
        received = bytearray()
        while data := await self.read():
            received += data
        return bytes(received)

    def close_notify(self) -> bytes:
        """Return the record that ends our side."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()

    async def read_exactly(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            received += await self.read(size - len(received))
        return received


def loops() -> list[Any]:
    found = [pytest.param(asyncio.new_event_loop, id="asyncio")]
    if sys.platform != "win32":
        found.append(pytest.param(__import__("uvloop").new_event_loop, id="uvloop"))
    return found


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=loops())
def run(request: pytest.FixtureRequest, authority: trustme.CA) -> Callable[[Test], None]:
    def run_it(test: Test) -> None:
        async def main() -> None:
            server = Server(authority)
            problems: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
            async with asyncio.timeout(PATIENCE), server.serving():
                await test(server)
            assert not problems

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run_it


Run = Callable[[Test], None]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_directions(run: Run, version: ssl.TLSVersion) -> None:
    async def test(server: Server) -> None:
        client = await server.client(version=version)
        inner = await server.connections.get()
        transport = inner.transport
        assert type(transport) is TlsTransport
        assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert transport.get_extra_info("cipher") == client.tls.cipher()
        assert transport.get_extra_info("peername") == client.plain.getsockname()
        assert transport.get_extra_info("sockname") == client.plain.getpeername()
        assert transport.get_extra_info("sslcontext") is server.context
        assert transport.get_extra_info("nonsense", 5) == 5
        connected = transport.get_extra_info("socket")
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not transport.can_write_eof()
        for size in (1, 100, RECORD_SIZE, RECORD_SIZE + 1, 100_000):
            inner.received.clear()
            await client.write(LARGE[:size])
            await server.until(lambda: len(inner.received) >= size)  # noqa: B023
            assert inner.received == LARGE[:size]
            transport.write(LARGE[:size])
            assert await client.read_exactly(size) == LARGE[:size]
            transport.write(bytearray(LARGE[:size]))
            transport.writelines([b"begin", memoryview(LARGE)[:size], b"", b"end"])
            assert await client.read_exactly(2 * size + 8) == LARGE[:size] + b"begin" + LARGE[:size] + b"end"
        transport.write(b"")
        transport.writelines([])
        assert transport.get_write_buffer_size() == 0
        client.plain.close()
        assert await inner.reason() == "closed by the client"
        assert transport.is_closing()
        transport.write(b"x")
        transport.writelines([LARGE])
        transport.close()
        transport.abort()

    run(test)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("piece", [1, 1_000_000])
def test_data_behind_the_handshake(run: Run, version: ssl.TLSVersion, piece: int) -> None:
    async def test(server: Server) -> None:
        client = await server.raw_client(version=version)
        await client.shake_hands(piece, behind=b"hello")
        inner = await server.connections.get()
        await server.until(lambda: inner.received == b"hello")
        assert await inner_closes(inner, client) == b""

    run(test)


async def inner_closes(inner: Inner, client: Client) -> bytes:
    """Let both sides close, the server first; return what the client got until then."""
    inner.transport.close()
    received = await client.read_all()
    await client.send(client.close_notify())
    client.plain.close()
    assert await inner.lost is None
    return received


def test_records_in_pieces_and_many_at_once(run: Run) -> None:
    async def test(server: Server) -> None:
        client = await server.client()
        inner = await server.connections.get()
        client.tls.write(b"one byte at a time")
        for value in client.outgoing.read():
            await client.send(bytes([value]))
        await server.until(lambda: inner.received == b"one byte at a time")
        inner.received.clear()
        inner.reads = 0
        for _ in range(50):
            client.tls.write(b"many at once")
        await client.send(client.outgoing.read())
        await server.until(lambda: inner.received == b"many at once" * 50)
        assert inner.reads < 5
        await inner_closes(inner, client)

    run(test)


def test_much_at_once_yields_to_other_connections(run: Run) -> None:
    async def test(server: Server) -> None:
        greedy, modest = await server.client(), await server.client()
        first, second = await server.connections.get(), await server.connections.get()
        sending = asyncio.create_task(greedy.write(LARGE * 3))
        seen = 0
        for number in range(10):
            await modest.write(b"x")
            await server.until(lambda: len(second.received) > number)  # noqa: B023
            seen += len(first.received) < 3 * len(LARGE)
        assert seen  # the other was not through before
        await sending
        await server.until(lambda: len(first.received) == 3 * len(LARGE))
        assert first.received == LARGE * 3
        greedy.plain.close()
        modest.plain.close()
        await asyncio.gather(first.lost, second.lost)

    run(test)


def test_many_small_records_are_read_in_slices(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As fast as it can be, a slice is over after the records that OpenSSL gets at once."""
    monkeypatch.setattr("polycast.net.tls_transport.SLICE_SECONDS", 0.0)

    async def test(server: Server) -> None:
        client = await server.client()
        inner = await server.connections.get()
        records = b""
        for index in range(10 * RECORDS_AT_ONCE + 1):
            client.tls.write(bytes([index % 256]))
            records += client.outgoing.read()
        await client.send(records)
        await server.until(lambda: len(inner.received) == 10 * RECORDS_AT_ONCE + 1)
        assert inner.received == bytes(index % 256 for index in range(10 * RECORDS_AT_ONCE + 1))
        assert inner.reads >= 11
        await client.write(b"more")  # read again afterwards
        await server.until(lambda: inner.received.endswith(b"more"))
        client.plain.close()
        await inner.lost

    run(test)


def test_one_that_has_used_up_its_share_is_read_in_the_queue(run: Run) -> None:
    async def test(server: Server) -> None:
        client = await server.client()
        inner = await server.connections.get()
        queued: list[bool] = []
        server.on_data = lambda _: queued.append(inner.transport._is_queued)
        for is_heavy in (False, True, True, False):
            inner.transport._used_until = time.monotonic() + (1000.0 if is_heavy else 0.0)
            size = len(inner.received)
            await client.write(b"data")
            await server.until(lambda: len(inner.received) == size + 4)  # noqa: B023
        assert queued == [False, True, True, False]
        client.plain.close()
        await inner.lost

    run(test)


def test_reading_pauses_with_decrypted_data_pending(run: Run) -> None:
    async def test(server: Server) -> None:
        def pause(inner: Inner) -> None:
            inner.transport.pause_reading()
            assert not inner.transport.is_reading()

        server.on_data = pause
        client = await server.client()
        inner = await server.connections.get()
        for _ in range(5):
            client.tls.write(LARGE[:3000])
        await client.send(client.outgoing.read() + client.close_notify())
        reads = 0
        while len(inner.received) < 15_000:
            await server.until(lambda: inner.reads > reads)  # noqa: B023
            for _ in range(10):
                await asyncio.sleep(0)
            reads += 1
            assert inner.reads == reads
            assert not inner.has_ended
            inner.transport.resume_reading()
        assert inner.received == LARGE[:3000] * 5
        assert await inner.reason() == "closed by the client"
        assert inner.has_ended
        client.plain.close()

    run(test)


def test_paused_reading_slows_the_client_down(run: Run) -> None:
    async def test(server: Server) -> None:
        client = await server.client()
        inner = await server.connections.get()
        inner.transport.pause_reading()
        sending = asyncio.create_task(client.write(LARGE * 4))
        for _ in range(200):
            await asyncio.sleep(0)
        assert not inner.received
        assert not sending.done()
        inner.transport.resume_reading()
        await sending
        await server.until(lambda: len(inner.received) == 4 * len(LARGE))
        assert inner.received == LARGE * 4
        client.plain.close()
        await inner.lost

    run(test)


def test_writing_pauses_and_resumes(run: Run) -> None:
    async def test(server: Server) -> None:
        client = await server.client(receive_buffer=4096)
        inner = await server.connections.get()
        transport = inner.transport
        transport.set_write_buffer_limits(high=200_000, low=50_000)
        assert transport.get_write_buffer_limits() == (50_000, 200_000)
        written = 0
        while not inner.is_write_paused:
            transport.write(LARGE[:50_000])
            written += 50_000
        assert 200_000 < transport.get_write_buffer_size() <= written * 1.01
        received = 0
        while inner.is_write_paused:
            received += len(await client.read())
        assert transport.get_write_buffer_size() <= 50_000
        await client.read_exactly(written - received)
        client.plain.close()
        await inner.lost

    run(test)


@pytest.mark.parametrize("is_reading", [True, False])
def test_a_slow_client_gets_all_before_the_end(run: Run, is_reading: bool) -> None:
    async def test(server: Server) -> None:
        client = await server.client(receive_buffer=4096)
        inner = await server.connections.get()
        if not is_reading:
            inner.transport.pause_reading()
        inner.transport.write(LARGE)
        inner.transport.close()
        inner.transport.close()
        inner.transport.write(b"too late")
        assert inner.transport.is_closing()
        assert inner.transport.get_write_buffer_size() > 1_000_000
        await client.write(b"what comes now is of no interest, and costs the client nothing")
        received = await client.read_exactly(len(LARGE) // 2)
        assert not inner.lost.done()
        assert received + await client.read_all() == LARGE
        assert not inner.lost.done()  # the client has time to send its close_notify
        client.plain.close()
        assert await inner.lost is None
        assert not inner.received
        assert not inner.has_ended

    run(test)


def test_a_client_that_does_not_close_is_cut(run: Run) -> None:
    async def test(server: Server) -> None:
        server.listener._shutdown_timeout = 0.01
        client = await server.client()
        inner = await server.connections.get()
        inner.transport.close()
        assert await client.read() == b""
        assert await inner.lost is None

    run(test)


def test_abort_discards_queued_data(run: Run) -> None:
    async def test(server: Server) -> None:
        client = await server.client(receive_buffer=4096)
        inner = await server.connections.get()
        inner.transport.write(LARGE)
        inner.transport.abort()
        inner.transport.write(b"too late")
        assert await inner.lost is None
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            await client.read_all()

    run(test)


def test_abort_interrupts_a_pending_close(run: Run) -> None:
    async def test(server: Server) -> None:
        client = await server.client(receive_buffer=4096)
        inner = await server.connections.get()
        inner.transport.write(LARGE)
        inner.transport.close()
        inner.transport.abort()
        assert await inner.lost is None
        client.plain.close()

    run(test)


def test_data_that_is_queued_is_sent_after_the_close_notify_of_the_client(run: Run) -> None:
    async def test(server: Server) -> None:
        client = await server.client(receive_buffer=4096)
        inner = await server.connections.get()
        inner.transport.write(LARGE)
        client.tls.write(b"last words")
        await client.send(client.outgoing.read() + client.close_notify())
        assert await client_reads_on(client) == LARGE
        assert await inner.reason() == "closed by the client"
        assert inner.received == b"last words"
        assert inner.has_ended

    run(test)


async def client_reads_on(client: Client) -> bytes:
    """Return the plain data of a connection that we have ended on our side only."""
    received = bytearray()
    with contextlib.suppress(ssl.SSLZeroReturnError):
        while data := await client.read():
            received += data
    return bytes(received)


def test_queued_data_is_sent_after_a_tcp_half_close(run: Run) -> None:
    async def test(server: Server) -> None:
        client = await server.client(receive_buffer=4096)
        inner = await server.connections.get()
        inner.transport.write(LARGE)
        client.tls.write(b"last words")
        await client.send(client.outgoing.read()[:-1])  # and not even that is whole
        client.plain.shutdown(socket.SHUT_WR)
        assert await client.read_all() == LARGE
        assert await inner.reason() == "closed by the client"
        assert inner.has_ended
        assert not inner.received

    run(test)


def test_a_client_that_resets(run: Run) -> None:
    async def test(server: Server) -> None:
        client = await server.client()
        inner = await server.connections.get()
        client.plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.plain.close()
        assert await inner.reason() == "connection lost"

    run(test)


def test_a_client_that_sends_nonsense(run: Run) -> None:
    async def test(server: Server) -> None:
        client = await server.client()
        inner = await server.connections.get()
        client.tls.write(b"hello")
        await client.send(client.outgoing.read() + b"\x17\x03\x03\x00\x20" + b"nonsense" * 4)
        await server.until(lambda: inner.transport.is_closing())
        for _ in range(3):
            await client.send(b"more, which must not cost the client the reason")
            await asyncio.sleep(0)
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            await client.read()
        assert await client.loop.sock_recv(client.plain, 1) == b""
        assert not inner.lost.done()  # the client has its time to close its side
        client.plain.close()
        assert await inner.reason() == "TLS error: DECRYPTION_FAILED_OR_BAD_RECORD_MAC"
        assert inner.received == b"hello"

    run(test)


def test_a_bug_of_the_protocol_costs_its_connection(run: Run) -> None:
    async def test(server: Server) -> None:
        problems: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context["exception"]))

        def fail(inner: Inner) -> None:
            raise ZeroDivisionError

        server.on_data = fail
        for is_paused in (False, True):
            client = await server.client()
            inner = await server.connections.get()
            if is_paused:
                inner.transport.pause_reading()
                inner.transport._incoming.write(b"")
                client.tls.write(b"x")
                inner.transport.data_received(client.outgoing.read())
                inner.transport.resume_reading()
            else:
                await client.write(b"x")
            assert isinstance(await inner.lost, ZeroDivisionError)
            client.plain.close()
        assert [type(problem) for problem in problems] == [ZeroDivisionError] * 2

    run(test)


def test_handshakes_that_fail(run: Run) -> None:
    async def test(server: Server) -> None:
        async def reason() -> str:
            error = await server.failures.get()
            assert isinstance(error, OSError)
            return describe_close(error)

        client = await server.raw_client()
        await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert await reason() == "TLS error: HTTP_REQUEST"
        client = await server.raw_client()
        await client.send(b"OPTIONS rtsp://h/ RTSP/1.0\r\n\r\n")
        assert await reason() == "TLS error: WRONG_VERSION_NUMBER"
        client = await server.raw_client()
        client.plain.close()
        assert await reason() == "connection lost"
        client = await server.raw_client()
        client.tls.context.load_default_certs()
        stranger = ssl.create_default_context().wrap_bio(client.incoming, client.outgoing, server_hostname="localhost")
        client.tls = stranger
        with pytest.raises(ssl.SSLCertVerificationError):
            await client.shake_hands()
        await client.send(client.outgoing.read())
        assert await reason() == "TLS error: TLSV1_ALERT_UNKNOWN_CA"
        server.context.minimum_version = ssl.TLSVersion.TLSv1_3
        client = await server.raw_client(version=ssl.TLSVersion.TLSv1_2)
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):  # it is told why
            await client.shake_hands()
        assert await reason() == "TLS error: UNSUPPORTED_PROTOCOL"
        server.listener._handshake_timeout = lambda: 0.01
        client = await server.raw_client()
        assert await reason() == "it took longer than 0.01 seconds"
        assert await client.loop.sock_recv(client.plain, 1) == b""
        assert server.connections.empty()

    run(test)


def test_a_client_that_keeps_sending_can_read_why_its_handshake_failed(run: Run) -> None:
    async def test(server: Server) -> None:
        server.context.minimum_version = ssl.TLSVersion.TLSv1_3
        client = await server.raw_client(version=ssl.TLSVersion.TLSv1_2)
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.do_handshake()
        await client.send(client.outgoing.read())
        assert describe_close(await server.failures.get()) == "TLS error: UNSUPPORTED_PROTOCOL"
        for _ in range(3):
            await asyncio.sleep(0)
            await client.send(b"more, which must not cost the client the reason")
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            await client.shake_hands()
        assert await client.loop.sock_recv(client.plain, 1) == b""
        client.plain.close()

    run(test)


def test_a_handshake_that_failed_is_evicted(run: Run) -> None:
    """Its connection has its slot until the client closes it, unless another client needs the slot."""

    async def test(server: Server) -> None:
        server.listener._slots.limit = 2
        first = await server.raw_client()
        await first.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert describe_close(await server.failures.get()) == "TLS error: HTTP_REQUEST"
        assert len(server.listener._slots) == 1
        await server.raw_client()
        await server.client()
        while len(server.listener._opening) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        assert len(server.listener._slots) == 1

    run(test)


def test_short_records_and_new_keys(run: Run) -> None:
    """What Python's clients cannot ask for (RFC 6066 section 4, RFC 8446 section 4.6.3)."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")

    async def test(server: Server) -> None:
        for arguments in (["-tls1_2", "-maxfraglen", "512"], ["-tls1_3"]):
            client = await asyncio.create_subprocess_exec(
                openssl, "s_client", "-connect", f"127.0.0.1:{server.port}", *arguments, stdin=-1, stdout=-1, stderr=-1
            )
            assert client.stdin
            inner = await server.connections.get()
            client.stdin.write(b"before\n")
            await server.until(lambda: inner.received == b"before\n")  # noqa: B023
            if "-tls1_3" in arguments:
                client.stdin.write(b"K\n")  # a command, when it comes in a read of its own
                assert client.stderr
                await client.stderr.readuntil(b"KEYUPDATE")
            client.stdin.write(b"after\n")
            await server.until(lambda: inner.received.endswith(b"after\n"))  # noqa: B023
            text = b"%s\n" % (b"0123456789" * 10_000)
            inner.transport.write(text)
            inner.transport.writelines([text, text])
            inner.transport.write(text[:1001] + b"\n")
            inner.transport.close()
            assert client.stdout
            output = await client.stdout.read()  # to its end: it would leave at the end of its input
            _, errors = await client.communicate()
            assert output.count(text) == 3, errors
            assert output.count(text[:1001] + b"\n") == 1
            assert await inner.lost is None

    run(test)


def test_records_are_full() -> None:
    pieces = [b"a" * 9, b"b" * RECORD_SIZE, b"", b"c" * 9, memoryview(b"d" * (3 * RECORD_SIZE)), bytearray(b"e")]
    records = list(_records(pieces))
    assert b"".join(records) == b"".join(pieces)
    assert [len(record) for record in records[:-1]] == [RECORD_SIZE] * 4
    assert len(records[-1]) == 19
    assert list(_records([])) == []


def test_whole_records_only() -> None:
    record = b"\x17\x03\x03\x00\x02ab"
    assert end_of_records(b"", 0) == 0
    for size in range(1, len(record)):
        assert end_of_records(record[:size], 0) == 0
        assert end_of_records(record + record[:size], 0) == len(record)
    assert end_of_records(record * 3, len(record)) == 3 * len(record)
    assert end_of_records(record * 100, 0) == RECORDS_AT_ONCE * len(record)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1", b"G", b"\x17\x03\x03\xff\xff"])
def test_openssl_gets_invalid_records_immediately(data: bytes) -> None:
    assert end_of_records(data, 0) == len(data)
