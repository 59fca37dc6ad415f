"""Publishing: ANNOUNCE, SETUP, RECORD and what a publisher may do wrong (RFC 2326 sections 10.3, 10.4 and 10.11)."""

from __future__ import annotations

import asyncio
import os
import struct

import pytest
from tests.protocols.rtmp.support import VIDEO as VIDEO_TRACK
from tests.protocols.rtmp.support import running as rtmp_running
from tests.protocols.rtsp.support import (
    AUDIO,
    G711,
    H264_ONLY,
    PPS,
    TCP_RECORD,
    VIDEO,
    Fixture,
    key_unit,
    rtp,
    running,
    sdp,
    slice_unit,
    transport_of,
)

from polycast.rtp.rtcp import SenderReport, parse_compound, serialize_compound


async def test_published_media_is_read_unchanged(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    sent = [rtp(index, slice_unit(100 + index)) for index in range(20)]
    for packet in sent:
        publisher.send_frame(0, packet)
    assert await reader.packets(20) == sent


async def test_log_of_a_publisher(it: Fixture) -> None:
    publisher = await it.publisher("cam", sdp(VIDEO, AUDIO), tracks=2)
    (session,) = it.sessions
    assert await it.log.wait(rf"^INFO \[RTSP\] \[conn {publisher.address}\] opened$")
    assert await it.log.wait(rf"^INFO \[RTSP\] \[session {session.id}\] created by {publisher.address}$")
    assert await it.log.wait(
        rf"\[RTSP\] \[session {session.id}\] is publishing to path 'cam', with TCP, 2 tracks \(H264, AAC\)$"
    )
    await publisher.close()
    assert await it.log.wait(rf"^INFO \[RTSP\] \[conn {publisher.address}\] closed \(closed by the client\)$")
    assert await it.log.wait(rf"^INFO \[RTSP\] \[session {session.id}\] destroyed \(closed by the client\)$")


async def test_session_id_of_the_log_is_not_the_secret_of_the_header(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    (session,) = it.sessions
    assert session.id != publisher.session
    assert len(session.id) == 9
    assert session.id.isdigit()


async def test_announce_answers_without_a_session(it: Fixture) -> None:
    client = await it.client()
    response = await client.request("ANNOUNCE", it.url("cam"), body=H264_ONLY)
    assert response.status == 200
    assert response.headers.get("Session") is None


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        pytest.param({"Content-Type": ""}, H264_ONLY, 400, id="no content type"),
        pytest.param({"Content-Type": "text/plain"}, H264_ONLY, 400, id="wrong content type"),
        pytest.param({}, "not an SDP", 400, id="no SDP"),
        pytest.param({}, sdp(), 400, id="no tracks"),
        pytest.param({}, sdp("m=video 0 RTP/AVP abc\r\n"), 400, id="payload type is a word"),
        pytest.param({}, sdp("m=video 0 RTP/AVP 200\r\n"), 400, id="payload type too large"),
        pytest.param({}, sdp(VIDEO, controls=["rtsp://host"]), 400, id="control of another path"),
        pytest.param({"Content-Type": "application/sdp"}, "", 400, id="no body"),
    ],
)
async def test_announce_refused(it: Fixture, headers: dict[str, str], body: str, status: int) -> None:
    client = await it.client()
    response = await client.request("ANNOUNCE", it.url("cam"), headers, body)
    assert response.status == status
    assert await client.ended()
    await it.log.wait(r"request refused \(400\): ")
    await it.until(lambda: not it.sessions)
    assert not it.app.hub.paths


@pytest.mark.parametrize(
    "media",
    [
        "m=application 0 RTP/AVP 98\r\n",
        "m=audio 0 RTP/AVP 97\r\n",
        "m=application 0 RTP/AVP 98\r\na=rtpmap:98 vnd.onvif.metadata\r\n",
        "m=video 0 RTP/AVP 98\r\na=rtpmap:98 x/0\r\n",
        "m=audio 0 RTP/AVP 98\r\na=rtpmap:98 x/8000/0\r\n",
        "m=application 0 RTP/AVP 40\r\n",
    ],
)
async def test_media_that_are_not_understood_are_carried_as_they_are(it: Fixture, media: str) -> None:
    publisher = await it.publisher("cam", sdp(media, VIDEO), tracks=2)
    await it.log.wait(r"INFO .* media 1 \(\w+\) is carried as it is: ")
    reader = await it.reader("cam", tracks=2)
    payload_type = int(media.split()[3])
    packets = [rtp(1, b"data", payload_type=payload_type), rtp(1, slice_unit())]
    for channel, packet in zip((0, 2), packets, strict=True):
        publisher.send_frame(channel, packet)
    assert [await reader.frame(), await reader.frame()] == [(0, packets[0]), (2, packets[1])]
    client = await it.client()
    described = await client.request("DESCRIBE", it.url("cam"))
    assert (media.splitlines()[0] in described.body.decode()) == media.startswith("m=application")


@pytest.mark.parametrize(("rtp_channel", "rtcp_channel"), [(1, 2), (7, 9), (255, 0)])
async def test_any_pair_of_channels(it: Fixture, rtp_channel: int, rtcp_channel: int) -> None:
    """For publishers and readers; reports go to the second channel of the pair."""
    pair = f"RTP/AVP/TCP;unicast;interleaved={rtp_channel}-{rtcp_channel}"
    publisher, reader = await it.client(), await it.client()
    await publisher.announce(it.url("cam"))
    await publisher.setup(it.url("cam"), transport=f"{pair};mode=record")
    assert (await publisher.request("RECORD", it.url("cam"))).status == 200
    response = await reader.setup(it.url("cam"), transport=pair)
    assert transport_of(response).interleaved == (rtp_channel, rtcp_channel)
    assert (await reader.request("PLAY", it.url("cam"))).status == 200
    publisher.send_frame(rtp_channel, rtp(1, key_unit()))
    assert await reader.frame() == (rtp_channel, rtp(1, key_unit()))
    it.pass_time(0)
    it.pass_time(1)
    channel, data = await reader.frame()
    assert channel == rtcp_channel
    assert isinstance(parse_compound(data)[0], SenderReport)
    publisher.send_frame(rtcp_channel, data)
    await publisher.sync(it.url("cam"))
    assert it.log.find("invalid packet") is None


@pytest.mark.parametrize("path", ["cam/", "", "/cam", "c%20am", "c%0Aam"])
async def test_announce_on_an_invalid_path(it: Fixture, path: str) -> None:
    client = await it.client()
    assert (await client.request("ANNOUNCE", it.url(path), body=H264_ONLY)).status == 400
    assert await client.ended()


@pytest.mark.parametrize("url", ["*", "cam", "http://127.0.0.1/cam", "rtsp://", "rtsp://127.0.0.1:99999/cam"])
async def test_announce_on_an_invalid_url(it: Fixture, url: str) -> None:
    client = await it.client()
    assert (await client.request("ANNOUNCE", url, body=H264_ONLY)).status == 400
    assert await client.ended()


async def test_content_type_may_have_parameters(it: Fixture) -> None:
    client = await it.client()
    headers = {"Content-Type": "Application/SDP; charset=utf-8"}
    assert (await client.request("ANNOUNCE", it.url("cam"), headers, H264_ONLY)).status == 200


@pytest.mark.parametrize(
    ("announced", "controls", "set_up"),
    [
        pytest.param("cam", ["trackID=0", "trackID=1"], ["cam/trackID=0", "cam/trackID=1"], id="normal"),
        pytest.param("cam", ["trackID=5", "trackID=2"], ["cam/trackID=2", "cam/trackID=5"], id="unordered"),
        pytest.param("cam", ["a=b", "c=d"], ["cam/a=b", "cam/c=d"], id="other names"),
        pytest.param("cam?x=1", ["trackID=0", "trackID=1"], ["cam?x=1/trackID=0", "cam?x=1/trackID=1"], id="query"),
        pytest.param("a/b", ["trackID=0", "trackID=1"], ["a/b/trackID=0", "a/b/trackID=1"], id="subpath"),
        pytest.param(
            "a/b?x=1", ["trackID=0", "trackID=1"], ["a/b?x=1/trackID=0", "a/b?x=1/trackID=1"], id="subpath and query"
        ),
    ],
)
async def test_setup_url_is_base_and_control(
    it: Fixture, announced: str, controls: list[str], set_up: list[str]
) -> None:
    client = await it.client()
    await client.announce(it.url(announced), sdp(VIDEO, AUDIO, controls=controls))
    for index, url in enumerate(set_up):
        transport = f"RTP/AVP/TCP;unicast;interleaved={2 * index}-{2 * index + 1};mode=record"
        assert (await client.request("SETUP", it.url(url), {"Transport": transport})).status == 200
    assert (await client.request("RECORD", it.url(announced))).status == 200


async def test_absolute_control_urls(it: Fixture) -> None:
    client = await it.client()
    await client.announce(it.url("cam"), sdp(VIDEO, controls=["rtsp://10.0.0.9:8554/cam/video"]))
    assert (await client.request("SETUP", it.url("cam/video"), {"Transport": TCP_RECORD})).status == 200


async def test_setup_of_a_track_that_was_not_announced(it: Fixture) -> None:
    client = await it.client()
    await client.announce(it.url("cam"))
    assert (await client.request("SETUP", it.url("cam/trackID=1"), {"Transport": TCP_RECORD})).status == 400
    assert await client.ended()


async def test_setup_on_another_path_than_announced(it: Fixture) -> None:
    client = await it.client()
    await client.announce(it.url("cam"))
    assert (await client.request("SETUP", it.url("other/trackID=0"), {"Transport": TCP_RECORD})).status == 400
    assert await client.ended()


async def test_setup_of_one_track_twice(it: Fixture) -> None:
    client = await it.client()
    await client.announce(it.url("cam"))
    assert (await client.request("SETUP", it.url("cam/trackID=0"), {"Transport": TCP_RECORD})).status == 200
    assert (await client.request("SETUP", it.url("cam/trackID=0"), {"Transport": TCP_RECORD})).status == 400
    await it.log.wait("track 0 has already been setup")


async def test_record_needs_all_announced_tracks(it: Fixture) -> None:
    client = await it.client()
    await client.announce(it.url("cam"), sdp(VIDEO, AUDIO))
    assert (await client.request("SETUP", it.url("cam/trackID=0"), {"Transport": TCP_RECORD})).status == 200
    assert (await client.request("RECORD", it.url("cam"))).status == 400
    await it.log.wait("not all announced tracks have been setup")


@pytest.mark.parametrize(
    ("transport", "status"),
    [
        pytest.param("RTP/AVP/TCP;unicast;interleaved=0-1", 400, id="no mode"),
        pytest.param("RTP/AVP/TCP;unicast;interleaved=0-1;mode=play", 400, id="mode play"),
        pytest.param("RTP/AVP;multicast;mode=record", 461, id="multicast"),
        pytest.param("RTP/AVP;unicast;mode=record", 461, id="UDP without ports"),
        pytest.param("RTP/AVP;unicast;client_port=0-1;mode=record", 461, id="port 0"),
        pytest.param("RTP/AVP/TCP;unicast;interleaved=3-3;mode=record", 400, id="one channel twice"),
        pytest.param("RTP/SAVP;unicast;client_port=5000-5001;mode=record", 461, id="SAVP"),
        pytest.param("garbage", 461, id="garbage"),
    ],
)
async def test_transports_that_a_publisher_cannot_have(it: Fixture, transport: str, status: int) -> None:
    client = await it.client()
    await client.announce(it.url("cam"))
    assert (await client.request("SETUP", it.url("cam/trackID=0"), {"Transport": transport})).status == status


@pytest.mark.parametrize("mode", ["record", "receive", '"RECORD"'])
async def test_words_for_recording(it: Fixture, mode: str) -> None:
    client = await it.client()
    await client.announce(it.url("cam"))
    transport = f"RTP/AVP/TCP;unicast;interleaved=0-1;mode={mode}"
    assert (await client.request("SETUP", it.url("cam/trackID=0"), {"Transport": transport})).status == 200


async def test_disabled_protocol() -> None:
    async with running(protocols=["udp"]) as it:
        client = await it.client()
        await client.announce(it.url("cam"))
        assert (await client.request("SETUP", it.url("cam/trackID=0"), {"Transport": TCP_RECORD})).status == 461


async def test_first_acceptable_transport_is_taken() -> None:
    async with running(protocols=["tcp"]) as it:
        client = await it.client()
        await client.announce(it.url("cam"))
        offers = f"RTP/AVP;unicast;client_port=5000-5001;mode=record,{TCP_RECORD}"
        response = await client.request("SETUP", it.url("cam/trackID=0"), {"Transport": offers})
        assert response.status == 200
        assert transport_of(response).interleaved == (0, 1)


async def test_channels_are_given_where_none_are_asked_for(it: Fixture) -> None:
    client = await it.client()
    await client.announce(it.url("cam"), sdp(VIDEO, AUDIO))
    for index, expected in enumerate([(0, 1), (2, 3)]):
        url = it.url(f"cam/trackID={index}")
        response = await client.request("SETUP", url, {"Transport": "RTP/AVP/TCP;unicast;mode=record"})
        assert transport_of(response).interleaved == expected


async def test_channels_may_be_used_once(it: Fixture) -> None:
    client = await it.client()
    await client.announce(it.url("cam"), sdp(VIDEO, AUDIO))
    assert (await client.request("SETUP", it.url("cam/trackID=0"), {"Transport": TCP_RECORD})).status == 200
    assert (await client.request("SETUP", it.url("cam/trackID=1"), {"Transport": TCP_RECORD})).status == 400


async def test_frames_on_unknown_channels_are_ignored(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    publisher.send_frame(14, rtp(1, slice_unit()))
    publisher.send_frame(0, rtp(2, slice_unit()))
    assert await reader.packets(1) == [rtp(2, slice_unit())]


async def test_frames_before_record_are_ignored(it: Fixture) -> None:
    client = await it.client()
    await client.announce(it.url("cam"))
    client.send_frame(0, rtp(1, slice_unit()))
    assert (await client.request("SETUP", it.url("cam/trackID=0"), {"Transport": TCP_RECORD})).status == 200
    client.send_frame(0, rtp(2, slice_unit()))
    assert (await client.request("RECORD", it.url("cam"))).status == 200
    assert it.path("cam").stream is not None
    client.send_frame(0, rtp(3, slice_unit()))
    await client.sync(it.url("cam"))
    assert it.path("cam").stream.tracks[0].counters.packets == 1


async def test_pause_of_the_publisher_ends_the_readers(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    assert (await publisher.request("PAUSE", it.url("cam"))).status == 200
    assert await reader.ended()
    await it.log.wait(r"destroyed \(the publisher paused\)")
    client = await it.client()
    assert (await client.request("DESCRIBE", it.url("cam"))).status == 404


async def test_publisher_records_again_after_pause(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    assert (await publisher.request("PAUSE", it.url("cam"))).status == 200
    assert (await publisher.request("PAUSE", it.url("cam"))).status == 200
    assert (await publisher.request("RECORD", it.url("cam"))).status == 200
    reader = await it.reader("cam")
    publisher.send_frame(0, rtp(9, slice_unit()))
    assert await reader.packets(1) == [rtp(9, slice_unit())]


async def test_teardown_of_the_publisher(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    response = await publisher.request("TEARDOWN", it.url("cam"))
    assert response.status == 200
    assert response.headers.get("Session") is None
    assert await reader.ended()
    await it.log.wait(r"destroyed \(teardown by 127\.0\.0\.1\)")
    assert not it.app.hub.paths
    publisher.session = None
    await publisher.publish(it.url("again"))  # the connection goes on
    assert "again" in it.app.hub.paths


async def test_publisher_without_media_is_closed(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    it.pass_time(9)
    publisher.send_frame(0, rtp(1, slice_unit()))
    await publisher.sync(it.url("cam"))
    it.pass_time(9)
    assert it.sessions
    it.pass_time(1)
    assert await publisher.ended()
    await it.log.wait(r"destroyed \(no RTP packets received in a while\)")
    assert not it.app.hub.paths


async def test_publisher_without_teardown(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    await publisher.close()
    assert await reader.ended()
    await it.until(lambda: not it.sessions and not it.app.hub.paths)


async def test_override_closes_the_first_publisher_and_its_readers(it: Fixture) -> None:
    first = await it.publisher("cam")
    reader = await it.reader("cam")
    second = await it.publisher("cam")
    assert await first.ended()
    assert await reader.ended()
    await it.log.wait(r"^INFO \[path cam\] closing existing publisher$")
    reader = await it.reader("cam")
    second.send_frame(0, rtp(7, slice_unit()))
    assert await reader.packets(1) == [rtp(7, slice_unit())]


async def test_override_on_a_path_configured_by_name() -> None:
    async with running(paths={"cam": {}}) as it:
        first = await it.publisher("cam")
        second = await it.publisher("cam")
        assert await first.ended()
        reader = await it.reader("cam")
        second.send_frame(0, rtp(7, slice_unit()))
        assert await reader.packets(1) == [rtp(7, slice_unit())]


async def test_override_before_record_takes_the_path(it: Fixture) -> None:
    first = await it.client()
    await first.announce(it.url("cam"))
    assert (await first.request("SETUP", it.url("cam/trackID=0"), {"Transport": TCP_RECORD})).status == 200
    await it.publisher("cam")
    # Its session has gone with the path.
    assert (await first.request("RECORD", it.url("cam"))).status == 454


async def test_override_disabled() -> None:
    async with running(paths={"all": {"disablePublisherOverride": True}}) as it:
        first = await it.publisher("cam")
        reader = await it.reader("cam")
        second = await it.client()
        assert (await second.request("ANNOUNCE", it.url("cam"), body=H264_ONLY)).status == 400
        await it.log.wait("someone is already publishing to path 'cam'")
        first.send_frame(0, rtp(1, slice_unit()))
        assert await reader.packets(1) == [rtp(1, slice_unit())]


async def test_publishing_where_the_source_is_not_a_publisher() -> None:
    async with running(paths={"cam": {"source": "redirect", "sourceRedirect": "rtsp://127.0.0.1/other"}}) as it:
        client = await it.client()
        assert (await client.request("ANNOUNCE", it.url("cam"), body=H264_ONLY)).status == 400
        await it.log.wait("can't publish to path 'cam' since 'source' is not 'publisher'")


async def test_path_that_is_not_configured() -> None:
    async with running(paths={"cam": {}}) as it:
        client = await it.client()
        assert (await client.request("ANNOUNCE", it.url("other"), body=H264_ONLY)).status == 400
        await it.log.wait("path 'other' is not configured")


async def test_parameter_sets_in_the_stream_change_the_description(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    new_sps = bytes.fromhex("67640020ac2b402802dd80880000030008000003032042")
    client = await it.client()
    before = await client.request("DESCRIBE", it.url("cam"))
    assert b"sprop-parameter-sets=Z0LADdoFB+wEQAAAAwBAAAAPA8UKqA==,aM48gA==" in before.body
    publisher.send_frame(0, rtp(1, new_sps, marker=False))
    await publisher.sync(it.url("cam"))
    after = await client.request("DESCRIBE", it.url("cam"))
    assert b"sprop-parameter-sets=Z2QAIKwrQCgC3YCIAAADAAgAAAMDIEI=,aM48gA==" in after.body
    assert b"profile-level-id=640020" in after.body.lower()
    publisher.send_frame(0, rtp(2, PPS + b"\x01", marker=False))
    await publisher.sync(it.url("cam"))
    assert b"=,aM48gAE=" in (await client.request("DESCRIBE", it.url("cam"))).body


async def test_oversized_packets_are_split(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    unit = b"\x65" + bytes(index & 0xFF for index in range(3999))
    publisher.send_frame(0, rtp(100, unit, timestamp=9000))
    publisher.send_frame(0, rtp(101, slice_unit(), timestamp=12000))
    packets = await reader.packets(4)
    assert max(map(len, packets)) <= 1472
    # RFC 6184 section 5.8: FU-A, whose payloads join to the unit.
    assert {packet[12] & 0x1F for packet in packets[:3]} == {28}
    assert packets[0][12] & 0x60 | packets[0][13] & 0x1F == unit[0]
    assert b"".join(packet[14:] for packet in packets[:3]) == unit[1:]
    assert [int.from_bytes(packet[2:4], "big") for packet in packets] == [100, 101, 102, 103]
    assert {packet[8:12] for packet in packets} == {rtp(0, b"")[8:12]}


@pytest.mark.parametrize("size", [600, 1200])
async def test_packets_fit_the_configured_datagrams(size: int) -> None:
    async with running(udpMaxPayloadSize=size) as it:
        publisher = await it.publisher("cam")
        reader = await it.reader("cam")
        unit = b"\x65" + bytes(index & 0xFF for index in range(1300))
        publisher.send_frame(0, rtp(100, unit, timestamp=9000))
        publisher.send_frame(0, rtp(101, slice_unit(), timestamp=12000))
        packets: list[bytes] = []
        while not packets or packets[-1][12] & 0x1F == 28:
            packets += await reader.packets(1)
        assert max(map(len, packets)) <= size
        assert b"".join(packet[14:] for packet in packets[:-1]) == unit[1:]


async def test_generated_packets_fit_the_configured_datagrams() -> None:
    async with rtmp_running(udpMaxPayloadSize=600) as it:
        publisher = await it.publisher("cam", [VIDEO_TRACK])
        reader = await it.rtsp()
        await reader.play(it.rtsp_url("cam"))
        publisher.send_video([1, 2], keys=[1], size=3000)
        packets = await reader.packets(10)
        assert 500 < max(map(len, packets)) <= 600


async def test_oversized_packets_that_cannot_be_split_are_dropped(it: Fixture) -> None:
    publisher = await it.publisher("cam", sdp("m=application 0 RTP/AVP 98\r\na=rtpmap:98 vnd.onvif.metadata/90000\r\n"))
    reader = await it.reader("cam")
    publisher.send_frame(0, rtp(1, bytes(3000), payload_type=98))
    publisher.send_frame(0, rtp(2, bytes(30), payload_type=98))
    assert await reader.packets(1) == [rtp(2, bytes(30), payload_type=98)]
    await it.log.wait(r"invalid packet received, ignored: payload size \(3012\) greater than maximum allowed \(1472\)")


async def test_padding_is_taken_off(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    packet = rtp(1, slice_unit())
    publisher.send_frame(0, bytes([packet[0] | 0x20]) + packet[1:] + b"\0\0\0\x04")
    publisher.send_frame(0, rtp(2, slice_unit()))
    assert await reader.packets(2) == [packet, rtp(2, slice_unit())]


async def test_payload_types_of_unknown_codecs_pass_through(it: Fixture) -> None:
    description = sdp("m=application 0 RTP/AVP 98\r\na=rtpmap:98 smpte336m/90000\r\na=fmtp:98 x=1\r\n")
    publisher = await it.publisher("cam", description)
    client = await it.client()
    body = (await client.request("DESCRIBE", it.url("cam"))).body.decode()
    assert "m=application 0 RTP/AVP 98\r\na=rtpmap:98 smpte336m/90000\r\na=fmtp:98 x=1\r\n" in body
    await client.play(it.url("cam"))
    publisher.send_frame(0, rtp(1, b"data", payload_type=98))
    assert await client.packets(1) == [rtp(1, b"data", payload_type=98)]


async def test_static_payload_type(it: Fixture) -> None:
    await it.publisher("cam", sdp(G711))
    await it.log.wait(r"with TCP, 1 track \(PCMU\)$")


async def test_sender_report_of_the_publisher_is_not_forwarded(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    publisher.send_frame(1, serialize_compound([SenderReport(0x1234, 1 << 63, 0, 1, 1, ())]))
    publisher.send_frame(0, rtp(1, key_unit()))
    assert await reader.frame() == (0, rtp(1, key_unit()))


@pytest.mark.parametrize("is_absolute", [False, True])
async def test_the_clock_of_a_publisher(is_absolute: bool) -> None:
    """Its time is 1999, which readers see only with useAbsoluteTimestamp; then there are no reports before it."""
    async with running(paths={"all": {"useAbsoluteTimestamp": is_absolute}}, readTimeout="1h") as it:
        publisher = await it.publisher("cam")
        reader = await it.reader("cam")
        publisher.send_frame(0, rtp(1, key_unit(), timestamp=9000))
        assert await reader.frame() == (0, rtp(1, key_unit(), timestamp=9000))
        it.pass_time(1)
        publisher.send_frame(1, serialize_compound([SenderReport(0x1234, 3_150_000_000 << 32, 99_000, 1, 1, ())]))
        await publisher.sync(it.url("cam"))
        it.pass_time(20)
        it.pass_time(20)
        reports: list[SenderReport] = []
        publisher.send_frame(0, rtp(2, slice_unit(), timestamp=99_000))
        while (frame := await reader.frame())[0] != 0:
            reports += [each for each in parse_compound(frame[1]) if isinstance(each, SenderReport)]
        assert reports
        for report in reports:
            seconds = (report.ntp >> 32) - 3_150_000_000
            ticks = report.rtp_timestamp - 99_000
            if is_absolute:
                assert abs(seconds - ticks / 90_000) <= 1
            else:
                assert seconds > 800_000_000, "our clock: 2026"


async def test_kicked_publisher(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    ((session, item),) = it.server.sessions().items()
    assert item.state == "publish"
    assert item.path == "cam"
    assert item.address == publisher.address
    assert it.server.kick(session)
    assert await publisher.ended()
    await it.log.wait(r"destroyed \(kicked\)")
    assert not it.server.kick(session)


FOREIGN_PACKETS = [
    pytest.param(rtp(3, b"\x01\x02\x03\x04" + bytes(11), payload_type=50), id="private"),
    pytest.param(serialize_compound([SenderReport(0x1234, 1 << 40, 3000, 1, 100)]), id="RTCP"),
]


@pytest.mark.parametrize("foreign", FOREIGN_PACKETS)
@pytest.mark.parametrize("at_once", [True, False])
async def test_packets_of_other_payload_types_are_dropped(it: Fixture, foreign: bytes, at_once: bool) -> None:
    # Uniview cameras send packets of type 50 in front of each picture, with the sequence number of its first packet.
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    pictures = [rtp(index, slice_unit(), timestamp=3000 * index) for index in range(1, 9)]
    packets = [packet for picture in pictures for packet in (foreign, picture)]
    if at_once:
        publisher.send(b"".join(struct.pack(">cBH", b"$", 0, len(packet)) + packet for packet in packets))
    else:
        for packet in packets:
            publisher.send_frame(0, packet)
            await publisher.sync(it.url("cam"))
    assert await reader.packets(8) == pictures
    (stream,) = [path.stream for path in it.app.hub if path.stream is not None]
    track = stream.tracks[0]
    assert (track.counters.packets, track.counters.lost, track.counters.foreign) == (8, 0, 8)
    payload_type = foreign[1] & 0x7F
    line = (
        rf"^WARNING \[path cam\] packets with payload type {payload_type} are dropped: that of track 1 \(H264\) is 96$"
    )
    assert await it.log.wait(line)
    assert sum("are dropped" in line for line in it.log.lines) == 1
    assert not it.log.find("invalid packet")


@pytest.mark.skipif(os.name != "posix", reason="the command is a POSIX one")
@pytest.mark.parametrize("method", ["PAUSE", "TEARDOWN"])
async def test_a_publisher_of_a_path_on_demand_leaves_after_its_reader(method: str) -> None:
    """The path ends with it and closes its session, while the request is answered."""
    async with running(paths={"all": {"runOnDemand": "sleep 600", "runOnDemandCloseAfter": "60s"}}) as it:
        client = await it.client()
        asked = asyncio.ensure_future(client.request("DESCRIBE", it.url("cam")))
        await it.log.wait("runOnDemand command started")
        publisher = await it.publisher("cam")
        assert (await asked).status == 200
        reader = await it.reader("cam")
        assert (await reader.request("TEARDOWN", it.url("cam"))).status == 200
        assert (await publisher.request(method, it.url("cam"))).status == 200
        await it.log.wait(r"destroyed \((not in use anymore|teardown by 127\.0\.0\.1)\)")
