"""Pictures and sound between the server and aiortc, which is a WebRTC engine of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from urllib.parse import unquote

import av
import numpy as np
import pytest
from aiortc import RTCPeerConnection, RTCRtpSender
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from tests.protocols.webrtc.support import Fixture, exchange, receive, running

from polycast.media.codec import H264, VP8, Opus
from polycast.media.frame import Frame
from polycast.media.track import Track

WIDTH, HEIGHT = 320, 240
COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}
QUICKLY = {
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
    "libx264": {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"},
}
"""Options of encoders, so that a picture takes them little and comes out at once."""


class Colours(VideoStreamTrack):
    """Pictures of one colour each, in turn."""

    count = 0

    async def recv(self) -> av.VideoFrame:
        pts, time_base = await self.next_timestamp()
        colour = list(COLOURS.values())[self.count // 10 % 3]
        picture = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), colour, np.uint8), format="rgb24")
        picture.pts, picture.time_base = pts, time_base
        self.count += 1
        return picture


def colours_of(pictures: list[av.VideoFrame]) -> set[str]:
    """Return the colours that pictures have in the middle."""
    found = set()
    for picture in pictures:
        middle = picture.to_ndarray(format="rgb24")[HEIGHT // 2, WIDTH // 2].astype(int)
        found.add(min(COLOURS, key=lambda name: int(np.abs(middle - COLOURS[name]).sum())))
    return found


@contextlib.asynccontextmanager
async def connection() -> AsyncIterator[RTCPeerConnection]:
    peer = RTCPeerConnection()
    try:
        yield peer
    finally:
        await peer.close()


def prefer(peer: RTCPeerConnection, name: str) -> None:
    """Let a connection use one video codec only."""
    wanted = [codec for codec in RTCRtpSender.getCapabilities("video").codecs if name.lower() in codec.mimeType.lower()]
    for transceiver in peer.getTransceivers():
        if transceiver.kind == "video":
            transceiver.setCodecPreferences(wanted)


async def publish(fixture: Fixture, peer: RTCPeerConnection, name: str, codec: str = "VP8") -> None:
    """Publish colours and silence."""
    peer.addTransceiver(Colours(), "sendonly")
    peer.addTransceiver(AudioStreamTrack(), "sendonly")
    prefer(peer, codec)
    response = await exchange(fixture.http, peer, f"/{name}/whip")
    assert response.status_code == 201, response.text
    await fixture.until(lambda: fixture.path(name).stream is not None)


async def watch(fixture: Fixture, peer: RTCPeerConnection, name: str) -> list[av.VideoFrame]:
    """Return pictures of a path."""
    video = peer.addTransceiver("video", "recvonly")
    peer.addTransceiver("audio", "recvonly")
    response = await exchange(fixture.http, peer, f"/{name}/whep")
    assert response.status_code == 201, response.text
    return await receive(video.receiver.track, 40)


async def test_vp8_from_publisher_to_viewer() -> None:
    async with running() as fixture, connection() as publisher, connection() as viewer:
        await publish(fixture, publisher, "cam")
        stream = fixture.path("cam").stream
        assert stream is not None
        assert [str(track) for track in stream.descriptions] == ["VP8", "Opus"]
        pictures = await watch(fixture, viewer, "cam")
        assert (pictures[0].width, pictures[0].height) == (WIDTH, HEIGHT)
        assert colours_of(pictures) == set(COLOURS)
        states = {session.state: session for session in fixture.server.sessions().values()}
        assert states["publish"].packets_received > 40
        assert states["read"].packets_sent > 40
        meter = fixture.app.hub.cipher_meter
        assert meter.packets >= states["read"].packets_sent
        assert 0 < meter.seconds < 60
        (path_meter,) = [path.stream.meter for path in fixture.app.hub if path.stream is not None]
        assert path_meter.deliveries > 40
        assert 0 < path_meter.delivery_seconds / path_meter.deliveries <= path_meter.longest_delivery < 60


async def test_h264_from_publisher_to_viewer() -> None:
    async with running() as fixture, connection() as publisher, connection() as viewer:
        await publish(fixture, publisher, "cam", "H264")
        assert colours_of(await watch(fixture, viewer, "cam")) == set(COLOURS)


class LateColours(Colours):
    """Nothing, until ``begin`` is set: a camera that is switched on later."""

    def __init__(self) -> None:
        super().__init__()
        self.begin = asyncio.Event()

    async def recv(self) -> av.VideoFrame:
        await self.begin.wait()
        return await super().recv()


async def test_a_track_that_starts_late_begins_the_stream_again() -> None:
    camera = LateColours()
    async with running(webrtcTrackGatherTimeout="100ms") as fixture, connection() as publisher, connection() as viewer:
        publisher.addTransceiver(camera, "sendonly")
        publisher.addTransceiver(AudioStreamTrack(), "sendonly")
        prefer(publisher, "VP8")
        await exchange(fixture.http, publisher, "/cam/whip")
        await fixture.until(lambda: fixture.path("cam").stream is not None)
        first = fixture.path("cam").stream
        assert first is not None
        assert [str(track) for track in first.descriptions] == ["Opus"]
        camera.begin.set()
        await fixture.until(lambda: fixture.path("cam").stream not in (None, first))
        second = fixture.path("cam").stream
        assert second is not None
        assert [str(track) for track in second.descriptions] == ["VP8", "Opus"]
        assert colours_of(await watch(fixture, viewer, "cam")) == set(COLOURS)
        assert fixture.path("cam").stream is second
        assert [session.state for session in fixture.server.sessions().values()] == ["publish", "read"]


async def test_a_track_that_starts_late_and_does_not_fit_is_left_out() -> None:
    camera = LateColours()
    slate = {"alwaysAvailable": True, "alwaysAvailableTracks": [{"codec": "Opus"}]}
    values = {"webrtcTrackGatherTimeout": "100ms", "paths": {"cam": slate}}
    async with running(**values) as fixture, connection() as publisher:
        publisher.addTransceiver(camera, "sendonly")
        publisher.addTransceiver(AudioStreamTrack(), "sendonly")
        prefer(publisher, "VP8")
        await exchange(fixture.http, publisher, "/cam/whip")
        path = fixture.path("cam")
        await fixture.until(lambda: path.is_online)
        stream = path.stream
        assert stream is not None
        camera.begin.set()
        await fixture.log.wait(r"a track .* is left out: wants to publish \[VP8 Opus\], but stream expects \[Opus\]")
        before = stream.tracks[0].counters.packets
        await fixture.until(lambda: stream.tracks[0].counters.packets > before + 20)
        assert path.stream is stream
        assert path.is_online
        (session,) = fixture.server.sessions().values()
        assert session.state == "publish"


async def test_a_viewer_that_leaves_is_forgotten() -> None:
    async with running() as fixture, connection() as publisher:
        await publish(fixture, publisher, "cam")
        async with connection() as viewer:
            await watch(fixture, viewer, "cam")
            assert len(fixture.path("cam").readers) == 1
        await fixture.until(lambda: not fixture.path("cam").readers)


async def test_a_publisher_that_leaves_ends_the_stream() -> None:
    async with running() as fixture, connection() as viewer:
        async with connection() as publisher:
            await publish(fixture, publisher, "cam")
            await watch(fixture, viewer, "cam")
        await fixture.until(lambda: not fixture.server.sessions())
        assert "cam" not in fixture.app.hub.paths


@functools.cache
def encoded(codec: str, count: int) -> tuple[tuple[bytes, bool], ...]:
    """Return coded pictures of all colours, and whether each is a key frame."""
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.framerate = 30
    context.gop_size = 10
    context.options = QUICKLY[codec]
    packets: list[tuple[bytes, bool]] = []
    for number in range(count):
        colour = list(COLOURS.values())[number // 10 % 3]
        picture = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), colour, np.uint8), format="rgb24")
        packets += [
            (bytes(packet), packet.is_keyframe) for packet in context.encode(picture.reformat(format="yuv420p"))
        ]
    return tuple(packets)


def nal_units(data: bytes) -> tuple[bytes, ...]:
    """Split an access unit in Annex B."""
    return tuple(unit.strip(b"\0") for unit in data.split(b"\0\0\1") if unit.strip(b"\0"))


async def test_frames_of_a_program_reach_a_viewer() -> None:
    """Large H264 pictures are cut into packets that fit, and parameter sets go in front of key frames."""
    async with running() as fixture, connection() as viewer:
        publication = fixture.publish("cam", [Track(0, H264()), Track(1, Opus())])
        packets = encoded("libx264", 120)

        async def feed() -> None:
            for number, (data, key) in enumerate(packets):
                publication.write(0, Frame(nal_units(data), 3000 * number, 3000 * number, key=key))
                await asyncio.sleep(1 / 60)

        feeding = asyncio.create_task(feed())
        try:
            assert colours_of(await watch(fixture, viewer, "cam")) == set(COLOURS)
        finally:
            feeding.cancel()
        assert publication.publisher.key_frame_requests > 0


async def test_pictures_that_are_reordered_are_left_out() -> None:
    """A picture that is shown before one that was sent: browsers cannot handle it."""
    async with running() as fixture, connection() as viewer:
        publication = fixture.publish("cam", [Track(0, VP8())])
        pictures = encoded("libvpx", 30)
        video = viewer.addTransceiver("video", "recvonly")
        await exchange(fixture.http, viewer, "/cam/whep")
        await fixture.until(lambda: len(fixture.path("cam").readers) == 1)
        for number, (data, key) in enumerate(pictures):
            shown = number if number % 3 == 2 else number + 2
            publication.write(0, Frame((data,), 3000 * shown, 3000 * number, key=key))
        assert await receive(video.receiver.track, 3)
        (session,) = fixture.server.sessions().values()
        assert session.packets_sent > 0
        await fixture.until(lambda: any("B-frames" in line for line in fixture.log.lines))


def parameter_sets(b_frames: int) -> H264:
    """Return H264 as x264 announces it."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.framerate = 30
    context.max_b_frames = b_frames
    context.options = {"preset": "veryfast"}
    context.flags |= av.codec.context.Flags.global_header
    context.open()
    sps, pps = (unit for unit in nal_units(bytes(context.extradata)) if unit[0] & 0x1F in (7, 8))
    return H264(sps, pps)


@pytest.mark.parametrize("b_frames", [0, 2])
async def test_streams_with_b_frames_can_be_refused(b_frames: int) -> None:
    async with running(webrtcReorder="refuse") as fixture, connection() as viewer:
        fixture.publish("cam", [Track(0, parameter_sets(b_frames))])
        viewer.addTransceiver("video", "recvonly")
        response = await exchange(fixture.http, viewer, "/cam/whep")
        if b_frames:
            assert response.status_code == 406
            error = response.json()["error"]
            assert error.startswith("the stream has B-frames, which browsers cannot show in WebRTC")
            assert "webrtcReorder" in error
            await fixture.log.wait("INFO .* offer for path 'cam' refused: the stream has B-frames")
            assert fixture.server.sessions() == {}
        else:
            assert response.status_code == 201
            assert "polycast-notice" not in response.headers


async def test_a_viewer_is_told_of_b_frames_that_are_dropped() -> None:
    async with running() as fixture, connection() as viewer:
        fixture.publish("cam", [Track(0, parameter_sets(2))])
        viewer.addTransceiver("video", "recvonly")
        response = await exchange(fixture.http, viewer, "/cam/whep")
        assert response.status_code == 201
        assert unquote(response.headers["polycast-notice"]).startswith("the stream has B-frames")


async def test_b_frames_that_only_appear_later_end_the_session_where_they_are_refused() -> None:
    async with running(webrtcReorder="refuse") as fixture, connection() as viewer, connection() as other:
        publication = fixture.publish("cam", [Track(0, VP8())])
        pictures = encoded("libvpx", 30)
        viewer.addTransceiver("video", "recvonly")
        await exchange(fixture.http, viewer, "/cam/whep")
        await fixture.until(lambda: len(fixture.path("cam").readers) == 1)
        for number, (data, key) in enumerate(pictures):
            shown = number if number % 3 == 2 else number + 2
            publication.write(0, Frame((data,), 3000 * shown, 3000 * number, key=key))
        await fixture.log.wait(r"closed \(the stream has B-frames.*webrtcReorder")
        assert fixture.server.sessions() == {}
        other.addTransceiver("video", "recvonly")
        response = await exchange(fixture.http, other, "/cam/whep")
        assert response.status_code == 406
