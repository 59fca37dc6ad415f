"""Other WebRTC engines against the server: FFmpeg's WHIP muxer, and GStreamer's webrtcbin."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.interop import tools
from tests.protocols.webrtc.support import Fixture, running

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

SCRIPT = Path(__file__).with_name("gstreamer_webrtc.py")
BOTH_PORTS: dict[str, Any] = {"webrtcLocalTCPAddress": "127.0.0.1:0"}


@contextlib.asynccontextmanager
async def program(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program until the block ends."""
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def published(fixture: Fixture, process: asyncio.subprocess.Process) -> list[str]:
    """Wait until ``cam`` is published; return its codecs."""
    await fixture.until(lambda: fixture.path("cam").stream is not None or process.returncode is not None)
    stream = fixture.path("cam").stream
    assert stream is not None, (await process.communicate())[1].decode()
    return sorted(track.codec_name for track in stream.descriptions)


@pytest.mark.parametrize("values", [{}, BOTH_PORTS], ids=["UDP", "UDP and TCP"])
async def test_ffmpeg_publishes(values: dict[str, Any]) -> None:
    """It refuses answers whose first candidate is one for TCP."""
    command = (
        tools.current_ffmpeg(), "-hide_banner", "-loglevel", "error",
        "-re", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=30", "-re", "-f", "lavfi", "-i", "sine",
        "-pix_fmt", "yuv420p", "-c:v", "libx264", "-profile:v", "baseline", "-tune", "zerolatency",
        "-preset", "ultrafast", "-g", "15", "-c:a", "libopus", "-ar", "48000", "-ac", "2", "-f", "whip",
    )  # fmt: skip
    async with (
        running(**values) as fixture,
        program(*command, f"http://127.0.0.1:{fixture.server.port}/cam/whip") as process,
    ):
        assert await published(fixture, process) == ["H264", "Opus"]
        await fixture.until(lambda: all(item.packets_received > 100 for item in fixture.server.items().values()))


def require_webrtcbin() -> None:
    tools.require("gst-inspect-1.0")
    tools.require_system_python("gi")
    for element in ("webrtcbin", "nicesink"):
        if subprocess.run(["gst-inspect-1.0", element], capture_output=True, check=False).returncode:
            tools.require(f"the element {element} of GStreamer")
    typelib = "import gi; gi.require_version('GstWebRTC', '1.0')"
    if subprocess.run([tools.SYSTEM_PYTHON, "-c", typelib], capture_output=True, check=False).returncode:
        tools.require("the package gir1.2-gst-plugins-bad-1.0")


async def test_gstreamer_publishes_and_watches() -> None:
    require_webrtcbin()
    # It sends nothing to loopback addresses.
    async with running(webrtcLocalUDPAddress=":0") as fixture:
        base = f"http://127.0.0.1:{fixture.server.port}/cam"
        script = (tools.SYSTEM_PYTHON, str(SCRIPT))
        async with program(*script, "publish", f"{base}/whip") as publisher:
            assert await published(fixture, publisher) == ["Opus", "VP8"]
            async with program(*script, "watch", f"{base}/whep") as viewer:
                output, errors = await asyncio.wait_for(viewer.communicate(), 60)
    brightness = [int(line) for line in output.split()]
    assert len(brightness) >= 30, errors.decode()
    assert min(brightness) > 200, "white"
