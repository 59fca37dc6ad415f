"""Pictures that a viewer cannot show are converted for it, once for all, and only then."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import pytest
from aiortc import RTCPeerConnection, RTCRtpReceiver
from tests.protocols.webrtc.support import Fixture, exchange, receive, running
from tests.support.waiting import PATIENCE
from tests.transcode.programs import transcoder_threads
from tests.transcode.test_video import B_FRAMES, TICKS, X265, encode, number_of

from polycast.app import StartError
from polycast.codecs import h264, h265
from polycast.media.codec import H264, H265, MJPEG, VP8, Codec, Opus, common_name
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.transcode import video
from polycast.transcode.worker import MAXIMUM_WAITING

GROUP = 10
"""Pictures of the tests' streams, which are repeated."""


class Camera:
    """Publishes pictures in real time."""

    def __init__(self, fixture: Fixture, name: str, encoder: str, codec: Codec, options: dict[str, str]) -> None:
        self._frames = encode(encoder, codec, GROUP, options)
        parameters = self._frames[0].units
        if isinstance(codec, H264):
            codec = h264.updated(codec, parameters)
        if isinstance(codec, H265):
            codec = h265.updated(codec, parameters)
        self.publication = fixture.publish(name, [Track(0, codec)])
        self._number = 0

    def write(self, count: int = 1) -> None:
        for _ in range(count):
            group, number = divmod(self._number, GROUP)
            frame = self._frames[number]
            shift = group * GROUP * TICKS
            self.publication.write(0, Frame(frame.units, frame.pts + shift, frame.dts + shift, key=frame.key))
            self._number += 1

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            self.write()
            await asyncio.sleep(TICKS / 90_000)


@contextlib.asynccontextmanager
async def filming(camera: Camera) -> AsyncIterator[None]:
    task = asyncio.create_task(camera.run())
    try:
        yield
    finally:
        task.cancel()


@contextlib.asynccontextmanager
async def viewer(fixture: Fixture, name: str, *codecs: str) -> AsyncIterator[tuple[Any, str]]:
    """Watch with aiortc, which supports only these ``codecs``, or all its own; return the track and the notices."""
    peer = RTCPeerConnection()
    transceiver = peer.addTransceiver("video", "recvonly")
    if codecs:
        known = RTCRtpReceiver.getCapabilities("video").codecs
        transceiver.setCodecPreferences([codec for codec in known if codec.name in codecs])
    try:
        response = await exchange(fixture.http, peer, f"/{name}/whep")
        assert response.status_code == 201, response.text
        yield transceiver.receiver.track, unquote(response.headers.get("polycast-notice", ""))
    finally:
        await peer.close()


CASES = [
    ("libx264", H264(), B_FRAMES, "to H264 without B-frames, which browsers cannot show in WebRTC"),
    ("libx265", H265(), X265, "from H265 to H264, because the viewer does not support H265"),
    ("mjpeg", MJPEG(), {"strict": "unofficial"}, "from MJPEG to H264, because WebRTC does not carry MJPEG"),
]
BASELINE_OPTIONS = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}


@pytest.mark.parametrize(("encoder", "codec", "options", "notice"), CASES, ids=["B-frames", "H265", "MJPEG"])
async def test_viewers_share_an_encoder_and_the_last_ends_it(
    encoder: str, codec: Codec, options: dict[str, str], notice: str
) -> None:
    async with running(webrtcTranscodeVideo=True) as fixture:
        camera = Camera(fixture, "cam", encoder, codec, options)
        async with filming(camera):
            assert transcoder_threads("video") == []
            async with viewer(fixture, "cam") as (first, told):
                assert told == f"the picture is converted {notice}"
                shown = await receive(first, 25)
                numbers = {number_of(picture) for picture in shown}
                assert len(numbers) == GROUP, "no picture is left out"
                (thread,) = transcoder_threads("video")
                async with viewer(fixture, "cam") as (second, _):
                    await receive(second, 5)
                    assert transcoder_threads("video") == [thread]
                await receive(first, 5)
            await fixture.until(lambda: not thread.is_alive())
        assert fixture.log.find(rf"INFO .*path cam.* track 1 \({common_name(codec)}\) is converted to H264")
        assert fixture.log.find(rf"INFO .*session .* the picture is converted {notice}")
        assert fixture.log.find(r"reading from path 'cam', 1 track \(H264\)")


async def test_viewers_that_can_show_the_original_get_it() -> None:
    async with running(webrtcTranscodeVideo=True) as fixture:
        plain = Camera(fixture, "plain", "libx264", H264(), BASELINE_OPTIONS)
        other = Camera(fixture, "other", "libvpx", VP8(), {"deadline": "realtime", "lag-in-frames": "0"})
        async with filming(plain), filming(other):
            async with viewer(fixture, "plain") as (track, told):
                await receive(track, 5)
                assert (told, transcoder_threads("video")) == ("", [])
            async with (
                viewer(fixture, "other", "H264") as (converted, told_one),
                viewer(fixture, "other") as (original, told_two),
            ):
                assert told_one == "the picture is converted from VP8 to H264, because the viewer does not support VP8"
                assert told_two == ""
                await receive(converted, 5)
                await receive(original, 5)
                assert len(transcoder_threads("video")) == 1
        await fixture.until(lambda: not transcoder_threads("video"))


async def test_without_the_setting_the_viewer_is_told_of_it() -> None:
    async with running() as fixture:
        fixture.publish("cam", [Track(0, H265())])
        fixture.publish("jpeg", [Track(0, MJPEG())])
        for name, error in (
            ("cam", "codecs not supported by client: H265; webrtcTranscodeVideo: yes converts H265 to H264"),
            ("jpeg", "; webrtcTranscodeVideo: yes converts MJPEG to H264"),
        ):
            peer = RTCPeerConnection()
            peer.addTransceiver("video", "recvonly")
            try:
                response = await exchange(fixture.http, peer, f"/{name}/whep")
            finally:
                await peer.close()
            assert response.status_code == 400
            assert response.json()["error"].endswith(error)


async def test_a_viewer_that_only_gets_sound_is_told_why() -> None:
    async with running() as fixture:
        fixture.publish("cam", [Track(0, H265()), Track(1, Opus())])
        peer = RTCPeerConnection()
        peer.addTransceiver("video", "recvonly")
        peer.addTransceiver("audio", "recvonly")
        try:
            response = await exchange(fixture.http, peer, "/cam/whep")
        finally:
            await peer.close()
        sentence = (
            "there is no picture, because the viewer does not support H265; "
            "webrtcTranscodeVideo: yes converts H265 to H264"
        )
        assert unquote(response.headers["polycast-notice"]) == sentence
        assert await fixture.log.wait(f"WARNING .*{sentence}")


async def test_a_slow_machine_drops_pictures_up_to_a_key_frame_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_work = threading.Event()

    class Slow(video.VideoTranscoder):
        def transcode(self, frame: Frame) -> list[Frame]:
            assert may_work.wait(PATIENCE)
            return super().transcode(frame)

    monkeypatch.setattr(video, "VideoTranscoder", Slow)
    async with running(webrtcTranscodeVideo=True) as fixture:
        camera = Camera(fixture, "cam", "libx264", H264(), B_FRAMES)
        async with viewer(fixture, "cam") as (track, _):
            await fixture.until(lambda: len(fixture.path("cam").readers) == 1)
            camera.write(MAXIMUM_WAITING + 50)
            may_work.set()
            async with filming(camera):
                await receive(track, 10)
        warnings = [line for line in fixture.log.lines if "too slow to convert" in line]
        assert len(warnings) == 1
        assert "track 1 (H264) to H264" in warnings[0]


async def test_b_frames_that_are_only_found_later_are_converted_for_those_who_come_back() -> None:
    """The parameter sets do not say that there are any."""
    async with running(webrtcTranscodeVideo=True) as fixture:
        frames = encode("libx264", H264(), GROUP, B_FRAMES)
        publication = fixture.publish("cam", [Track(0, H264())])

        async def run() -> None:
            for number in range(100_000):
                group, index = divmod(number, GROUP)
                frame, shift = frames[index], group * GROUP * TICKS
                publication.write(0, Frame(frame.units[-1:], frame.pts + shift, frame.dts + shift, key=frame.key))
                await asyncio.sleep(0.01)

        task = asyncio.create_task(run())
        try:
            async with viewer(fixture, "cam"):
                await fixture.log.wait(
                    "closed .*the stream has B-frames.*its picture is converted for those who connect"
                )
            async with viewer(fixture, "cam") as (_, told):
                assert told.startswith("the picture is converted to H264 without B-frames")
        finally:
            task.cancel()


async def test_a_viewer_for_which_b_frames_cannot_be_converted_is_not_closed_again_and_again() -> None:
    """It does not support H264."""
    async with running(webrtcTranscodeVideo=True) as fixture:
        (picture,) = encode("libvpx", VP8(), 1, {"deadline": "realtime"})
        publication = fixture.publish("cam", [Track(0, VP8())])

        async def run() -> None:
            for number in itertools.count():
                key = number % GROUP == 0
                pts = (number + (2, 0, -2)[number % 3] * (not key)) * TICKS
                publication.write(0, Frame(picture.units, pts, number * TICKS, key=key))
                await asyncio.sleep(0.01)

        task = asyncio.create_task(run())
        try:
            async with viewer(fixture, "cam", "VP8"):
                await fixture.log.wait("closed .*the stream has B-frames")
            async with viewer(fixture, "cam", "VP8") as (_, told):
                assert told.startswith(
                    "the stream has B-frames, which browsers cannot show in WebRTC; they are dropped"
                )
                assert told.endswith("(encode without B-frames, or read the stream over HLS)")
                await fixture.log.wait(r"WARNING .*session .* the stream has B-frames.*; they are dropped")
                assert len(fixture.server.sessions()) == 1
        finally:
            task.cancel()


async def test_the_server_does_not_start_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(StartError, match="webrtcTranscodeVideo needs the packages av and numpy"):
        async with running(webrtcTranscodeVideo=True):
            pass
