"""What playback returns is what FFmpeg finds in the recorded files: pictures and sound, with their times."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import struct
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest
from tests.playback.support import EPOCH, SECOND, STREAM, Recorder, Sample, box, boxes, inside, movie, playing
from tests.playback.test_get import at

CODECS = {
    "h264-aac": ["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "50", "-c:a", "aac"],
    "h265-opus": [
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "keyint=50:log-level=none",
        "-tag:v",
        "hvc1",
        "-c:a",
        "libopus",
    ],
    "vp9-flac": [
        "-c:v",
        "libvpx-vp9",
        "-deadline",
        "realtime",
        "-cpu-used",
        "8",
        "-g",
        "50",
        "-c:a",
        "flac",
        "-strict",
        "-2",
    ],
    "mpeg4-mp3": ["-c:v", "mpeg4", "-g", "50", "-c:a", "libmp3lame"],
    "mpeg2-ac3": ["-c:v", "mpeg2video", "-g", "50", "-c:a", "ac3"],
}
TRANSPORT = {"h264-aac", "h265-opus", "mpeg2-ac3"}
"""Those that are recorded in MPEG-TS as well."""


class Decoded(NamedTuple):
    """What FFmpeg finds in a file: (time in seconds, hash) of each picture and block of sound."""

    video: list[tuple[float, str]]
    audio: list[tuple[float, str]]


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def packets(source: str) -> Decoded:
    """Return the packets of a file, without decoding them."""
    text = run(
        "ffprobe", "-v", "error", "-show_packets", "-show_data_hash", "md5", "-show_entries",
        "packet=codec_type,dts_time,data_hash,flags", "-of", "json", source,
    )  # fmt: skip
    found = Decoded([], [])
    for packet in json.loads(text)["packets"]:
        is_video = packet["codec_type"] == "video"
        if is_video or "D" not in packet["flags"]:  # not what the encoder puts before the start
            (found.video if is_video else found.audio).append((float(packet["dts_time"]), packet["data_hash"]))
    return found


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds of each kind, made by FFmpeg."""
    folder = tmp_path_factory.mktemp("media")
    for name, codecs in CODECS.items():
        fragments = "movflags=+frag_keyframe+delay_moov+default_base_moof"
        outputs = [
            ["-f", "mp4", "-strict", "-2", "-movflags", fragments.partition("=")[2], str(folder / f"{name}.mp4")]
        ]
        if name in TRANSPORT:
            outputs.append(
                ["-f", "segment", "-segment_time", "4", "-segment_format", "mpegts", f"{folder}/{name}-%d.ts"]
            )
        for output in outputs:
            run(
                "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=192x128:r=25", "-f", "lavfi",
                "-i", "sine=r=48000", "-t", "12", *codecs, "-pix_fmt", "yuv420p", "-force_key_frames",
                "expr:gte(t,n_forced*2)", *output,
            )  # fmt: skip
    return folder


class Source(NamedTuple):
    """One file of FFmpeg, read with ffprobe."""

    tracks: list[bytes]
    """Boxes of the tracks, without edit lists."""
    rates: list[int]
    samples: list[Sample]
    """In the order of decoding; times count from the first one."""


def read_source(file: Path) -> Source:
    content = file.read_bytes()
    movie = inside(content, b"moov")
    tracks, rates = [], []
    for kind, start, end in boxes(movie):
        if kind == b"trak":
            track = movie[start:end]
            rates.append(struct.unpack_from(">I", inside(track, b"mdia", b"mdhd"), 12)[0])
            parts = [track[at - 8 : stop] for child, at, stop in boxes(track) if child != b"edts"]
            tracks.append(box(b"trak", *parts))
    entries = "packet=stream_index,pts,dts,duration,size,pos,flags"
    text = run(
        "ffprobe", "-v", "error", "-ignore_editlist", "1", "-show_entries", entries, "-of", "compact=p=0", str(file)
    )
    rows = [dict(field.split("=") for field in line.split("|") if "=" in field) for line in text.splitlines() if line]
    samples = []
    for row in rows:
        number, dts, pts, position, size = (int(row[key]) for key in ("stream_index", "dts", "pts", "pos", "size"))
        data = content[position : position + size]
        samples.append(Sample(number + 1, dts, 0, data, "K" in row["flags"], pts - dts))
    first = min(sample.time / rates[sample.track - 1] for sample in samples)
    for sample in samples:
        sample.time -= round(first * rates[sample.track - 1])
    for track in (1, 2):
        own = [sample for sample in samples if sample.track == track]
        for sample, following in pairwise(own):
            sample.duration = following.time - sample.time
        own[-1].duration = own[-2].duration
    samples.sort(key=lambda sample: (sample.time / rates[sample.track - 1], sample.track))
    return Source(tracks, rates, samples)


def record(recorder: Recorder, media: Path, name: str, extension: str) -> list[Path]:
    """Write three files as a recorder does, of four seconds each."""
    files = [recorder.name(4 * number, extension) for number in range(3)]
    if extension == "ts":
        for number, file in enumerate(files):
            shutil.copy(media / f"{name}-{number}.ts", file)
        return files
    source = read_source(media / f"{name}.mp4")
    for number, file in enumerate(files):
        parts: list[list[Sample]] = [[] for _ in range(4)]
        for sample in source.samples:
            rate = source.rates[sample.track - 1]
            second = sample.time // rate if number < 2 else min(sample.time // rate, 11)
            if second // 4 == number:
                time = sample.time - 4 * number * rate
                parts[second % 4].append(dataclasses.replace(sample, time=time))
        place = (STREAM, number, 4 * number * SECOND, (EPOCH + 4 * number) * SECOND)
        file.write_bytes(movie(parts, place=place, boxes_of_tracks=source.tracks))
    return files


KINDS = [(name, extension) for name in CODECS for extension in ("mp4", "ts") if extension == "mp4" or name in TRANSPORT]


def hashes(found: Sequence[tuple[float, str]]) -> list[str]:
    return [digest for _, digest in found]


def assert_even(times: Sequence[float]) -> None:
    """Check that there is neither a gap nor an overlap."""
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert max(steps) - min(steps) < 0.003, (min(steps), max(steps))


def slice_of(part: list[str], whole: list[str]) -> int:
    """Return where a list occurs in another one."""
    for start in range(len(whole) - len(part) + 1):
        if whole[start : start + len(part)] == part:
            return start
    raise AssertionError(f"{len(part)} of {len(whole)}: not consecutive")


@pytest.mark.parametrize(("name", "extension"), KINDS)
@pytest.mark.parametrize("form", ["fmp4", "mp4"])
async def test_periods_of_all_codecs(media: Path, tmp_path: Path, name: str, extension: str, form: str) -> None:
    recorder = Recorder(tmp_path)
    files = record(recorder, media, name, extension)
    query = {"path": "cam", "start": at(2.5), "duration": "7", "format": form}
    async with playing(recorder) as (_, client):
        response = await client.get("/get", params=query)
        assert response.status_code == 200, response.text
    result = tmp_path / "result.mp4"
    result.write_bytes(response.content)
    found = packets(str(result))
    if extension == "mp4":
        sources = [packets(str(file)) for file in files]
        video = [digest for source in sources for digest in hashes(source.video)]
        audio = [digest for source in sources for digest in hashes(source.audio)]
        assert slice_of(hashes(found.video), video) in (49, 50)
        slice_of(hashes(found.audio), audio)
    assert len(found.video) == 188  # the 13 before the start have no duration, or are not shown
    assert_even([time for time, _ in found.audio])
    run("ffmpeg", "-v", "error", "-xerror", "-i", str(result), "-f", "null", "-")


@pytest.mark.parametrize(("name", "extension"), KINDS)
async def test_decoded_pictures(media: Path, tmp_path: Path, name: str, extension: str) -> None:
    """The decoded pictures of a period are those of the files at these times."""
    recorder = Recorder(tmp_path)
    files = record(recorder, media, name, extension)

    def pictures(source: str) -> list[str]:
        text = run(
            "ffmpeg", "-v", "error", "-i", source, "-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", "-"
        )
        return [line.rpartition(",")[2].strip() for line in text.splitlines() if not line.startswith("#")]

    whole = [picture for file in files for picture in pictures(str(file))]
    query = {"path": "cam", "start": at(3.1), "duration": "6", "format": "mp4"}
    async with playing(recorder) as (_, client):
        response = await client.get("/get", params=query)
    result = tmp_path / "result.mp4"
    result.write_bytes(response.content)
    found = pictures(str(result))
    assert len(found) in range(148, 153)
    assert slice_of(found, whole) in range(74, 80)


@pytest.mark.parametrize(("name", "extension"), [kind for kind in KINDS if kind[0] != "mpeg2-ac3"])
async def test_ffmpeg_plays_the_playlist(media: Path, tmp_path: Path, name: str, extension: str) -> None:
    recorder = Recorder(tmp_path)
    files = record(recorder, media, name, extension)
    async with playing(recorder) as (server, _):
        port = server.app.control.ports["playbackAddress"]
        query = urlencode({"path": "cam", "start": at(0), "end": at(12)})
        found = await asyncio.to_thread(packets, f"http://127.0.0.1:{port}/index.m3u8?{query}")
    assert len(found.video) == 300
    assert_even([time for time, _ in found.video])
    assert_even([time for time, _ in found.audio])
    sources = [packets(str(file)) for file in files]
    assert len(found.audio) == sum(len(source.audio) for source in sources)
    if extension == "mp4":
        assert hashes(found.video) == [digest for source in sources for digest in hashes(source.video)]
        assert hashes(found.audio) == [digest for source in sources for digest in hashes(source.audio)]
