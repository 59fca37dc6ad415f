"""Chromium goes back in a live stream, over what was recorded before the server ran, and returns to live (hlsDVR)."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.browser import launch
from tests.control.support import Server, running
from tests.interop import tools
from tests.support import made

pytestmark = pytest.mark.interop

FLAGS = (
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=640,480",  # the more of a picture is painted, the more it costs
)
BEFORE, LIVE = 160, 320
RECORDED_SECONDS = 7
WIDTH = "polycast.video.videoWidth"
MOVES = "!polycast.video.paused && polycast.video.currentTime"


def media(width: int, seconds: int) -> Path:
    """Return a file with a picture of this width, and sound."""
    return made.by_ffmpeg(
        ".mp4", "-f", "lavfi", "-i", f"testsrc2=size={width}x90:rate=15", "-f", "lavfi", "-i", "sine=sample_rate=48000",
        "-t", str(seconds), "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15",
        "-pix_fmt", "yuv420p", "-c:a", "aac", "-movflags", "+frag_keyframe+delay_moov+default_base_moof",
    )  # fmt: skip


@contextlib.asynccontextmanager
async def publishing(server: Server) -> AsyncIterator[None]:
    command = tools.quick_ffmpeg(
        "-re", "-stream_loop", "-1", "-i", media(LIVE, 20), "-c", "copy", "-f", "rtsp", server.url("cam")
    )
    process = await asyncio.create_subprocess_exec(*map(str, command))
    try:
        await server.until(lambda: server.app.hub.paths["cam"].is_online)
        yield
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("variant", ["fmp4", "lowLatency"])
async def test_back_and_live_again(variant: str, tmp_path: Path) -> None:
    tools.require("ffmpeg")
    folder = tmp_path / "recordings" / "cam"
    folder.mkdir(parents=True)
    shutil.copyfile(media(BEFORE, RECORDED_SECONDS), folder / f"{int(time.time()) - 60}-000000.mp4")
    path = {"record": True, "recordPath": f"{tmp_path}/recordings/%path/%s-%f", "hlsDVR": "5m"}
    values = {"hlsVariant": variant, "hlsEncryption": variant == "lowLatency", "protocols": ["tcp"]}
    if variant == "lowLatency":
        tools.make_certificate(tmp_path)
        values |= {"hlsServerCert": f"{tmp_path}/server.crt", "hlsServerKey": f"{tmp_path}/server.key"}
    async with running(paths={"cam": path}, **values) as server, publishing(server):
        port = server.app.servers["HLS"].ports["hlsAddress"]
        scheme = "https" if variant == "lowLatency" else "http"
        async with launch(*FLAGS, ignore_certificates=True) as browser:
            page = await browser.open(f"{scheme}://127.0.0.1:{port}/cam/")
            await page.wait_for(f"{WIDTH} === {LIVE} && polycast.supervisor.state === 'playing'")
            await page.wait_for("!document.getElementById('back').hidden")
            await page.evaluate(
                "(() => { const back = document.getElementById('back'); back.value = -200;"
                " back.dispatchEvent(new Event('change')); })()"
            )
            await page.wait_for(f"{WIDTH} === {BEFORE} && {MOVES} > 1")
            before = await page.evaluate("polycast.supervisor.secondsBeforeLive")
            assert before > 5
            await page.screenshot(tmp_path / "back.png")
            await page.wait_for("document.getElementById('live').dataset.state === 'behind'")
            await page.wait_for(f"{WIDTH} === {LIVE} && {MOVES} > {RECORDED_SECONDS}", 60)  # over the gap
            assert await page.evaluate("document.getElementById('live').dataset.state") == "behind"
            await page.evaluate("document.getElementById('live').click()")
            await page.wait_for("polycast.supervisor.back === 0 && polycast.supervisor.state === 'playing'")
            await page.wait_for("document.getElementById('live').dataset.state === 'live'")
            await page.wait_for(f"{WIDTH} === {LIVE} && {MOVES} > 0")
            assert not [line for line in page.console if line.startswith("error")]
