"""Fragmented files that FFmpeg wrote, our own, and broken ones."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from tests.interop.tools import quick_program
from tests.wire.hls import streams
from tests.wire.hls.samples import AUDIO, VIDEO, essence, interleave, read_packets, sample, sample_folder

from polycast.errors import RemoteProtocolError
from polycast.media.frame import Frame
from polycast.wire.hls.muxer import Muxer
from polycast.wire.hls.options import MuxerOptions, Variant
from polycast.wire.hls.resource import Resource
from polycast.wire.mp4 import demuxer as module
from polycast.wire.mp4.boxes import box, full_box
from polycast.wire.mp4.demuxer import Demuxer
from polycast.wire.mp4.fragment import SampleRun, build_fragment
from polycast.wire.mp4.initialization import InitializationTrack, build_initialization

PAIRS = [("h264b", "aac"), ("h265", "opus"), ("av1", "mp3"), ("vp9", "ac3"), ("h264", "flac"), ("h264", "eac3")]
FLAGS = ["+frag_keyframe+delay_moov+default_base_moof", "+cmaf+frag_keyframe+delay_moov+negative_cts_offsets"]


def written_by_ffmpeg(pair: tuple[str, str], flags: str, folder: Path) -> Path:
    inputs = []
    for name in pair:
        sample(name)
        inputs += ["-i", str(next(sample_folder().glob(f"{name}-*")))]
    path = folder / "in.mp4"
    command = [quick_program(), "-v", "error", *inputs, "-map", "0", "-map", "1", "-c", "copy", "-strict", "-2"]
    subprocess.run([*command, "-movflags", flags, "-y", str(path)], check=True)
    return path


@pytest.mark.interop
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("pair", PAIRS)
def test_files_of_ffmpeg(pair: tuple[str, str], flags: str, tmp_path: Path) -> None:
    path = written_by_ffmpeg(pair, flags, tmp_path)
    samples = [sample(name) for name in pair]
    wanted = read_packets(path, [each.codec for each in samples])
    demuxer = Demuxer()
    data = path.read_bytes()
    frames: list[tuple[int, Frame]] = []
    for start in range(0, len(data), 10_000):
        frames += demuxer.receive_data(data[start : start + 10_000])
    assert demuxer.tracks is not None
    assert demuxer.counters.broken == 0
    for index, (packets, source) in enumerate(zip(wanted, samples, strict=True)):
        track = demuxer.tracks[index]
        assert track.codec == source.codec
        found = [frame for number, frame in frames if number == index]
        rate = track.clock_rate
        assert [essence(source.codec, frame.units) for frame in found] == [packet.essence for packet in packets]
        times = [packet.pts for packet in packets]
        if (
            "negative" in flags and track.kind == "video"
        ):  # FFmpeg delays pictures with negative composition offsets, ISO/IEC 14496-12 does not
            shift = times[0] - source.frames[0].pts / rate
            assert 0 <= shift < 0.1
            times = [time - shift for time in times]
        assert [frame.pts / rate for frame in found] == pytest.approx(times, abs=0.0001)
        assert [frame.key for frame in found] == [packet.key for packet in packets]
        assert all(frame.dts <= frame.pts for frame in found)
        assert all(one.dts <= two.dts for one, two in pairwise(found))


@pytest.mark.interop
@pytest.mark.parametrize("variant", [Variant.FMP4, Variant.LOW_LATENCY])
@pytest.mark.parametrize("video", VIDEO)
@pytest.mark.parametrize("audio", ["aac", "opus"])
def test_our_own_segments(variant: Variant, video: str, audio: str) -> None:
    samples = [sample(video), sample(audio)]
    muxer = Muxer(
        variant, [each.track(index) for index, each in enumerate(samples)], MuxerOptions("p", segment_count=20)
    )
    for index, frame in interleave(*samples):
        muxer.write_frame(index, frame, 0.0, 0)  # type: ignore[arg-type]
    files = muxer._renditions[0].files
    demuxer = Demuxer()
    frames = demuxer.receive_data(files["p_stream_init0.mp4"].body)
    for segment in muxer._renditions[0].segments:
        if not segment.gap:
            frames += demuxer.receive_data(files[segment.name].body)
    for index, each in enumerate(samples):
        found = [frame for number, frame in frames if number == index]
        first = next(number for number, frame in enumerate(each.frames) if frame.units[-1] == found[0].units[-1])
        wanted = each.frames[first : first + len(found)]
        shift = found[0].pts - wanted[0].pts
        assert [(frame.pts - shift, frame.dts - shift) for frame in found] == [
            (frame.pts, frame.dts) for frame in wanted
        ]
        assert [essence(each.codec, frame.units) for frame in found] == [
            essence(each.codec, frame.units) for frame in wanted
        ]


def opus_file() -> bytes:
    codec = sample("opus").codec
    run = SampleRun(1, 48_000, full=False)
    for number in range(5):
        run.append(bytes((number,)) * 10, 960, 0, key=True)
    return build_initialization([InitializationTrack(1, codec, 48_000)]) + build_fragment(1, [run])


def test_byte_by_byte() -> None:
    demuxer = Demuxer()
    frames = [found for byte in opus_file() for found in demuxer.receive_data(bytes((byte,)))]
    assert [(index, frame.pts, frame.units) for index, frame in frames] == [
        (0, 48_000 + 960 * number, (bytes((number,)) * 10,)) for number in range(5)
    ]


def test_samples_outside_of_the_data_are_counted() -> None:
    data = opus_file()
    cut = data[:-10]
    size = int.from_bytes(data[-58:-54], "big")
    assert size == 58
    demuxer = Demuxer()
    frames = demuxer.receive_data(cut[:-48] + (48).to_bytes(4, "big") + cut[-44:])
    assert len(frames) == 4
    assert demuxer.counters.broken == 1


def test_tracks_of_unknown_codecs_are_counted() -> None:
    demuxer = Demuxer()
    assert demuxer.receive_data(opus_file().replace(b"Opus", b"????")) == []
    assert demuxer.tracks == ()
    assert demuxer.skipped == 1


def fragment(*children: bytes) -> bytes:
    return box(b"moof", box(b"traf", full_box(b"tfhd", 0, 0x020000, b"\0\0\0\1"), *children))


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\0mdat12345678",
        b"\xff\xff\xff\xffmoovxxxxxxxx",
        b"\xff\xff\xff\xffmdatxxxxxxxx",
        b"\0\0\0\1mdat" + b"\xff" * 8,
        box(b"moov"),
        box(b"moov", full_box(b"mvhd", 0, 0, bytes(96)), *[box(b"trak")] * 2),
        fragment(full_box(b"trun", 0, 0, b"\xff\xff\xff\xff")),
        fragment(full_box(b"trun", 0, 0x100, b"\0\0\0\2" + bytes(4))),
        fragment(full_box(b"tfdt", 1, 0, b"\xff" * 8)),
        fragment(*[full_box(b"trun", 0, 0, bytes(4))] * (module.MAXIMUM_RUNS + 1)),
        box(b"moof", box(b"traf", full_box(b"tfhd", 0, 1, b"\0\0\0\1" + bytes(8)))),
    ],
    ids=range(11),
)
def test_broken_files(data: bytes) -> None:
    demuxer = Demuxer()
    demuxer.receive_data(opus_file())
    with pytest.raises(RemoteProtocolError):
        demuxer.receive_data(data)


def test_names_of_samples_are_those_of_the_pairs() -> None:
    assert {video for video, _ in PAIRS} == set(VIDEO)
    assert {audio for _, audio in PAIRS} == set(AUDIO)


def test_the_samples_of_a_large_box_are_read_as_they_arrive() -> None:
    """Neither the box nor its samples are held twice."""
    muxer = Muxer(Variant.FMP4, [streams.track(0, streams.VIDEO)], streams.options())
    streams.feed(muxer, streams.video(0, streams.regular(3.1), size=20_000))
    names = [line for line in streams.text(muxer).splitlines() if line.endswith(".mp4")]
    whole, pieces = Demuxer(), Demuxer()
    largest = 0
    for name in ["t1_stream_init0.mp4", *names]:
        file = muxer.lookup(name)
        assert isinstance(file, Resource)
        expected = whole.receive_data(file.body)
        found = []
        for start in range(0, len(file.body), 1000):
            found += pieces.receive_data(file.body[start : start + 1000])
            largest = max(largest, len(pieces._buffer))
        assert [(index, frame.dts, frame.units) for index, frame in found] == [
            (index, frame.dts, frame.units) for index, frame in expected
        ]
    assert largest < 2 * 21_000 < len(file.body)


def test_other_boxes_are_passed_over_however_large() -> None:
    demuxer = Demuxer()
    size = 100 * 1024 * 1024
    demuxer.receive_data(size.to_bytes(4, "big") + b"free")
    for _ in range(1599):
        demuxer.receive_data(bytes(64 * 1024))
        assert len(demuxer._buffer) <= 64 * 1024
