"""RTSP tunnelled over HTTP and WebSocket: pairing, replacing, limits, and clients that do it badly."""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Self

import pytest
import trustme
from tests.protocols.rtsp.support import H264_ONLY, Fixture, RtspClient, rtp, running, slice_unit, udp_transport
from tests.protocols.rtsp.test_server_tls import write_certificate
from tests.support.waiting import PATIENCE
from websockets.frames import Frame
from websockets.protocol import CLIENT, Protocol, State

from polycast.protocols.rtsp.tunnels import UNPAIRED_LIMIT
from polycast.wire.rtsp.tunnel import COOKIE_LIMIT, upgrade_request

KEY = "dGhlIHNhbXBsZSBub25jZQ=="

# As live555 writes them.
GET = (
    "GET /cam HTTP/1.1\r\nCSeq: 1\r\nUser-Agent: live555\r\nHost: 127.0.0.1\r\nx-sessioncookie: {cookie}\r\n"
    "Accept: application/x-rtsp-tunnelled\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n\r\n"
)
POST = (
    "POST /cam HTTP/1.1\r\nCSeq: 1\r\nUser-Agent: live555\r\nHost: 127.0.0.1\r\nx-sessioncookie: {cookie}\r\n"
    "Content-Type: application/x-rtsp-tunnelled\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n"
    "Content-Length: 32767\r\nExpires: Sun, 9 Jan 1972 00:00:00 GMT\r\n\r\n"
)


async def read_head(reader: asyncio.StreamReader) -> str:
    async with asyncio.timeout(PATIENCE):
        return (await reader.readuntil(b"\r\n\r\n")).decode()


class HttpClient(RtspClient):
    """A client that sends on a POST connection, in base64."""

    post: asyncio.StreamWriter
    post_reader: asyncio.StreamReader
    step = 0
    """Bytes of base64 that are sent at once; 0 for all."""

    @classmethod
    async def open(cls, it: Fixture, cookie: str = "abc", tls: ssl.SSLContext | None = None) -> Self:
        client = await cls.connect(it.port, tls)
        it.clients.append(client)
        client.writer.write(GET.format(cookie=cookie).encode())
        assert (await read_head(client.reader)).startswith("HTTP/1.1 200 OK\r\n")
        await client.open_post(it, cookie, tls)
        return client

    async def open_post(self, it: Fixture, cookie: str = "abc", tls: ssl.SSLContext | None = None) -> None:
        name = "localhost" if tls is not None else None
        self.post_reader, self.post = await asyncio.open_connection("127.0.0.1", it.port, ssl=tls, server_hostname=name)
        self.post.write(POST.format(cookie=cookie).encode())

    def send(self, data: bytes) -> None:
        text = base64.b64encode(data)
        step = self.step or len(text)
        for start in range(0, len(text), step):
            self.post.write(text[start : start + step])

    async def close(self) -> None:
        self.post.close()
        await super().close()


class WebSocketClient(RtspClient):
    """A client that sends and receives through the package ``websockets``."""

    websocket: Protocol

    @classmethod
    async def open(cls, it: Fixture, tls: ssl.SSLContext | None = None) -> Self:
        client = await cls.connect(it.port, tls)
        it.clients.append(client)
        client.writer.write(upgrade_request("/cam", "127.0.0.1", KEY))
        head = await read_head(client.reader)
        assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
        assert "\r\nSec-WebSocket-Protocol: rtsp.onvif.org\r\n" in head
        client.websocket = Protocol(CLIENT, state=State.OPEN, max_size=None)
        client.pump = asyncio.create_task(client._pump(client.reader))
        client.reader = asyncio.StreamReader()
        return client

    pump: asyncio.Task[None]

    async def _pump(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            self.websocket.receive_data(data)
            for frame in self.websocket.events_received():
                if isinstance(frame, Frame) and frame.opcode == 2:
                    self.stream.feed_data(bytes(frame.data))
            self._flush()
        self.stream.feed_eof()

    @property
    def stream(self) -> asyncio.StreamReader:
        return self.reader

    def _flush(self) -> None:
        for data in self.websocket.data_to_send():
            if data:
                self.writer.write(data)

    def send(self, data: bytes) -> None:
        self.websocket.send_binary(data)
        self._flush()

    async def close(self) -> None:
        self.pump.cancel()
        await super().close()


@pytest.fixture(params=["HTTP", "WebSocket"])
def kind(request: pytest.FixtureRequest) -> type[HttpClient] | type[WebSocketClient]:
    return HttpClient if request.param == "HTTP" else WebSocketClient


Kind = type[HttpClient] | type[WebSocketClient]


async def test_publish_and_read(it: Fixture, kind: Kind) -> None:
    publisher = await WebSocketClient.open(it) if kind is WebSocketClient else await HttpClient.open(it, "publisher")
    await publisher.publish(it.url("cam"))
    reader = await kind.open(it)
    await reader.play(it.url("cam"))
    sent = [rtp(index, slice_unit(25 * index)) for index in range(50)]
    for packet in sent:
        publisher.send_frame(0, packet)
    assert await reader.packets(50) == sent
    plain = await it.reader("cam")
    publisher.send_frame(0, rtp(50, slice_unit()))
    assert await reader.packets(1) == await plain.packets(1)
    name = "HTTP" if kind is HttpClient else "WebSocket"
    await it.log.wait(rf"\[RTSP\] \[conn .*\] is tunnelled over {name}$")
    assert (await reader.request("TEARDOWN", it.url("cam"))).status == 200


async def test_over_tls(tmp_path: Path, kind: Kind) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    files = write_certificate(authority, tmp_path)
    async with running(encryption="strict", protocols=["tcp"], **files) as it:
        publisher = await it.client(tls=context)
        await publisher.publish(it.url("cam"))
        reader = await kind.open(it, tls=context)
        await reader.play(it.url("cam"))
        publisher.send_frame(0, rtp(1, slice_unit()))
        assert await reader.packets(1) == [rtp(1, slice_unit())]


async def test_only_tcp_inside(it: Fixture, kind: Kind) -> None:
    await it.publisher("cam")
    reader = await kind.open(it)
    one, other = await it.udp(), await it.udp()
    for transport in (udp_transport(one, other), "RTP/AVP;multicast"):
        response = await reader.request("SETUP", it.url("cam/trackID=0"), {"Transport": transport})
        assert response.status == 461
        assert "can't be used in a tunnel; use TCP" in (response.reason or "")
    await reader.play(it.url("cam"))


async def test_credentials_are_those_of_rtsp(kind: Kind) -> None:
    async with running(paths={"all": {"readUser": "u", "readPass": "p"}}) as it:
        await it.publisher("cam")
        reader = await kind.open(it)
        assert (await reader.request("DESCRIBE", it.url("cam"))).status == 401
        proof = {"Authorization": "Basic " + base64.b64encode(b"u:p").decode()}
        assert (await reader.request("DESCRIBE", it.url("cam"), proof)).status == 200


@pytest.mark.parametrize("step", [1, 3, 7])
async def test_base64_cut_anywhere(it: Fixture, step: int) -> None:
    await it.publisher("cam")
    client = await HttpClient.open(it)
    client.step = step
    await client.sync(it.url("cam"))
    await client.play(it.url("cam"))


async def test_post_first(it: Fixture) -> None:
    client = await HttpClient.connect(it.port)
    await client.open_post(it)
    client.send_request("OPTIONS", it.url("cam"))
    await client.post.drain()
    await it.until(lambda: any(tunnel.held_size for tunnel in it.server._tunnels._by_cookie.values()))
    client.writer.write(GET.format(cookie="abc").encode())
    assert (await read_head(client.reader)).startswith("HTTP/1.1 200 OK\r\n")
    assert (await client.response()).status == 200
    await client.close()


async def test_post_connections_that_are_replaced_before_get(it: Fixture) -> None:
    """What such a connection has brought goes with it, so that it does not add up."""
    client = await HttpClient.connect(it.port)
    sizes: list[int] = []
    for _ in range(3):
        old = client.post if sizes else None
        await client.open_post(it)
        client.send_request("OPTIONS", it.url("cam"))
        await read_head(client.post_reader)
        if old is not None:
            old.close()
        (tunnel,) = it.server._tunnels._by_cookie.values()
        sizes.append(tunnel.held_size)
    assert sizes == [sizes[0]] * 3
    assert sizes[0] > 0
    client.writer.write(GET.format(cookie="abc").encode())
    await read_head(client.reader)
    assert (await client.response()).cseq == "3"
    await client.close()


async def test_another_post_connection(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    client = await HttpClient.open(it)
    await client.play(it.url("cam"))
    for replaces in (True, False):
        old, old_reader = client.post, client.post_reader
        if not replaces:
            old.close()
            await it.until(lambda: it.connection_count == 2)
        await client.open_post(it)
        await client.sync(it.url("cam"))
        if replaces:
            await old_reader.read()
            old.close()
            await it.log.wait(r"closed \(replaced by another POST connection of the tunnel\)")
    publisher.send_frame(0, rtp(1, slice_unit()))
    assert await client.packets(1) == [rtp(1, slice_unit())]
    assert (await client.request("TEARDOWN", it.url("cam"))).status == 200


async def test_no_other_post_connection(it: Fixture) -> None:
    await it.publisher("cam")
    client = await HttpClient.open(it)
    await client.play(it.url("cam"))
    client.post.close()
    await it.until(lambda: it.connection_count == 2)
    it.pass_time(9)
    assert it.connection_count == 2
    it.pass_time(2)
    assert await client.ended()
    await client.close()
    await it.log.wait(r"closed \(the client has closed the POST connection of the tunnel\)")
    await it.until(lambda: not it.sessions)
    assert not len(it.server._tunnels)


async def test_another_get_connection(it: Fixture) -> None:
    old = await HttpClient.open(it)
    await old.sync(it.url("cam"))
    new = await HttpClient.open(it)
    assert await old.ended()
    await old.close()
    await new.sync(it.url("cam"))
    await it.log.wait(r"closed \(replaced by another GET connection of the tunnel\)")
    await it.until(lambda: it.connection_count == 2)


async def test_the_tunnel_ends_with_its_get_connection(it: Fixture) -> None:
    client = await HttpClient.open(it)
    await client.sync(it.url("cam"))
    client.writer.close()
    await read_head(client.post_reader)
    async with asyncio.timeout(PATIENCE):
        assert await client.post_reader.read() == b""
    client.post.close()
    await it.until(lambda: it.connection_count == 0)
    assert not len(it.server._tunnels)


@pytest.mark.parametrize(("text", "count"), [(GET, 1), (POST, 1), (GET[:40], 0)])
async def test_half_a_tunnel(it: Fixture, text: str, count: int) -> None:
    client = await it.client()
    client.send(text.format(cookie="abc").encode())
    await it.until(lambda: (it.connection_count, len(it.server._tunnels)) == (1, count))
    it.pass_time(11)
    async with asyncio.timeout(PATIENCE):
        await client.reader.read()
    await client.close()
    await it.log.wait(r"closed \(no request received in time\)")
    assert not len(it.server._tunnels)


async def test_tunnels_that_wait_are_limited(it: Fixture) -> None:
    for index in range(UNPAIRED_LIMIT):
        client = await it.client()
        client.send(GET.format(cookie=f"c{index}").encode())
        await read_head(client.reader)
    client = await it.client()
    client.send(GET.format(cookie="one more").encode())
    assert (await read_head(client.reader)).startswith("HTTP/1.1 503 ")
    await client.close()
    await it.log.wait("too many tunnels wait for their other connection")
    plain = await it.client()
    await plain.sync(it.url("cam"))


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (GET.format(cookie="a" * (COOKIE_LIMIT + 1)), 400, "x-sessioncookie"),
        ("GET / HTTP/1.1\r\n" + "a: b\r\n" * 5000, 431, "HTTP headers larger"),
        ("GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", 400, "invalid HTTP headers"),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 400, "HTTP request on the RTSP port"),
        (upgrade_request("/", "h", KEY).replace(b"rtsp.onvif.org", b"chat").decode(), 400, "sub-protocol"),
    ],
    ids=["cookie", "headers", "junk", "OPTIONS", "sub-protocol"],
)
async def test_refused(it: Fixture, data: str, status: int, reason: str) -> None:
    publisher = await it.publisher("cam")
    client = await it.client()
    client.send(data.encode())
    assert (await read_head(client.reader)).startswith(f"HTTP/1.1 {status} ")
    await client.close()
    await it.log.wait(rf"\[conn {client.address}\] closed \(invalid data: .*{reason}")
    await publisher.sync(it.url("cam"))


async def test_post_with_something_other_than_base64(it: Fixture) -> None:
    client = await HttpClient.open(it)
    client.post.write(b"OPTIONS * RTSP/1.0\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        await client.post_reader.read()
    client.post.close()
    await it.log.wait(r"closed \(invalid data: the tunnel's POST request carries something other than base64\)")
    await it.until(lambda: it.connection_count == 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x82\x01a", "an unmasked WebSocket frame"),
        (b"\x81\x81aaaab", "a WebSocket message that is not binary"),
        (b"\x82\xff" + b"\x7f" * 8, "a WebSocket frame larger than"),
        (bytes(100_000), "an unmasked"),
    ],
)
async def test_bad_frames(it: Fixture, data: bytes, reason: str) -> None:
    client = await WebSocketClient.open(it)
    client.writer.write(data)
    assert await client.ended()
    await client.close()
    await it.log.wait(rf"closed \(invalid data: {reason}")
    assert client.websocket.close_rcvd is not None
    assert client.websocket.close_rcvd.code == 1002


async def test_close_of_both_sides(it: Fixture) -> None:
    client = await WebSocketClient.open(it)
    await client.sync(it.url("cam"))
    client.websocket.send_close(1000)
    client._flush()
    assert await client.ended()
    await client.close()
    assert client.websocket.close_rcvd is not None
    await it.log.wait(r"closed \(closed by the client\)")
    other = await WebSocketClient.open(it)
    await other.publish(it.url("cam"))
    session, _ = it.recording
    assert it.server.kick(session.id)
    assert await other.ended()
    assert other.websocket.close_rcvd is not None
    assert other.websocket.close_rcvd.code == 1000


async def test_ping_is_answered(it: Fixture) -> None:
    client = await WebSocketClient.open(it)
    client.websocket.send_ping(b"x")
    client._flush()
    await client.sync(it.url("cam"))
    assert client.websocket.state is State.OPEN


async def test_client_that_takes_no_pongs_is_closed(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    slow = await WebSocketClient.open(it)
    slow.pump.cancel()
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    (connection,) = [each for each in it.server._connections if each.peer[1] == int(slow.address.rpartition(":")[2])]
    end = connection._tunnel
    ping = b"\x89\xfdaaaa" + bytes(125)
    for _ in range(200):  # 50 MB, of which the sockets take a few
        if connection.is_open:
            end.data_received(ping * 2000)
            await publisher.sync(it.url("cam"))
    assert not connection.is_open
    await it.log.wait(r"closed \(the client does not read the responses\)$")
    reader = await it.reader("cam")
    publisher.send_frame(0, rtp(1, slice_unit()))
    assert await reader.packets(1) == [rtp(1, slice_unit())]


async def test_many_small_frames_hold_nobody_up(it: Fixture) -> None:
    """200,000 empty messages and 1,000 requests; a plain client is served in between."""
    client = await WebSocketClient.open(it)
    client.writer.write(b"\x82\x80aaaa" * 200_000)
    plain = await it.client()
    await plain.sync(it.url("cam"))
    await client.sync(it.url("cam"))


async def test_the_server_stops(kind: Kind) -> None:
    async with running() as it:
        client = await kind.open(it)
        await client.publish(it.url("cam"), H264_ONLY)
        await it.app.stop()
        assert await client.ended()
