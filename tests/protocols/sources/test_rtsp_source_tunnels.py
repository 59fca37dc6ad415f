"""Pulling RTSP through HTTP and WebSocket: from our own server, and from servers that do it badly."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.protocols.rtsp.support import Fixture, rtp, running, slice_unit
from tests.protocols.rtsp.test_server_tls import write_certificate
from tests.support import listeners
from tests.support.waiting import PATIENCE

from polycast.errors import ConfigurationError
from polycast.wire.http.websocket import accept_key

QUICK = {"sourceRetryPause": "20ms", "sourceRetryPauseMax": "50ms"}


def pulling(url: str, **settings: Any) -> dict[str, Any]:
    return {"cam": {"source": url, **QUICK, **settings}}


@pytest.mark.parametrize("scheme", ["rtsp+http", "rtsp+ws"])
async def test_from_our_own_server(scheme: str) -> None:
    async with running() as origin:
        publisher = await origin.publisher("live")
        async with running(paths=pulling(f"{scheme}://127.0.0.1:{origin.port}/live")) as app:
            await app.until(lambda: app.path("cam").stream is not None)
            reader = await app.reader("cam")
            sent = [rtp(index, slice_unit(300)) for index in range(20)]
            for packet in sent:
                publisher.send_frame(0, packet)
            assert await reader.packets(20) == sent
            assert origin.log.find("is tunnelled over " + ("HTTP" if scheme == "rtsp+http" else "WebSocket"))
            # The publisher comes back, and so does the source.
            await publisher.close()
            await app.log.wait(r"failed: .*; next attempt in")
            publisher = await origin.publisher("live")
            await app.until(lambda: app.path("cam").stream is not None)
        await origin.until(lambda: origin.connection_count == 1)


@pytest.mark.parametrize("scheme", ["rtsps+http", "rtsps+ws"])
async def test_over_tls(scheme: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    files = write_certificate(authority, tmp_path)
    certificate = ssl.PEM_cert_to_DER_cert(Path(files["serverCert"]).read_text())
    fingerprint = hashlib.sha256(certificate).hexdigest()
    async with running(encryption="strict", protocols=["tcp"], **files) as origin:
        publisher = await origin.client(tls=context)
        await publisher.publish(origin.url("live"))
        url = f"{scheme}://127.0.0.1:{origin.port}/live"
        async with running(paths=pulling(url, sourceFingerprint=fingerprint)) as app:
            await app.until(lambda: app.path("cam").stream is not None)
            reader = await app.reader("cam")
            publisher.send_frame(0, rtp(1, slice_unit()))
            assert await reader.packets(1) == [rtp(1, slice_unit())]


async def test_credentials() -> None:
    async with running(paths={"all": {"readUser": "u", "readPass": "p"}}) as origin:
        await origin.publisher("live")
        async with running(paths=pulling(f"rtsp+ws://u:p@127.0.0.1:{origin.port}/live")) as app:
            await app.until(lambda: app.path("cam").stream is not None)


async def test_only_tcp() -> None:
    async with running(paths=pulling("rtsp+http://127.0.0.1:1/live", sourceProtocol="udp")) as app:
        await app.log.wait("failed: RTSP over HTTP or WebSocket can be used only with TCP")


@pytest.mark.parametrize("url", ["rtsp+http:///cam", "rtsp+x://h/cam", "rtsps+ws://h/cam#x"])
async def test_invalid_addresses(url: str) -> None:
    with pytest.raises(ConfigurationError):
        async with running(paths=pulling(url)):
            pass


class Server:
    """Answers each connection with the next of its texts; None closes it."""

    def __init__(self, answers: list[str | None]) -> None:
        self.answers = answers
        self.requests: list[str] = []
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            answer = self.answers.pop(0) if self.answers else None
            if answer is not None:
                writer.write(answer.encode("latin-1"))
                await writer.drain()
                await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def serving(*answers: str | None) -> AsyncIterator[Server]:
    server = Server([*answers])
    async with listeners.serving(server.serve) as server.port:
        yield server


@contextlib.asynccontextmanager
async def pulled(server: Server, scheme: str = "rtsp+http", user: str = "") -> AsyncIterator[Fixture]:
    async with running(paths=pulling(f"{scheme}://{user}127.0.0.1:{server.port}/live"), readTimeout="2s") as app:
        yield app


OK = "HTTP/1.0 200 OK\r\nContent-Type: application/x-rtsp-tunnelled\r\n\r\n"
TLS_ALERT = "\x15\x03\x01\0\x02\x02"


@pytest.mark.parametrize(
    ("scheme", "answers", "reason"),
    [
        ("rtsp+http", ["HTTP/1.1 404 Not Found\r\n\r\n"], "the tunnel cannot be opened: HTTP status 404"),
        (
            "rtsp+http",
            [OK, "HTTP/1.1 404 Not Found\r\n\r\n"],
            "the tunnel cannot be opened: POST was answered with 404",
        ),
        ("rtsp+http", [None], "the server closed the connection of the tunnel"),
        ("rtsp+http", ["RTSP/1.0 505 x\r\n\r\n"], "the tunnel cannot be opened: HTTP status 505"),
        ("rtsp+http", [OK + "\0" * 5000], "invalid data: "),
        ("rtsp+http", ["HTTP/1.1 200 OK\r\n" + "a: b\r\n" * 5000], "invalid data: HTTP headers larger than"),
        ("rtsp+http", [OK, None], "closed by the server|connection lost"),
        ("rtsp+ws", ["HTTP/1.1 200 OK\r\n\r\n"], "the tunnel cannot be opened: HTTP status 200"),
        (
            "rtsp+ws",
            ["HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n"],
            "the tunnel cannot be opened: the server does not accept",
        ),
        ("rtsp+ws", [TLS_ALERT + "\r\n\r\n"], "invalid data: invalid HTTP headers"),
    ],
)
async def test_servers_that_refuse(scheme: str, answers: list[str | None], reason: str) -> None:
    async with serving(*answers) as server, pulled(server, scheme) as app:
        await app.log.wait(f"failed: {reason}")
        await app.log.wait("next attempt in")


async def test_a_server_that_is_silent() -> None:
    async with serving("HTTP/1.1 200 OK\r\n") as server:
        url = f"rtsp+http://127.0.0.1:{server.port}/live"
        async with running(paths=pulling(url), readTimeout="50ms") as app:
            await app.log.wait(r"failed: 127\.0\.0\.1:\d+ did not open the tunnel within 0\.05 s")


@pytest.mark.parametrize("scheme", ["rtsp+http", "rtsp+ws"])
async def test_http_asks_for_credentials(scheme: str) -> None:
    challenge = 'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n'
    async with serving(challenge, challenge) as server, pulled(server, scheme, "u:p@") as app:
        await app.log.wait("failed: the tunnel cannot be opened: HTTP status 401")
        first, second = server.requests[:2]
        proof = base64.b64encode(b"u:p").decode()
        assert "Authorization" not in first
        assert f"\r\nAuthorization: Basic {proof}\r\n" in second
        assert "u:p" not in "".join(app.log.lines)


async def test_the_post_connection_has_the_credentials_too() -> None:
    challenge = 'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm="x", nonce="n"\r\n\r\n'
    async with serving(challenge, OK, OK) as server, pulled(server, "rtsp+http", "u:p@"):
        async with asyncio.timeout(PATIENCE):
            while len(server.requests) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        get, post = server.requests[1:3]
        cookie = next(line for line in get.split("\r\n") if line.startswith("x-sessioncookie: "))
        assert cookie in post
        assert post.startswith("POST /live HTTP/1.1\r\n")
        assert 'Authorization: Digest username="u"' in post


async def test_a_redirection_to_a_path_with_blanks() -> None:
    downloads: list[asyncio.StreamWriter] = []
    targets: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            if request.startswith("GET "):
                targets.append(request.split("\r\n")[0])
                downloads.append(writer)
                writer.write(OK.encode())
            else:
                for status in ("200 OK", "302 Found\r\nLocation: /my camera?a=b c"):
                    asked = await read_tunnelled(reader)
                    number = next(line for line in asked.split("\r\n") if line.startswith("CSeq: "))
                    downloads[-1].write(f"RTSP/1.0 {status}\r\n{number}\r\n\r\n".encode())
            await reader.read()
        writer.close()

    async def read_tunnelled(reader: asyncio.StreamReader) -> str:
        text = ""
        while not text.endswith("\r\n\r\n"):
            text += base64.b64decode(await reader.readexactly(4)).decode()
        return text

    async with (
        listeners.serving(serve) as port,
        running(paths=pulling(f"rtsp+http://127.0.0.1:{port}/live"), readTimeout="2s") as app,
    ):
        await app.log.wait("redirected to ")
        await app.until(lambda: len(targets) > 1)
    assert targets[:2] == ["GET /live HTTP/1.1", "GET /my%20camera?a=b%20c HTTP/1.1"]


async def test_a_server_that_takes_no_pongs() -> None:
    """It accepts WebSocket, then sends nothing but pings, and reads nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            key = next(line for line in request.split("\r\n") if line.startswith("Sec-WebSocket-Key: "))[19:]
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            upgrade = "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            writer.write(f"{upgrade}{accept_key(key)}\r\n\r\n".encode())
            for _ in range(200):  # 50 MB, of which the sockets take a few
                writer.write((b"\x89\x7d" + bytes(125)) * 2000)
                await writer.drain()
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            await reader.read()
        writer.close()

    async with listeners.serving(serve) as port:
        url = f"rtsp+ws://127.0.0.1:{port}/live"
        async with running(paths=pulling(url), readTimeout="30s") as app:
            await app.log.wait("failed: the server does not read what is sent to it; next attempt in")
