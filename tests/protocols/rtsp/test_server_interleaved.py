"""What one read of a publisher over TCP brings, and how its packets go out."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator

import pytest
from tests.protocols.rtsp.support import (
    AUDIO,
    H264_ONLY,
    VIDEO,
    Fixture,
    Held,
    RtspClient,
    record_framed_runs,
    rtp,
    running,
    sdp,
    transport_of,
)

from polycast.net.coalescing import coalesce_reads, coalescing_of
from polycast.protocols.rtsp.connection import Connection
from polycast.protocols.rtsp.session import Session
from polycast.rtp.scan import PacketScanner


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    return record_framed_runs(monkeypatch)


def framed(*packets: bytes, channel: int = 0) -> bytes:
    return b"".join(struct.pack("!BBH", 0x24, channel, len(each)) + each for each in packets)


SIZES = (300, 300, 90)
"""Bytes of the payloads of a picture."""


def picture(sequence: int, *, key: bool = False, timestamp: int = 0) -> list[bytes]:
    """Return the packets of an H264 picture in fragments (RFC 6184 section 5.8)."""
    kind = 0x05 if key else 0x01
    return [
        rtp(
            sequence + index,
            bytes((0x7C, kind | (0x80 if index == 0 else 0), 0x9A)) + bytes([sequence + index & 0xFF]) * (size - 3),
            timestamp=timestamp,
            marker=index == len(SIZES) - 1,
        )
        for index, size in enumerate(SIZES)
    ]


def connection_of(it: Fixture, client: RtspClient) -> Connection:
    (connection,) = [each for each in it.server._connections if each.peer[1] == int(client.address.rpartition(":")[2])]
    return connection


def session_of(it: Fixture, client: RtspClient) -> Session:
    (session,) = [each for each in it.sessions if each.wire.secret == client.session]
    return session


def one_read(it: Fixture, client: RtspClient, data: bytes) -> None:
    """Give the server bytes of a client as one read; a socket may cut them."""
    connection_of(it, client).data_received(data)


async def publisher_of(it: Fixture, description: str = H264_ONLY, tracks: int = 1) -> RtspClient:
    return await it.publisher("cam", description, tracks)


async def reader_on(it: Fixture, channel: int, track: int = 0) -> RtspClient:
    client = await it.client()
    await client.setup(it.url("cam"), track, f"RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}")
    assert (await client.request("PLAY", it.url("cam"))).status == 200
    return client


async def test_readers_get_packets_on_their_channel(it: Fixture, taken: list[bool]) -> None:
    publisher = await publisher_of(it)
    same, other = await reader_on(it, 0), await reader_on(it, 6)
    packets = picture(1, key=True) + picture(4)
    for read in (packets[:3], packets[3:]):
        one_read(it, publisher, framed(*read))
    assert taken == [True, True]
    assert [await same.frame() for _ in packets] == [(0, packet) for packet in packets]
    assert [await other.frame() for _ in packets] == [(6, packet) for packet in packets]


async def test_packets_go_out_as_the_bytes_that_came(it: Fixture, taken: list[bool]) -> None:
    publisher = await publisher_of(it)
    reader = await it.reader("cam")
    data = framed(*picture(1))
    publisher.send(data)
    async with asyncio.timeout(60):
        assert await reader.reader.readexactly(len(data)) == data
    assert taken == [True]


@pytest.mark.parametrize("coalesced", [False, True])
async def test_an_incomplete_picture_waits_unless_reads_are_coalesced(it: Fixture, coalesced: bool) -> None:
    loop = asyncio.get_running_loop()
    coalesce_reads(loop)
    publisher, reader = await publisher_of(it), await it.reader("cam")
    counters = session_of(it, reader).counters
    for number in range(2):
        coalescing_of(loop).is_active = coalesced
        one_read(it, publisher, framed(*picture(1 + 3 * number)[:2]))
        assert counters.packets_sent == 3 * number + (2 if coalesced else 0)
        one_read(it, publisher, framed(*picture(1 + 3 * number)[2:]))
        assert counters.packets_sent == 3 * number + 3
    assert await reader.packets(6) == picture(1) + picture(4)


async def test_packets_go_to_readers_over_udp(it: Fixture, taken: list[bool]) -> None:
    publisher = await publisher_of(it)
    rtp_end, rtcp_end = await it.udp(), await it.udp()
    client = await it.client()
    transport = f"RTP/AVP;unicast;client_port={rtp_end.port}-{rtcp_end.port}"
    assert transport_of(await client.setup(it.url("cam"), 0, transport)).client_port is not None
    assert (await client.request("PLAY", it.url("cam"))).status == 200
    packets = picture(1)
    one_read(it, publisher, framed(*packets))
    assert taken == [True]
    received: list[bytes] = []
    async with asyncio.timeout(60):
        while len(received) < len(packets):
            received.append((await rtp_end.received.get())[0])
    assert received == packets


async def test_a_reader_gets_only_the_tracks_that_it_set_up(it: Fixture, taken: list[bool]) -> None:
    publisher = await publisher_of(it, sdp(VIDEO, AUDIO), tracks=2)
    reader = await reader_on(it, 0, track=1)
    sound = rtp(1, b"\x00\x10\x00\x48" + bytes(9), payload_type=97)
    one_read(it, publisher, framed(*picture(1, key=True)))
    one_read(it, publisher, framed(sound, channel=2))
    assert taken == [True, True]
    assert await reader.frame() == (0, sound)
    assert session_of(it, reader).counters.packets_sent == 1


async def test_a_paused_reader_resumes_at_a_key_frame(it: Fixture, taken: list[bool]) -> None:
    publisher = await publisher_of(it)
    slow, swift = await it.reader("cam"), await it.reader("cam")
    connection_of(it, slow).pause_writing()
    lost, key, after = picture(1) + picture(4, timestamp=1), picture(7, key=True, timestamp=2), picture(10, timestamp=3)
    for read in (lost[:3], lost[3:], key, after):
        one_read(it, publisher, framed(*read))
    assert taken == [True] * 4
    assert [await slow.frame() for _ in key + after] == [(0, packet) for packet in key + after]
    assert await swift.packets(12) == lost + key + after
    counters = session_of(it, slow).counters
    assert (counters.packets_dropped, counters.packets_sent) == (6, 6)


async def test_a_paused_reader_goes_on_within_a_batch(it: Fixture, taken: list[bool]) -> None:
    publisher = await publisher_of(it)
    slow = await it.reader("cam")
    connection_of(it, slow).pause_writing()
    lost, key = picture(1), picture(4, key=True, timestamp=1)
    one_read(it, publisher, framed(*lost[:2]))  # waits for the rest of the picture
    one_read(it, publisher, framed(lost[2]) + framed(*key[:2]))
    one_read(it, publisher, framed(key[2]))
    assert taken == [True] * 3
    assert [await slow.frame() for _ in key] == [(0, packet) for packet in key]
    counters = session_of(it, slow).counters
    assert (counters.packets_dropped, counters.packets_sent) == (3, 3)


def reads_of_pictures() -> Iterator[bytes]:
    """Make reads of whole pictures; the packets of one are lost on their way."""
    sequence = 65_500
    for number in range(20):
        if number != 7:
            yield framed(*picture(sequence, key=number % 4 == 2, timestamp=3000 * number))
        sequence += 3


async def figures(it: Fixture, reads: list[bytes]) -> dict[str, object]:
    """Publish on a path of its own; return what the API shows of both sides, and what a reader got."""
    publisher, reader = await publisher_of(it), await it.reader("cam")
    for read in reads:
        one_read(it, publisher, read)
    received = await reader.packets(57)
    it.pass_time()  # losses are counted once a second
    found: dict[str, object] = {"received": received}
    for name, client in (("publisher", publisher), ("reader", reader)):
        counters = session_of(it, client).counters
        found[name] = (
            counters.bytes_received,
            counters.packets_received,
            counters.packets_lost,
            counters.bytes_sent,
            counters.packets_sent,
            counters.packets_dropped,
        )
    stream = it.path("cam").stream
    assert stream is not None
    track = stream.tracks[0]
    found["track"] = (track.counters.packets, track.counters.bytes, track.counters.lost, track.last_timestamp)
    assert (await publisher.request("TEARDOWN", it.url("cam"))).status == 200
    assert await reader.ended()
    return found


async def test_figures_are_those_of_single_packets(
    it: Fixture, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = list(reads_of_pictures())
    at_once = await figures(it, reads)
    assert taken == [True] * 19
    taken.clear()
    monkeypatch.setattr(PacketScanner, "scan", lambda scanner, buffer: None)
    one_by_one = await figures(it, reads)
    assert taken == [False] * 19
    assert at_once == one_by_one
    # Packets without their frame headers, as over UDP.
    assert at_once["publisher"] == (len(b"".join(reads)) - 57 * 4, 57, 3, 0, 0, 0)


async def test_media_keeps_a_publisher_alive(it: Fixture, taken: list[bool]) -> None:
    publisher = await publisher_of(it)
    for number in range(3):
        it.pass_time(9)
        one_read(it, publisher, framed(*picture(3 * number)))
    it.pass_time(9)
    assert taken == [True] * 3
    assert it.sessions
    it.pass_time(1)
    assert await publisher.ended()


async def test_a_successor_of_a_publisher_that_sent_nothing(taken: list[bool]) -> None:
    async with running(paths={"cam": {"publisherGrace": "10s"}}) as it:
        await it.publisher("cam")
        reader = await it.reader("cam")
        second = await publisher_of(it)
        pictures = [picture(3 * number, key=number == 0, timestamp=number) for number in range(3)]
        for each in pictures:
            one_read(it, second, framed(*each))
        assert await reader.packets(9) == [packet for each in pictures for packet in each]
        assert taken == [True, True, True]


async def test_packets_pending_when_a_publisher_pauses_are_counted(it: Fixture) -> None:
    publisher, reader = await publisher_of(it), await it.reader("cam")
    session = session_of(it, publisher)
    pause = f"PAUSE {it.url('cam')} RTSP/1.0\r\nCSeq: 99\r\nSession: {publisher.session}\r\n\r\n".encode()
    one_read(it, publisher, framed(*picture(1), *picture(4)[:2]) + pause)
    assert await reader.packets(5) == picture(1) + picture(4)[:2]
    assert session.counters.packets_received == 5


async def test_a_frame_split_over_two_reads_waits_for_its_end(it: Fixture, taken: list[bool]) -> None:
    publisher, reader = await publisher_of(it), await it.reader("cam")
    counters = session_of(it, reader).counters
    odd = [rtp(4 + index, b"\x41" + bytes(size), marker=index == 2) for index, size in enumerate((20, 40, 30))]
    for first, rest in ((picture(1)[:2], picture(1)[2:]), (odd[:2], odd[2:])):
        before = counters.packets_sent
        one_read(it, publisher, framed(*first))
        assert counters.packets_sent == before
        one_read(it, publisher, framed(*rest))
        assert counters.packets_sent == before + 3
    assert taken == [True] * 4
    assert await reader.packets(6) == picture(1) + odd


async def test_media_waits_for_the_answer_to_a_request(taken: list[bool]) -> None:
    held = Held("other")
    async with running(held) as it:
        publisher, reader = await publisher_of(it), await it.reader("cam")
        pictures = [picture(3 * number, timestamp=number) for number in range(3)]
        one_read(it, publisher, framed(*pictures[0]))
        publisher.send_request("DESCRIBE", it.url("other"))
        await held.waiting.wait()
        for number in (1, 2):
            one_read(it, publisher, framed(*pictures[number]))
        session = session_of(it, publisher)
        assert session.counters.packets_received == 3
        # What a request says that came behind the media must not be done before it.
        connection, before = connection_of(it, publisher), len(framed(*pictures[1], *pictures[2]))
        publisher.send_request("TEARDOWN", it.url("cam"))
        await it.until(lambda: connection._engine._parser.buffered > before)
        held.release.set()
        assert [(await publisher.response()).status for _ in range(2)] == [404, 200]
        assert session.counters.packets_received == 9
        assert await reader.packets(9) == pictures[0] + pictures[1] + pictures[2]
        assert await reader.ended()
        assert taken == [True, True]


async def test_media_behind_the_answer_to_a_request_keeps_its_order(taken: list[bool]) -> None:
    held = Held("other")
    async with running(held) as it:
        publisher, reader = await publisher_of(it), await it.reader("cam")
        pictures = [picture(3 * number, timestamp=number) for number in range(4)]
        publisher.send_request("DESCRIBE", it.url("other"))
        await held.waiting.wait()
        whole = framed(*pictures[0], *pictures[1])
        one_read(it, publisher, whole[:-9])
        held.release.set()
        assert (await publisher.response()).status == 404
        for read in (whole[-9:], framed(*pictures[2]), framed(*pictures[3])):
            one_read(it, publisher, read)
        assert taken == [True] * 4
        assert await reader.packets(12) == [packet for each in pictures for packet in each]


async def test_media_behind_parts_of_something_keeps_its_order(it: Fixture, taken: list[bool]) -> None:
    publisher, reader = await publisher_of(it), await it.reader("cam")
    pictures = [picture(3 * number, timestamp=number) for number in range(5)]
    wholes = [framed(*each) for each in pictures]
    cut = wholes[1].index(b"$", 1) + 2
    request = f"OPTIONS {it.url('cam')} RTSP/1.0\r\nCSeq: 99\r\n\r\n".encode()
    for read in (
        wholes[0],
        wholes[1][:cut],
        wholes[1][cut:] + request[:9],
        request[9:] + wholes[2],
        wholes[3],
        wholes[4],
    ):
        one_read(it, publisher, read)
    assert taken == [True] * 6
    assert (await publisher.response()).cseq == "99"
    assert await reader.packets(15) == [packet for each in pictures for packet in each]


async def test_media_of_a_publisher_that_paused_is_ignored(it: Fixture, taken: list[bool]) -> None:
    publisher = await publisher_of(it)
    one_read(it, publisher, framed(*picture(1)))
    session = session_of(it, publisher)
    assert (await publisher.request("PAUSE", it.url("cam"))).status == 200
    one_read(it, publisher, framed(*picture(4)))
    assert session.counters.packets_received == 3
    assert (await publisher.request("RECORD", it.url("cam"))).status == 200
    reader = await it.reader("cam")
    one_read(it, publisher, framed(*picture(7)))
    assert await reader.packets(3) == picture(7)
    assert session.counters.packets_received == 6
    assert taken == [True, True]


async def test_reports_of_a_reader_are_no_media(it: Fixture, taken: list[bool]) -> None:
    publisher, reader = await publisher_of(it), await it.reader("cam")
    one_read(it, reader, framed(*picture(1)))
    one_read(it, publisher, framed(*picture(4), channel=1))  # of RTCP
    one_read(it, publisher, framed(*picture(7), channel=9))
    assert not taken
    one_read(it, publisher, framed(*picture(10)))
    assert await reader.frame() == (0, picture(10)[0])
    assert session_of(it, publisher).counters.packets_received == 3


async def test_packets_behind_an_oversized_one_are_numbered_behind_its_parts(it: Fixture, taken: list[bool]) -> None:
    publisher, reader = await publisher_of(it), await it.reader("cam")
    one_read(it, publisher, framed(*picture(1)))
    one_read(it, publisher, framed(rtp(4, b"\x41\x9a" + bytes(3000), timestamp=1)))
    one_read(it, publisher, framed(*picture(5, timestamp=2)))
    assert taken == [True, False]  # from there on they are numbered one by one
    received = await reader.packets(9)
    numbers = [int.from_bytes(packet[2:4], "big") for packet in received]
    assert numbers == list(range(1, 1 + len(received)))
    assert received[-1][12:] == picture(5)[-1][12:]
