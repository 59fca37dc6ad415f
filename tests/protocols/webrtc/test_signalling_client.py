"""The HTTP side of WHIP and WHEP: sessions on another server get no password, and answers are limited."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme
from tests.support.listeners import serving
from tests.support.waiting import PATIENCE

from polycast.net.http_client import MAXIMUM_ANSWER
from polycast.protocols.http_addresses import MAXIMUM_REDIRECTIONS
from polycast.protocols.pull import PullError
from polycast.protocols.webrtc.signalling_client import SignallingClient


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("", ""),
        ("/session/1?x", "http://host:8889/session/1?x"),
        ("session/1", "http://host:8889/cam/session/1"),
        ("http://HOST:8889/session/1", "http://HOST:8889/session/1"),
        ("//host:8889/session/1", "http://host:8889/session/1"),
        ("http://host/session/1", ""),
        ("https://host:8889/session/1", ""),
        ("http://other:8889/session/1", ""),
        ("//other/session/1", ""),
        ("http://host:8889@other/session/1", ""),
        ("ftp://host:8889/session/1", ""),
        ("http://[::1/session/1", ""),
        ("http://host:99999/session/1", ""),
    ],
)
async def test_the_address_of_a_session(location: str, expected: str) -> None:
    client = SignallingClient("whep://user:pass@host:8889/cam/whep", "", "", 1.0)
    try:
        assert client._own_address(location) == expected
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("status", "reason"),
    [("201 Created", f"the answer is larger than {MAXIMUM_ANSWER} bytes"), ("400 Bad Request", "bad status code: 400")],
)
async def test_an_answer_without_end(status: str, reason: str) -> None:
    """It is neither waited for nor held in memory."""
    sent = 0
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/sdp\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            while sent < 64 * 1024 * 1024:
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536
        writer.close()
        gone.set()

    async with serving(serve) as port:
        client = SignallingClient(f"whip://127.0.0.1:{port}/cam/whip", "", "", PATIENCE)
        try:
            with pytest.raises(PullError) as failure:
                await client.offer(b"v=0\r\n")
        finally:
            await client.close()
        assert str(failure.value) == reason
        await asyncio.wait_for(gone.wait(), PATIENCE)
        assert sent < 64 * 1024 * 1024, "the client reads to the end"


async def test_a_refusal_with_nested_json() -> None:
    """Python's parser gives up with a RecursionError."""
    body = b"[" * 100_000

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    async with serving(serve) as port:
        client = SignallingClient(f"whip://127.0.0.1:{port}/cam/whip", "", "", PATIENCE)
        try:
            with pytest.raises(PullError, match=r"^bad status code: 400$"):
                await client.offer(b"v=0\r\n")
        finally:
            await client.close()


async def test_an_answer_that_never_ends_has_a_limit_of_time() -> None:
    """Each byte comes in time, but not the whole."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Type: application/sdp\r\nContent-Length: 100000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"v")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()

    async with serving(serve) as port:
        client = SignallingClient(f"whip://127.0.0.1:{port}/cam/whip", "", "", 0.3)
        try:
            with pytest.raises(PullError, match="no answer in time"):
                await client.offer(b"v=0\r\n")
        finally:
            await client.close()


class Endpoint:
    """Answers offers: with a session, or with redirections."""

    def __init__(self) -> None:
        self.locations: dict[str, tuple[int, str]] = {}
        """Status and address that a path redirects to."""
        self.requests: list[tuple[str, str]] = []
        """Methods and paths."""
        self.authorizations: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                method, path, _ = head[0].split()
                self.requests.append((method, path))
                self.authorizations.append(headers.get("authorization", ""))
                status, location = self.locations.get(path, (201, "session"))
                more = "Content-Type: application/sdp\r\n" if status == 201 else ""
                text = f"HTTP/1.1 {status} Text\r\nLocation: {location}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
                writer.write(text.encode() + body)
        writer.close()


@contextlib.asynccontextmanager
async def two_servers() -> AsyncIterator[tuple[Endpoint, Endpoint, int, SignallingClient]]:
    """Yield two servers, the port of the second one, and a client with a password for the first one."""
    first, second = Endpoint(), Endpoint()
    async with serving(first.serve) as port, serving(second.serve) as other:
        client = SignallingClient(f"whip://u:p@127.0.0.1:{port}/cam/whip", "", "", PATIENCE)
        try:
            yield first, second, other, client
        finally:
            await client.close()


BASIC = "Basic dTpw"


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirection_on_the_same_server(status: int) -> None:
    async with two_servers() as (first, _, _, client):
        first.locations["/cam/whip"] = (status, "/node/cam/whip")
        assert await client.offer(b"v=0\r\n") == b"v=0\r\n"
    assert first.requests == [("POST", "/cam/whip"), ("POST", "/node/cam/whip"), ("DELETE", "/node/cam/session")]
    assert first.authorizations == [BASIC] * 3


async def test_another_server_gets_no_password() -> None:
    async with two_servers() as (first, second, port, client):
        first.locations["/cam/whip"] = (307, f"http://x:y@127.0.0.1:{port}/here")
        assert await client.offer(b"v=0\r\n") == b"v=0\r\n"
    assert (first.requests, first.authorizations) == ([("POST", "/cam/whip")], [BASIC])
    assert second.requests == [("POST", "/here"), ("DELETE", "/session")]
    assert second.authorizations == ["", ""]


@pytest.mark.parametrize(
    ("status", "location", "reason"),
    [
        (307, "/cam/whip", "too many redirections"),
        (307, "ftp://127.0.0.1/", "the server redirects to an address that is not HTTP"),
        (308, "http://127.0.0.1:99999/", "the server redirects to the invalid address"),
        (302, "/other", "bad status code: 302"),
        (307, "", "bad status code: 307"),
    ],
)
async def test_redirections_that_lead_nowhere(status: int, location: str, reason: str) -> None:
    async with two_servers() as (first, _, _, client):
        first.locations["/cam/whip"] = (status, location)
        with pytest.raises(PullError, match=reason):
            await client.offer(b"v=0\r\n")
        assert len(first.requests) == (MAXIMUM_REDIRECTIONS + 1 if location == "/cam/whip" else 1)


async def test_a_redirection_out_of_tls_is_not_followed() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = authority.issue_cert("127.0.0.1")
    certificate.configure_cert(context)
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())).hexdigest()
    secure, plain = Endpoint(), Endpoint()
    async with serving(secure.serve, tls=context) as port, serving(plain.serve) as other:
        secure.locations["/cam/whip"] = (307, f"http://127.0.0.1:{other}/cam/whip")
        client = SignallingClient(f"whips://127.0.0.1:{port}/cam/whip", fingerprint, "", PATIENCE)
        try:
            with pytest.raises(PullError, match="the server redirects from TLS to http:"):
                await client.offer(b"v=0\r\n")
        finally:
            await client.close()
        assert plain.requests == []
