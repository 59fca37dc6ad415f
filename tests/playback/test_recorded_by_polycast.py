"""What Polycast records, it plays."""

from __future__ import annotations

import asyncio
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.playback.support import VIDEO, Recorder, playing, read_fragments
from tests.playback.test_recorded_hls import addresses
from tests.playback.test_truth import packets
from tests.support.waiting import PATIENCE


async def publish(port: int) -> None:
    """Publish eight seconds with a key frame every second to the path ``cam``, in real time."""
    process = await asyncio.create_subprocess_exec(
        "ffmpeg", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc=s=192x128:r=25", "-f", "lavfi",
        "-i", "sine=r=48000", "-t", "8", "-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p",
        "-c:a", "aac", "-f", "rtsp", "-rtsp_transport", "tcp", f"rtsp://127.0.0.1:{port}/cam",
        stderr=subprocess.PIPE,
    )  # fmt: skip
    _, errors = await asyncio.wait_for(process.communicate(), 2 * PATIENCE)
    assert process.returncode == 0, errors


@pytest.mark.parametrize("record_format", ["fmp4", "mpegts"])
async def test_recordings_of_the_server_itself(tmp_path: Path, record_format: str) -> None:
    recorder = Recorder(tmp_path)
    path: dict[str, Any] = {
        **recorder.settings,
        "record": True,
        "recordFormat": record_format,
        "recordSegmentDuration": "2s",
        "recordPath": str(tmp_path / "%path" / "%Y-%m-%d_%H-%M-%S-%f"),
    }
    async with playing(recorder, rtspDisable=False, paths={"all": path}) as (server, client):
        await publish(server.rtsp_port)
        await server.until(lambda: "cam" not in server.app.hub.paths or server.app.hub.paths["cam"].stream is None)
        await server.until(lambda: len(list(recorder.folder.iterdir())) >= 4)

        async def duration() -> float:
            entries = (await client.get("/list?path=cam")).json()
            assert len(entries) == 1  # without a gap
            return float(entries[0]["duration"])

        async with asyncio.timeout(PATIENCE):
            while (found := await duration()) < 7.5:
                pass
        assert found < 8.5
        (entry,) = (await client.get("/list?path=cam")).json()
        body = (await client.get("/get", params={"path": "cam", "start": entry["start"], "duration": "60"})).content
        samples = read_fragments(body)
        times = [sample.time for sample in samples[VIDEO]]
        assert len(times) in (199, 200)
        steps = {later - earlier for earlier, later in pairwise(times)}
        assert max(abs(step - 3600) for step in steps) < 900
        text = (await client.get("/index.m3u8", params={"path": "cam", "start": entry["start"], "duration": "8"})).text
        assert text.count("#EXT-X-DISCONTINUITY") == 0
        assert len(addresses(text)) >= 3
        port = server.app.control.ports["playbackAddress"]
        query = f"path=cam&start={entry['start'].replace('+', '%2B')}&duration=8"
        played = await asyncio.to_thread(packets, f"http://127.0.0.1:{port}/index.m3u8?{query}")
        assert len(played.video) == len(times)
