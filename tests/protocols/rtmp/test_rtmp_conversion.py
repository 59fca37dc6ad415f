"""RTSP publishers read over RTMP, and the other way round: parameter sets that come late, and audio with video."""

from __future__ import annotations

import itertools
import struct

import pytest
from tests.protocols.rtmp.support import Fixture, RtmpClient, audio_frame, video_frame
from tests.protocols.rtsp.support import VIDEO as RTSP_VIDEO
from tests.protocols.rtsp.support import RtspClient, sdp
from tests.support.rtp import PPS as RTSP_PPS
from tests.support.rtp import SPS as RTSP_SPS
from tests.support.rtp import key_unit, rtp, slice_unit

from polycast.media.codec import H264
from polycast.wire.rtmp.client import Mode
from polycast.wire.rtmp.events import RequestAccepted
from polycast.wire.rtsp.headers.rtp_info import parse_rtp_info

BARE_VIDEO = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n"
"""No sprop-parameter-sets, as many cameras announce."""

OTHER_SPS = bytes.fromhex("6742c01fd9005005bb0110000003001000000303c0f1832480")
OTHER_PPS = bytes.fromhex("68cb83cb20")


def send_units(client: RtspClient, sequence: int, timestamp: int, *units: bytes) -> int:
    """Send NAL units as single packets of one access unit; return the next sequence number."""
    for index, unit in enumerate(units):
        marker = index == len(units) - 1
        client.send_frame(0, rtp(sequence + index, unit, timestamp=timestamp, marker=marker))
    return sequence + len(units)


async def assert_video(reader: RtmpClient, sps: bytes, pps: bytes, unit: bytes) -> None:
    (track, *_) = await reader.tracks()
    assert isinstance(track.codec, H264)
    assert (track.codec.sps, track.codec.pps) == (sps, pps)
    assert (await reader.frames(1))[0].frame.units[-1] == unit


async def test_parameter_sets_that_come_with_the_first_key_frame(it: Fixture) -> None:
    publisher = await it.rtsp()
    await publisher.publish(it.rtsp_url("cam"), sdp(BARE_VIDEO))
    early = await it.reader("cam")
    sequence = send_units(publisher, 0, 0, slice_unit())
    sequence = send_units(publisher, sequence, 3600, RTSP_SPS, RTSP_PPS, key_unit())
    sequence = send_units(publisher, sequence, 7200, slice_unit())
    await assert_video(early, RTSP_SPS, RTSP_PPS, key_unit())
    late = await it.reader("cam")
    send_units(publisher, sequence, 10800, key_unit(20))
    await assert_video(late, RTSP_SPS, RTSP_PPS, key_unit(20))


async def test_broken_parameter_sets_disconnect_nobody(it: Fixture) -> None:
    """The reader waits for better ones; once it has some, worse ones change nothing."""
    publisher = await it.rtsp()
    await publisher.publish(it.rtsp_url("cam"), sdp(BARE_VIDEO))
    reader = await it.reader("cam")
    sequence = send_units(publisher, 0, 0, b"\x67\x64", RTSP_PPS, key_unit())
    sequence = send_units(publisher, sequence, 3600, RTSP_SPS, RTSP_PPS, key_unit(20))
    await assert_video(reader, RTSP_SPS, RTSP_PPS, key_unit(20))
    sequence = send_units(publisher, sequence, 7200, b"\x67\x64", key_unit(30))
    send_units(publisher, sequence, 10800, slice_unit())
    assert (await reader.frames(3))[2].frame.units[-1] == slice_unit()
    assert not reader.lost


async def test_parameter_sets_that_change(it: Fixture) -> None:
    publisher = await it.rtsp()
    await publisher.publish(it.rtsp_url("cam"), sdp(RTSP_VIDEO))
    reader = await it.reader("cam")
    sequence = send_units(publisher, 0, 0, key_unit())
    await assert_video(reader, RTSP_SPS, RTSP_PPS, key_unit())
    send_units(publisher, sequence, 3600, OTHER_SPS, OTHER_PPS, key_unit(30))
    assert (await reader.frames(2))[1].frame.units[-1] == key_unit(30)
    newcomer = await it.client(Mode.PLAY, "cam")
    await newcomer.event(RequestAccepted)
    send_units(publisher, sequence + 3, 7200, key_unit(40))
    await assert_video(newcomer, OTHER_SPS, OTHER_PPS, key_unit(40))


async def test_times_of_an_rtsp_publisher(it: Fixture) -> None:
    """Timestamps that begin anywhere and wrap become one growing timeline."""
    publisher = await it.rtsp()
    await publisher.publish(it.rtsp_url("cam"), sdp(RTSP_VIDEO))
    reader = await it.reader("cam")
    start = 0xFFFFFFFF - 5000
    for number in range(4):
        send_units(publisher, number, (start + number * 3600) & 0xFFFFFFFF, key_unit(number + 1))
    frames = [event.frame for event in await reader.frames(4)]
    steps = [after.dts - before.dts for before, after in itertools.pairwise(frames)]
    assert steps == [3600, 3600, 3600]
    assert all(frame.pts == frame.dts for frame in frames)


@pytest.mark.parametrize("is_first", [True, False])
async def test_rtsp_readers_get_one_sync_point_for_both_tracks(it: Fixture, is_first: bool) -> None:
    """Also the first one, before whom nothing was packetized."""
    publisher = await it.publisher("cam")
    for number in range(1, 51):
        publisher.send_frame(0, video_frame(number, key=number % 10 == 0))
    for number in range(1, 87):
        publisher.send_frame(1, audio_frame(number))
    track = it.path("cam").stream
    assert track is not None
    await it.until(lambda: track.tracks[1].counters.packets == 87)
    if not is_first:
        other = await it.rtsp()
        await other.play(it.rtsp_url("cam"), 2)
    client = await it.rtsp()
    response = await client.play(it.rtsp_url("cam"), 2)
    header = response.headers.get("RTP-Info")
    assert header is not None
    video, audio = parse_rtp_info(header)
    assert video.rtptime is not None
    assert audio.rtptime is not None
    publisher.send_frame(0, video_frame(51, key=True))
    publisher.send_frame(1, audio_frame(87))
    found: dict[int, bytes] = {}
    while len(found) < 2:
        channel, data = await client.frame()
        found.setdefault(channel, data)
    (video_sequence, video_timestamp), (audio_sequence, audio_timestamp) = (
        struct.unpack_from("!HI", found[channel], 2) for channel in (0, 2)
    )
    assert (video_sequence, audio_sequence) == (video.seq, audio.seq)
    video_seconds = (video_timestamp - video.rtptime & 0xFFFFFFFF) / 90_000
    audio_seconds = (audio_timestamp - audio.rtptime & 0xFFFFFFFF) / 44_100
    expected = 51 * 0.04 - 87 * 1024 / 44_100
    assert video_seconds - audio_seconds == pytest.approx(expected, abs=0.001)


async def test_parameter_sets_go_into_the_description(it: Fixture) -> None:
    await it.publisher("cam")
    client = await it.rtsp()
    response = await client.request("DESCRIBE", it.rtsp_url("cam"))
    text = response.body.decode()
    assert "sprop-parameter-sets=Z2QAHqzZQKAv+WEAAAMAAQAAAwA8jxYtlg==,aOvjyyLA" in text
    assert "config=1210" in text
