"""Writers: formats, codecs, times, key frames, arguments."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from tests.api.conftest import PATIENCE, picture, psnr, settle

import polycast


@pytest.mark.parametrize("form", ["bgr24", "rgb24", "gray", "bgra", "yuv420p", "nv12"])
def test_formats(server: polycast.Server, form: str) -> None:
    import av

    image = picture()
    given = av.VideoFrame.from_ndarray(image, format="bgr24").to_ndarray(format=form)
    with (
        server.publish("cam", size=(320, 240), format=form) as video,
        server.read("cam", timeout=PATIENCE, format="gray" if form == "gray" else "bgr24") as reader,
    ):
        kept = given.copy()
        video.write(given)
        frame = reader.read()
        assert frame is not None
        assert psnr(given if form == "gray" else image, frame.image) > 30
        assert (given == kept).all()


@pytest.mark.parametrize("view", [np.flipud, np.fliplr, lambda image: image[::1, ::1].copy(order="F")])
def test_arrays_that_are_not_contiguous(server: polycast.Server, view: Any) -> None:
    image = view(picture())
    with server.publish("cam", size=(320, 240)) as video, server.read("cam", timeout=PATIENCE) as reader:
        video.write(image)
        frame = reader.read()
        assert frame is not None
        assert psnr(image, frame.image) > 30


@pytest.mark.parametrize(
    ("codec", "name", "encoder"),
    [
        ("h264", "H264", "libx264"),
        ("h265", "H265", "libx265"),
        ("vp8", "VP8", "libvpx"),
        ("vp9", "VP9", "libvpx-vp9"),
        ("av1", "AV1", "libsvtav1"),
        ("mjpeg", "JPEG", "mjpeg"),
    ],
)
def test_codecs(server: polycast.Server, codec: str, name: str, encoder: str) -> None:
    image = picture()
    with (
        server.publish("cam", size=(320, 240), codec=codec) as video,
        server.read("cam", timeout=PATIENCE, buffer=100, reconnect=False) as reader,
    ):
        assert (video.encoder, str(video.tracks[0])) == (encoder, name)
        for _ in range(5):
            video.write(image)
        video.close()
        frames = list(reader)
        assert len(frames) == 5  # nothing was held back, no B-frames
        assert frames[0].key
        assert psnr(image, frames[-1].image) > 30
        assert all(frame.time is not None and abs(frame.time - time.time()) < PATIENCE for frame in frames)


def test_hardware_falls_back_to_software(server: polycast.Server) -> None:
    with server.publish("cam", size=(320, 240), hardware=True) as video:
        video.write(picture())
        assert "264" in video.encoder


def test_options_reach_the_encoder(server: polycast.Server) -> None:
    with (
        server.publish("a", size=(320, 240), bitrate=2_000_000) as fine,
        server.publish("b", size=(320, 240), bitrate=50_000, options={"preset": "veryfast"}) as coarse,
    ):
        noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
        for _ in range(10):
            fine.write(noise)
            coarse.write(noise)
        assert fine.bytes > 2 * coarse.bytes
        assert fine.frames == coarse.frames == 10


def test_every_new_reader_gets_a_key_frame(server: polycast.Server) -> None:
    with server.publish("cam", size=(320, 240), key_interval=100) as video:
        video._last_key = 0.0
        video.write(picture())
        settle(server)
        video._last_key -= 1.0  # a second ago
        video.write(picture())
        with server.read("cam", timeout=PATIENCE) as reader:
            settle(server)
            video.write(picture(seed=1))
            frame = reader.read()
            assert frame is not None
            assert frame.key
            assert psnr(picture(seed=1), frame.image) > 30


def test_the_key_interval_counts_seconds(server: polycast.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("polycast.api.writer.clock.monotonic", lambda: now[0])
    with (
        server.publish("cam", size=(64, 64), rate=30, key_interval=2.0) as video,
        server.read("cam", decode=False, timeout=PATIENCE) as reader,
    ):
        keys = []
        for _ in range(12):  # one picture a second, though 30 were announced
            video.write(picture(64, 64))
            now[0] += 1.0
            frame = reader.read()
            assert frame is not None
            keys.append(frame.key)
        assert [index for index, key in enumerate(keys) if key] == [0, 3, 6, 9]
        assert frame.pts == pytest.approx(12.0)


def test_times_never_decrease(server: polycast.Server) -> None:
    with (
        server.publish("cam", size=(64, 64)) as video,
        server.read("cam", decode=False, timeout=PATIENCE) as reader,
    ):
        for moment in (100.0, 100.5, 100.2, 101.0):
            video.write(picture(64, 64), time=moment)
        frames = [reader.read() for _ in range(4)]
        assert [frame.time for frame in frames if frame] == [100.0, 100.5, 100.2, 101.0]
        times = [frame.pts - frames[0].pts for frame in frames if frame and frames[0]]
        assert times == [0.0, pytest.approx(0.5), pytest.approx(0.5, abs=1e-3), pytest.approx(1.0)]
        assert times[2] > times[1]


def test_sound_after_a_pause_catches_up(server: polycast.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("polycast.api.writer.clock.monotonic", lambda: now[0])
    with (
        server.publish("mic", sample_rate=8000, channels=1, audio_codec="pcma") as sound,
        server.read("mic", decode=False, timeout=PATIENCE) as reader,
    ):
        piece = np.zeros(800, np.int16)
        for pause in (0.1, 0.1, 5.0, 0.1):
            now[0] += pause
            sound.write_audio(piece)
        pts = []
        for _ in range(20):
            frame = reader.read()
            assert frame is not None
            pts.append(frame.pts)
        assert pts[5] - pts[0] == pytest.approx(0.1)
        assert pts[10] - pts[5] == pytest.approx(5.0)
        assert pts[15] - pts[10] == pytest.approx(0.1)


def test_pace(server: polycast.Server) -> None:
    with server.publish("cam", size=(64, 64), rate=100, pace=True) as video:
        begin = time.monotonic()
        for _ in range(21):
            video.write(picture(64, 64))
        assert 0.19 < time.monotonic() - begin < PATIENCE


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "a size .* or tracks"),
    ({"size": (321, 240)}, "must be even, not 321x240"),
    ({"size": (0, 0)}, "must be even"),
    ({"size": (64, 64), "rate": 0}, "rate must be between"),
    ({"size": (64, 64), "format": "bgr"}, "unknown format 'bgr'"),
    ({"size": (64, 64), "codec": "h266"}, "unknown codec 'h266'"),
    ({"size": (64, 64), "key_interval": 0}, "over 0 seconds"),
    ({"sample_rate": 48000, "audio_codec": "wav"}, "unknown audio codec 'wav'"),
    ({"sample_rate": 44100, "audio_codec": "opus"}, "48000 Hz"),
    ({"sample_rate": 48000, "audio_codec": "pcmu"}, "8000 Hz and one channel"),
    ({"sample_rate": 48000, "channels": 6}, "one or two channels"),
    ({"tracks": []}, "at least one track"),
]


@pytest.mark.parametrize(("options", "text"), WRONG, ids=[text for _, text in WRONG])
def test_wrong_arguments(server: polycast.Server, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        server.publish("cam", **options)
    assert server.statistics().streams == {}


def test_unknown_encoders(server: polycast.Server) -> None:
    with pytest.raises(polycast.UnsupportedCodec, match="no encoder 'h264_magic'"):
        server.publish("cam", size=(64, 64), encoder="h264_magic")
    with pytest.raises(polycast.UnsupportedCodec, match="cannot be opened"):
        server.publish("cam", size=(64, 64), encoder="h264_cuvid")


def test_wrong_arrays(server: polycast.Server) -> None:
    with server.publish("cam", size=(320, 240), sample_rate=48_000) as both:
        for array in (picture(240, 320), picture().astype(float), picture()[:, :, 0]):
            with pytest.raises(ValueError, match=r"uint8 and shape \(240, 320, 3\)"):
                both.write(array)
        for samples in (np.zeros((10, 3)), np.zeros(10), np.zeros((10, 2), np.int64)):
            with pytest.raises(ValueError, match="samples must"):
                both.write_audio(samples)
    with server.publish("mic", sample_rate=48_000) as sound, pytest.raises(ValueError, match="no video"):
        sound.write(picture())
    with server.publish("cam", size=(320, 240)) as video, pytest.raises(ValueError, match="no audio"):
        video.write_audio(np.zeros((10, 2)))
    with pytest.raises(polycast.StreamEnded, match="was closed"):
        video.write(picture())
