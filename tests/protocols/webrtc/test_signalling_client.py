"""The HTTP side of WHIP and WHEP: sessions on another server get no password, and answers are limited."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.support.listeners import serving
from tests.support.waiting import PATIENCE

from polycast.net.http_client import MAXIMUM_ANSWER
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
