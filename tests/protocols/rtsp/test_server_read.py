"""Reading over the connection itself: DESCRIBE, SETUP, PLAY, PAUSE and what a reader may do wrong."""

from __future__ import annotations

import dataclasses
import socket

import msgspec
import pytest
from tests.protocols.rtsp.support import (
    AUDIO,
    G711,
    TCP_PLAY,
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

from polycast.rtp.rtcp import ReceiverReport, ReportBlock, SenderReport, parse_compound, serialize_compound
from polycast.wire.rtsp.headers.rtp_info import parse_rtp_info


async def test_options(it: Fixture) -> None:
    client = await it.client()
    response = await client.request("OPTIONS", it.url("cam"))
    assert response.status == 200
    assert set((response.headers.get("Public") or "").split(", ")) >= {
        "DESCRIBE", "ANNOUNCE", "SETUP", "PLAY", "RECORD", "PAUSE", "GET_PARAMETER", "TEARDOWN"
    }  # fmt: skip


async def test_responses_echo_cseq_and_sort_their_headers(it: Fixture) -> None:
    await it.publisher("cam")
    client = await it.client()
    response = await client.request("DESCRIBE", it.url("cam"), {"CSeq": "4711"})
    assert response.cseq == "4711"
    names = [name for name, _ in response.headers.items() if name != "Content-Length"]
    assert names == sorted(names) == ["CSeq", "Content-Base", "Content-Type", "Server"]


@pytest.mark.parametrize(("host", "connection"), [("127.0.0.1", "IP4 0.0.0.0"), ("::1", "IP6 ::")])
async def test_description_has_the_address_family_of_the_client(host: str, connection: str) -> None:
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        pytest.skip("no IPv6 here")
    every_interface = {"rtspAddress": ":0", "rtpAddress": ":0", "rtcpAddress": ":0"}
    async with running(**every_interface) as it:
        await it.publisher("cam")
        client = await RtspClient.connect(it.port, host=host)
        try:
            response = await client.request("DESCRIBE", it.url("cam"))
        finally:
            await client.close()
        assert f"\r\nc=IN {connection}\r\n" in response.body.decode()


async def test_description(it: Fixture) -> None:
    await it.publisher("cam", sdp(VIDEO, AUDIO), tracks=2)
    client = await it.client()
    response = await client.request("DESCRIBE", it.url("cam"))
    assert response.headers.get("Content-Base") == it.url("cam/")
    assert response.headers.get("Content-Type") == "application/sdp"
    assert response.body.decode() == (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=Stream\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        "a=fmtp:96 packetization-mode=1; "
        "sprop-parameter-sets=Z0LADdoFB+wEQAAAAwBAAAAPA8UKqA==,aM48gA==\r\na=control:trackID=0\r\n"
        "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/48000/2\r\n"
        "a=fmtp:97 profile-level-id=1; mode=AAC-hbr; sizelength=13; indexlength=3; indexdeltalength=3; config=1190\r\n"
        "a=control:trackID=1\r\n"
    )


async def test_description_of_a_url_with_a_query(it: Fixture) -> None:
    """The query may hold credentials that each SETUP must show: no client may lose it when it makes the track's URL."""
    await it.publisher("cam")
    client = await it.client()
    response = await client.request("DESCRIBE", it.url("cam?x=1").replace("//", "//user:secret@"))
    assert response.status == 200
    (control,) = [line[10:] for line in response.body.decode().split("\r\n") if line.startswith("a=control:")]
    assert "secret" not in control
    assert (await client.request("SETUP", control, {"Transport": TCP_PLAY})).status == 200
    (session,) = [session for session in it.sessions if session.wire.query]
    assert (session.wire.path_name, session.wire.query) == ("cam", "x=1")


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [("cam", "", 404), ("cam/", "", 404), ("cam//", "", 400), ("", "", 400), ("a%00b", "", 400), ("cam", "?x=1", 404)],
)
async def test_describe_of_a_missing_path(it: Fixture, path: str, query: str, status: int) -> None:
    client = await it.client()
    assert (await client.request("DESCRIBE", it.url(path + query))).status == status
    await it.log.wait(rf"request refused \({status}\)")
    assert not it.app.hub.paths


@pytest.mark.parametrize("method", ["DESCRIBE", "SETUP"])
async def test_a_path_that_is_not_configured(method: str) -> None:
    """400, as with rtsp-simple-server; 404 is for paths without a stream."""
    async with running(paths={"cam": {}}) as it:
        for path, status in (("cam/trackID=0", 404), ("other/trackID=0", 400)):
            client = await it.client()
            url = it.url(path if method == "SETUP" else path.partition("/")[0])
            assert (await client.request(method, url, {"Transport": TCP_PLAY})).status == status
        assert await client.ended()
        await it.log.wait(r"request refused \(400\): path 'other' is not configured$")


@pytest.mark.parametrize("query", ["", "?x=1"])
async def test_describe_with_a_slash_at_the_end(it: Fixture, query: str) -> None:
    await it.publisher("cam")
    client = await it.client()
    response = await client.request("DESCRIBE", it.url(f"cam/{query}"))
    assert response.status == 200
    assert response.headers.get("Content-Base") == it.url(f"cam/{query}" + ("/" if query else ""))
    (control,) = [line[10:] for line in response.body.decode().split("\r\n") if line.startswith("a=control:")]
    url = control if query else f"{it.url('cam/')}{control}"
    assert (await client.request("SETUP", url, {"Transport": TCP_PLAY})).status == 200
    assert (await client.request("PLAY", response.headers.get("Content-Base") or "")).status == 200


@pytest.mark.parametrize("transport", ["RTP/AVP;unicast;client_port=0-0", "RTP/AVP;unicast"])
async def test_udp_without_ports_leaves_tcp_to_be_tried(it: Fixture, transport: str) -> None:
    await it.publisher("cam")
    client = await it.client()
    url = it.url("cam/trackID=0")
    assert (await client.request("SETUP", url, {"Transport": transport})).status == 461
    assert (await client.request("SETUP", url, {"Transport": TCP_PLAY})).status == 200
    assert (await client.request("PLAY", it.url("cam"))).status == 200


async def test_describe_returns_the_reason(it: Fixture) -> None:
    client = await it.client()
    await client.request("DESCRIBE", it.url("cam"))
    await it.log.wait(rf"\[conn {client.address}\] request refused \(404\): no one is publishing to path 'cam'$")


async def test_connection_stays_open_after_not_found(it: Fixture) -> None:
    client = await it.client()
    assert (await client.request("DESCRIBE", it.url("cam"))).status == 404
    await it.publisher("cam")
    assert (await client.request("DESCRIBE", it.url("cam"))).status == 200


@pytest.mark.parametrize(
    ("published", "set_up"),
    [
        pytest.param("cam", "cam/trackID=0", id="normal"),
        pytest.param("cam", "cam?x=1/trackID=0", id="query"),
        pytest.param("cam", "cam/trackID=0?x=1", id="query behind"),
        pytest.param("cam", "cam/", id="no track id"),
        pytest.param("cam", "cam?x=1/", id="query, no track id"),
        pytest.param("a/b", "a/b/trackID=0", id="subpath"),
        pytest.param("a/b", "a/b/", id="subpath, no track id"),
        pytest.param("a/b", "a/b?x=1/trackID=0", id="subpath and query"),
    ],
)
async def test_setup_paths(it: Fixture, published: str, set_up: str) -> None:
    await it.publisher(published)
    client = await it.client()
    assert (await client.request("SETUP", it.url(set_up), {"Transport": TCP_PLAY})).status == 200
    (session,) = [session for session in it.sessions if session.wire.state.value == "ready"]
    assert session.wire.path_name == published
    assert list(session.wire.setups) == [0]


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("cam", 400, "path of a SETUP request must end with a slash"),
        ("cam/trackID=9", 404, "track 9 does not exist"),
        ("cam/trackID=x", 400, "unable to parse track ID"),
        ("cam/trackID=-1", 400, "unable to parse track ID"),
        ("other/trackID=0", 404, "no one is publishing to path 'other'"),
    ],
)
async def test_setup_of_a_missing_path(it: Fixture, path: str, status: int, text: str) -> None:
    await it.publisher("cam")
    client = await it.client()
    assert (await client.request("SETUP", it.url(path), {"Transport": TCP_PLAY})).status == status
    await it.log.wait(text)
    await it.until(lambda: len(it.sessions) == 1)


async def test_setup_without_transport(it: Fixture) -> None:
    await it.publisher("cam")
    client = await it.client()
    assert (await client.request("SETUP", it.url("cam/trackID=0"))).status == 400
    await it.log.wait("transport header is missing")


async def test_setup_of_tracks_of_different_paths(it: Fixture) -> None:
    await it.publisher("one", sdp(VIDEO, AUDIO), tracks=2)
    await it.publisher("two", sdp(VIDEO, AUDIO), tracks=2)
    client = await it.client()
    await client.setup(it.url("one"))
    response = await client.request("SETUP", it.url("two/trackID=1"), {"Transport": "RTP/AVP/TCP;unicast"})
    assert response.status == 400
    assert await client.ended()


async def test_setup_of_one_track_twice(it: Fixture) -> None:
    await it.publisher("cam")
    client = await it.client()
    await client.setup(it.url("cam"))
    response = await client.request("SETUP", it.url("cam/trackID=0"), {"Transport": "RTP/AVP/TCP;unicast"})
    assert response.status == 400


async def test_mixed_transports(it: Fixture) -> None:
    await it.publisher("cam", sdp(VIDEO, AUDIO), tracks=2)
    client = await it.client()
    await client.setup(it.url("cam"))
    transport = {"Transport": "RTP/AVP;unicast;client_port=5000-5001"}
    assert (await client.request("SETUP", it.url("cam/trackID=1"), transport)).status == 400
    await it.log.wait("can't setup tracks with different protocols")


async def test_record_mode_for_reading(it: Fixture) -> None:
    await it.publisher("cam")
    client = await it.client()
    transport = {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record"}
    assert (await client.request("SETUP", it.url("cam/trackID=0"), transport)).status == 400


@pytest.mark.parametrize("offer", ["RTP/AVP;unicast;client_port=5000-5001", "RTP/AVP;multicast"])
async def test_disabled_protocols(offer: str) -> None:
    async with running(protocols=["tcp"]) as it:
        await it.publisher("cam")
        client = await it.client()
        assert (await client.request("SETUP", it.url("cam/trackID=0"), {"Transport": offer})).status == 461
        await client.play(it.url("cam"))  # the connection goes on


async def test_session_header_has_a_timeout_only_over_udp(it: Fixture) -> None:
    await it.publisher("cam")
    client = await it.client()
    response = await client.setup(it.url("cam"))
    assert (response.headers.get("Session") or "").isdigit()
    other = await it.client()
    response = await other.setup(it.url("cam"), 0, "RTP/AVP;unicast;client_port=5000-5001")
    assert (response.headers.get("Session") or "").endswith(";timeout=60")


async def test_log_of_a_reader(it: Fixture) -> None:
    await it.publisher("cam", sdp(VIDEO, AUDIO), tracks=2)
    await it.reader("cam", tracks=2)
    await it.log.wait(r"\[session \d{9}\] is reading from path 'cam', with TCP, 2 tracks \(H264, AAC\)$")


async def test_interleaved_channels_of_the_reader(it: Fixture) -> None:
    publisher = await it.publisher("cam", sdp(VIDEO, AUDIO), tracks=2)
    client = await it.client()
    for track, channels in ((1, (10, 11)), (0, (4, 5))):
        offer = f"RTP/AVP/TCP;unicast;interleaved={channels[0]}-{channels[1]}"
        assert transport_of(await client.setup(it.url("cam"), track, offer)).interleaved == channels
    assert (await client.request("PLAY", it.url("cam"))).status == 200
    publisher.send_frame(0, rtp(1, slice_unit()))
    publisher.send_frame(2, rtp(1, b"\0\x10\0\x20abcd", payload_type=97))
    frames = {await client.frame(), await client.frame()}
    assert frames == {(4, rtp(1, slice_unit())), (10, rtp(1, b"\0\x10\0\x20abcd", payload_type=97))}


async def test_swapped_channels(it: Fixture) -> None:
    """The reader's channels are the publisher's, the other way round: no shortcut may mix them up."""
    publisher = await it.publisher("cam", sdp(G711, "m=audio 0 RTP/AVP 8\r\n"), tracks=2)
    client = await it.client()
    await client.setup(it.url("cam"), 0, "RTP/AVP/TCP;unicast;interleaved=2-3")
    await client.setup(it.url("cam"), 1, "RTP/AVP/TCP;unicast;interleaved=0-1")
    await client.request("PLAY", it.url("cam"))
    for index in range(4):
        publisher.send_frame(index % 2 * 2, rtp(index, b"x" * (index + 1), payload_type=index % 2 * 8))
    frames = [await client.frame() for _ in range(4)]
    assert frames == [
        (2 - index % 2 * 2, rtp(index, b"x" * (index + 1), payload_type=index % 2 * 8)) for index in range(4)
    ]


async def test_partial_tracks(it: Fixture) -> None:
    publisher = await it.publisher("cam", sdp(VIDEO, AUDIO), tracks=2)
    client = await it.client()
    await client.setup(it.url("cam"), 1)
    assert (await client.request("PLAY", it.url("cam"))).status == 200
    await it.log.wait(r"is reading from path 'cam', with TCP, 1 track \(AAC\)$")
    publisher.send_frame(0, rtp(1, slice_unit()))
    publisher.send_frame(2, rtp(1, b"\0\x10\0\x20abcd", payload_type=97))
    assert await client.frame() == (0, rtp(1, b"\0\x10\0\x20abcd", payload_type=97))


async def test_response_to_play_comes_before_frames(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    client = await it.client()
    await client.setup(it.url("cam"))
    for index in range(20):
        publisher.send_frame(0, rtp(index, slice_unit()))
    client.order.clear()
    client.send_request("PLAY", it.url("cam"))
    for index in range(20, 40):
        publisher.send_frame(0, rtp(index, slice_unit()))
    assert (await client.response()).status == 200
    await publisher.sync(it.url("cam"))
    publisher.send_frame(0, rtp(40, slice_unit()))
    while (await client.packets(1)) != [rtp(40, slice_unit())]:
        pass
    assert client.order[0] == "response"


async def test_ssrc_and_rtp_info(it: Fixture) -> None:
    publisher = await it.publisher("cam", sdp(VIDEO, AUDIO), tracks=2)
    client = await it.client()
    assert transport_of(await client.setup(it.url("cam"))).ssrc is None
    assert (await client.request("PLAY", it.url("cam"))).headers.get("RTP-Info") is None

    publisher.send_frame(0, rtp(65535, slice_unit(), timestamp=900_000, ssrc=0xABCD1234))
    await publisher.sync(it.url("cam"))
    it.path("cam").stream.flush()  # type: ignore[union-attr]
    client = await it.client()
    assert transport_of(await client.setup(it.url("cam"))).ssrc == 0xABCD1234
    assert transport_of(await client.setup(it.url("cam"), 1, "RTP/AVP/TCP;unicast")).ssrc is None
    header = (await client.request("PLAY", it.url("cam/"))).headers.get("RTP-Info")
    assert header is not None
    (info,) = parse_rtp_info(header)
    assert info.url == it.url("cam/trackID=0")
    assert info.seq == 0  # the next one, wrapped
    assert info.rtptime == 900_000 - 9_000  # 0.1 s before the last packet


async def test_rtp_info_does_not_tell_the_password(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    publisher.send_frame(0, rtp(1, slice_unit()))
    await publisher.sync(it.url("cam"))
    client = await it.client()
    url = it.url("cam").replace("rtsp://", "rtsp://user:secret@")
    await client.setup(url)
    header = (await client.request("PLAY", url)).headers.get("RTP-Info")
    assert header is not None
    assert "secret" not in header


async def test_play_twice(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    assert (await reader.request("PLAY", it.url("cam"))).status == 200
    publisher.send_frame(0, rtp(1, slice_unit()))
    publisher.send_frame(0, rtp(2, slice_unit()))
    assert await reader.packets(2) == [rtp(1, slice_unit()), rtp(2, slice_unit())]


async def test_pause_stops_the_frames_and_play_resumes(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    publisher.send_frame(0, rtp(1, slice_unit()))
    assert await reader.packets(1) == [rtp(1, slice_unit())]
    assert (await reader.request("PAUSE", it.url("cam"))).status == 200
    assert not it.path("cam").readers
    publisher.send_frame(0, rtp(2, slice_unit()))
    await publisher.sync(it.url("cam"))
    assert (await reader.request("PLAY", it.url("cam"))).status == 200
    publisher.send_frame(0, rtp(3, slice_unit()))
    assert await reader.packets(1) == [rtp(3, slice_unit())]


async def test_pause_twice(it: Fixture) -> None:
    await it.publisher("cam")
    reader = await it.reader("cam")
    for _ in range(2):
        assert (await reader.request("PAUSE", it.url("cam"))).status == 200


async def test_play_after_the_publisher_has_gone(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    client = await it.client()
    await client.setup(it.url("cam"))
    await publisher.close()
    await it.until(lambda: not it.app.hub.paths)
    assert (await client.request("PLAY", it.url("cam"))).status == 404


async def test_play_after_the_publisher_was_replaced(it: Fixture) -> None:
    await it.publisher("cam")
    client = await it.client()
    await client.setup(it.url("cam"))
    await it.publisher("cam")
    assert (await client.request("PLAY", it.url("cam"))).status == 404


async def test_play_of_another_path_than_set_up(it: Fixture) -> None:
    await it.publisher("cam")
    client = await it.client()
    await client.setup(it.url("cam"))
    assert (await client.request("PLAY", it.url("other"))).status == 400
    await it.log.wait("path has changed, was 'cam', now is 'other'")


@pytest.mark.parametrize("suffix", ["", "/", "/trackID=0", "?x=1", "?x=1/"])
async def test_urls_of_play(it: Fixture, suffix: str) -> None:
    await it.publisher("cam")
    client = await it.client()
    await client.setup(it.url("cam"))
    assert (await client.request("PLAY", it.url("cam") + suffix)).status == 200


async def test_readers_close_with_the_publisher(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    publisher.send_frame(0, rtp(1, slice_unit()))
    await publisher.request("TEARDOWN", it.url("cam"))
    assert await reader.packets(1) == [rtp(1, slice_unit())]
    assert await reader.ended()
    await it.log.wait(rf"\[conn {reader.address}\] closed \(the publisher left: teardown by 127\.0\.0\.1\)$")


async def test_tcp_reader_has_no_timeout(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    for index in range(20):
        publisher.send_frame(0, rtp(index, slice_unit()))
        await publisher.sync(it.url("cam"))
        it.pass_time(9)
    assert len(await reader.packets(20)) == 20


async def test_teardown_keeps_the_connection(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    assert (await reader.request("TEARDOWN", it.url("cam"))).status == 200
    reader.session = None
    publisher.send_frame(0, rtp(1, slice_unit()))
    await publisher.sync(it.url("cam"))
    await reader.play(it.url("cam"))
    publisher.send_frame(0, rtp(2, slice_unit()))
    assert await reader.packets(1) == [rtp(2, slice_unit())]


async def test_sender_reports_to_readers(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    for index in range(3):
        publisher.send_frame(0, rtp(index, key_unit(), timestamp=3000 * index))
    await reader.packets(3)
    it.pass_time(0)
    it.pass_time(1)
    channel, data = await reader.frame()
    assert channel == 1
    report = parse_compound(data)[0]
    assert isinstance(report, SenderReport)
    assert report.ssrc == 0x1234
    assert report.packet_count == 3
    it.pass_time(5)
    publisher.send_frame(0, rtp(3, key_unit(), timestamp=9000))
    await publisher.sync(it.url("cam"))
    it.pass_time(5)
    (data,) = await reader.packets(1, channel=1)
    report = parse_compound(data)[0]
    assert isinstance(report, SenderReport)
    assert report.packet_count == 4


async def test_a_late_track_gets_a_report_immediately(it: Fixture) -> None:
    publisher = await it.publisher("cam", sdp(VIDEO, AUDIO), tracks=2)
    reader = await it.reader("cam", tracks=2)
    publisher.send_frame(0, rtp(0, key_unit()))
    assert (await reader.frame())[0] == 0
    it.pass_time(0)
    assert (await reader.frame())[0] == 1
    publisher.send_frame(2, rtp(0, b"\0\x10\0\x20abcd", payload_type=97, ssrc=0x5678))
    assert (await reader.frame())[0] == 2
    it.pass_time(1)
    channel, data = await reader.frame()
    report = parse_compound(data)[0]
    assert isinstance(report, SenderReport)
    assert (channel, report.ssrc) == (3, 0x5678)


@pytest.mark.parametrize("offset", [0.0, 0.4])
async def test_readers_are_informed_immediately_when_the_publisher_shifts_a_track(it: Fixture, offset: float) -> None:
    publisher = await it.publisher("cam", sdp(VIDEO, AUDIO), tracks=2)
    reader = await it.reader("cam", tracks=2)
    publisher.send_frame(0, rtp(0, key_unit()))
    publisher.send_frame(2, rtp(0, b"\0\x10\0\x20abcd", payload_type=97, ssrc=0x5678))
    await reader.frame()
    await reader.frame()
    it.pass_time(0)
    told = [parse_compound((await reader.frame())[1])[0] for _ in range(2)]
    # What readers were told by the times of arrival, but for the offset of the second track.
    for channel, report, seconds in zip((1, 3), told, (0.0, offset), strict=True):
        assert isinstance(report, SenderReport)
        moved = dataclasses.replace(report, ntp=report.ntp + round(seconds * 2**32), blocks=())
        publisher.send_frame(channel, serialize_compound([moved]))
    await publisher.sync(it.url("cam"))
    it.pass_time(1)
    await reader.sync(it.url("cam"))
    again = [frame for frame in reader.frames if frame[0] in (1, 3)]
    assert len(again) == (2 if offset else 0)


async def test_receiver_reports_of_readers_show_in_the_statistics(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    publisher.send_frame(0, rtp(1, key_unit()))
    await reader.packets(1)
    block = ReportBlock(0x1234, 0, 7, 1, 900, 0, 0)
    reader.send_frame(1, serialize_compound([ReceiverReport(99, (block,))]))
    reader.send_frame(1, b"garbage")
    await reader.sync(it.url("cam"))
    (item,) = [item for item in it.server.sessions().values() if item.state == "read"]
    assert item.packets_lost == 7
    assert item.jitter == pytest.approx(0.01)
    assert item.packets_sent == 1


async def test_readers_of_one_stream_get_the_same_bytes(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    readers = [await it.reader("cam") for _ in range(10)]
    sent = [rtp(index, slice_unit(50 * index)) for index in range(30)]
    for packet in sent:
        publisher.send_frame(0, packet)
    for reader in readers:
        assert await reader.packets(30) == sent


async def test_receiver_reports_show_the_round_trip(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    publisher.send_frame(0, rtp(1, key_unit()))
    await reader.packets(1)
    it.pass_time(1)
    channel, data = await reader.frame()
    assert channel == 1
    (report, *_) = parse_compound(data)
    assert isinstance(report, SenderReport)
    it.pass_time(0.5)
    # The report was 100 ms on its way, and the receiver waited for 0.3 s.
    block = ReportBlock(0x1234, 0, 0, 1, 0, report.ntp >> 16 & 0xFFFFFFFF, round(0.3 * 65_536))
    reader.send_frame(1, serialize_compound([ReceiverReport(99, (block,))]))
    await reader.sync(it.url("cam"))
    (item,) = [item for item in it.server.sessions().values() if item.state == "read"]
    assert item.round_trip == pytest.approx(0.2, abs=0.001)
    assert msgspec.to_builtins(item)["roundTrip"] == item.round_trip


async def test_more_readers_than_allowed_are_refused() -> None:
    async with running(paths={"cam": {"maxReaders": 1}}) as app:
        await app.publisher("cam")
        first = await app.reader("cam")
        client = await app.client()
        transport = {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1"}
        assert (await client.request("SETUP", app.url("cam/trackID=0"), transport)).status == 400
        assert app.log.find("maximum reader count reached: path 'cam' allows 1")
        await first.close()
        await app.until(lambda: not app.path("cam").readers)
        await app.reader("cam")


async def test_who_has_set_up_a_track_counts_as_reader() -> None:
    async with running(paths={"cam": {"maxReaders": 1}}) as app:
        publisher = await app.client()
        await publisher.publish(app.url("cam"), sdp(VIDEO, AUDIO), tracks=2)
        first, second = await app.client(), await app.client()
        transport = {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1"}
        assert (await first.request("SETUP", app.url("cam/trackID=0"), transport)).status == 200
        assert (await second.request("SETUP", app.url("cam/trackID=0"), transport)).status == 400
        others = {"Transport": "RTP/AVP/TCP;unicast;interleaved=2-3"}
        assert (await first.request("SETUP", app.url("cam/trackID=1"), others)).status == 200
        assert (await first.request("PLAY", app.url("cam"))).status == 200
        await first.close()
        await app.until(lambda: not app.path("cam").readers)
        assert (await (await app.client()).request("SETUP", app.url("cam/trackID=0"), transport)).status == 200
