"""Media over UDP, in and out."""

from __future__ import annotations

import pytest
from tests.protocols.rtsp.support import (
    AUDIO,
    VIDEO,
    Fixture,
    RtspClient,
    UdpEnd,
    key_unit,
    rtp,
    sdp,
    slice_unit,
    transport_of,
    udp_transport,
)
from tests.protocols.rtsp.test_server_publish import FOREIGN_PACKETS

from polycast.rtp.rtcp import ReceiverReport, SenderReport, parse_compound, serialize_compound


async def udp_publisher(it: Fixture, path: str) -> tuple[RtspClient, UdpEnd, UdpEnd]:
    rtp_end, rtcp_end = await it.udp(), await it.udp()
    client = await it.client()
    await client.announce(it.url(path))
    await client.setup(it.url(path), 0, udp_transport(rtp_end, rtcp_end, record=True))
    assert (await client.request("RECORD", it.url(path))).status == 200
    return client, rtp_end, rtcp_end


async def udp_reader(it: Fixture, path: str) -> tuple[RtspClient, UdpEnd, UdpEnd]:
    rtp_end, rtcp_end = await it.udp(), await it.udp()
    client = await it.client()
    await client.setup(it.url(path), 0, udp_transport(rtp_end, rtcp_end))
    assert (await client.request("PLAY", it.url(path))).status == 200
    return client, rtp_end, rtcp_end


def ports(it: Fixture) -> tuple[int, int]:
    return it.server.ports["rtpAddress"], it.server.ports["rtcpAddress"]


async def test_setup_response(it: Fixture) -> None:
    await it.publisher("cam")
    client = await it.client()
    response = await client.setup(it.url("cam"), 0, "RTP/AVP;unicast;client_port=35000-35001")
    rtp_port, rtcp_port = ports(it)
    assert response.headers.get("Transport") == (
        f"RTP/AVP;unicast;client_port=35000-35001;server_port={rtp_port}-{rtcp_port}"
    )


async def test_from_udp_to_udp(it: Fixture) -> None:
    _, publisher, _ = await udp_publisher(it, "cam")
    await it.log.wait(r"is publishing to path 'cam', with UDP, 1 track \(H264\)$")
    _, reader, _ = await udp_reader(it, "cam")
    await it.log.wait(r"is reading from path 'cam', with UDP, 1 track \(H264\)$")
    sent = [rtp(index, slice_unit(50 * index)) for index in range(20)]
    for packet in sent:
        publisher.send(packet, ports(it)[0])
    assert [await reader.get() for _ in range(20)] == sent


async def test_from_udp_to_tcp(it: Fixture) -> None:
    _, publisher, _ = await udp_publisher(it, "cam")
    reader = await it.reader("cam")
    sent = [rtp(index, slice_unit(50 * index)) for index in range(20)]
    for packet in sent:
        publisher.send(packet, ports(it)[0])
    assert await reader.packets(20) == sent


async def test_from_tcp_to_udp(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    _, reader, _ = await udp_reader(it, "cam")
    # Sizes that make runs for segmentation, and break them.
    sizes = [1400, 1400, 1400, 300, 1400, 1400, 1401, 1, 1, 1, 20, 1400]
    sent = [rtp(index, slice_unit(size), marker=False) for index, size in enumerate(sizes)]
    for packet in sent:
        publisher.send_frame(0, packet)
    assert [await reader.get() for _ in sent] == sent


async def test_oversized_packets_reach_udp_readers_in_pieces(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    _, reader, _ = await udp_reader(it, "cam")
    publisher.send_frame(0, rtp(1, key_unit(20_000)))
    packets = [await reader.get() for _ in range(15)]
    assert max(map(len, packets)) <= 1440
    assert b"".join(packet[14:] for packet in packets) == key_unit(20_000)[1:]


async def test_record_opens_the_nat(it: Fixture) -> None:
    _, rtp_end, rtcp_end = await udp_publisher(it, "cam")
    empty = await rtp_end.get()
    assert empty[0] == 0x80
    assert len(empty) == 12
    assert isinstance(parse_compound(await rtcp_end.get())[0], ReceiverReport)


async def test_packets_from_other_addresses_are_dropped(it: Fixture) -> None:
    client, publisher, _ = await udp_publisher(it, "cam")
    reader = await it.reader("cam")
    stranger = await it.udp()
    stranger.send(rtp(1, slice_unit()), ports(it)[0])
    stranger.send(b"", ports(it)[1])
    await client.sync(it.url("cam"))
    publisher.send(rtp(2, slice_unit()), ports(it)[0])
    assert await reader.packets(1) == [rtp(2, slice_unit())]


async def test_reordering_and_duplicates(it: Fixture) -> None:
    _, publisher, _ = await udp_publisher(it, "cam")
    reader = await it.reader("cam")
    for sequence in (10, 12, 11, 11, 13, 16, 15, 14, 12, 17):
        publisher.send(rtp(sequence, slice_unit()), ports(it)[0])
    packets = await reader.packets(8)
    assert [int.from_bytes(packet[2:4], "big") for packet in packets] == list(range(10, 18))


async def test_lost_packets_are_counted(it: Fixture) -> None:
    client, publisher, _ = await udp_publisher(it, "cam")
    reader = await it.reader("cam")
    for sequence in (10, 12, 13):
        publisher.send(rtp(sequence, slice_unit()), ports(it)[0])
    assert len(await reader.packets(1)) == 1
    stream = it.path("cam").stream
    assert stream is not None
    session, _ = it.recording
    await it.until(lambda: session.counters.packets_received == 3)
    it.pass_time(1)  # gives up on packet 11
    assert [packet[3] for packet in await reader.packets(2)] == [12, 13]
    assert session.counters.packets_lost == 1
    await client.sync(it.url("cam"))


@pytest.mark.parametrize(
    "garbage", [b"", b"x", b"\x80\x60", bytes(12), bytes(400), b"\xff" * 1400, b"\x8f" + bytes(11)]
)
async def test_garbage_from_the_publisher(it: Fixture, garbage: bytes) -> None:
    _, publisher, publisher_rtcp = await udp_publisher(it, "cam")
    reader = await it.reader("cam")
    publisher.send(garbage, ports(it)[0])
    publisher_rtcp.send(garbage, ports(it)[1])
    publisher.send(rtp(2, slice_unit()), ports(it)[0])
    assert await reader.packets(1) == [rtp(2, slice_unit())]
    if len(garbage) >= 12:
        await it.log.wait(r"^WARNING \[RTSP\] \[session \d+\] invalid packet received, ignored: ")


async def test_publisher_without_packets_is_closed(it: Fixture) -> None:
    client, _, rtcp_end = await udp_publisher(it, "cam")
    reader = await it.reader("cam")
    it.pass_time(9)
    rtcp_end.send(serialize_compound([SenderReport(1, 1 << 63, 0, 0, 0)]), ports(it)[1])
    _, media = it.recording
    await it.until(lambda: media.receiver.idle_since == it.clock.value)
    it.pass_time(9)
    assert len(it.sessions) == 2
    it.pass_time(1)
    await it.log.wait(r"destroyed \(no UDP packets received in a while\)")
    assert await reader.ended()
    assert await client.ended()
    assert not it.app.hub.paths


async def test_receiver_reports_to_the_publisher(it: Fixture) -> None:
    _, publisher, rtcp_end = await udp_publisher(it, "cam")
    reader = await it.reader("cam")
    await rtcp_end.get()
    rtcp_end.send(serialize_compound([SenderReport(0x1234, 5 << 32, 0, 0, 0)]), ports(it)[1])
    for sequence in (1, 2, 4):
        publisher.send(rtp(sequence, slice_unit()), ports(it)[0])
    assert len(await reader.packets(2)) == 2
    session, media = it.recording
    await it.until(lambda: session.counters.packets_received == 3 and media.receiver.tracks[0].has_sender_report)
    media.receiver.last_activity += 20
    it.pass_time(10)
    report = parse_compound(await rtcp_end.get())[0]
    assert isinstance(report, ReceiverReport)
    (block,) = report.blocks
    assert block.ssrc == 0x1234
    assert block.highest_sequence & 0xFFFF == 4
    assert block.cumulative_lost == 1
    assert block.last_sender_report == 5 << 16
    assert block.delay_since_last_sender_report == 10 << 16


async def test_sender_reports_to_readers(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    _, rtp_end, rtcp_end = await udp_reader(it, "cam")
    publisher.send_frame(0, rtp(1, key_unit(), timestamp=90_000))
    await rtp_end.get()
    it.pass_time()
    it.pass_time(1)
    report = parse_compound(await rtcp_end.get())[0]
    assert isinstance(report, SenderReport)
    assert report.ssrc == 0x1234
    assert (report.packet_count, report.octet_count > 200) == (1, True)


async def test_session_survives_its_connection(it: Fixture) -> None:
    client, publisher, _ = await udp_publisher(it, "cam")
    reading, reader, _ = await udp_reader(it, "cam")
    await client.close()
    await reading.close()
    await it.until(lambda: it.connection_count == 0)
    publisher.send(rtp(1, slice_unit()), ports(it)[0])
    assert await reader.get() == rtp(1, slice_unit())


async def test_session_continues_over_another_connection(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    client, reader, _ = await udp_reader(it, "cam")
    await client.close()
    await it.until(lambda: it.connection_count == 1)
    second = await it.client()
    second.session = client.session
    assert (await second.request("OPTIONS", it.url("cam"))).status == 200
    assert (await second.request("PAUSE", it.url("cam"))).status == 200
    publisher.send_frame(0, rtp(1, slice_unit()))
    await publisher.sync(it.url("cam"))
    assert (await second.request("PLAY", it.url("cam"))).status == 200
    publisher.send_frame(0, rtp(2, slice_unit()))
    assert await reader.get() == rtp(2, slice_unit())
    assert (await second.request("TEARDOWN", it.url("cam"))).status == 200
    assert len(it.sessions) == 1


async def test_publishing_session_continues_over_another_connection(it: Fixture) -> None:
    client, _, _ = await udp_publisher(it, "cam")
    await client.close()
    await it.until(lambda: it.connection_count == 0)
    second = await it.client()
    second.session = client.session
    assert (await second.request("TEARDOWN", it.url("cam"))).status == 200
    assert not it.sessions
    assert not it.app.hub.paths


async def test_reader_without_any_sign_of_life_is_closed(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    client, _, rtcp_end = await udp_reader(it, "cam")
    session, _ = it.reading

    async def pass_minute() -> None:
        for _ in range(6):
            publisher.send_frame(0, rtp(1, slice_unit()))
            await publisher.sync(it.url("cam"))
            it.pass_time(9.9)

    await pass_minute()
    await client.sync(it.url("cam"))
    await pass_minute()
    assert len(it.sessions) == 2
    rtcp_end.send(serialize_compound([ReceiverReport(1)]), ports(it)[1])
    await it.until(lambda: session.wire.last_request == it.clock.value)
    await pass_minute()
    assert len(it.sessions) == 2
    publisher.send_frame(0, rtp(1, slice_unit()))
    await publisher.sync(it.url("cam"))
    it.pass_time(0.7)
    assert len(it.sessions) == 1
    await it.log.wait(r"destroyed \(no RTSP requests received in a while\)")
    assert await client.ended()


async def test_end_of_the_stream_closes_the_reader_s_connection(it: Fixture) -> None:
    """A player over UDP has no other way to notice."""
    publisher = await it.publisher("cam")
    client, _, _ = await udp_reader(it, "cam")
    await publisher.close()
    assert await client.ended()


async def test_two_readers_with_the_same_ports(it: Fixture) -> None:
    await it.publisher("cam")
    _, rtp_end, rtcp_end = await udp_reader(it, "cam")
    second = await it.client()
    transport = {"Transport": udp_transport(rtp_end, rtcp_end)}
    assert (await second.request("SETUP", it.url("cam/trackID=0"), transport)).status == 400
    await it.log.wait(f"UDP ports {rtp_end.port} and {rtcp_end.port} are already in use by another reader")


async def test_ports_that_another_session_took_between_setup_and_play(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    rtp_end, rtcp_end = await it.udp(), await it.udp()
    first, second = await it.client(), await it.client()
    for client in (first, second):
        await client.setup(it.url("cam"), 0, udp_transport(rtp_end, rtcp_end))
    assert (await first.request("PLAY", it.url("cam"))).status == 200
    assert (await second.request("PLAY", it.url("cam"))).status == 400
    assert await second.ended()
    await it.until(lambda: len(it.sessions) == 2)
    # The first one still has its ports.
    session, _ = it.reading
    it.clock.value += 5
    rtcp_end.send(serialize_compound([ReceiverReport(1)]), ports(it)[1])
    await it.until(lambda: session.wire.last_request == it.clock.value)
    await publisher.sync(it.url("cam"))


async def test_two_tracks_need_their_own_ports(it: Fixture) -> None:
    client = await it.client()
    await client.announce(it.url("cam"), sdp(VIDEO, AUDIO))
    rtp_end, rtcp_end = await it.udp(), await it.udp()
    transport = udp_transport(rtp_end, rtcp_end, record=True)
    await client.setup(it.url("cam"), 0, transport)
    assert (await client.request("SETUP", it.url("cam/trackID=1"), {"Transport": transport})).status == 400


async def test_two_tracks(it: Fixture) -> None:
    client = await it.client()
    await client.announce(it.url("cam"), sdp(VIDEO, AUDIO))
    ends = [await it.udp() for _ in range(4)]
    for track in range(2):
        await client.setup(it.url("cam"), track, udp_transport(ends[2 * track], ends[2 * track + 1], record=True))
    assert (await client.request("RECORD", it.url("cam"))).status == 200
    reader = await it.reader("cam", tracks=2)
    ends[0].send(rtp(1, slice_unit()), ports(it)[0])
    ends[2].send(rtp(1, b"\0\x10\0\x20abcd", payload_type=97), ports(it)[0])
    assert {(await reader.frame())[0] for _ in range(2)} == {0, 2}


async def test_registrations_end_with_the_sessions(it: Fixture) -> None:
    publisher, _, _ = await udp_publisher(it, "cam")
    reader, _, _ = await udp_reader(it, "cam")
    media_ports = it.server.session_context.ports
    assert media_ports is not None
    assert len(media_ports._rtp_clients) == 2
    await reader.request("TEARDOWN", it.url("cam"))
    assert len(media_ports._rtp_clients) == 1
    await publisher.request("TEARDOWN", it.url("cam"))
    assert not media_ports._rtp_clients
    assert not media_ports._rtcp_clients
    assert not media_ports._touched


async def test_nat_packets_of_readers_are_ignored(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    _, reader, reader_rtcp = await udp_reader(it, "cam")
    reader.send(b"\x80\x00" + bytes(10), ports(it)[0])
    reader_rtcp.send(b"\xce\xfa\xed\xfe", ports(it)[1])
    publisher.send_frame(0, rtp(1, slice_unit()))
    assert await reader.get() == rtp(1, slice_unit())


async def test_udp_server_ports_in_setup_of_a_publisher(it: Fixture) -> None:
    client = await it.client()
    await client.announce(it.url("cam"))
    response = await client.setup(it.url("cam"), 0, "RTP/AVP/UDP;unicast;client_port=35000-35001;mode=record")
    assert transport_of(response).server_port == ports(it)


@pytest.mark.parametrize("foreign", FOREIGN_PACKETS)
async def test_packets_of_other_payload_types_are_dropped_before_they_are_put_in_order(
    it: Fixture, foreign: bytes
) -> None:
    _, publisher, _ = await udp_publisher(it, "cam")
    _, reader, _ = await udp_reader(it, "cam")
    pictures = [rtp(index, slice_unit(), timestamp=3000 * index) for index in range(1, 9)]
    for picture in pictures:
        # As cameras do it: with the sequence number of the picture that follows.
        publisher.send(foreign[:2] + picture[2:4] + foreign[4:], ports(it)[0])
        publisher.send(picture, ports(it)[0])
    assert [await reader.get() for _ in pictures] == pictures
    session, _ = it.recording
    assert (session.counters.packets_received, session.counters.packets_lost) == (8, 0)


async def test_packets_fit_1440_bytes_while_there_are_readers_over_udp(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    before = await it.reader("cam")
    unit = key_unit(14_000)

    def fragments(first: int) -> list[bytes]:
        parts = [unit[start : start + 1458] for start in range(1, len(unit), 1458)]
        ends = {0: 0x80, len(parts) - 1: 0x40}
        return [
            rtp(first + index, b"\x7c" + bytes((5 | ends.get(index, 0),)) + part, marker=index == len(parts) - 1)
            for index, part in enumerate(parts)
        ]

    for packet in fragments(1):
        publisher.send_frame(0, packet)
    assert await before.packets(10) == fragments(1), "readers over TCP get what the publisher sends"
    _, reader, _ = await udp_reader(it, "cam")
    for packet in fragments(11):
        publisher.send_frame(0, packet)
    packets = [await reader.get() for _ in range(10)]
    assert [len(packet) for packet in packets[:-1]] == [1440] * 9
    assert b"".join(packet[14:] for packet in packets) == unit[1:]
    assert [int.from_bytes(packet[2:4], "big") for packet in packets] == list(range(11, 21))
    assert await before.packets(10) == packets, "the numbers are the same for all"


@pytest.mark.parametrize("size", [1441, 1472])
async def test_packets_of_a_publisher_over_udp_are_cut_as_well(it: Fixture, size: int) -> None:
    _, publisher, _ = await udp_publisher(it, "cam")
    _, reader, _ = await udp_reader(it, "cam")
    unit = slice_unit(size - 14)
    publisher.send(rtp(1, unit), ports(it)[0])
    publisher.send(rtp(2, slice_unit()), ports(it)[0])
    packets = [await reader.get() for _ in range(3)]
    assert max(map(len, packets)) <= 1440
    assert packets[2] == rtp(3, slice_unit())
