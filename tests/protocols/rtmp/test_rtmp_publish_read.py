"""Publishing and reading with the client engine: tracks, frames, times, what is skipped, how a stream ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.hub.support import Frames
from tests.protocols.rtmp.support import Fixture, RtmpClient, audio_frame, running, video_frame
from tests.wire.rtmp.support import AUDIO, IDR, VIDEO

from polycast.media.codec import G711, H264, H265, LPCM, VP9, Codec, MPEGAudio, Opus
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.rtmp.client import Mode
from polycast.wire.rtmp.events import FrameReceived, TrackChanged
from polycast.wire.rtmp.supported import NOTHING_TO_CARRY

OTHER_SPS = bytes.fromhex("6742c01fd9005005bb0110000003001000000303c0f1832480")
"""1280x720."""
OTHER_PPS = bytes.fromhex("68cb83cb20")


async def test_what_is_published_is_read(it: Fixture) -> None:
    publisher = await it.publisher("live/cam")
    readers = [await it.reader("live/cam") for _ in range(2)]
    for number in range(1, 6):
        publisher.send_frame(0, video_frame(number, key=number == 1, composition=3600 * (number % 3)))
        publisher.send_frame(1, audio_frame(number))
    for reader in readers:
        assert [str(track) for track in await reader.tracks()] == ["H264", "MPEG4Audio"]
        received = await reader.frames(10)
        video = [event.frame for event in received if event.track == 0]
        assert [frame.units for frame in video] == [
            video_frame(number, key=number == 1).units for number in range(1, 6)
        ]
        assert [frame.pts - frame.dts for frame in video] == [3600, 7200, 0, 3600, 7200]
        assert [frame.dts for frame in video] == [3600 * number for number in range(1, 6)]
        audio = [event.frame for event in received if event.track == 1]
        assert [frame.units for frame in audio] == [audio_frame(number).units for number in range(1, 6)]
        # Audio and video come from one timeline, which RTMP counts in milliseconds.
        for number, frame in enumerate(audio, start=1):
            assert abs(frame.dts - number * 1024) <= 45
    assert readers[0].received[3073:] == readers[1].received[3073:], "one serialisation for all readers"
    await it.log.wait(r"INFO \[RTMP\] \[conn 127.0.0.1:\d+\] is publishing to path 'live/cam', 2 tracks")
    await it.log.wait(r"INFO \[RTMP\] \[conn 127.0.0.1:\d+\] is reading from path 'live/cam', 2 tracks")


async def test_sessions_show_state_and_counters(it: Fixture) -> None:
    publisher = await it.publisher("live/cam")
    reader = await it.reader("live/cam")
    publisher.send_video([1, 2], keys=[1])
    await reader.frames(2)
    by_state = {item.state: item for item in it.server.sessions().values()}
    assert by_state["publish"].path == by_state["read"].path == "live/cam"
    assert by_state["publish"].packets_received == 4
    assert by_state["publish"].bytes_received > len(IDR)
    assert by_state["read"].packets_sent == 2
    (session,) = (key for key, item in it.server.sessions().items() if item.state == "read")
    assert it.server.kick(session)
    await reader.until(lambda: reader.lost)
    assert not it.server.kick("none")


@pytest.mark.parametrize(
    ("publish", "read", "name"),
    [
        ("live/cam", "live/cam", "live/cam"),
        ("cam", "cam", "cam"),
        ("a/b/c/d", "a/b/c/d", "a/b/c/d"),
        ("live//cam/", "live/cam", "live/cam"),
        ("live/cam?token=1", "live/cam?other=2", "live/cam"),
    ],
)
async def test_path_is_application_and_stream_key(it: Fixture, publish: str, read: str, name: str) -> None:
    publisher = await it.client(Mode.PUBLISH, publish)
    await publisher.accepted()
    await it.log.wait("opened")
    assert list(it.app.hub.paths) == [name]
    publisher.send_tracks([VIDEO, AUDIO])
    publisher.send_frame(0, video_frame(0, key=True))
    publisher.send_frame(1, audio_frame(0))
    await it.until(lambda: it.path(name).stream is not None)
    await it.reader(read)
    assert len(it.path(name).readers) == 1


async def test_reader_starts_at_a_key_frame(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    publisher.send_video([1, 2])
    publisher.send_frame(1, audio_frame(2))
    publisher.send_video([3, 4], keys=[3])
    received = await reader.frames(2)
    assert [event.frame.units for event in received] == [video_frame(3, key=True).units, video_frame(4).units]


async def test_reader_of_audio_starts_immediately(it: Fixture) -> None:
    publisher = await it.publisher("radio", [AUDIO])
    reader = await it.reader("radio")
    publisher.send_frame(1, audio_frame(1))
    assert (await reader.frames(1))[0].frame.units == audio_frame(1).units


async def test_a_missing_key_frame_is_told(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    (connection,) = it.connections
    reader = await it.reader("cam")
    it.pass_time(9)
    assert it.log.find("no key frame") is None
    publisher.send_video(range(1, 50))
    await it.until(lambda: connection.counters.packets_received == 51)
    it.pass_time(2)
    await it.log.wait(
        r"WARNING \[RTMP\] \[conn .*\] no key frame has arrived for 10 s; the client receives nothing until"
    )
    it.pass_time(5)
    assert sum("no key frame" in line for line in it.log.lines) == 1
    publisher.send_video([50], keys=[50])
    await reader.frames(1)


async def test_end_of_the_stream_is_told(it: Fixture) -> None:
    publisher = await it.publisher("live/cam")
    reader = await it.reader("live/cam")
    publisher.engine.close_stream()
    publisher.flush()
    await reader.ended()
    assert b"NetStream.Play.UnpublishNotify" in reader.received
    assert b"NetStream.Play.Stop" in reader.received
    await it.until(lambda: not it.app.hub.paths)
    await it.log.wait(r"closed \(the publisher left: the client ended its stream \(FCUnpublish\)\)")
    # The connection is still there: it may publish again.
    assert not publisher.lost


async def test_a_lost_publisher_ends_the_stream(it: Fixture) -> None:
    publisher = await it.publisher("live/cam")
    reader = await it.reader("live/cam")
    publisher.transport.abort()
    await reader.ended()


async def test_a_reader_that_leaves_is_forgotten(it: Fixture) -> None:
    await it.publisher("live/cam")
    reader = await it.reader("live/cam")
    reader.engine.close_stream()
    reader.flush()
    await it.until(lambda: not it.path("live/cam").readers)


async def test_another_publisher_takes_over(it: Fixture) -> None:
    first = await it.publisher("live/cam")
    reader = await it.reader("live/cam")
    second = await it.publisher("live/cam")
    await reader.ended()
    await first.until(lambda: first.lost)
    await it.log.wait(r"\[path live/cam\] closing existing publisher")
    reader = await it.reader("live/cam")
    second.send_video([1], keys=[1])
    await reader.frames(1)


async def test_override_can_be_forbidden() -> None:
    async with running(paths={"all": {"disablePublisherOverride": True}}) as it:
        first = await it.publisher("live/cam")
        reader = await it.reader("live/cam")
        second = await it.client(Mode.PUBLISH, "live/cam")
        refusal = await second.refused()
        assert refusal.code == "NetStream.Publish.BadName"
        assert refusal.description == "someone is already publishing to path 'live/cam'"
        first.send_video([1], keys=[1])
        await reader.frames(1)


async def test_nobody_publishes(it: Fixture) -> None:
    reader = await it.client(Mode.PLAY, "live/cam")
    refusal = await reader.refused()
    assert refusal.code == "NetStream.Play.StreamNotFound"
    assert refusal.description == "no one is publishing to path 'live/cam'"
    await it.until(lambda: not it.app.hub.paths)


async def test_more_readers_than_allowed_are_refused_before_they_are_told_to_start() -> None:
    async with running(paths={"cam": {"maxReaders": 1}}) as it:
        publisher = await it.publisher("cam")
        reader = await it.reader("cam")
        refusal = await (await it.client(Mode.PLAY, "cam")).refused()
        assert refusal.code == "NetStream.Play.Failed"
        assert refusal.description == "maximum reader count reached: path 'cam' allows 1"
        publisher.send_video([1], keys=[1])
        await reader.frames(1)


async def test_paths_that_are_not_configured_or_not_for_publishers() -> None:
    paths = {"pulled": {"source": "redirect", "sourceRedirect": "rtsp://example.com/cam"}}
    async with running(paths=paths) as it:
        refusal = await (await it.client(Mode.PUBLISH, "other")).refused()
        assert refusal.description == "path 'other' is not configured"
        refusal = await (await it.client(Mode.PUBLISH, "pulled")).refused()
        assert refusal.description == "can't publish to path 'pulled' since 'source' is not 'publisher'"
        refusal = await (await it.client(Mode.PLAY, "bad*name")).refused()
        assert refusal.description.startswith("invalid path name")


CARRIED: list[tuple[Codec, bytes]] = [
    (H265(*(bytes.fromhex(part) for part in (
        "40010c01ffff01600000030090000003000003005d959809",
        "42010101600000030090000003000003005da00280802d165959a4932bc05a02000003000200000300783da0",
        "4401c172b46240"))), b"\x26\x01" + bytes(30)),
    (VP9(), bytes.fromhex("824983420013f00ef6003824")),
    (Opus(), b"\xfc" + bytes(20)),
    (G711(mu_law=True), bytes(160)),
    (G711(mu_law=False), bytes(160)),
    (LPCM(16, 44_100, 2), bytes(400)),
    (MPEGAudio(44_100, 2), b"\xff\xfb\x90\x00" + bytes(413)),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "data"), CARRIED, ids=lambda item: type(item).__name__)
async def test_codecs_beyond_the_reference(it: Fixture, codec: Codec, data: bytes) -> None:
    track = Track(0, codec)
    rate = codec.clock_rate
    publisher = await it.client(Mode.PUBLISH, "cam")
    await publisher.accepted()
    publisher.send_tracks([track])
    frames = [Frame((data,), number * rate // 25, number * rate // 25, key=True) for number in range(4)]
    publisher.send_frame(0, frames[0])
    await it.until(lambda: "cam" in it.app.hub.paths and it.path("cam").stream is not None)
    reader = await it.reader("cam")
    for frame in frames[1:]:
        publisher.send_frame(0, frame)
    (received,) = await reader.tracks()
    assert type(received.codec) is type(codec)
    assert [event.frame.units for event in await reader.frames(2)] == [(data,), (data,)]


async def test_no_tracks(it: Fixture) -> None:
    publisher = await it.client(Mode.PUBLISH, "cam")
    await publisher.accepted()
    publisher.send_message(9, b"\x22" + bytes(20))  # Sorenson H.263
    await it.log.wait(r"WARNING \[RTMP\] \[conn .*\] video track 1 is skipped: unsupported video codec Sorenson H\.263")
    it.pass_time(2)
    await publisher.until(lambda: publisher.lost)
    await it.log.wait(r"closed \(no tracks found \(unsupported video codec Sorenson H\.263\)\)")


async def test_nothing_to_carry(it: Fixture) -> None:
    """A publisher over RTSP with a codec that RTMP does not know."""
    publisher = await it.rtsp()
    description = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=Test\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        "m=application 0 RTP/AVP 98\r\na=rtpmap:98 private/90000\r\na=control:trackID=0\r\n"
    )
    await publisher.publish(it.rtsp_url("cam"), description)
    refusal = await (await it.client(Mode.PLAY, "cam")).refused()
    assert refusal.code == "NetStream.Play.Failed"
    assert refusal.description == NOTHING_TO_CARRY
    assert "the stream doesn't contain an H264 track or an AAC track" in refusal.description
    await it.log.wait(r"WARNING \[RTMP\] \[conn .*\] track 1 \(private\) is skipped: RTMP has no identifier for this")


async def test_skipped_tracks_are_named(it: Fixture) -> None:
    publisher = await it.rtsp()
    description = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=Test\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        "a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LADdoFB+wEQAAAAwBAAAAPA8UKqA==,aM48gA==\r\n"
        "a=control:trackID=0\r\n"
        "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 G722/8000\r\na=control:trackID=1\r\n"
        "m=audio 0 RTP/AVP 0\r\na=control:trackID=2\r\n"
    )
    await publisher.publish(it.rtsp_url("cam"), description, 3)
    reader = await it.reader("cam")
    await it.log.wait(
        r"WARNING \[RTMP\] \[conn .*\] track 2 \(G722\) is skipped: RTMP has no identifier for this codec"
    )
    await it.log.wait(r"is reading from path 'cam', 2 tracks \(H264, PCMU\)")
    assert not reader.lost


async def test_parameter_sets_that_change_in_mid_stream(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    late = await it.reader("cam")
    publisher.send_video([1, 2], keys=[1])
    await reader.frames(2)
    changed = replace(VIDEO, codec=H264(sps=OTHER_SPS, pps=OTHER_PPS))
    publisher.engine.update_track(changed)
    publisher.send_video([3, 4], keys=[3])
    for client in (reader, late):
        await client.frames(4)
        kinds = [type(event) for event in client.events if isinstance(event, (FrameReceived, TrackChanged))]
        assert kinds == [FrameReceived, FrameReceived, TrackChanged, FrameReceived, FrameReceived]
        (change,) = client.all(TrackChanged)
        assert isinstance(change.codec, H264)
        assert (change.codec.sps, change.codec.pps) == (OTHER_SPS, OTHER_PPS)
    newcomer = await it.reader("cam")
    publisher.send_video([5], keys=[5])
    (track, *_) = await newcomer.tracks()
    assert isinstance(track.codec, H264)
    assert track.codec.sps == OTHER_SPS


async def test_parameter_sets_that_change_while_a_reader_waits_for_its_key_frame(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    publisher.send_video([1, 2])
    publisher.engine.update_track(replace(VIDEO, codec=H264(sps=OTHER_SPS, pps=OTHER_PPS)))
    publisher.send_video([3])
    publisher.send_video([4, 5], keys=[4])
    await reader.frames(2)
    (track, *_) = await reader.tracks()
    assert isinstance(track.codec, H264)
    assert track.codec.sps == OTHER_SPS


async def test_parameter_sets_in_band(it: Fixture) -> None:
    """New ones in front of a key frame, without a sequence header: the server makes one."""
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    publisher.send_video([1], keys=[1])
    await reader.frames(1)
    publisher.send_frame(0, Frame((OTHER_SPS, OTHER_PPS, IDR), 7200, 7200, key=True))
    change = await reader.event(TrackChanged)
    assert isinstance(change.codec, H264)
    assert (change.codec.sps, change.codec.pps) == (OTHER_SPS, OTHER_PPS)
    assert (await reader.frames(2))[1].frame.units[-1] == IDR


async def test_an_unsupported_track_of_a_publisher_is_left_out(it: Fixture) -> None:
    publisher = await it.client(Mode.PUBLISH, "cam")
    await publisher.accepted()
    publisher.send_message(8, b"\x4f\x01" + bytes(10))  # Nellymoser at 16 kHz
    publisher.send_tracks([VIDEO])
    publisher.send_frame(0, video_frame(0, key=True))
    await it.log.wait(r"WARNING \[RTMP\] \[conn .*\] audio track 1 is skipped: unsupported audio codec Nellymoser")
    await it.log.wait(r"is publishing to path 'cam', 1 track \(H264\)")


async def times_of(it: Fixture, publisher: RtmpClient, off: Callable[[int, int], float]) -> dict[int, list[float]]:
    """Publish 100 pictures and the sound with them, whose times are off by ``off(track, number)``; return the times in
    seconds that readers of frames get, less those that they would have without."""
    reader = Frames()
    path = it.path("live/cam")
    await it.until(lambda: path.stream is not None)
    assert path.stream is not None
    path.attach_reader(reader, path.stream)
    for number in range(1, 101):
        for track, frame, rate in ((0, video_frame(number, key=number % 25 == 1), 90_000), (1, sound(number), 44_100)):
            ticks = round(off(track, number) * rate)
            publisher.send_frame(track, Frame(frame.units, frame.pts + ticks, frame.dts + ticks, key=frame.key))
        while len(reader.entries) < 2 * number:  # noqa: ASYNC110
            await asyncio.sleep(0)
        it.clock.value += 0.04
    times: dict[int, list[float]] = {0: [], 1: []}
    for track, entry in reader.entries:
        if isinstance(entry, Frame):
            number = len(times[track]) + 1
            times[track].append(entry.dts / (90_000, 44_100)[track] - number * 0.04)
    return times


def sound(number: int) -> Frame:
    time = round(number * 0.04 * 44_100)
    return Frame((b"\x21\x10" + bytes([number % 250]) * 20,), time, time, key=True)


@pytest.mark.parametrize("seconds", [37_000.0, -20.0])
async def test_tracks_with_bases_far_apart_are_brought_together(it: Fixture, seconds: float) -> None:
    publisher = await it.publisher("live/cam")
    times = await times_of(it, publisher, lambda track, _: max(seconds, 0) if track == 1 else max(-seconds, 0))
    assert times[1] == [pytest.approx(times[0][0], abs=0.05)] * 100
    assert times[0] == [pytest.approx(times[0][0], abs=0.001)] * 100


@pytest.mark.parametrize("seconds", [-3600.0, -4.0, 20.0, 9800.0])
@pytest.mark.parametrize("tracks", [(0, 1), (0,), (1,)], ids=["both", "picture", "sound"])
async def test_times_that_jump(it: Fixture, seconds: float, tracks: tuple[int, ...]) -> None:
    publisher = await it.publisher("live/cam")
    times = await times_of(
        it, publisher, lambda track, number: 4000 + (seconds if track in tracks and number >= 60 else 0)
    )
    for track in (0, 1):
        assert times[track] == [pytest.approx(times[0][0], abs=0.07)] * 100
    assert times[0][-1] == pytest.approx(times[1][-1], abs=0.002 if tracks == (0, 1) else 0.05)
    assert it.log.find(r"WARNING \[path live/cam\] the time of track \d \(\w+\) jumped by")
