"""FFmpeg publishes files, and the recordings have the same packets, whatever the protocol."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import av
import pytest
from tests.control.support import BASE
from tests.support.running import application
from tests.support.waiting import until
from tests.wire.hls.samples import Sample, essence, sample, sample_folder, split

from polycast.config import LoadedConfiguration, from_mapping
from polycast.hub import path as hub_path
from polycast.hub.path import PathObserver

ADTS_HEADER = 7
TOGETHER = 5
"""Frames of AAC that FFmpeg sends in one RTP packet; it forgets the last ones."""


class Completed(PathObserver):
    """The durations of the files that are complete, by their names."""

    def __init__(self) -> None:
        self.files: dict[str, float] = {}

    def on_segment_completed(self, path: hub_path.Path, file: str, duration: float) -> None:
        self.files[file] = duration


def joined(names: tuple[str, ...]) -> tuple[Path, list[Sample]]:
    """Return a file with some streams, and the streams."""
    samples = [sample(name) for name in names]
    parts = [next(sample_folder().glob(f"{name}-25-320x180-48000-4.*")) for name in names]
    file = sample_folder() / f"record-{'-'.join(names)}.mkv"
    inputs = [argument for part in parts for argument in ("-i", str(part))]
    maps = [argument for number in range(len(parts)) for argument in ("-map", f"{number}:0")]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *inputs, *maps, "-c", "copy", str(file)], check=True)
    return file, samples


def recorded(files: list[str], given: list[Sample]) -> list[list[tuple[tuple[bytes, ...], float]]]:
    """Return what FFmpeg finds in files, by stream: the essence of packets, and when they are shown."""
    found: list[list[tuple[tuple[bytes, ...], float]]] = [[] for _ in given]
    for file in files:
        is_ts = file.endswith(".ts")
        with av.open(file) as container:
            for packet in container.demux():
                if packet.size:
                    codec = given[packet.stream_index].codec
                    skipped = ADTS_HEADER if is_ts and codec.name == "MPEG4Audio" else 0
                    units, _ = split(codec, bytes(packet)[skipped:], 0 if is_ts else 4)
                    assert packet.time_base is not None
                    time = float((packet.pts or 0) * packet.time_base)
                    found[packet.stream_index].append((essence(codec, units), time))
    return found


@pytest.mark.parametrize(
    ("protocol", "names", "record_format"),
    [
        ("rtsp", ("h264b", "aac"), "fmp4"),
        ("rtsp", ("h265", "opus"), "fmp4"),
        ("rtsp", ("h264", "aac"), "mpegts"),
        ("rtmp", ("h264b", "aac"), "fmp4"),
    ],
)
async def test_the_packets_of_a_publisher_are_recorded(
    tmp_path: Path, protocol: str, names: tuple[str, ...], record_format: str
) -> None:
    file, given = joined(names)
    settings = {
        "record": True,
        "recordFormat": record_format,
        "recordPath": f"{tmp_path}/%path/%s-%f",
        "recordSegmentDuration": "1h",
    }
    completed = Completed()
    configuration = from_mapping(
        {**BASE, "api": False, "metrics": False, "hlsDisable": True, "paths": {"cam": settings}}
    )
    loaded = LoadedConfiguration(configuration, None, [], frozenset())
    async with application(loaded, observers=[completed]) as (app, log):
        server = app.servers[protocol.upper()]
        address = f"{protocol}://127.0.0.1:{server.ports[f'{protocol}Address']}/cam"
        output = ["-f", "rtsp", "-rtsp_transport", "tcp"] if protocol == "rtsp" else ["-f", "flv"]
        command = ["ffmpeg", "-v", "error", "-re", "-i", str(file), "-map", "0", "-c", "copy", *output, address]
        process = await asyncio.create_subprocess_exec(*command)
        assert await process.wait() == 0
        await until(lambda: completed.files, log.lines)
    ((name, duration),) = completed.files.items()
    assert duration == pytest.approx(4, abs=0.1)
    for each, found in zip(given, recorded([name], given), strict=True):
        wanted = [(essence(each.codec, frame.units), frame.pts / each.codec.clock_rate) for frame in each.frames]
        # The protocol may need a frame to find out about a track, and the last one may get lost at the end.
        start = next(number for number, (units, _) in enumerate(wanted) if units == found[0][0])
        assert start <= 2
        expected = wanted[start : start + len(found)]
        together = TOGETHER if protocol == "rtsp" and each.codec.name == "MPEG4Audio" else 1
        assert len(found) >= len(wanted) - start - together
        assert [units for units, _ in found] == [units for units, _ in expected]
        shift = found[0][1] - expected[0][1]
        assert [time - shift for _, time in found] == pytest.approx([time for _, time in expected], abs=0.0015)
