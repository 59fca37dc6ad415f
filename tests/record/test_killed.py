"""The server is killed while it records: every file can be read, at most the last part is missing, the index agrees.

Ten times, or 200 with ``POLYCAST_SOAK=full``.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import av
import pytest
from tests.protocols.hls.support import BOTH
from tests.support.waiting import PATIENCE

from polycast.log import Log
from polycast.media.timebase import NANOSECONDS
from polycast.playback.index import RecordingIndex

ROOT = Path(__file__).resolve().parent.parent.parent
TIMES = 100 if os.environ.get("POLYCAST_SOAK") == "full" else 5
"""How often in each format."""


def record_until_killed(folder: Path, record_format: str, parts: int, more: float) -> int:
    """Kill a program that records when some parts are written and a moment has passed; return the bytes of parts."""
    command = [sys.executable, "-m", "tests.record.killed_program", str(folder), record_format]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        sizes = [int(process.stdout.readline()) for _ in range(parts)]
        try:
            process.wait(more)
        except subprocess.TimeoutExpired:
            process.kill()
        sizes += [int(line) for line in process.stdout if line.endswith("\n")]
        process.wait(PATIENCE)
    return sum(sizes)


@pytest.mark.parametrize("record_format", ["fmp4", "mpegts"])
@pytest.mark.parametrize("number", range(TIMES))
def test_files_of_a_killed_server_can_be_read(tmp_path: Path, record_format: str, number: int) -> None:
    chance = random.Random(number)
    written = record_until_killed(tmp_path / "x", record_format, chance.randrange(1, 30), chance.random() * 0.05)
    files = sorted((tmp_path / "x").rglob("*.*"))
    assert files
    assert all(file.name[0] != "." for file in files)
    times: list[float] = []
    for file in files:
        with av.open(str(file)) as container:
            assert len(container.streams) == len(BOTH)
            video = container.streams.video[0]
            found = [packet for packet in container.demux(video) if packet.size and packet.pts is not None]
            assert video.time_base is not None
            time_base = float(video.time_base)  # a stream is freed with its container
        assert found[0].is_keyframe
        first = float(found[0].pts or 0) if record_format == "fmp4" else 0
        start = times[-1] + 1 / 30 if times and record_format == "fmp4" else 0
        times += [(float(packet.pts or 0) - first) * time_base + start for packet in found]
    assert sum(file.stat().st_size for file in files) >= written
    assert [after - before for before, after in pairwise(times)] == pytest.approx(
        [1 / 30] * (len(times) - 1), abs=0.001
    )
    # what the index of the next run says is what is in the files
    with closing(RecordingIndex(f"{tmp_path}/x/%path/%s-%f", Log())) as index:
        segments = index.segments("cam", 0, 1 << 62)
    assert [segment.file for segment in segments] == [str(file) for file in files]
    recorded = sum(segment.duration for segment in segments) / NANOSECONDS
    assert recorded == pytest.approx(len(times) / 30, abs=0.1 * len(files))
