"""Sound in AAC reaches viewers as Opus, in sync with the picture; aiortc and FFmpeg check it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import av
import numpy as np
import pytest
from aiortc import RTCPeerConnection
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtp import RtcpSrPacket
from tests.protocols.webrtc.support import Fixture, exchange, running
from tests.support.waiting import PATIENCE
from tests.transcode.programs import TOLERANCE, publishing, transcoder_threads
from tests.transcode.sound import TONE_HERTZ, clicks, encode, find_clicks, pitch

from polycast.app import StartError
from polycast.media.codec import AC3, H264, MPEG4Audio, Opus, Speex
from polycast.media.frame import Frame
from polycast.media.timebase import timestamp_difference
from polycast.media.track import Track
from polycast.protocols.webrtc.transcoded import TranscodedOutgoingTrack
from polycast.transcode import audio
from polycast.transcode.worker import MAXIMUM_WAITING


@dataclass
class Received:
    """What a viewer got."""

    sounds: list[Any] = field(default_factory=list)
    flashes: list[int] = field(default_factory=list)
    """Times of bright pictures, as aiortc tells them: RTP timestamps since the first one."""
    origins: dict[str, Callable[[], int]] = field(default_factory=dict)
    """The first RTP timestamp of each kind."""
    reports: dict[str, RtcpSrPacket] = field(default_factory=dict)
    notice: str = ""
    """What the viewer was told."""

    def samples(self) -> tuple[Any, int]:
        """Return all sound without interruptions, and the time of the first sample, like those of pictures."""
        first = self.sounds[0].pts
        samples = np.zeros((2, self.sounds[-1].pts - first + self.sounds[-1].samples), np.float32)
        for sound in self.sounds:
            samples[:, sound.pts - first : sound.pts - first + sound.samples] = (
                sound.to_ndarray().reshape(-1, 2).T / 32768
            )
        return samples, first

    def seconds(self, kind: str, elapsed: float) -> float:
        """Return the wall-clock time of a picture or sample according to the last sender report."""
        information = self.reports[kind].sender_info
        rate = 90_000 if kind == "video" else 48_000
        origin = timestamp_difference(self.origins[kind]() - information.rtp_timestamp)
        return information.ntp_timestamp / 2**32 + (origin + elapsed) / rate


@contextlib.asynccontextmanager
async def viewer(fixture: Fixture, name: str) -> AsyncIterator[Received]:
    """Watch a path with aiortc."""
    received = Received()
    peer = RTCPeerConnection()
    receivers = []
    tasks: list[asyncio.Task[None]] = []
    for kind in ("video", "audio"):
        receiver = peer.addTransceiver(kind, "recvonly").receiver
        handle = receiver._handle_rtcp_packet

        async def observe(packet: Any, kind: str = kind, handle: Callable[..., Any] = handle) -> None:
            if isinstance(packet, RtcpSrPacket):
                received.reports[kind] = packet
            await handle(packet)

        receiver._handle_rtcp_packet = observe
        received.origins[kind] = lambda mapper=receiver._RTCRtpReceiver__timestamp_mapper: mapper._origin
        receivers.append(receiver)
    try:
        response = await exchange(fixture.http, peer, f"/{name}/whep")
        assert response.status_code == 201, response.text
        received.notice = unquote(response.headers.get("polycast-notice", ""))
        tasks += [asyncio.create_task(_collect(receiver.track, received)) for receiver in receivers]
        yield received
    finally:
        await peer.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _collect(track: MediaStreamTrack, received: Received) -> None:
    with contextlib.suppress(MediaStreamError):
        while True:
            frame: Any = await track.recv()
            if isinstance(frame, av.AudioFrame):
                received.sounds.append(frame)
            elif int(np.frombuffer(frame.planes[0], np.uint8)[0]) > 128:
                received.flashes.append(frame.pts)


@pytest.mark.parametrize(
    ("protocol", "pictures", "notice"),
    [
        ("rtmp", "baseline", ""),
        ("rtsp", "baseline", ""),
        (
            "rtmp",
            "b-frames",
            "the picture is converted to H264 without B-frames, which browsers cannot show in WebRTC",
        ),
        (
            "rtsp",
            "h265",
            "the picture is converted from H265 to H264, because the viewer does not support H265",
        ),
    ],
)
async def test_sound_and_picture_are_in_sync(protocol: str, pictures: str, notice: str) -> None:
    address = f"{protocol}Address"
    settings = {f"{protocol}Disable": False, address: "127.0.0.1:0", "protocols": ["tcp"]}
    async with running(webrtcTranscodeAudio=True, webrtcTranscodeVideo=True, **settings) as fixture:
        port = fixture.app.servers[protocol.upper()].ports[address]
        url = f"{protocol}://127.0.0.1:{port}/cam"
        async with publishing(url, "flv" if protocol == "rtmp" else "rtsp", pictures=pictures):
            await fixture.until(lambda: fixture.path("cam").stream is not None)
            async with viewer(fixture, "cam") as received:
                await fixture.until(lambda: len(received.flashes) >= 3 and len(received.sounds) >= 150)
                await fixture.until(lambda: len(received.reports) == 2)
                assert len(transcoder_threads("video")) == (pictures != "baseline")
            await fixture.until(lambda: not transcoder_threads("video") + transcoder_threads())
    assert received.notice == notice
    assert {(sound.sample_rate, sound.layout.name) for sound in received.sounds} == {(48_000, "stereo")}
    samples, first = received.samples()
    heard = [received.seconds("audio", first + click * 48_000) for click in find_clicks(samples)]
    seen = [received.seconds("video", flash) for flash in received.flashes]
    pairs = [(flash, min(heard, key=lambda click: abs(click - flash))) for flash in seen]
    offsets = [click - flash for flash, click in pairs if heard[0] - 0.1 < flash < heard[-1] + 0.1]
    assert len(offsets) >= 2
    assert max(map(abs, offsets)) < TOLERANCE, offsets
    quiet = round(find_clicks(samples)[0] * 48_000) + 4_800
    assert pitch(samples[:, quiet : quiet + 24_000]) == pytest.approx(TONE_HERTZ, abs=3)


class Feeding:
    """Publishes AAC in real time, a frame at a time."""

    def __init__(self, fixture: Fixture, name: str, *, codec: Any = None) -> None:
        packets, extradata = encode("aac", clicks([0.5], 1.0, 48_000), 48_000)
        self._packets = [data for data, _ in packets]
        self._number = 0
        self.track = Track(0, codec or MPEG4Audio(extradata, 48_000, 2))
        self.publication = fixture.publish(name, [self.track])

    def write(self, count: int = 1, data: bytes | None = None) -> None:
        for _ in range(count):
            pts = 1024 * self._number
            unit = self._packets[self._number % len(self._packets)] if data is None else data
            self.publication.write(0, Frame((unit,), pts, pts, key=True))
            self._number += 1

    def skip(self, count: int) -> None:
        self._number += count

    async def run(self) -> None:
        """Write frames until cancelled."""
        while True:
            self.write()
            await asyncio.sleep(1024 / 48_000)


@contextlib.asynccontextmanager
async def feeding(feed: Feeding) -> AsyncIterator[None]:
    task = asyncio.create_task(feed.run())
    try:
        yield
    finally:
        task.cancel()


def worker_of(fixture: Fixture, name: str) -> Any:
    """Return the worker of a path's sound, None if it does not run."""
    stream = fixture.path(name).stream
    assert stream is not None
    track = fixture.server.transcoded(fixture.path(name), stream, stream.descriptions[0], audio.OPUS)
    assert isinstance(track, TranscodedOutgoingTrack)
    return track.transcoded.worker


async def test_two_viewers_share_an_encoder_and_the_last_ends_it() -> None:
    async with running(webrtcTranscodeAudio=True) as fixture:
        feed = Feeding(fixture, "mic")
        async with feeding(feed):
            assert transcoder_threads() == []
            async with viewer(fixture, "mic") as first:
                await fixture.until(lambda: len(first.sounds) > 10)
                (thread,) = transcoder_threads()
                async with viewer(fixture, "mic") as second:
                    await fixture.until(lambda: len(second.sounds) > 10)
                    assert transcoder_threads() == [thread]
                count = len(first.sounds)
                await fixture.until(lambda: len(first.sounds) > count + 10)
                assert transcoder_threads() == [thread]
            await fixture.until(lambda: not thread.is_alive())
            async with viewer(fixture, "mic") as third:
                await fixture.until(lambda: len(third.sounds) > 10)
        assert len([line for line in fixture.log.lines if "is converted to Opus" in line]) == 2
        await fixture.until(lambda: not transcoder_threads())


async def test_a_path_can_have_its_sound_converted() -> None:
    async with running(paths={"mic": {"transcodeAudio": True}, "all": {}}) as fixture:
        feed = Feeding(fixture, "mic")
        async with feeding(feed), viewer(fixture, "mic") as received:
            await fixture.until(lambda: len(received.sounds) > 10)
        await fixture.until(lambda: not transcoder_threads())


async def test_a_publisher_that_returns_is_heard_again() -> None:
    async with running(webrtcTranscodeAudio=True) as fixture:
        for _ in range(2):
            feed = Feeding(fixture, "mic")
            async with feeding(feed), viewer(fixture, "mic") as received:
                await fixture.until(lambda: len(received.sounds) > 10)
                feed.publication.end()
                await fixture.until(lambda: not transcoder_threads())


async def test_garbage_and_new_parameters_do_not_end_anything() -> None:
    async with running(webrtcTranscodeAudio=True) as fixture:
        feed = Feeding(fixture, "mic")
        async with viewer(fixture, "mic") as received:
            async with feeding(feed):
                await fixture.until(lambda: len(received.sounds) > 10)
            thread = worker_of(fixture, "mic").thread
            feed.write(5, b"\x21\x17" * 100)
            packets, extradata = encode("aac", clicks([0.0], 1.0, 48_000, 1), 48_000)
            live = feed.publication.stream.tracks[0]
            live.set_codec(MPEG4Audio(extradata, 48_000, 1))
            feed._packets = [data for data, _ in packets]
            count = len(received.sounds)
            async with feeding(feed):
                await fixture.until(lambda: len(received.sounds) > count + 20)
            assert transcoder_threads() == [thread]
            assert worker_of(fixture, "mic").errors == 5
            await fixture.log.wait(
                r"WARNING .*path mic.* frames of track 1 \(AAC\) that could not be decoded so far: [1-5] \("
            )


async def test_a_slow_machine_drops_sound_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    may_work = threading.Event()

    class Slow(audio.AudioTranscoder):
        def transcode(self, frame: Frame) -> list[Frame]:
            assert may_work.wait(PATIENCE)
            return super().transcode(frame)

    monkeypatch.setattr(audio, "AudioTranscoder", Slow)
    async with running(webrtcTranscodeAudio=True) as fixture:
        feed = Feeding(fixture, "mic")
        async with viewer(fixture, "mic") as received:
            await fixture.until(lambda: len(fixture.path("mic").readers) == 1)
            feed.write(MAXIMUM_WAITING + 50)
            worker = worker_of(fixture, "mic")
            assert worker.dropped >= 49
            may_work.set()
            async with feeding(feed):
                await fixture.until(lambda: len(received.sounds) > 10)
        warnings = [line for line in fixture.log.lines if "too slow to convert" in line]
        assert len(warnings) == 1
        assert "track 1 (AAC)" in warnings[0]


async def test_a_viewer_that_is_refused_sound_is_told_which_setting_helps() -> None:
    async with running() as fixture:
        tracks = [Track(0, H264()), Track(1, MPEG4Audio())]
        fixture.publish("cam", tracks)
        peer = RTCPeerConnection()
        peer.addTransceiver("video", "recvonly")
        peer.addTransceiver("audio", "recvonly")
        try:
            response = await exchange(fixture.http, peer, "/cam/whep")
        finally:
            await peer.close()
        sentence = (
            "there is no sound, because WebRTC does not carry AAC; webrtcTranscodeAudio: yes converts AAC to Opus"
        )
        assert unquote(response.headers["polycast-notice"]) == sentence
        assert "Polycast-Notice" in response.headers["access-control-expose-headers"]
        assert await fixture.log.wait(f"WARNING .*{sentence}")
        assert transcoder_threads() == []


@pytest.mark.parametrize(
    ("codec", "is_enabled", "ending"),
    [(AC3(), False, "; webrtcTranscodeAudio: yes converts AC-3 to Opus"), (Speex(), False, ""), (Speex(), True, "")],
)
async def test_a_stream_of_sound_only_is_refused_with_advice(codec: Any, is_enabled: bool, ending: str) -> None:
    async with running(webrtcTranscodeAudio=is_enabled) as fixture:
        fixture.publish("mic", [Track(0, codec)])
        peer = RTCPeerConnection()
        peer.addTransceiver("audio", "recvonly")
        try:
            response = await exchange(fixture.http, peer, "/mic/whep")
        finally:
            await peer.close()
        assert response.status_code == 400
        error = response.json()["error"]
        assert error.startswith("the stream doesn't contain any supported codec")
        assert error.endswith((f"L16{ending}", f"LPCM{ending}"))


async def test_what_webrtc_carries_is_not_converted() -> None:
    async with running(webrtcTranscodeAudio=True) as fixture:
        fixture.publish("mic", [Track(0, MPEG4Audio()), Track(1, Opus())])
        peer = RTCPeerConnection()
        peer.addTransceiver("audio", "recvonly")
        try:
            response = await exchange(fixture.http, peer, "/mic/whep")
            assert response.status_code == 201
            await fixture.until(lambda: len(fixture.path("mic").readers) == 1)
            assert transcoder_threads() == []
        finally:
            await peer.close()


async def test_the_server_does_not_start_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(StartError, match="webrtcTranscodeAudio needs the packages av and numpy"):
        async with running(webrtcTranscodeAudio=True):
            pass
    async with running():
        pass
