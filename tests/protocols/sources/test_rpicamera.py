"""The camera of a Raspberry Pi, with a fake program that emits a real H264 stream."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any

import pytest
import uvloop
from tests.interop import tools
from tests.protocols.rtsp.support import Fixture, running
from tests.protocols.sources.test_supervision import Frames

from polycast.codecs.nal import join_annexb
from polycast.config import from_mapping
from polycast.config.dialects.registry import MEDIAMTX
from polycast.config.path_schema import PathConfiguration
from polycast.errors import RemoteProtocolError
from polycast.hub.path import PathObserver
from polycast.protocols.rpicamera import output, source
from polycast.protocols.rpicamera.access_units import AccessUnitReader
from polycast.protocols.rpicamera.images import ImageReader
from polycast.protocols.rpicamera.options import arguments
from polycast.protocols.rpicamera.source import CameraClock

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the camera is a Linux one")

QUICK = {"sourceRetryPause": "20ms", "sourceRetryPauseMax": "50ms"}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A second of H264 at 25 frames per second, with two slices in each picture."""
    tools.require("ffmpeg")
    file = tmp_path_factory.mktemp("camera") / "camera.h264"
    subprocess.run(
        [
            *("ffmpeg", "-loglevel", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25"),
            *("-t", "1", "-c:v", "libx264", "-tune", "zerolatency", "-g", "5", "-pix_fmt", "yuv420p"),
            *("-x264-params", "slices=2:aud=1:repeat-headers=1", "-f", "h264", str(file)),
        ],
        check=True,
    )
    return file.read_bytes()


@pytest.fixture
def program(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch, recording: bytes) -> FilePath:
    """The fake program: it records its arguments, writes the recording and keeps running. Its script can be changed."""
    (tmp_path / "recording").write_bytes(recording)
    found = tmp_path / "rpicam-vid"
    write(found, f'echo "$@" > {tmp_path}/arguments\ncat {tmp_path}/recording\nexec sleep 60')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return found


def write(program: FilePath, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


class Recorder(PathObserver):
    """Reads from the first frame on."""

    def __init__(self, app: Fixture) -> None:
        self.frames = Frames()
        app.app.hub.observers.append(self)

    def on_path_ready(self, path: Any) -> None:
        path.attach_reader(self.frames, path.stream)


async def test_the_pictures_of_the_camera(program: FilePath, recording: bytes) -> None:
    paths = {"cam": {"source": "rpiCamera", "sourceOnDemand": True, **QUICK}}
    async with running(paths=paths) as app:
        recorder = Recorder(app)
        await app.reader("cam")
        await app.until(lambda: len(recorder.frames.frames) == 25)
        assert app.log.find(r"\[path cam\] \[rpicamera source\] ready: 1 track \(H264\)")
        assert app.path("cam").publisher.reference().type == "rpiCameraSource"  # type: ignore[union-attr]
        frames = [frame for _, frame in recorder.frames.frames]
        assert [frame.key for frame in frames] == [index % 5 == 0 for index in range(25)]
        sent = AccessUnitReader()
        expected = [unit for units in sent.receive(recording) + sent.flush() for unit in units]
        assert [unit for frame in frames for unit in frame.units] == expected
        assert [frame.pts for frame in frames] == sorted({frame.pts for frame in frames})


async def test_the_program_ends_with_the_server(program: FilePath, tmp_path: FilePath) -> None:
    write(
        program, f"trap 'echo bye > {tmp_path}/end; exit' INT; cat {tmp_path}/recording; while :; do sleep 0.01; done"
    )
    async with running(paths={"cam": {"source": "rpiCamera", **QUICK}}) as app:
        await app.until(lambda: app.path("cam").stream is not None)
    assert (tmp_path / "end").exists()


async def test_settings_are_passed_on(program: FilePath, tmp_path: FilePath) -> None:
    settings = {
        "rpiCameraCamID": 1,
        "rpiCameraWidth": 640,
        "rpiCameraHeight": 480,
        "rpiCameraFPS": 15,
        "rpiCameraIDRPeriod": 30,
        "rpiCameraBitrate": 2_000_000,
        "rpiCameraProfile": "high",
        "rpiCameraLevel": "4.2",
    }
    async with running(paths={"cam": {"source": "rpiCamera", **settings}}) as app:
        await app.until(lambda: app.path("cam").stream is not None)
    given = (tmp_path / "arguments").read_text().split()
    options = dict(itertools.pairwise(given))
    for name, value in (
        *(("--camera", "1"), ("--width", "640"), ("--height", "480"), ("--framerate", "15"), ("--intra", "30")),
        *(("--bitrate", "2000000"), ("--profile", "high"), ("--level", "4.2"), ("--codec", "h264")),
        *(("--timeout", "0"), ("--output", "-")),
    ):
        assert options[name] == value
    assert {"--inline", "--nopreview", "--flush"} <= set(given)


def test_defaults() -> None:
    given = arguments(PathConfiguration(source="rpiCamera", rpi_camera_h264_level="4.0"))
    options = dict(itertools.pairwise(given))
    assert (options["--width"], options["--height"], options["--framerate"]) == ("1280", "720", "30")
    assert (options["--bitrate"], options["--profile"], options["--level"]) == ("1000000", "main", "4")


def options_of(**settings: Any) -> dict[str, str]:
    """Return the options for settings as they are in a file, by name; a switch has the next option as value."""
    configuration = from_mapping({"paths": {"cam": {"source": "rpiCamera", **settings}}}, MEDIAMTX)
    return dict(itertools.pairwise([*arguments(configuration.paths["cam"]), ""]))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"rpiCameraBrightness": -0.5}, {"--brightness": "-0.5"}),
        ({"rpiCameraContrast": 0, "rpiCameraSaturation": 1.5}, {"--contrast": "0", "--saturation": "1.5"}),
        ({"rpiCameraSharpness": "2"}, {"--sharpness": "2"}),
        ({"rpiCameraExposure": "short"}, {"--exposure": "sport"}),
        ({"rpiCameraExposure": "long"}, {"--exposure": "long"}),
        ({"rpiCameraAWB": "cloudy"}, {"--awb": "cloudy"}),
        ({"rpiCameraAWBGains": [1.5, 2]}, {"--awbgains": "1.5,2"}),
        ({"rpiCameraDenoise": "cdn_hq"}, {"--denoise": "cdn_hq"}),
        ({"rpiCameraShutter": 10000}, {"--shutter": "10000"}),
        ({"rpiCameraMetering": "matrix"}, {"--metering": "average"}),
        ({"rpiCameraGain": 2.5, "rpiCameraEV": -3}, {"--gain": "2.5", "--ev": "-3"}),
        ({"rpiCameraROI": "0.25, 0.25,0.5,0.5"}, {"--roi": "0.25,0.25,0.5,0.5"}),
        ({"rpiCameraTuningFile": "imx708_noir.json"}, {"--tuning-file": "imx708_noir.json"}),
        ({"rpiCameraMode": "2304:1296:10:P"}, {"--mode": "2304:1296:10:P"}),
        ({"rpiCameraFPS": 29.97}, {"--framerate": "29.97"}),
        ({"rpiCameraAfMode": "auto", "rpiCameraAfRange": "macro"}, {"--autofocus-mode": "auto"}),
        ({"rpiCameraAfRange": "macro", "rpiCameraAfSpeed": "fast"}, {"--autofocus-range": "macro"}),
        ({"rpiCameraAfSpeed": "fast"}, {"--autofocus-speed": "fast"}),
        ({"rpiCameraAfMode": "manual"}, {"--autofocus-mode": "manual", "--lens-position": "0"}),
        ({"rpiCameraAfMode": "manual", "rpiCameraLensPosition": 2.5}, {"--lens-position": "2.5"}),
        ({"rpiCameraAfWindow": "0,0,0.5,1"}, {"--autofocus-window": "0,0,0.5,1"}),
        ({"rpiCameraFlickerPeriod": 8333}, {"--flicker-period": "8333"}),
        ({"rpiCameraCodec": "hardwareH264"}, {"--codec": "h264"}),
        (
            {"rpiCameraCodec": "softwareH264", "rpiCameraH264Profile": "high"},
            {"--codec": "libav", "--libav-video-codec": "libx264", "--libav-format": "h264", "--profile": "high"},
        ),
        (
            {"rpiCameraCodec": "mjpeg", "rpiCameraMJPEGQuality": 80, "rpiCameraWidth": 640, "rpiCameraHeight": 480},
            {"--codec": "mjpeg", "--quality": "80"},
        ),
        ({"rpiCameraJPEGQuality": 70}, {}),
    ],
)
def test_each_setting_has_its_option(settings: dict[str, Any], expected: dict[str, str]) -> None:
    options = options_of(**settings)
    assert {name: options.get(name) for name in expected} == expected


def test_what_is_not_changed_is_not_passed_on() -> None:
    """Older versions of the program lack some options."""
    assert set(options_of()) - {"-", "0", "30"} == {
        *("--camera", "--width", "--height", "--framerate", "--denoise", "--intra", "--bitrate", "--level", "--codec"),
        *("--timeout", "--output", "--inline", "--flush", "--nopreview"),
        *("1920", "1080", "off", "60", "5000000", "4.1", "h264"),
    }


@pytest.mark.parametrize(("key", "option"), [("HFlip", "--hflip"), ("VFlip", "--vflip"), ("HDR", "--hdr")])
def test_switches(key: str, option: str) -> None:
    assert option in options_of(**{f"rpiCamera{key}": True})
    assert option not in options_of()


async def test_a_text_in_the_picture(program: FilePath, tmp_path: FilePath) -> None:
    write(
        program,
        'while [ "$1" != --post-process-file ]; do shift; done\n'
        f"cp $2 {tmp_path}/overlay; echo $2 > {tmp_path}/name; cat {tmp_path}/recording; exec sleep 60",
    )
    settings = {"rpiCameraTextOverlayEnable": True, "rpiCameraTextOverlay": '%H:%M "front"'}
    async with running(paths={"cam": {"source": "rpiCamera", **settings}}) as app:
        await app.until(lambda: app.path("cam").stream is not None)
        assert json.loads((tmp_path / "overlay").read_text())["annotate_cv"]["text"] == '%H:%M "front"'
    assert not FilePath((tmp_path / "name").read_text().strip()).exists()


async def test_a_second_stream_is_refused(program: FilePath) -> None:
    async with running(paths={"cam": {"source": "rpiCamera", "rpiCameraSecondary": True, **QUICK}}) as app:
        await app.log.wait("failed: rpiCameraSecondary: rpicam-vid has only one stream")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Ten JPEG images of FFmpeg, one after the other."""
    tools.require("ffmpeg")
    file = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25", "-frames:v", "10")
    options = ("-c:v", "mjpeg", "-huffman", "default", "-pix_fmt", "yuvj420p", "-f", "mjpeg", str(file))
    subprocess.run(["ffmpeg", "-loglevel", "error", "-nostdin", *picture, *options], check=True)
    return file.read_bytes()


async def test_images_of_the_camera(program: FilePath, tmp_path: FilePath, images: bytes) -> None:
    (tmp_path / "recording").write_bytes(images)
    settings = {"rpiCameraCodec": "mjpeg", "rpiCameraWidth": 160, "rpiCameraHeight": 120}
    paths = {"cam": {"source": "rpiCamera", "sourceOnDemand": True, **settings, **QUICK}}
    async with running(paths=paths) as app:
        recorder = Recorder(app)
        await app.reader("cam")
        await app.until(lambda: len(recorder.frames.frames) == 10)
        assert app.log.find(r"\[rpicamera source\] ready: 1 track \(MJPEG\)")
        frames = [frame for _, frame in recorder.frames.frames]
        assert b"".join(unit for frame in frames for unit in frame.units) == images
        assert all(frame.key for frame in frames)


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_images_in_pieces_of_any_size(images: bytes, size: int) -> None:
    reader = ImageReader()
    found = [image for start in range(0, len(images), size) for image in reader.receive(images[start:][:size])]
    assert len(found) == 10
    assert b"".join(unit for image in found for unit in image) == images


@pytest.mark.parametrize("data", [b"x", b"\xffx", b"\xff\xd8a\xff\xd9x", b"x\xff\xd9"])
def test_bytes_that_are_no_images(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not JPEG images"):
        ImageReader().receive(data)


async def test_its_errors_are_shown(program: FilePath, tmp_path: FilePath) -> None:
    write(program, "echo hello >&2; echo 'ERROR: *** no cameras available ***' >&2; exit 255")
    async with running(paths={"cam": {"source": "rpiCamera", **QUICK}}) as app:
        await app.log.wait(
            r"failed: the camera program has ended with code 255: ERROR: \*\*\* no cameras available \*\*\*"
        )
        write(program, f"exec cat {tmp_path}/recording")
        await app.log.wait("ready: 1 track")


async def test_a_camera_that_hangs(program: FilePath) -> None:
    write(program, "exec sleep 60")
    async with running(paths={"cam": {"source": "rpiCamera", **QUICK}}, readTimeout="100ms") as app:
        await app.log.wait(r"failed: no pictures for 0\.1 s")


async def test_a_program_that_ignores_signals(
    program: FilePath, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "GRACE_SECONDS", 0.05)
    script = f"trap '' INT TERM; echo $$ > {tmp_path}/process; while :; do cat {tmp_path}/recording; done"
    write(program, script)
    paths = {"cam": {"source": "rpiCamera", "sourceOnDemand": True, "sourceOnDemandCloseAfter": "3s", **QUICK}}
    async with running(paths=paths) as app:
        reader = await app.reader("cam")
        await reader.close()
        process = int((tmp_path / "process").read_text())
        await app.until(lambda: not is_alive(process))


def is_alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_without_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "PROGRAMS", ("no-such-program", "nor-this-one"))
    async with running(paths={"cam": {"source": "rpiCamera", **QUICK}}) as app:
        await app.log.wait("failed: neither no-such-program nor nor-this-one is installed")


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_access_units_in_pieces_of_any_size(recording: bytes, size: int) -> None:
    reader = AccessUnitReader()
    found = [units for start in range(0, len(recording), size) for units in reader.receive(recording[start:][:size])]
    found += reader.flush()
    assert len(found) == 25
    # Two slices; parameter sets, and the encoder's own words, in front of key frames.
    assert {sum(unit[0] & 0x1F in (1, 5) for unit in units) for units in found} == {2}
    assert [unit[0] & 0x1F for unit in found[0]][:2] == [7, 8]
    assert reader.flush() == []
    assert not reader.is_pending
    assert join_annexb(found[-1]).endswith(recording[-100:])


def test_the_clock_is_even_and_follows() -> None:
    clock = CameraClock(25)
    jitter = [0.0, 0.008, -0.006, 0.004, 0.0, 0.01, -0.01, 0.0] * 20
    times = [clock.time_of(100 + index * 0.04 + late) for index, late in enumerate(jitter)]
    steps = [two - one for one, two in itertools.pairwise(times)]
    assert all(3400 < step < 3800 for step in steps)
    assert clock.time_of(100 + 160 * 0.04 + 5) > times[-1] + 4.9 * 90_000  # after a pause it is right at once


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("held", [">/dev/null", "2>/dev/null", ""], ids=["messages", "pictures", "both"])
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted as on Linux")
async def test_a_process_that_the_program_leaves_behind(
    held: str, program: FilePath, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the pipes, so they never end."""
    monkeypatch.setattr(source, "GRACE_SECONDS", 0.05)
    write(program, f"setsid sleep 60 {held} &\necho $! >> {tmp_path}/pids\nexit 3")
    failure = "failed: the camera program has ended with code 3"
    async with running(paths={"cam": {"source": "rpiCamera", **QUICK}}) as app:
        try:
            await app.log.wait(failure)
            before = open_files()
            await app.until(lambda: sum(failure in line for line in app.log.lines) >= 5)
            assert open_files() <= before + 2
        finally:
            for pid in (tmp_path / "pids").read_text().split():
                os.kill(int(pid), signal.SIGKILL)


async def test_the_last_pictures_before_the_end(program: FilePath, tmp_path: FilePath) -> None:
    """They are in the pipe when the program has ended, and a child of it holds the pipe open."""
    write(program, f"sleep 60 2>/dev/null &\necho $! > {tmp_path}/pid\ncat {tmp_path}/recording")
    paths = {"cam": {"source": "rpiCamera", "sourceOnDemand": True}}
    async with running(paths=paths) as app:
        try:
            recorder = Recorder(app)
            await app.reader("cam")
            await app.log.wait("failed: the camera program has ended with code 0")
            assert len(recorder.frames.frames) == 25
        finally:
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


async def test_a_child_that_writes_on_when_the_program_has_ended(
    program: FilePath, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "LONGEST_REST_SECONDS", 0.1)
    repeat = f"while cat {tmp_path}/recording; do :; done"
    write(program, f"({repeat}) 2>/dev/null &\necho $! > {tmp_path}/pid\nexit 3")
    async with running(paths={"cam": {"source": "rpiCamera"}}) as app:
        try:
            await app.log.wait("failed: the camera program has ended with code 3")
        finally:
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("has_ended", [True, False])
def test_the_pipe_of_a_program_is_closed_only_once(
    new_loop: Callable[[], asyncio.AbstractEventLoop], has_ended: bool
) -> None:
    """What is opened right after it was closed may have the same number."""

    async def use() -> None:
        async with source._pipe() as (reader, sink):
            if has_ended:
                sink.close()
                assert await reader.read() == b""
        others = [os.open(os.devnull, os.O_RDONLY) for _ in range(4)]
        for _ in range(10):
            await asyncio.sleep(0)
        for other in others:
            os.close(other)  # OSError: it was closed already

    with asyncio.Runner(loop_factory=new_loop) as runner:
        for _ in range(5):
            runner.run(use())
