"""Listening sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
import trustme
from tests.support.waiting import PATIENCE

from polycast.net.listen import open_tcp_listener, open_udp_socket
from polycast.net.listener import ACCEPTS_AT_ONCE, Listener
from polycast.net.tls_listener import TlsListener


def test_all_interfaces_means_both_families() -> None:
    with open_tcp_listener("", 0) as listener:
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        if socket.has_ipv6 and listener.family == socket.AF_INET6:
            socket.create_connection(("::1", port), PATIENCE).close()


def test_one_address() -> None:
    with open_tcp_listener("127.0.0.1", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
        assert not listener.getblocking()


def test_port_in_use_is_reported() -> None:
    with open_tcp_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match=rf"listen on 127\.0\.0\.1:{port}: .*in use by another program"):
            open_tcp_listener("127.0.0.1", port)
    with open_udp_socket("127.0.0.1", 0) as udp:
        port = udp.getsockname()[1]
        with pytest.raises(OSError, match=f"{port}: .*in use by another program"):
            open_udp_socket("127.0.0.1", port)


def test_name_that_does_not_exist() -> None:
    with pytest.raises(OSError, match=r"listen on host\.invalid:0: "):
        open_tcp_listener("host.invalid", 0)


def test_what_is_no_name() -> None:
    with pytest.raises(OSError, match=r"listen on no\.\.name:0: not a valid name"):
        open_tcp_listener("no..name", 0)


def test_address_of_another_machine() -> None:
    with pytest.raises(OSError, match=r"listen on 192\.0\.2\.1:0: "):
        open_tcp_listener("192.0.2.1", 0)


@pytest.fixture(scope="module")
def context() -> ssl.SSLContext:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(server)
    return server


class Failures:
    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.grown = asyncio.Event()

    def __call__(self, address: object, error: Exception) -> None:
        self.errors.append(error)
        self.grown.set()


async def serve(context: ssl.SSLContext, failures: Failures) -> tuple[TlsListener, int]:
    bound = open_tcp_listener("127.0.0.1", 0)
    port = bound.getsockname()[1]
    listener = TlsListener(
        bound, context, asyncio.Protocol, failures, handshake_timeout=lambda: 2 * PATIENCE, shutdown_timeout=1
    )
    return listener, port


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 10])
async def test_tls_listener_closes_what_it_accepted(context: ssl.SSLContext, turns: int) -> None:
    listener, port = await serve(context, Failures())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(turns):
        await asyncio.sleep(0)
    listener.close()
    await listener.wait_closed()
    assert listener.sockets == ()
    async with asyncio.timeout(PATIENCE):
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass  # it was never accepted
    writer.close()


async def test_tls_listener_continues_after_failures(context: ssl.SSLContext) -> None:
    failures = Failures()
    listener, port = await serve(context, failures)
    for _ in range(3):
        failures.grown.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            await failures.grown.wait()
            await reader.read()
        writer.close()
    assert all(isinstance(error, ssl.SSLError) for error in failures.errors)
    client = ssl.create_default_context()
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
    writer.close()
    await writer.wait_closed()
    listener.close()
    await listener.wait_closed()


async def test_tls_listener_survives_a_lack_of_descriptors(
    context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polycast.net.listener.ACCEPT_PAUSE_SECONDS", 0.001)
    loop = asyncio.get_running_loop()
    accept, calls = loop.sock_accept, []

    async def sock_accept(sock: socket.socket) -> tuple[socket.socket, object]:
        calls.append(1)
        if len(calls) < 3:
            raise OSError(24, "Too many open files")
        return await accept(sock)

    monkeypatch.setattr(loop, "sock_accept", sock_accept)
    failures = Failures()
    listener, port = await serve(context, failures)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"no TLS")
    async with asyncio.timeout(PATIENCE):
        await failures.grown.wait()
    writer.close()
    listener.close()
    await listener.wait_closed()


async def test_a_silent_handshake_makes_room(context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polycast.net.tls_listener.MAXIMUM_HANDSHAKES", 3)
    monkeypatch.setattr("polycast.net.tls_listener.SILENCE_SECONDS", 0.05)
    failures = Failures()
    listener, port = await serve(context, failures)
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
    client = ssl.create_default_context()
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    async with asyncio.timeout(PATIENCE):  # less than the timeout of a handshake
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
    assert len(failures.errors) >= 7
    assert {str(error) for error in failures.errors} == {"the client was silent while others waited"}
    for _, each in silent:
        each.close()
    writer.close()
    listener.close()
    await listener.wait_closed()


async def test_few_connections_are_accepted_in_one_turn() -> None:
    """A loop by itself takes all that wait, and each costs time."""
    bound = open_tcp_listener("127.0.0.1", 0)
    clients = [socket.create_connection(bound.getsockname()) for _ in range(5 * ACCEPTS_AT_ONCE)]
    opened: list[Opened] = []

    class Opened(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            opened.append(self)

    listener = Listener(bound, Opened)
    most = before = 0
    async with asyncio.timeout(PATIENCE):
        while len(opened) < len(clients):
            await asyncio.sleep(0)
            most = max(most, len(opened) - before)
            before = len(opened)
    assert most <= ACCEPTS_AT_ONCE
    for each in opened:
        each.transport.close()
    for client in clients:
        client.close()
    listener.close()
    await listener.wait_closed()
