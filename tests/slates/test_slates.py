"""Slates: what the generated ones contain, and files that are played again and again."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.interop import tools

from polycast.config import from_mapping
from polycast.config.always_available import AlwaysAvailableTrack, SlateCodec
from polycast.errors import ConfigurationError
from polycast.hub.slate import SlateFrame, SlateReader
from polycast.media.codec import AV1, G711, H264, H265, LPCM, VP9, Codec, MPEG4Audio, Opus
from polycast.slates import files
from polycast.slates.files import FileSlate
from polycast.slates.generated import GeneratedSlate
from polycast.slates.slates import Slates

SOUND = {"sample_rate": 48_000, "channel_count": 2}


def track(codec: SlateCodec, **more: int) -> AlwaysAvailableTrack:
    return AlwaysAvailableTrack(codec=codec, **more)  # type: ignore[arg-type]


async def seconds(reader: SlateReader, count: int) -> list[SlateFrame]:
    return [frame for _ in range(count) for frame in await reader.read()]


def check_times(frames: Sequence[SlateFrame], rates: Sequence[int]) -> None:
    """Assert that each track goes on without gaps, and that frames are due when they are decoded."""
    for index, rate in enumerate(rates):
        own = [frame for frame in frames if frame.track == index]
        assert own
        for before, after in itertools.pairwise(own):
            assert after.dts == before.dts + before.duration
        for frame in own:
            assert frame.due == pytest.approx(frame.dts / rate, abs=0.001)
    assert [frame.due for frame in frames] == sorted(frame.due for frame in frames)


@pytest.mark.parametrize(
    ("described", "codec"),
    [
        (track(SlateCodec.H264), H264),
        (track(SlateCodec.H265), H265),
        (track(SlateCodec.VP9), VP9),
        (track(SlateCodec.AV1), AV1),
    ],
    ids=lambda each: str(getattr(each, "codec", "")),
)
async def test_pictures(described: AlwaysAvailableTrack, codec: type[Codec]) -> None:
    slate = GeneratedSlate([described])
    assert isinstance(slate.tracks[0].codec, codec)
    frames = await seconds(slate.open(), 3)
    check_times(frames, [90_000])
    assert [frame.key for frame in frames] == ([True] + [False] * 9) * 3
    assert frames[10].units == frames[0].units
    assert sum(len(unit) for frame in frames[:10] for unit in frame.units) < 20_000


@pytest.mark.parametrize(
    ("described", "codec", "rate"),
    [
        (track(SlateCodec.OPUS), Opus(2), 50),
        (track(SlateCodec.MPEG4_AUDIO, **SOUND), MPEG4Audio(b"\x11\x90", 48_000, 2), 46.875),
        (track(SlateCodec.MPEG4_AUDIO, sample_rate=44_100, channel_count=6), MPEG4Audio(b"\x12\x30", 44_100, 6), 43.07),
        (track(SlateCodec.G711, sample_rate=8_000, channel_count=1), G711(False, 8_000, 1), 50),
        (track(SlateCodec.G711, sample_rate=8_000, channel_count=1, mu_law=True), G711(True, 8_000, 1), 50),
        (track(SlateCodec.LPCM, **SOUND), LPCM(16, 48_000, 2), 50),
        (track(SlateCodec.LPCM, sample_rate=22_050, channel_count=1), LPCM(16, 22_050, 1), 50),
    ],
    ids=lambda each: str(each),
)
async def test_sound(described: AlwaysAvailableTrack, codec: Codec, rate: float) -> None:
    slate = GeneratedSlate([described])
    assert slate.tracks[0].codec == codec
    frames = await seconds(slate.open(), 4)
    check_times(frames, [codec.clock_rate])
    assert len(frames) == pytest.approx(rate * 4, abs=1)
    assert all(frame.key for frame in frames)


async def test_the_tracks_of_a_slate_begin_together() -> None:
    slate = GeneratedSlate([track(SlateCodec.H264), track(SlateCodec.OPUS)])
    assert [each.index for each in slate.tracks] == [0, 1]
    frames = await seconds(slate.open(), 2)
    check_times(frames, [90_000, 48_000])
    assert {frame.track for frame in frames if frame.due == 0} == {0, 1}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A file of two seconds with B-frames, whose sound is a little longer."""
    return make_clip(tmp_path / "clip.mp4")


def make_clip(path: Path, *more: str) -> Path:
    tools.require("ffmpeg")
    picture = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=2"]
    sound = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=2.1"]
    encoders = ["-c:v", "libx264", "-g", "25", "-bf", "2", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    subprocess.run(
        [tools.quick_program(), "-v", "error", "-y", *picture, *sound, *encoders, *more, str(path)], check=True
    )
    return path


async def test_a_file_is_played_again_and_again(clip: Path) -> None:
    slate = FileSlate(str(clip))
    assert [type(each.codec) for each in slate.tracks] == [H264, MPEG4Audio]
    frames = await seconds(slate.open(), 7)
    pictures = [frame for frame in frames if frame.track == 0]
    sounds = [frame for frame in frames if frame.track == 1]
    assert len(pictures) >= 150
    assert [frame.units for frame in pictures[50:100]] == [frame.units for frame in pictures[:50]]
    assert any(frame.pts > frame.dts for frame in pictures)
    assert all(frame.pts >= frame.dts for frame in frames)
    length = (pictures[50].dts - pictures[0].dts) / 90_000
    assert length == pytest.approx(2.1, abs=0.05), "that of the longest track"
    assert (pictures[100].dts - pictures[50].dts) / 90_000 == pytest.approx(length, abs=0.001)
    steps = {after.dts - before.dts for before, after in itertools.pairwise(sounds)}
    assert max(steps) <= 1024 + 48_000 // 20, "the tracks stay in sync"
    assert min(steps) > 0
    assert [frame.due for frame in frames] == sorted(frame.due for frame in frames)


async def test_little_is_read_at_once(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAXIMUM_BLOCK", 10_000)
    reader = FileSlate(str(clip)).open()
    blocks = [await reader.read() for _ in range(20)]
    assert all(blocks)
    largest = max(len(unit) for block in blocks for frame in block for unit in frame.units)
    assert all(sum(len(unit) for frame in block for unit in frame.units) < 10_000 + 2 * largest for block in blocks)
    due = [frame.due for block in blocks for frame in block]
    assert due == sorted(due)


async def test_a_file_may_be_replaced(clip: Path, tmp_path: Path) -> None:
    slate = FileSlate(str(clip))
    reader = slate.open()
    first = await reader.read()
    os.replace(make_clip(tmp_path / "other.mp4", "-crf", "35"), clip)
    second = await reader.read()
    assert second[0].due == pytest.approx(first[-1].due, abs=0.1)
    assert second[0].units != first[0].units
    os.replace(make_clip(tmp_path / "silent.mp4", "-an"), clip)
    with pytest.raises(OSError, match="file has other tracks than before"):
        await reader.read()
    clip.write_bytes(b"nothing")
    with pytest.raises(OSError, match="file is not MP4"):
        await reader.read()
    clip.unlink()
    with pytest.raises(FileNotFoundError):
        await reader.read()


def test_files_that_cannot_be_slates(tmp_path: Path) -> None:
    tools.require("ffmpeg")
    path = tmp_path / "in.mp4"

    def error() -> str:
        configuration = from_mapping({"paths": {"cam": {"alwaysAvailable": True, "alwaysAvailableFile": str(path)}}})
        with pytest.raises(ConfigurationError) as caught:
            Slates().prepare(configuration)
        assert caught.value.keys == (("paths", "cam", "alwaysAvailableFile"),)
        return caught.value.message

    assert error() == f"invalid 'alwaysAvailableFile': No such file or directory ({path})"
    path.write_bytes(b"")
    assert "file is not MP4" in error()
    path.write_bytes(b"just some text")
    assert "file is not MP4, magic bytes are [32 115 111 109]" in error()
    make_clip(path, "-movflags", "+frag_keyframe+empty_moov")
    assert "file is fragmented, or has a track without frames" in error()
    make_clip(path, "-c:v", "mpeg4", "-bf", "0")
    assert "unsupported codec" in error()
    make_clip(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    assert "file does not contain any track" in error()
    path.write_bytes(data[:-100])
    assert "file is not valid MP4" in error()
    make_clip(path, "-t", "0.05", "-an")
    assert "shorter than 0.1 s" in error()


def test_paths_with_the_same_settings_share_a_slate(clip: Path) -> None:
    path = {"alwaysAvailable": True, "alwaysAvailableFile": str(clip)}
    slates = Slates()
    slates.prepare(from_mapping({"paths": {"a": path, "b": path, "c": {}}}))
    (before,) = slates._slates.values()
    slates.prepare(from_mapping({"paths": {"b": path}}))
    assert [*slates._slates.values()] == [before]
    os.utime(clip, ns=(1, 1))
    slates.prepare(from_mapping({"paths": {"b": path}}))
    assert [*slates._slates.values()] != [before]
    slates.prepare(from_mapping({"paths": {"a": {}}}))
    assert not slates._slates
