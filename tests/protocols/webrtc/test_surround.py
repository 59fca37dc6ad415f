"""Opus with more than two channels: viewers that do not support it are told so by name, or get stereo."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote

import pytest
from aiortc import RTCPeerConnection
from aiortc.mediastreams import AudioStreamTrack
from tests.protocols.webrtc.support import exchange, receive, running
from tests.transcode.programs import transcoder_threads
from tests.transcode.sound import clicks, encode

from polycast.media.codec import H264, Opus
from polycast.media.frame import Frame
from polycast.media.track import Track

ADVICE = "; webrtcTranscodeAudio: yes converts Opus with 6 channels to stereo"


async def test_a_viewer_is_told_what_it_does_not_support() -> None:
    async with running() as fixture:
        fixture.publish("mic", [Track(0, Opus(6))])
        fixture.publish("cam", [Track(0, H264()), Track(1, Opus(6))])
        peer = RTCPeerConnection()
        peer.addTransceiver("video", "recvonly")
        peer.addTransceiver("audio", "recvonly")
        try:
            refused = await exchange(fixture.http, peer, "/mic/whep")
            accepted = await exchange(fixture.http, peer, "/cam/whep")
        finally:
            await peer.close()
        assert refused.status_code == 400
        assert refused.json()["error"] == f"codecs not supported by client: Opus with 6 channels{ADVICE}"
        sentence = f"there is no sound, because the viewer does not support Opus with 6 channels{ADVICE}"
        assert unquote(accepted.headers["polycast-notice"]) == sentence
        assert await fixture.log.wait(f"WARNING .*{sentence}")


@pytest.mark.parametrize("settings", [{"webrtcTranscodeAudio": True}, {"paths": {"all": {"transcodeAudio": True}}}])
async def test_surround_sound_becomes_stereo(settings: dict[str, object]) -> None:
    packets, _ = encode("libopus", clicks([0.5], 1.0, 48_000, 6), 48_000)
    async with running(**settings) as fixture:
        publication = fixture.publish("mic", [Track(0, Opus(6))])

        async def feed() -> None:
            for number in range(100_000):
                data, pts = packets[number % len(packets)][0], 960 * number
                publication.write(0, Frame((data,), pts, pts, key=True))
                await asyncio.sleep(0.02)

        task = asyncio.create_task(feed())
        peer = RTCPeerConnection()
        receiver = peer.addTransceiver("audio", "recvonly").receiver
        try:
            response = await exchange(fixture.http, peer, "/mic/whep")
            assert response.status_code == 201
            notice = "the sound is mixed down to stereo, because the viewer does not support Opus with 6 channels"
            assert unquote(response.headers["polycast-notice"]) == notice
            sounds = await receive(receiver.track, 60)
            assert max(abs(sound.to_ndarray()).max() for sound in sounds) > 5_000, "the clicks are heard"
        finally:
            task.cancel()
            await peer.close()
        await fixture.until(lambda: not transcoder_threads())


@pytest.mark.parametrize("sends_sound", [False, True])
async def test_a_publisher_that_sends_nothing_of_what_it_agreed_to(sends_sound: bool) -> None:
    async with running(webrtcTrackGatherTimeout="3s" if sends_sound else "100ms") as fixture:
        peer = RTCPeerConnection()
        if sends_sound:
            peer.addTrack(AudioStreamTrack())
        else:
            peer.addTransceiver("audio", "sendonly")
        peer.addTransceiver("video", "sendonly")
        try:
            response = await exchange(fixture.http, peer, "/cam/whip")
            assert response.status_code == 201
            names = "VP8" if sends_sound else "(Opus, VP8|VP8, Opus)"
            await fixture.log.wait(f"WARNING .*the publisher has agreed to send {names}, but nothing of it has arrived")
            assert (fixture.path("cam").stream is not None) == sends_sound
        finally:
            await peer.close()
