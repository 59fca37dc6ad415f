"""Reading over multicast."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator

import pytest
from tests.protocols.rtsp.support import (
    AUDIO,
    PATIENCE,
    VIDEO,
    Fixture,
    RtspClient,
    key_unit,
    rtp,
    running,
    sdp,
    slice_unit,
    transport_of,
)
from tests.support.ports import free_port

from polycast.rtp.rtcp import SenderReport, parse_compound

RANGE = "239.255.77.0/29"
OFFER = "RTP/AVP;multicast"


def member(group: str, port: int) -> socket.socket:
    """Return a socket that joined a group on every interface that takes part."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    udp.bind((group, port))
    udp.setblocking(False)
    joined = 0
    for interface in ("0.0.0.0", "127.0.0.1"):
        try:
            request = struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton(interface))
            udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
            joined += 1
        except OSError:
            continue
    if not joined:
        udp.close()
        pytest.skip("no interface of this machine takes part in multicast")
    return udp


@pytest.fixture
def members() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for each in sockets:
        each.close()


async def receive(udp: socket.socket) -> bytes:
    async with asyncio.timeout(PATIENCE):
        return await asyncio.get_running_loop().sock_recv(udp, 2048)


def settings() -> dict[str, object]:
    port = free_port()
    return {
        "protocols": ["tcp", "multicast", "udp"],
        "multicastIPRange": RANGE,
        "multicastRTPPort": port,
        "multicastRTCPPort": port + 1,
    }


async def play(it: Fixture, path: str, tracks: int = 1) -> RtspClient:
    client = await it.client()
    for track in range(tracks):
        await client.setup(it.url(path), track, OFFER)
    assert (await client.request("PLAY", it.url(path))).status == 200
    return client


async def test_setup_response() -> None:
    values = settings()
    async with running(**values) as it:
        await it.publisher("cam", sdp(VIDEO, AUDIO), tracks=2)
        client = await it.client()
        response = await client.setup(it.url("cam"), 0, OFFER)
        assert (response.headers.get("Session") or "").endswith(";timeout=60")
        assert response.headers.get("Transport") == (
            f"RTP/AVP;multicast;destination=239.255.77.1;port={values['multicastRTPPort']}-"
            f"{values['multicastRTCPPort']};ttl=127"
        )
        assert transport_of(await client.setup(it.url("cam"), 1, OFFER)).destination == "239.255.77.2"


async def test_packets_and_reports_reach_the_group_once(members: list[socket.socket]) -> None:
    values = settings()
    async with running(**values) as it:
        publisher = await it.publisher("cam")
        rtp_member = member("239.255.77.1", int(str(values["multicastRTPPort"])))
        rtcp_member = member("239.255.77.1", int(str(values["multicastRTCPPort"])))
        members += [rtp_member, rtcp_member]
        readers = [await play(it, "cam") for _ in range(3)]
        await it.log.wait(r"is reading from path 'cam', with UDP-multicast, 1 track \(H264\)$")
        sent = [rtp(index, slice_unit(50 * index), timestamp=3000 * index) for index in range(10)]
        for packet in sent:
            publisher.send_frame(0, packet)
        await publisher.sync(it.url("cam"))
        try:
            first = await receive(rtp_member)
        except TimeoutError:
            pytest.skip("multicast does not come back on this machine")
        assert [first, *[await receive(rtp_member) for _ in range(9)]] == sent
        counters = [each for each in it.server.sessions().values() if each.state == "read"]
        assert [each.packets_sent for each in counters] == [10, 10, 10]

        it.pass_time()
        it.pass_time(1)
        report = parse_compound(await receive(rtcp_member))[0]
        assert isinstance(report, SenderReport)
        assert report.packet_count == 10
        publisher.send_frame(0, rtp(10, key_unit()))
        assert await receive(rtp_member) == rtp(10, key_unit())
        for reader in readers:
            await reader.sync(it.url("cam"))


async def test_addresses_are_released_with_the_last_reader() -> None:
    async with running(**settings()) as it:
        await it.publisher("cam")
        first, second = await play(it, "cam"), await play(it, "cam")
        groups = it.server.session_context.groups
        assert groups is not None
        assert len(groups) == 1
        await first.request("TEARDOWN", it.url("cam"))
        assert len(groups) == 1
        await second.close()
        await it.until(lambda: len(it.sessions) == 2)  # it survives its connection
        for session in it.sessions:
            if session.wire.secret == second.session:
                assert it.server.kick(session.id)
        assert not groups
        assert not groups._allocator._used


async def test_used_up_range_leaves_other_transports() -> None:
    async with running(**settings()) as it:
        await it.publisher("a", sdp(*[AUDIO] * 6), tracks=6)
        await it.publisher("b", sdp(*[AUDIO] * 6), tracks=6)
        await play(it, "a", 6)
        client = await it.client()
        assert (await client.request("SETUP", it.url("b/trackID=0"), {"Transport": OFFER})).status == 461
        await it.log.wait(r"request refused \(461\): multicast is not possible now: no free multicast address in ")
        await client.play(it.url("b"))


async def test_publisher_that_leaves_closes_the_group() -> None:
    async with running(**settings()) as it:
        publisher = await it.publisher("cam")
        reader = await play(it, "cam")
        await publisher.close()
        assert await reader.ended()
        await it.until(lambda: not it.sessions)
        assert it.server.session_context.groups is not None
        assert not len(it.server.session_context.groups)


@pytest.mark.parametrize(
    ("query", "address"), [("", "0.0.0.0"), ("?vlcmulticast", "224.1.0.0"), ("?a&vlcmulticast=1", "224.1.0.0")]
)
async def test_vlc_learns_of_multicast_from_the_description(query: str, address: str) -> None:
    async with running(**settings()) as it:
        await it.publisher("cam")
        client = await it.client()
        body = (await client.request("DESCRIBE", it.url("cam") + query)).body.decode()
        assert f"c=IN IP4 {address}\r\n" in body


async def test_vlc_option_without_multicast() -> None:
    async with running(protocols=["tcp"]) as it:
        await it.publisher("cam")
        client = await it.client()
        assert b"c=IN IP4 0.0.0.0\r\n" in (await client.request("DESCRIBE", it.url("cam?vlcmulticast"))).body


async def test_reader_over_multicast_needs_requests() -> None:
    async with running(**settings()) as it:
        publisher = await it.publisher("cam")
        reader = await play(it, "cam")
        for _ in range(7):
            publisher.send_frame(0, rtp(1, slice_unit()))
            await publisher.sync(it.url("cam"))
            it.pass_time(9)
        assert await reader.ended()
        await it.log.wait(r"destroyed \(no RTSP requests received in a while\)")
