"""The index of MP4 files that FFmpeg wrote, compared with what FFprobe says; and of broken ones."""

from __future__ import annotations

import itertools
import json
import struct
import subprocess
from pathlib import Path

import pytest
from tests.interop.tools import quick_program
from tests.wire.hls.samples import sample, sample_folder

from polycast.errors import RemoteProtocolError
from polycast.media.codec import H264
from polycast.wire.mp4 import movie as module
from polycast.wire.mp4.boxes import box, full_box, iterate
from polycast.wire.mp4.initialization import InitializationTrack, build_initialization
from polycast.wire.mp4.movie import read_index

PAIRS = [("h264b", "aac"), ("h265", "opus"), ("av1", "mp3"), ("vp9", "ac3")]


def movie_box(path: Path) -> bytes:
    data = path.read_bytes()
    found = next(each for each in iterate(data, 0, len(data)) if each.kind == b"moov")
    return data[found.start : found.end]


@pytest.mark.interop
@pytest.mark.parametrize("flags", [[], ["-movflags", "+faststart"], ["-use_editlist", "0"]], ids=str)
@pytest.mark.parametrize("pair", PAIRS)
def test_files_of_ffmpeg(pair: tuple[str, str], flags: list[str], tmp_path: Path) -> None:
    inputs = []
    for name in pair:
        sample(name)
        inputs += ["-i", str(next(sample_folder().glob(f"{name}-*")))]
    path = tmp_path / "in.mp4"
    command = [quick_program(), "-v", "error", *inputs, "-map", "0", "-map", "1", "-c", "copy", "-strict", "-2", *flags]
    subprocess.run([*command, str(path)], check=True)
    show = ["ffprobe", "-v", "error", "-of", "json", "-show_entries", "packet=stream_index,pos,size,pts,dts", str(path)]
    packets = json.loads(subprocess.run(show, check=True, capture_output=True).stdout)["packets"]
    found = read_index(movie_box(path))
    assert (len(found.tracks), found.skipped) == (2, 0)
    for index, (track, name) in enumerate(zip(found.tracks, pair, strict=True)):
        assert track.track.codec == sample(name).codec
        theirs = [packet for packet in packets if packet["stream_index"] == index]
        assert list(track.positions) == [int(packet["pos"]) for packet in theirs]
        assert list(track.sizes) == [int(packet["size"]) for packet in theirs]
        ours = [
            time + composition + track.track.time_offset
            for time, composition in zip(track.times, track.compositions, strict=False)
        ]
        assert ours == [packet["pts"] for packet in theirs]
        steps = [after - before for before, after in zip(track.times, track.times[1:], strict=False)]
        dts = [packet["dts"] for packet in theirs]
        assert steps[:-1] == [after - before for before, after in itertools.pairwise(dts)]


SPS = bytes.fromhex("6742c028d900780227e584000003000400000300f03c60c920")
PPS = bytes.fromhex("68ce3c80")


def entries(kind: bytes, *rows: tuple[int, ...], version: int = 0) -> bytes:
    """Return a table with a count and rows of 32-bit numbers."""
    numbers = [number for row in rows for number in row]
    return full_box(kind, version, 0, struct.pack(f">I{len(numbers)}I", len(rows), *numbers))


SIZES = full_box(b"stsz", 0, 0, struct.pack(">5I", 0, 3, 10, 20, 30))
TABLES: dict[bytes, bytes] = {
    b"stts": entries(b"stts", (2, 100), (1, 50)),
    b"stsz": SIZES,
    b"stsc": entries(b"stsc", (1, 2, 1), (2, 1, 1)),
    b"stco": entries(b"stco", (1000,), (5000,)),
}


def movie(**changed: bytes) -> bytes:
    """Return a moov box with three samples in two chunks, and other tables in place of some."""
    tables = {**TABLES, **{name.encode(): table for name, table in changed.items()}}
    initialization = build_initialization([InitializationTrack(1, H264(SPS, PPS), 90_000, "eng")])
    data = initialization[next(each for each in iterate(initialization, 0, 9999) if each.kind == b"moov").start :]

    def rebuilt(start: int, end: int) -> bytes:
        parts = []
        for each in iterate(data, start, end):
            content = data[each.content : each.end]
            if each.kind in (b"trak", b"mdia", b"minf", b"moov"):
                content = rebuilt(each.content, each.end)
            elif each.kind == b"stbl":
                description = next(child for child in iterate(data, each.content, each.end) if child.kind == b"stsd")
                content = data[description.start : description.end] + b"".join(tables.values())
            parts.append(box(each.kind, content))
        return b"".join(parts)

    return rebuilt(0, len(data))


def test_tables() -> None:
    (track,) = read_index(movie()).tracks
    assert list(track.positions) == [1000, 1010, 5000]
    assert list(track.sizes) == [10, 20, 30]
    assert list(track.times) == [0, 100, 200, 250]
    assert list(track.compositions) == [0, 0, 0]
    assert track.track.codec == H264(SPS, PPS)


def test_other_forms_of_the_tables() -> None:
    found = read_index(
        movie(
            stsz=full_box(b"stsz", 0, 0, struct.pack(">2I", 7, 3)),
            stco=full_box(b"co64", 0, 0, struct.pack(">I2Q", 2, 1 << 33, 5)),
            ctts=entries(b"ctts", (1, 0xFFFFFFFF), (2, 8), version=1),
        )
    )
    (track,) = found.tracks
    assert list(track.sizes) == [7, 7, 7]
    assert list(track.positions) == [1 << 33, (1 << 33) + 7, 5]
    assert list(track.compositions) == [-1, 8, 8]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"stsz": b""}, "no sizes of samples"),
        ({"stsz": full_box(b"stsz", 0, 0, struct.pack(">2I", 0, 3))}, "cut off"),
        ({"stsz": full_box(b"stsz", 0, 0, struct.pack(">2I", 1, 500_001))}, "more than 500000 samples"),
        ({"stsz": full_box(b"stsz", 0, 0, struct.pack(">2I", 1 << 30, 3))}, "a sample is larger"),
        ({"stts": b""}, "no times of samples"),
        ({"stts": entries(b"stts", (2, 100))}, "times of a track are not valid"),
        ({"stts": full_box(b"stts", 0, 0, struct.pack(">I", 9))}, "cut off"),
        ({"stsc": entries(b"stsc", (1, 1, 1))}, "do not have all of its samples"),
        ({"stsc": b""}, "do not have all of its samples"),
        ({"stsc": entries(b"stsc", (2, 1, 1), (1, 1, 1))}, "not in order"),
        ({"stsc": entries(b"stsc", (9, 1, 1))}, "not in order"),
        ({"stsc": entries(b"stsc", (1, 2, 1), (2, 1, 2))}, "several descriptions"),
        ({"stco": full_box(b"co64", 0, 0, struct.pack(">I2Q", 2, 1 << 60, 5))}, "position of a chunk"),
    ],
)
def test_broken_tables(tables: dict[str, bytes], message: str) -> None:
    with pytest.raises(RemoteProtocolError, match=message):
        read_index(movie(**tables))


def test_what_is_no_movie() -> None:
    for data in (b"", b"abc", box(b"free"), box(b"moov")):
        with pytest.raises(RemoteProtocolError):
            read_index(data)


def test_each_truncation_is_noticed() -> None:
    whole = movie()
    for end in range(len(whole)):
        with pytest.raises(RemoteProtocolError):
            read_index(whole[:end])


def test_the_number_of_tracks_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAXIMUM_TRACKS", 0)
    with pytest.raises(RemoteProtocolError, match="too many tracks"):
        read_index(movie())
