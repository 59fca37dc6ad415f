"""The page of the real server says why a stream does not play: codec, source, password, address, path."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.browser import Browser, Page, launch
from tests.interop import tools
from tests.interop.hls_server import HlsServer, run_hls_server

pytestmark = pytest.mark.interop

PATHS = """\
  "~^live/.*$":
  broken:
    source: rtsp://127.0.0.1:1/x
  lazy:
    source: rtsp://127.0.0.1:1/x
    sourceOnDemand: yes
    sourceOnDemandStartTimeout: 1s
  idle:
    runOnDemand: sleep 60
    runOnDemandStartTimeout: 1s
  locked:
    readUser: viewer
    readPass: secret
  near:
    readIPs: [192.0.2.0/24]
"""
PICTURE = ("-re", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=10")
SOUND = ("-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000")
CODECS = {
    "VP8": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"),
    "VP9": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-strict", "experimental"),
    "MJPEG": ("-c:v", "mjpeg", "-huffman", "default", "-pix_fmt", "yuvj420p"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HlsServer]:
    tools.require("ffmpeg")
    with run_hls_server(tmp_path_factory.mktemp("server"), "mpegts", paths=PATHS) as running:
        yield running


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with launch() as browser:
        yield browser


async def says(page: Page, title: str, *advice: str) -> None:
    """Wait until the page shows the title, with all these parts in its advice."""
    shown = "document.getElementById('title').textContent"
    said = "document.getElementById('advice').textContent"
    conditions = [f"{shown} === {json.dumps(title)}", *(f"{said}.includes({json.dumps(part)})" for part in advice)]
    await page.wait_for(" && ".join(conditions))


@pytest.mark.parametrize(
    ("codec", "title", "advice"),
    [
        ("VP8", "VP8 cannot be played over HLS", "publish H.264"),
        ("VP9", "VP9 cannot be played with the server's HLS variant", "hlsVariant: fmp4"),
        ("MJPEG", "MJPEG cannot be played over HLS", "publish H.264"),
    ],
)
async def test_codecs(server: HlsServer, browser: Browser, codec: str, title: str, advice: str) -> None:
    with server.publishing(f"live/{codec}", "rtsp", *PICTURE, *CODECS[codec]):
        page = await browser.open(f"{server.base}/live/{codec}/")
        await says(page, title, advice)


async def test_a_video_that_is_left_out(server: HlsServer, browser: Browser) -> None:
    with server.publishing("live/half", "rtsp", *PICTURE, *SOUND, *CODECS["VP8"], "-c:a", "aac"):
        page = await browser.open(f"{server.base}/live/half/?info=1")
        await page.wait_for("!document.getElementById('soundOnly').hidden")
        text = await page.evaluate("document.getElementById('soundOnly').innerText")
        assert text.strip() == "Audio only: HLS does not carry VP8 video here"
        await page.wait_for("document.getElementById('info').innerText.includes('VP8 video')")


@pytest.mark.parametrize(
    ("path", "title", "advice"),
    [
        ("broken", "The source of this stream has failed", ("onnection refused", "attempt")),
        ("lazy", "The source of this stream has failed", ("onnection refused",)),
        ("idle", "The stream did not start", ("runOnDemand", "within 1 second")),
        ("live/nobody", "Waiting for the stream", ("Nobody is publishing",)),
        ("elsewhere", "There is no such stream", ("Check the address",)),
        ("near", "You are not allowed to watch this stream from here", ("127.0.0.1", "readIPs")),
    ],
)
async def test_paths(server: HlsServer, browser: Browser, path: str, title: str, advice: tuple[str, ...]) -> None:
    page = await browser.open(f"{server.base}/{path}/")
    await says(page, title, *advice)


async def test_a_password(server: HlsServer, browser: Browser) -> None:
    page = await browser.open(f"http://viewer:secret@127.0.0.1:{server.port}/locked/")
    await says(page, "Waiting for the stream", "Nobody is publishing")
