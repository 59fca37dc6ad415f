"""Chromium watches a path that is always available, over WebRTC and HLS: the picture changes, the viewer stays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.browser import launch
from tests.control.support import Server, running
from tests.interop import tools
from tests.support import made

pytestmark = pytest.mark.interop

FLAGS = (
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--window-size=320,240",  # the more of a picture is painted, the more it costs
)
WIDTH = "document.querySelector('video')?.videoWidth"
SLATE, PUBLISHED = 1920, 320


@contextlib.asynccontextmanager
async def publishing(server: Server, sound: str) -> AsyncIterator[None]:
    media = made.by_ffmpeg(
        ".mkv", "-f", "lavfi", "-i", f"testsrc2=size={PUBLISHED}x180:rate=15",
        "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "10",
        "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15", "-pix_fmt", "yuv420p",
        "-c:a", sound, "-ac", "2",
    )  # fmt: skip
    command = tools.quick_ffmpeg(
        *("-re", "-stream_loop", "-1", "-i", media, "-c", "copy"),
        *("-f", "rtsp", "-rtsp_transport", "tcp", server.url("cam")),
    )
    process = await asyncio.create_subprocess_exec(*map(str, command))
    try:
        await server.until(lambda: server.app.hub.paths["cam"].is_online)
        yield
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("protocol", ["WebRTC", "HLS"])
async def test_the_viewer_stays(protocol: str) -> None:
    tools.require("ffmpeg")
    sound = {"codec": "MPEG4Audio", "sampleRate": 48_000, "channelCount": 2} if protocol == "HLS" else {"codec": "Opus"}
    path = {"alwaysAvailable": True, "alwaysAvailableTracks": [{"codec": "H264"}, sound]}
    values = {"webrtc": True, "webrtcAddress": "127.0.0.1:0", "webrtcLocalUDPAddress": "127.0.0.1:0"}
    async with running(paths={"cam": path}, hlsVariant="fmp4", **values) as server:
        port = server.app.servers[protocol].ports["webrtcAddress" if protocol == "WebRTC" else "hlsAddress"]
        async with launch(*FLAGS) as browser:
            page = await browser.open(f"http://127.0.0.1:{port}/cam/")
            await page.wait_for(f"{WIDTH} === {SLATE}")
            viewers = set(server.app.servers[protocol].items())
            for _ in range(2):
                async with publishing(server, "aac" if protocol == "HLS" else "libopus"):
                    await page.wait_for(f"{WIDTH} === {PUBLISHED}")
                    before = await page.evaluate("document.querySelector('video').currentTime")
                    await page.wait_for(f"document.querySelector('video').currentTime > {before} + 1")
                await page.wait_for(f"{WIDTH} === {SLATE}")
            assert set(server.app.servers[protocol].items()) == viewers, "nobody has connected again"
