"""Webcams, with files in their place: what Video4Linux2 delivers are the same packets."""

from __future__ import annotations

import errno
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import PATIENCE, picture, psnr

import polycast
from polycast.api import webcam

av = pytest.importorskip("av")
np = pytest.importorskip("numpy")


def make_file(file: Path, codec: str, pixel_format: str, pictures: int) -> None:
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, pixel_format
        if codec == "mjpeg":
            stream.codec_context.qmin = stream.codec_context.qmax = 2
        for seed in range(pictures):
            frame = av.VideoFrame.from_ndarray(picture(seed=seed), format="bgr24").reformat(format=pixel_format)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class StandIn:
    """Opens files instead of devices; the last one does not end until it is released."""

    def __init__(self, *files: Path) -> None:
        self._files = list(files)
        self.opened: list[tuple[str, dict[str, str]]] = []
        self.release = threading.Event()

    def __call__(self, av_module: Any, device: str, options: Mapping[str, str]) -> Any:
        self.opened.append((device, dict(options)))
        if not self._files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", device)
        return _Opened(av.open(str(self._files.pop(0))), None if self._files else self.release)


class _Opened:
    def __init__(self, container: Any, release: threading.Event | None) -> None:
        self._container = container
        self._release = release
        self.streams = container.streams

    def demux(self, stream: Any) -> Any:
        yield from self._container.demux(stream)
        if self._release is not None:
            self._release.wait(PATIENCE)

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()


@pytest.mark.parametrize(("codec", "pixel_format"), [("mjpeg", "yuvj420p"), ("rawvideo", "yuyv422")])
def test_the_pictures_of_a_webcam(
    codec: str, pixel_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "camera.avi"
    make_file(file, codec, pixel_format, 5)
    stand_in = StandIn(file)
    monkeypatch.setattr(webcam, "open_device", stand_in)
    with polycast.read(0, buffer=10, timeout=PATIENCE, size=(320, 240), rate=25) as reader:
        assert reader.size == (320, 240)
        assert reader.rate == 25
        assert repr(reader) == "<Reader 320x240>"
        frames = [reader.read() for _ in range(5)]
        stand_in.release.set()
    assert stand_in.opened == [("/dev/video0", {"video_size": "320x240", "framerate": "25"})]
    assert all(frame and frame.key and frame.time and frame.time > 1.6e9 for frame in frames)
    assert [frame.pts for frame in frames if frame] == sorted(frame.pts for frame in frames if frame)
    for seed, frame in enumerate(frames):
        assert frame is not None
        assert psnr(picture(seed=seed), frame.image) > 30
    assert reader.decode_errors == 0


def test_a_webcam_that_is_unplugged_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first.avi", tmp_path / "second.avi"
    make_file(first, "mjpeg", "yuvj420p", 2)
    make_file(second, "rawvideo", "yuyv422", 2)
    stand_in = StandIn(first, second)
    monkeypatch.setattr(webcam, "open_device", stand_in)
    monkeypatch.setattr(webcam, "RETRY_SECONDS", 0.01)
    events: list[str] = []
    with polycast.read(
        "/dev/video3", buffer=10, timeout=PATIENCE, on_event=lambda event: events.append(event.kind)
    ) as reader:
        assert all(reader.read() for _ in range(4))
        stand_in.release.set()
    assert events[:3] == ["connected", "waiting", "connected"]
    assert [device for device, _ in stand_in.opened[:2]] == ["/dev/video3"] * 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(errno.ENOENT, "x"), "there is no such webcam"),
        (PermissionError(errno.EACCES, "x"), "sudo usermod -aG video"),
        (OSError(errno.EBUSY, "x"), "another program uses it"),
    ],
)
def test_a_webcam_that_cannot_be_opened(error: OSError, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Any:
        raise error

    monkeypatch.setattr(webcam, "open_device", fail)
    with polycast.read(7, timeout=PATIENCE) as reader:
        with pytest.raises(polycast.ConnectionFailed, match=reason) as raised:
            reader.read()
        assert "/dev/video7" in str(raised.value)
        with pytest.raises(polycast.ConnectionFailed):
            assert reader.rate


def test_what_a_webcam_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="without audio"):
        polycast.read("/dev/video0", audio=True)
    with pytest.raises(ValueError, match="size and rate are for webcams"):
        polycast.read("rtsp://127.0.0.1:1/cam", size=(640, 480))
    file = tmp_path / "camera.avi"
    make_file(file, "mjpeg", "yuvj420p", 1)
    stand_in = StandIn(file)
    monkeypatch.setattr(webcam, "open_device", stand_in)
    with polycast.read(0, timeout=PATIENCE) as reader:
        with pytest.raises(ValueError, match="not encoded"):
            reader.record(tmp_path / "clip.mp4")
        assert reader.read() is not None
        stand_in.release.set()


def test_the_device_is_opened_through_video4linux2() -> None:
    """The machine that runs the tests has no webcam; FFmpeg's error shows that the right input device was asked."""
    with pytest.raises(FileNotFoundError, match="/dev/video-of-nobody"):
        webcam.open_device(av, "/dev/video-of-nobody", {})
