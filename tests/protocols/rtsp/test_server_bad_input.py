"""What clients should not send: each gets its status or a close with a logged reason, and a pair beside goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import struct
from collections.abc import AsyncIterator

import pytest
from tests.protocols.rtsp.support import (
    H264_ONLY,
    PATIENCE,
    TCP_PLAY,
    TCP_RECORD,
    VIDEO,
    Fixture,
    RtspClient,
    rtp,
    sdp,
    slice_unit,
)
from tests.support.connections import open_connection

from polycast.log import _Formatter


class Pair:
    """A publisher and a reader beside the trouble."""

    def __init__(self, it: Fixture, publisher: RtspClient, reader: RtspClient) -> None:
        self._it = it
        self._publisher = publisher
        self._reader = reader
        self._sequence = 0

    async def check(self) -> None:
        """Send some packets; each must arrive."""
        sent = [rtp(self._sequence + index, slice_unit(300)) for index in range(20)]
        self._sequence += 20
        for packet in sent:
            self._publisher.send_frame(0, packet)
        assert await self._reader.packets(20) == sent


@pytest.fixture
async def pair(it: Fixture) -> AsyncIterator[Pair]:
    pair = Pair(it, await it.publisher("beside"), await it.reader("beside"))
    await pair.check()
    yield pair
    await pair.check()
    assert it.server.internal_errors == 0


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        pytest.param(b"\r\n\r\nGARBAGE\r\n\r\n", 400, "invalid start line", id="no request line"),
        pytest.param(b"\x00\x01\x02\x03\x04\x05", 400, "invalid method", id="binary"),
        pytest.param(b"OPTIONS * RTSP/2.0\r\nCSeq: 1\r\n\r\n", 505, "unsupported version", id="version"),
        pytest.param(b"X" * 100, 400, "method longer than 64 bytes", id="long method"),
        pytest.param(b"OPTIONS rtsp://h/" + b"x" * 4000, 414, "URL longer than 2048 bytes", id="long URL"),
        pytest.param(head("OPTIONS * RTSP/1.0", "X: " + "y" * 3000), 400, "longer than 2048 bytes", id="long header"),
        pytest.param(head("OPTIONS * RTSP/1.0", "x" * 600 + ": y"), 400, "longer than 512 bytes", id="long name"),
        pytest.param(head("OPTIONS * RTSP/1.0", *["X: y"] * 300), 400, "more than 255 headers", id="many headers"),
        pytest.param(head("OPTIONS * RTSP/1.0", "no colon"), 400, "invalid header", id="no colon"),
        pytest.param(head("OPTIONS * RTSP/1.0", "X: a", " folded"), 400, "continuation", id="folded header"),
        pytest.param(head("OPTIONS * RTSP/1.0", "X: a\0b"), 400, "invalid header", id="zero byte"),
        pytest.param(head("OPTIONS * RTSP/1.0", "X: a\rb"), 400, "invalid header", id="bare return"),
        pytest.param(head("OPTIONS * RTSP/1.0", "Content-Length: -1"), 400, "Content-Length", id="negative length"),
        pytest.param(head("OPTIONS * RTSP/1.0", "Content-Length: 1x"), 400, "Content-Length", id="length is a word"),
        pytest.param(head("OPTIONS * RTSP/1.0", "Content-Length: 999999"), 413, "body larger", id="large body"),
        pytest.param(
            head("OPTIONS * RTSP/1.0", "Content-Length: " + "9" * 1000), 413, "body larger", id="absurdly large body"
        ),
    ],
)
async def test_malformed_requests(it: Fixture, pair: Pair, data: bytes, status: int, reason: str) -> None:
    client = await it.client()
    client.send(data)
    assert (await client.response()).status == status
    assert await client.ended()
    line = await it.log.wait(rf"\[conn {client.address}\] closed \(invalid data: ")
    assert reason in line


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ("GET / HTTP/1.1", "HTTP request on the RTSP port"),
        ("POST /cam HTTP/1.0\r\nContent-Type: application/x-rtsp-tunnelled", "HTTP request on the RTSP port"),
        ("GET /cam HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade", "invalid WebSocket upgrade"),
    ],
)
async def test_http_is_answered_in_its_own_words(it: Fixture, pair: Pair, headers: str, error: str) -> None:
    """Browsers, and what is no tunnel."""
    client = await it.client()
    client.send(f"{headers}\r\nHost: x\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE):
        head, _, body = (await client.reader.read()).partition(b"\r\n\r\n")
    assert head.decode().startswith("HTTP/1.1 400 Bad Request\r\n")
    assert b"This is the port of an RTSP server" in body
    assert f"\r\nContent-Length: {len(body)}".encode() in head
    await it.log.wait(rf"\[conn {client.address}\] closed \(invalid data: {error}\)")


async def test_tls_client_on_the_plain_port(it: Fixture, pair: Pair) -> None:
    context = ssl.create_default_context()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await it.client(tls=context)
    await it.log.wait(r"closed \(invalid data: TLS handshake on the plain port; use the rtsps:// address\)$")


async def test_rtmp_client_on_the_rtsp_port(it: Fixture, pair: Pair) -> None:
    client = await it.client()
    client.send(b"\x03" + bytes(1536))
    reason = "the peer speaks RTMP, but this is an RTSP port; that of RTMP is usually 1935"
    await it.log.wait(rf"\[conn {client.address}\] closed \(invalid data: {reason}\)$")


async def test_bad_request_in_mid_stream_ends_only_its_session(it: Fixture, pair: Pair) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    publisher.send_frame(0, rtp(1, slice_unit()))
    publisher.send(b"OPTIONS * RTSP/1.0\r\nno colon\r\n\r\n")
    assert await reader.packets(1) == [rtp(1, slice_unit())]
    assert await publisher.ended()
    assert await reader.ended()
    await it.until(lambda: set(it.app.hub.paths) == {"beside"})


async def test_stray_bytes_between_frames(it: Fixture, pair: Pair) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    packets = [rtp(sequence, slice_unit()) for sequence in range(1, 6)]
    for packet in packets:
        publisher.send_frame(0, packet)
        publisher.send(bytes(200))
    assert await reader.packets(5) == packets
    reader.send(b"\x01\x02 garbage \xff")
    for client in (reader, publisher):
        await client.sync(it.url("cam"))
    it.pass_time(1)
    await it.log.wait("WARNING .*bytes between interleaved frames are skipped, 1000 so far")
    await it.log.wait("WARNING .*bytes between interleaved frames are skipped, 12 so far")
    it.pass_time(1)
    assert sum("are skipped" in line for line in it.log.lines) == 2
    assert (await publisher.request("TEARDOWN", it.url("cam"))).status == 200
    await it.log.wait("INFO .*1000 bytes between interleaved frames were skipped")
    publisher.send(b"\x01\x02 garbage")  # without a session the connection is one of requests alone
    assert await publisher.ended()


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x80", id="short"),
        pytest.param(bytes(12), id="version 0"),
        pytest.param(b"\x8f\x60" + bytes(10), id="CSRC list cut off"),
        pytest.param(b"\x90\x60" + bytes(10), id="extension cut off"),
        pytest.param(b"\x90\x60" + bytes(10) + b"\xbe\xde\xff\xff", id="extension too long"),
        pytest.param(b"\xa0\x60" + bytes(10) + b"\xff", id="padding too long"),
        pytest.param(b"\xa0\x60" + bytes(10) + b"\x00", id="no padding"),
        pytest.param(bytes(0xFFFF), id="large"),
    ],
)
async def test_malformed_rtp_over_tcp(it: Fixture, pair: Pair, packet: bytes) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    for _ in range(3):
        publisher.send_frame(0, packet)
    publisher.send_frame(0, rtp(2, slice_unit()))
    assert await reader.packets(1) == [rtp(2, slice_unit())]
    await it.log.wait(r"^WARNING \[RTSP\] \[session \d+\] invalid packet received, ignored: ")
    it.pass_time(1)
    await it.log.wait(r"^WARNING \[RTSP\] \[session \d+\] 2 more invalid packets ignored$")
    it.pass_time(1)
    assert sum("more invalid packets" in line for line in it.log.lines) == 1


@pytest.mark.parametrize(
    "units",
    [
        pytest.param([b""], id="no payload"),
        pytest.param([b"\x00"], id="type 0"),
        pytest.param([b"\x78\xff\xff\x65"], id="STAP-A cut off"),
        pytest.param([b"\x7c"], id="FU-A cut off"),
        pytest.param([b"\x7c\x85", b"\x7c\xc5"], id="FU-A start and end"),
        pytest.param([b"\x67"], id="empty SPS"),
        pytest.param([b"\x67" + b"\xff" * 500], id="absurd SPS"),
        pytest.param([b"\x68"], id="empty PPS"),
        pytest.param([b"\x67" + bytes(3000)], id="large SPS"),
        pytest.param([b"\x7c\x85" + bytes(3000)], id="large FU-A"),
        pytest.param([b"\x78" + b"\x00\x01\x65" * 1000], id="large STAP-A"),
    ],
)
async def test_malformed_h264_passes_or_is_dropped(it: Fixture, pair: Pair, units: list[bytes]) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    for index, unit in enumerate(units):
        publisher.send_frame(0, rtp(index, unit))
    publisher.send_frame(0, rtp(5, b"\x41the end"))
    while (await reader.packets(1))[0][12:] != b"\x41the end":
        pass
    client = await it.client()
    assert (await client.request("DESCRIBE", it.url("cam"))).status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x80\xc8\xff\xff",
        b"\x81\xc8\x00\x06" + bytes(24),
        b"\x80\xc8\x00\x00",
        b"\x9f\xc9\x00\x01" + bytes(4),
        b"\xbf\xcb\x00\x01" + bytes(4),
        b"\x81\xca\x00\x02" + bytes(4) + b"\x01\xffab",
        bytes(2000),
    ],
)
async def test_malformed_rtcp(it: Fixture, pair: Pair, data: bytes) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    publisher.send_frame(1, data)
    reader.send_frame(1, data)
    reader.send_frame(0, data)
    await reader.sync(it.url("cam"))
    publisher.send_frame(0, rtp(1, slice_unit()))
    assert await reader.packets(1) == [rtp(1, slice_unit())]


@pytest.mark.parametrize(
    "description",
    [
        "\0" * 100,
        "v=1\r\n",
        "v=0\r\nm=\r\n",
        "v=0\r\nm=video\r\n",
        "v=0\r\nm=video 0 RTP/AVP\r\n",
        sdp("m=video 0 RTP/AVP -1\r\n"),
        sdp("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/0\r\n"),
        sdp("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/99999999999999999999\r\n"),
        sdp("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/-90000\r\n"),
        sdp("m=video 0 RTP/AVP 96\r\na=rtpmap:96 /90000\r\n"),
        sdp("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 sprop-parameter-sets=%%%,\r\n"),
        sdp("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/48000/2\r\n"),
        sdp("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/48000/2\r\na=fmtp:97 config=zz; sizelength=99\r\n"),
        sdp("m=audio 0 RTP/AVP 97\r\na=rtpmap:97 L16/²/2\r\n"),
        sdp("m=video 0 RTP/AVP ²\r\n"),
        sdp(*[VIDEO] * 300),
        "v=0\r\n" + "a=x\r\n" * 20_000,
    ],
)
async def test_malformed_descriptions(it: Fixture, pair: Pair, description: str) -> None:
    client = await it.client()
    response = await client.request("ANNOUNCE", it.url("cam"), body=description)
    if response.status != 200:
        assert response.status in (400, 413)
        assert await client.ended()
        return
    # What is accepted must hold for the rest of the way, too.
    (session,) = [session for session in it.sessions if session.wire.path_name == "cam"]
    assert session.wire.announcement is not None
    for index in range(len(session.wire.announcement.controls)):
        await client.setup(it.url("cam"), index, "RTP/AVP/TCP;unicast;mode=record")
        if index == 100:
            return
    assert (await client.request("RECORD", it.url("cam"))).status == 200
    stream = it.path("cam").stream
    assert stream is not None
    form = stream.tracks[0].track.rtp
    assert form is not None
    client.send_frame(0, rtp(1, slice_unit(), payload_type=form.payload_type))
    await client.sync(it.url("cam"))
    reader = await it.client()
    assert (await reader.request("DESCRIBE", it.url("cam"))).status == 200
    await reader.play(it.url("cam"))
    packet = rtp(2, slice_unit(), payload_type=form.payload_type)
    client.send_frame(0, packet)
    assert await reader.packets(1) == [packet]
    it.pass_time(1)
    it.pass_time(1)


@pytest.mark.parametrize(
    "name", ["Session", "Transport", "CSeq", "Range", "Authorization", "Content-Type", "User-Agent"]
)
@pytest.mark.parametrize("value", ["", ";", "=", '"', "\x7f", "\x1b[31m", "é", "a" * 2048, ",,,;;;", "0-0", "²"])
async def test_odd_header_values(it: Fixture, pair: Pair, name: str, value: str) -> None:
    client = await it.client()
    for method, url in (
        ("DESCRIBE", it.url("beside")),
        ("SETUP", it.url("beside/trackID=0")),
        ("PLAY", it.url("beside")),
    ):
        client.send(head(f"{method} {url} RTSP/1.0", *([] if name == "CSeq" else ["CSeq: 1"]), f"{name}: {value}"))
    statuses = []
    with contextlib.suppress(AssertionError):
        for _ in range(3):
            statuses.append((await client.response()).status)
    assert statuses
    assert 500 not in statuses


@pytest.mark.parametrize(
    "value",
    [
        "RTP/AVP/TCP;unicast;interleaved=",
        "RTP/AVP/TCP;unicast;interleaved=a-b",
        "RTP/AVP/TCP;unicast;interleaved=0",
        "RTP/AVP/TCP;unicast;interleaved=254-255",
        "RTP/AVP/TCP;unicast;interleaved=256-257",
        "RTP/AVP/TCP;unicast;interleaved=-2--1",
        "RTP/AVP;unicast;client_port=99999-100000",
        "RTP/AVP;unicast;client_port=65535",
        "RTP/AVP;unicast;client_port=9",
        "RTP/AVP;unicast;client_port=0-1",
        "RTP/AVP/TCP;ssrc=zzzz",
        "RTP/AVP/TCP;" * 100,
        "RTP/AVP/TCP," * 150,
        "/",
        "RTP",
    ],
)
async def test_odd_transports(it: Fixture, pair: Pair, value: str) -> None:
    client = await it.client()
    status = (await client.request("SETUP", it.url("beside/trackID=0"), {"Transport": value})).status
    assert status in (200, 400, 461)
    other = await it.client()
    await other.announce(it.url("cam"))
    status = (await other.request("SETUP", it.url("cam/trackID=0"), {"Transport": value + ";mode=record"})).status
    assert status in (200, 400, 461)


async def test_truncated_interleaved_frame(it: Fixture, pair: Pair) -> None:
    publisher = await it.publisher("cam")
    publisher.send(struct.pack("!BBH", 0x24, 0, 1000) + bytes(10))
    publisher.writer.write_eof()
    assert await publisher.ended()
    await it.log.wait(rf"\[conn {publisher.address}\] closed \(closed by the client\)$")
    await it.until(lambda: set(it.app.hub.paths) == {"beside"})


async def keep_alive(it: Fixture, pair: Pair, seconds: float) -> None:
    for _ in range(round(seconds / 4)):
        it.pass_time(4)
        await pair.check()


@pytest.mark.parametrize(
    "data",
    [
        b"OPT",
        b"OPTIONS * RTSP/1.0\r\n",
        b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n",
        b"ANNOUNCE rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 100\r\n\r\n",
        b"ANNOUNCE rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 100\r\n\r\nv=0",
        b"$\x00\x10\x00abc",
    ],
)
@pytest.mark.parametrize("first", [False, True])
async def test_stall_half_way_through_a_request(it: Fixture, pair: Pair, data: bytes, first: bool) -> None:
    client = await it.client()
    if first:
        await client.sync(it.url("cam"))
    client.send(data)
    await it.until(lambda: any(each._engine._parser.is_incomplete for each in it.server._connections))
    await keep_alive(it, pair, 16)
    assert await client.ended()
    await it.log.wait(r"closed \((a request was not completed|no request received) in time\)$")


async def test_request_that_arrives_byte_by_byte(it: Fixture, pair: Pair) -> None:
    """Who sends a byte now and then holds a connection for no longer than who stalls."""
    client = await it.client()
    await client.sync(it.url("cam"))
    for _ in range(4):
        client.send(b"X")
        await pair.check()
        it.pass_time(4)
    assert await client.ended()
    await it.log.wait(r"closed \(a request was not completed in time\)$")


async def test_publisher_that_stalls_within_a_frame(it: Fixture, pair: Pair) -> None:
    publisher = await it.publisher("cam")
    publisher.send_frame(0, rtp(1, slice_unit()))
    publisher.send(b"$\x00\x10\x00abc")
    await it.until(lambda: any(each._engine._parser.is_incomplete for each in it.server._connections))
    await keep_alive(it, pair, 16)
    assert await publisher.ended()
    await it.until(lambda: set(it.app.hub.paths) == {"beside"})


async def test_thousand_connections_that_send_nothing(it: Fixture, pair: Pair) -> None:
    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await open_connection("127.0.0.1", it.port, limit=16)

    silent = [each for _ in range(10) for each in await asyncio.gather(*(connect() for _ in range(100)))]
    await it.until(lambda: it.connection_count == 1002)
    await pair.check()
    late = await it.reader("beside")
    await pair.check()
    assert len(await late.packets(20)) == 20
    await keep_alive(it, pair, 12)
    await it.until(lambda: it.connection_count == 3)
    assert sum("closed (no request received in time)" in line for line in it.log.lines) == 1000
    for reader, writer in silent:
        assert await reader.read() == b""
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in silent))


async def test_connection_that_is_reset(it: Fixture, pair: Pair) -> None:
    publisher = await it.publisher("cam")
    sock = publisher.writer.get_extra_info("socket")
    sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: the close is a reset
    publisher.writer.transport.abort()  # type: ignore[attr-defined]
    await it.log.wait(r"closed \(connection lost\)$|closed \(closed by the client\)$")
    await it.until(lambda: set(it.app.hub.paths) == {"beside"})


async def test_names_cannot_forge_log_lines(it: Fixture, pair: Pair) -> None:
    client = await it.client()
    await client.request("DESCRIBE", it.url("a%0A2026/01/01%2000:00:00%20INF%20forged"))
    line = await it.log.wait("forged")
    record = logging.LogRecord("test", logging.INFO, "", 0, "%s", (line,), None)
    assert "\n2026" not in _Formatter().format(record)


async def test_sessions_of_refused_requests_do_not_stay(it: Fixture, pair: Pair) -> None:
    client = await it.client()
    for _ in range(5):
        await client.request("SETUP", it.url("nothing/trackID=0"), {"Transport": TCP_PLAY})
        client.session = None
    await client.request("SETUP", it.url("beside/trackID=7"), {"Transport": TCP_RECORD})
    assert len(it.sessions) == 2
    assert set(it.app.hub.paths) == {"beside"}


async def test_announce_and_leave(it: Fixture, pair: Pair) -> None:
    for _ in range(20):
        client = await it.client()
        client.send_request("ANNOUNCE", it.url("cam"), body=H264_ONLY)
        client.writer.close()
    await it.until(lambda: it.connection_count == 2 and len(it.sessions) == 2)
    assert set(it.app.hub.paths) == {"beside"}
