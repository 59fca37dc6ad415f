"""Clients of RTSP and RTMP behind a proxy that names them (PROXY protocol)."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from tests.protocols.rtmp import support as rtmp
from tests.protocols.rtsp.support import Fixture, RtspClient, running
from tests.support.connections import open_connection
from tests.support.waiting import PATIENCE

from polycast.wire.rtmp.client import Mode

LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
BINARY = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb"
IPV6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n"

TRUSTING: dict[str, Any] = {"rtspTrustedProxies": ["127.0.0.1"], "rtmpTrustedProxies": ["127.0.0.0/8"]}


async def proxied(it: Fixture, header: bytes, *, at_once: bool = True) -> RtspClient:
    """Return a client whose connection begins with a header; a request follows in the same segment, or later."""
    client = await it.client()
    if at_once:
        client.send(header)
    else:
        for index in range(len(header)):
            client.send(header[index : index + 1])
            await asyncio.sleep(0)
    return client


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("header", "address"),
    [(LINE, "192.0.2.7:56324"), (BINARY, "192.0.2.7:56324"), (IPV6, "[2001:db8::7]:56324")],
    ids=["text", "binary", "ipv6"],
)
async def test_rtsp_clients_have_their_own_address(header: bytes, address: str, at_once: bool) -> None:
    async with running(**TRUSTING) as it:
        client = await proxied(it, header, at_once=at_once)
        await client.publish(it.url("cam"))
        (connection,) = it.server.connections().values()
        (session,) = it.server.sessions().values()
        assert (connection.address, session.address) == (address, address)
        assert it.log.find(rf"\[RTSP\] \[conn {address.replace('[', '.').replace(']', '.')}\] opened")


async def test_rules_about_addresses_apply_to_the_client() -> None:
    paths = {"all": {"readIPs": ["192.0.2.0/24"], "publishIPs": ["127.0.0.1"]}}
    async with running(**TRUSTING, paths=paths) as it:
        direct = await it.client()
        await direct.publish(it.url("cam"))
        await (await proxied(it, LINE)).play(it.url("cam"))
        refused = await proxied(it, b"PROXY TCP4 198.51.100.9 198.51.100.1 56324 443\r\n")
        assert (await refused.request("DESCRIBE", it.url("cam"))).status != 200


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", b""])
async def test_a_proxy_that_names_nobody_is_the_client_itself(header: bytes) -> None:
    async with running(**TRUSTING) as it:
        client = await proxied(it, header)
        await client.sync(it.url("cam"))
        (connection,) = it.server.connections().values()
        assert connection.address == client.address


@pytest.mark.parametrize("header", [LINE, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("networks", [[], ["10.0.0.0/8"]])
async def test_others_cannot_pretend(header: bytes, networks: list[str]) -> None:
    async with running(rtspTrustedProxies=networks) as it:
        client = await proxied(it, header)
        client.send_request("OPTIONS", it.url("cam"))
        while (event := await client.event()) is not None:
            assert getattr(event, "status", 400) == 400
        reason = "invalid data: a PROXY header, from an address that is not one of the trusted proxies"
        await it.log.wait(rf"INFO \[RTSP\] \[conn {client.address}\] closed \({reason}\)")
        assert it.log.find("192.0.2.7") is None


async def test_rtmp_proxies_that_are_not_trusted_are_named() -> None:
    async with rtmp.running(rtmpTrustedProxies=["10.0.0.0/8"]) as it:
        reader, writer = await open_connection("127.0.0.1", it.port("RTMP"))
        writer.write(BINARY)
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b""
        writer.close()
        reason = "invalid data: a PROXY header, from an address that is not one of the trusted proxies"
        await it.log.wait(rf"INFO \[RTMP\] \[conn .*\] closed \({reason}\)")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"PROXY TCP4 x y 1 2\r\n", "invalid PROXY header"),
        (b"PROXY TCP4 " + b"1" * 200, "the PROXY header is longer than 107 bytes"),
        (b"\r\n\r\n\x00\r\nQUIT\n\x41\x11\x00\x00", "unknown version or command 0x41 of a PROXY header"),
    ],
)
async def test_a_wrong_header_ends_the_connection(header: bytes, reason: str) -> None:
    async with running(**TRUSTING) as it:
        client = await proxied(it, header)
        assert await client.ended()
        await it.log.wait(rf"INFO \[RTSP\] \[conn {client.address}\] closed \({reason}\)")
        await (await it.client()).sync(it.url("cam"))


async def test_a_proxy_that_sends_nothing_is_given_up() -> None:
    async with running(**TRUSTING, readTimeout="50ms") as it:
        client = await proxied(it, b"PROXY TCP4")
        assert await client.ended()
        await it.log.wait(r"INFO \[RTSP\] \[conn .*\] closed \(no PROXY header within 0.05 seconds\)")


async def test_a_server_that_stops_does_not_wait_for_headers() -> None:
    async with running(**TRUSTING) as it:
        client = await proxied(it, b"PROXY TCP4")
        async with asyncio.timeout(PATIENCE):
            await it.server.stop("the test is over")
        assert await client.ended()


async def test_a_check_of_health_is_not_worth_a_line() -> None:
    async with running(**TRUSTING) as it:
        client = await it.client()
        await client.close()
        await (await proxied(it, LINE)).sync(it.url("cam"))
        assert it.log.find("the proxy disconnected") is None


async def test_a_check_of_health_that_is_reset_is_no_client() -> None:
    """HAProxy sends a header, and resets the connection as soon as it is accepted."""
    async with running(**TRUSTING) as it:
        with socket.create_connection(("127.0.0.1", it.port)) as check:
            check.sendall(b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
            check.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await (await proxied(it, LINE)).sync(it.url("cam"))
        assert [line for line in it.log.lines if line.endswith("opened")] == [
            "INFO [RTSP] [conn 192.0.2.7:56324] opened"
        ]


async def test_the_setting_can_be_changed_at_any_time() -> None:
    async with running(paths={"all": {}}) as it:
        before = await it.publisher("cam")
        await it.reload(rtspTrustedProxies=["127.0.0.1"])
        client = await proxied(it, LINE)
        await client.sync(it.url("cam"))
        assert it.log.find(r"conn 192.0.2.7:56324\] opened")
        await before.sync(it.url("cam"))


@pytest.mark.parametrize("is_encrypted", [False, True])
async def test_rtmp_clients_have_their_own_address(tmp_path: Path, is_encrypted: bool) -> None:
    context = rtmp.write_certificate(tmp_path) if is_encrypted else None
    files = {"rtmpServerKey": str(tmp_path / "server.key"), "rtmpServerCert": str(tmp_path / "server.crt")}
    kind = "RTMPS" if is_encrypted else "RTMP"
    encryption = {"rtmpEncryption": "optional", **files} if is_encrypted else {}
    async with rtmp.running(**TRUSTING, **encryption) as it:
        relay = await asyncio.start_server(lambda *ends: pass_on(it.port(kind), BINARY, *ends), "127.0.0.1", 0)
        port = relay.sockets[0].getsockname()[1]
        client = await rtmp.RtmpClient.connect(port, Mode.PUBLISH, "live/cam", context)
        it.clients.append(client)
        await client.accepted()
        (session,) = it.app.servers[kind].sessions().values()
        assert session.address == "192.0.2.7:56324"
        await it.log.wait(rf"INFO \[{kind}\] \[conn 192.0.2.7:56324\] opened")
        relay.close()


async def pass_on(port: int, header: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A proxy: connect to the server, say who the client is, and pass on everything."""
    to_client, to_server = await open_connection("127.0.0.1", port)
    to_server.write(header)

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
        target.close()

    await asyncio.gather(copy(reader, to_server), copy(to_client, writer), return_exceptions=True)
