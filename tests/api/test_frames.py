"""Frames between processes and libraries; the rate of a stream; decoding with hardware; one-line servers."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.api.conftest import PATIENCE, picture, psnr

import polycast
from polycast.api import options
from polycast.api.rate import RateMeter, usual_rate
from polycast.api.video_encoder import CHANNELS, PLANAR
from polycast.transcode.codecs import AUDIO_ENCODINGS, VIDEO_ENCODINGS

av = pytest.importorskip("av")
np = pytest.importorskip("numpy")

ROOT = Path(__file__).resolve().parents[2]


def one_frame(server: polycast.Server, **arguments: Any) -> polycast.VideoFrame:
    with server.publish("cam", size=(320, 240)) as video, server.read("cam", timeout=PATIENCE, **arguments) as reader:
        video.write(picture(), time=1_700_000_000.5)
        frame = reader.read()
        assert isinstance(frame, polycast.VideoFrame)
        return frame


@pytest.mark.parametrize("form", get_args(options.ArrayFormat))
def test_a_picture_can_be_pickled(server: polycast.Server, form: str) -> None:
    frame = one_frame(server, format=form)
    frame.image[0] = 7  # what a program does with the array counts
    frame.skipped = 3
    copy = pickle.loads(pickle.dumps(frame))
    assert np.array_equal(copy.image, frame.image)
    assert (copy.pts, copy.time, copy.key, copy.skipped) == (frame.pts, frame.time, frame.key, 3)
    assert (copy.width, copy.height) == (320, 240)
    assert copy.to_array("gray").shape == (240, 320)


def test_audio_and_encoded_frames_can_be_pickled(server: polycast.Server) -> None:
    with server.publish("mic", sample_rate=48000, channels=2) as sound:
        heard = server.read("mic", video=False, audio=True, buffer=9, timeout=PATIENCE)
        coded = server.read("mic", decode=False, timeout=PATIENCE)
        with heard, coded:
            sound.write_audio(np.zeros((4800, 2), np.float32))
            frame, packet = heard.read(), coded.read()
    assert frame is not None
    copy = pickle.loads(pickle.dumps(frame))
    assert np.array_equal(copy.samples, frame.samples)
    assert (copy.sample_rate, copy.pts, copy.time) == (frame.sample_rate, frame.pts, frame.time)
    assert pickle.loads(pickle.dumps(packet)) == packet


def test_a_tensor_shares_the_memory_of_the_array(server: polycast.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for PyTorch, whose `from_numpy` shares memory as DLPack does."""
    moved: list[tuple[str, bool]] = []

    class Tensor:
        def __init__(self, array: Any) -> None:
            self.array = np.from_dlpack(array)

        def to(self, device: str, *, non_blocking: bool) -> Tensor:
            moved.append((device, non_blocking))
            return self

    torch = types.ModuleType("torch")
    torch.from_numpy = Tensor  # type: ignore[attr-defined]
    frame = one_frame(server)
    monkeypatch.setitem(sys.modules, "torch", torch)
    tensor = frame.tensor()
    frame.image[5, 5] = 99
    assert tuple(tensor.array[5, 5]) == (99, 99, 99)
    assert moved == []
    frame.tensor("cuda")
    assert moved == [("cuda", True)]
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(polycast.MissingDependency, match="pip install torch"):
        frame.tensor()


def test_hardware_decoding_falls_back_to_the_processor(server: polycast.Server) -> None:
    frame = one_frame(server, hardware=True)
    assert psnr(picture(), frame.image) > 30


def test_hardware_is_used_where_there_is_one(server: polycast.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the device: which one is asked for, and that the decoder on it is used."""
    hwaccel = pytest.importorskip("av.codec.hwaccel")
    from polycast.transcode import decoder

    asked: list[tuple[str, str]] = []
    create = av.CodecContext.create

    class Context:
        is_hwaccel = True

        def __init__(self) -> None:
            object.__setattr__(self, "inner", create("h264", "r"))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def __setattr__(self, name: str, value: Any) -> None:
            setattr(self.inner, name, value)

    class FakeAv:
        error, codecs_available = av.error, av.codecs_available

        class CodecContext:
            @staticmethod
            def create(name: str, mode: str, hwaccel: Any = None) -> Any:
                asked.append((name, hwaccel))
                if hwaccel == "broken":
                    raise OSError("no such device")
                return Context()

    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: ["broken", "working", "never"])
    monkeypatch.setattr(hwaccel, "HWAccel", lambda device_type, allow_software_fallback: device_type)
    opened = decoder.open_decoder(FakeAv, polycast.Track(0, polycast.H264()), hardware=True)
    assert asked == [("h264", "broken"), ("h264", "working")]
    assert opened.is_hwaccel


@pytest.mark.parametrize("rate", [10.0, 25.0, 30.0])
def test_the_rate_of_a_stream(server: polycast.Server, rate: float) -> None:
    with server.publish("cam", size=(64, 64), rate=rate) as video, server.read("cam", timeout=PATIENCE) as reader:
        for count in range(12):
            video.write(picture(64, 64), time=1000 + count / rate)
        assert reader.rate == rate
        assert reader.read() is not None


async def test_the_rate_in_an_event_loop() -> None:
    async with (
        polycast.Server({"rtspAddress": "127.0.0.1:0"}) as server,
        server.publish("cam", size=(64, 64)) as video,
        server.read("cam", timeout=0.01) as reader,
    ):
        with pytest.raises(polycast.ReadTimeout):
            await reader.rate_async()
        waiting = asyncio.ensure_future(reader.rate_async())
        await asyncio.sleep(0)
        waiting.cancel()
        for count in range(12):
            await video.write_async(picture(64, 64), time=1000 + count / 25)
        assert await reader.rate_async() == 25


def test_the_rate_of_a_stream_that_ends(server: polycast.Server) -> None:
    with server.publish("cam", size=(64, 64)) as video:
        reader = server.read("cam", timeout=PATIENCE, reconnect=False)
        video.write(picture(64, 64))
    with pytest.raises(polycast.StreamEnded):
        assert reader.rate


@pytest.mark.parametrize(
    ("measured", "usual"),
    [
        (29.93, 30000 / 1001),
        (29.99, 30.0),
        (24.98, 25.0),
        (23.98, 24000 / 1001),
        (12.5, 12.5),
        (0.2, 0.2),
        (59.9, 60000 / 1001),
    ],
)
def test_usual_rates(measured: float, usual: float) -> None:
    assert usual_rate(measured) == usual


def test_times_that_make_no_rate() -> None:
    meter = RateMeter()
    for dts in (90_000, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12):
        meter.add(dts, 90_000)
    assert not meter.known.done()
    meter.restart()
    meter.add(100, 90_000)
    meter.add(100 + 90_000, 90_000)
    assert meter.known.result(0) == 1.0


def test_the_types_have_the_values_that_work() -> None:
    assert set(get_args(options.VideoCodecName)) == set(VIDEO_ENCODINGS)
    assert set(get_args(options.AudioCodecName)) == set(AUDIO_ENCODINGS)
    assert set(get_args(options.ArrayFormat)) == {*CHANNELS, *PLANAR}


def test_a_server_in_one_line() -> None:
    program = (
        "import polycast; polycast.serve({'rtspAddress': '127.0.0.1:0', 'rtmpAddress': '127.0.0.1:0', "
        "'hlsAddress': '127.0.0.1:0'})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    assert [line.partition("://")[0] for line in lines] == ["RTSP: rtsp", "RTMP: rtmp", "HLS: http"]
    assert all("/mystream" in line for line in lines)
