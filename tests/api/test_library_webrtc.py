"""Streams of other servers over WebRTC: published by WHIP, read by WHEP."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.api.conftest import EMBEDDED, PATIENCE, Loop, picture, read_both, wait_for_the_end

import polycast

pytestmark = pytest.mark.timeout(180)

SETTINGS = {**EMBEDDED, "webrtc": True, "webrtcAddress": "127.0.0.1:0", "webrtcLocalUDPAddress": "127.0.0.1:0"}


@pytest.fixture
def webrtc() -> Iterator[polycast.Server]:
    with polycast.Server(SETTINGS) as server:
        yield server


def url(server: polycast.Server, endpoint: str, path: str = "cam", credentials: str = "") -> str:
    return f"{endpoint}://{credentials}127.0.0.1:{server.ports['webrtcAddress']}/{path}/{endpoint}"


@pytest.mark.parametrize("codec", ["h264", "vp8"])
def test_publish(webrtc: polycast.Server, codec: str) -> None:
    image = picture()
    events: list[polycast.Event] = []
    with polycast.publish(
        url(webrtc, "whip"),
        size=(320, 240),
        rate=30,
        pace=True,
        codec=codec,
        sample_rate=48_000,
        audio_codec="opus",
        on_event=events.append,
    ) as video:
        tone = np.zeros((1600, 2), np.float32)
        step = lambda: (video.write(image), video.write_audio(tone))  # noqa: E731
        with Loop(step), webrtc.read("cam", audio=True, buffer=100, timeout=PATIENCE) as reader:
            read_both(reader, image)
        (session,) = webrtc.statistics().sessions
        assert (session.state, session.path) == ("publish", "cam")
    assert [event.kind.value for event in events][:1] == ["connected"]
    wait_for_the_end(webrtc, "cam")


def test_read(webrtc: polycast.Server) -> None:
    image = picture()
    with webrtc.publish("cam", size=(320, 240), sample_rate=48_000, audio_codec="opus", pace=True) as video:
        tone = np.zeros((1600, 2), np.float32)
        step = lambda: (video.write(image), video.write_audio(tone))  # noqa: E731
        with Loop(step), polycast.read(url(webrtc, "whep"), audio=True, buffer=100, timeout=PATIENCE) as reader:
            read_both(reader, image)


def test_errors_without_reconnection(webrtc: polycast.Server) -> None:
    with (
        pytest.raises(polycast.NotFound, match="no stream is available on path 'nothing'"),
        polycast.read(url(webrtc, "whep", "nothing"), reconnect=False, timeout=PATIENCE) as reader,
    ):
        reader.read()
    with (
        pytest.raises(polycast.ConnectionFailed, match="refused"),
        polycast.read("whep://127.0.0.1:1/cam/whep", reconnect=False, timeout=PATIENCE) as reader,
    ):
        reader.read()
    with pytest.raises(polycast.ConnectionFailed, match="refused"):
        polycast.publish("whip://127.0.0.1:1/cam/whip", size=(320, 240), reconnect=False, timeout=PATIENCE)
    with webrtc.publish("sound", sample_rate=48_000) as sound:
        sound.write_audio(np.zeros((4800, 2), np.float32))
        with (
            pytest.raises(polycast.PolycastError, match="the stream doesn't contain any supported codec"),
            polycast.read(url(webrtc, "whep", "sound"), reconnect=False, timeout=PATIENCE) as reader,
        ):
            reader.read()
    with pytest.raises(polycast.UnsupportedCodec, match="doesn't contain any supported codec"):
        polycast.publish(url(webrtc, "whip"), sample_rate=48_000, timeout=PATIENCE)


def test_passwords() -> None:
    paths = {"cam": {"publishUser": "u", "publishPass": "p", "readUser": "u", "readPass": "p"}}
    with polycast.Server({**SETTINGS, "paths": paths}) as server:
        with pytest.raises(polycast.AccessRefused, match="wrong user or password"):
            polycast.publish(url(server, "whip", credentials="u:x@"), size=(320, 240), timeout=PATIENCE)
        with (
            pytest.raises(polycast.AccessRefused, match="wrong user or password"),
            polycast.read(url(server, "whep"), timeout=PATIENCE) as reader,
        ):
            reader.read()
        with (
            polycast.publish(url(server, "whip", credentials="u:p@"), size=(320, 240)) as video,
            Loop(lambda: video.write(picture())),
            polycast.read(url(server, "whep", credentials=":u%3Ap@"), timeout=PATIENCE) as reader,
        ):
            assert reader.read() is not None


def test_the_addresses_that_can_be_used_are_named() -> None:
    with pytest.raises(ValueError, match=r"cannot be published to: .*whips://"):
        polycast.publish("http://host/cam", size=(320, 240))
    with pytest.raises(ValueError, match=r"cannot be read: .*wheps"):
        polycast.read("webrtc://host/cam")
