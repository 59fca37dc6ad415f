"""The client for requests to other servers: connections, redirections, bodies that do not end, errors."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Iterator

import pytest
import trustme
from tests.support.listeners import serving
from tests.support.waiting import PATIENCE

from polycast.net.http_client import MAXIMUM_ANSWER, HttpClient


class Server:
    """Answers each request with the next of some texts, and keeps what it was asked."""

    def __init__(self, *answers: bytes) -> None:
        self.answers: Iterator[bytes] = iter(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.gone = asyncio.Event()
        self.url = ""
        self.tasks: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head + await reader.readexactly(2))
                answer = next(self.answers)
                writer.write(answer)
                while answer.endswith(b"..."):  # has no end
                    writer.write(bytes(65536))
                    await writer.drain()
        self.gone.set()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def served(*answers: bytes) -> AsyncIterator[tuple[Server, HttpClient]]:
    server, client = Server(*answers), HttpClient()
    async with serving(server.serve) as port:
        server.url = f"http://127.0.0.1:{port}/check?x=1"
        try:
            async with asyncio.timeout(PATIENCE):
                yield server, client
        finally:
            await client.close()
            await asyncio.gather(*server.tasks)


async def test_a_connection_is_used_again() -> None:
    async with served(b"HTTP/1.1 204 X\r\n\r\n", b"HTTP/1.1 403 X\r\nContent-Length: 3\r\n\r\nabc") as (server, client):
        assert await client.fetch("POST", server.url, b"{}") == (204, b"")
        assert await client.fetch("POST", server.url, b"[]") == (403, b"abc")
        assert server.connections == 1
    first, second = server.requests
    assert first.startswith(b"POST /check?x=1 HTTP/1.1\r\n")
    assert b"content-type: application/json\r\n" in first.lower()
    assert (first[-2:], second[-2:]) == (b"{}", b"[]")


async def test_redirections_are_not_followed() -> None:
    async with served(b"HTTP/1.1 307 X\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n") as (server, client):
        assert await client.fetch("POST", server.url, b"{}") == (307, b"")
    assert len(server.requests) == 1


async def test_a_body_is_not_decompressed() -> None:
    async with served(b"HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc") as (server, client):
        assert await client.fetch("POST", server.url, b"{}") == (200, b"abc")
    assert b"accept-encoding: identity\r\n" in server.requests[0].lower()


async def test_only_the_pinned_certificate_is_valid() -> None:
    authority, client = trustme.CA(), HttpClient()
    certificate = authority.issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    der = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
    right = hashlib.sha256(der).hexdigest()
    server = Server(b"HTTP/1.1 204 X\r\n\r\n")
    async with serving(server.serve, tls=context) as port:
        url = f"https://127.0.0.1:{port}/"
        try:
            async with asyncio.timeout(PATIENCE):
                assert await client.fetch("POST", url, b"{}", right.upper()) == (204, b"")
                for wrong in ("", right[::-1], "00" * 32, "no fingerprint"):
                    with pytest.raises(OSError, match=r"."):
                        await client.fetch("POST", url, b"{}", wrong)
        finally:
            await client.close()
            await asyncio.gather(*server.tasks, return_exceptions=True)


async def test_what_no_fingerprint_needs_any_more_is_closed() -> None:
    empty = b"HTTP/1.1 204 X\r\n\r\n"
    async with served(empty, empty, empty) as (server, client):
        assert await client.fetch("POST", server.url, b"{}", "00" * 32) == (204, b"")
        assert await client.fetch("POST", server.url, b"{}") == (204, b"")
        await client.keep({"11" * 32})
        await server.gone.wait()
        assert await client.fetch("POST", server.url, b"{}") == (204, b"")
        assert server.connections == 2, "the one without a fingerprint is used again"


async def test_a_request_under_way_ends_before_its_connection_is_closed() -> None:
    async with served(b"HTTP/1.1 200 X\r\nContent-Length: 3\r\n\r\nabc") as (server, client):
        arrived, released = asyncio.Event(), asyncio.Event()

        async def serve_later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived.set()
            await released.wait()
            await server.serve(reader, writer)

        async with serving(serve_later) as port:
            request = asyncio.create_task(client.fetch("POST", f"http://127.0.0.1:{port}/", b"{}", "00" * 32))
            await arrived.wait()
            await client.keep(())
            released.set()
            assert await request == (200, b"abc")
            await server.gone.wait()


async def test_a_body_without_end_is_not_read() -> None:
    async with served(b"HTTP/1.1 200 X\r\n\r\n...") as (server, client):
        status, body = await client.fetch("POST", server.url, b"{}")
        assert status == 200
        assert MAXIMUM_ANSWER < len(body) < MAXIMUM_ANSWER + 200_000
        await server.gone.wait()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://[::1/", "http://a b/", "ftp://127.0.0.1/", "http://"])
async def test_what_fails(url: str) -> None:
    client = HttpClient()
    try:
        with pytest.raises(OSError, match=r"."):
            await client.fetch("POST", url, b"{}")
    finally:
        await client.close()


async def test_an_answer_that_is_not_http() -> None:
    async with served(b"SSH-2.0-x\r\n\r\n") as (server, client):
        with pytest.raises(OSError, match=r"."):
            await client.fetch("POST", server.url, b"{}")
