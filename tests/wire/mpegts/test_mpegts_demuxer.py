"""Transport streams that FFmpeg wrote, and ones that got damaged."""

from __future__ import annotations

import subprocess
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from tests.interop.tools import quick_program
from tests.wire.hls.samples import Sample, essence, interleave, read_packets, sample, sample_folder
from tests.wire.hls.streams import AUDIO, VIDEO, audio, merge, regular, track, video

from polycast.codecs import aac
from polycast.media.codec import H264, H265, Codec, MPEG4Video
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.mpegts import demuxer as module
from polycast.wire.mpegts.codecs import make_parser
from polycast.wire.mpegts.demuxer import Demuxer
from polycast.wire.mpegts.muxer import Muxer
from polycast.wire.mpegts.packet import PacketWriter
from polycast.wire.mpegts.pes import build_pes_header
from polycast.wire.mpegts.psi import ElementaryStream, ProgramMap, build_program_association, build_program_map

SINGLE = Frame((VIDEO.sps, VIDEO.pps, b"\x65\x88" + b"U" * 1000), 90_000, 90_000, key=True)
"""A key frame that nothing follows."""

PAIRS = [("h264", "aac"), ("h264b", "opus"), ("h265", "mp3"), ("h264", "ac3"), ("h264", "eac3")]


def written_by_ffmpeg(pair: tuple[str, str], folder: Path) -> Path:
    """Let FFmpeg copy a sample of ours into a transport stream."""
    sources = []
    for name in pair:
        sample(name)
        sources.append(next(sample_folder().glob(f"{name}-*")))
    path = folder / "in.ts"
    inputs = [word for source in sources for word in ("-i", str(source))]
    subprocess.run(
        [quick_program(), "-v", "error", *inputs, "-map", "0", "-map", "1", "-c", "copy", "-y", str(path)], check=True
    )
    return path


@pytest.mark.interop
@pytest.mark.parametrize("chunk", [188, 1000, 1 << 20])
@pytest.mark.parametrize("pair", PAIRS)
def test_streams_of_ffmpeg(pair: tuple[str, str], chunk: int, tmp_path: Path) -> None:
    path = written_by_ffmpeg(pair, tmp_path)
    samples = [sample(name) for name in pair]
    wanted = read_packets(path, [each.codec for each in samples])
    demuxer = Demuxer()
    data = path.read_bytes()
    frames: list[tuple[int, Frame]] = []
    for start in range(0, len(data), chunk):
        frames += demuxer.receive_data(data[start : start + chunk])
    frames += demuxer.flush()
    assert demuxer.tracks is not None
    assert [type(each.codec) for each in demuxer.tracks] == [type(each.codec) for each in samples]
    for index, (packets, source) in enumerate(zip(wanted, samples, strict=True)):
        compare([frame for found, frame in frames if found == index], packets, source, demuxer.tracks[index])
    counters = demuxer.counters
    assert counters.continuity_errors == counters.lost_sync == counters.broken == 0


def compare(frames: list[Frame], packets: list, source: Sample, found: Track) -> None:  # type: ignore[type-arg]
    rate = found.clock_rate
    assert rate == source.codec.clock_rate
    adts = 7 if found.codec.name == "MPEG4Audio" else 0
    wanted = [tuple(unit[adts:] for unit in packet.essence) for packet in packets]
    assert [essence(source.codec, frame.units) for frame in frames] == wanted
    assert len(frames) == len(source.frames)
    assert [frame.key for frame in frames] == [frame.key for frame in source.frames]
    if found.kind == "audio":
        # FFmpeg puts several audio frames in a PES packet, where only the first has a time
        shift = frames[0].pts / rate - packets[0].pts
        assert shift == pytest.approx(0, abs=0.0001)
        times = [frame.pts / rate - frames[0].pts / rate for frame in frames]
        assert times == pytest.approx(
            [frame.pts / rate - source.frames[0].pts / rate for frame in source.frames], abs=0.002
        )
        return
    assert [frame.pts / rate for frame in frames] == pytest.approx([packet.pts for packet in packets], abs=0.0001)
    assert [frame.dts / rate for frame in frames] == pytest.approx([packet.dts for packet in packets], abs=0.0001)


@cache
def ours(start: int = 0) -> tuple[bytes, tuple[Frame, ...]]:
    """Two seconds of video and audio as our muxer writes them."""
    rates = {0: 90_000, 1: 48_000}
    muxer = Muxer([track(0, VIDEO), track(1, AUDIO)])
    frames = merge(rates, video(0, regular(2), size=1000), audio(1, 2))
    data = [muxer.tables()]
    for index, frame in frames:
        time = frame.dts * 90_000 // rates[index] + start
        data.append(muxer.write_frame(index, frame, time, time))
    return b"".join(data), tuple(frame for index, frame in frames if index == 0)


def demux(data: bytes) -> tuple[Demuxer, list[tuple[int, Frame]]]:
    demuxer = Demuxer()
    frames = demuxer.receive_data(data)
    return demuxer, frames + demuxer.flush()


def test_our_own_streams_byte_by_byte() -> None:
    data, _ = ours()
    _, whole = demux(data)
    demuxer = Demuxer()
    single = [found for number in range(0, len(data), 7) for found in demuxer.receive_data(data[number : number + 7])]
    single += demuxer.flush()

    def key(found: list[tuple[int, Frame]]) -> list[tuple[int, int, tuple[bytes, ...]]]:
        return sorted((index, frame.dts, frame.units) for index, frame in found)

    assert key(single) == key(whole)
    assert len(whole) == 60 + 94


def test_times_keep_growing_over_the_wrap() -> None:
    data, _ = ours(start=(1 << 33) - 36_000 - 90_000)
    demuxer, frames = demux(data)
    assert demuxer.tracks is not None
    for index in range(2):
        times = [frame.dts for found, frame in frames if found == index]
        steps = {later - earlier for earlier, later in pairwise(times)}
        assert steps == ({3000} if index == 0 else {1024})
    first = {index: frame.dts / demuxer.tracks[index].clock_rate for index, frame in reversed(frames)}
    assert first[0] == pytest.approx(first[1], abs=0.0001)


def test_garbage_between_packets_is_skipped() -> None:
    data, _ = ours()
    middle = 188 * 50
    demuxer, frames = demux(b"\x47junk" + data[:middle] + b"\x00" * 77 + data[middle:])
    _, whole = demux(data)
    assert len(frames) == len(whole)
    assert demuxer.counters.lost_sync == 1


def test_lost_packets_are_counted_and_lose_only_their_frames() -> None:
    data, _ = ours()
    packets = [data[start : start + 188] for start in range(0, len(data), 188)]
    random = Random(3)
    kept = [packet for number, packet in enumerate(packets) if number < 10 or random.random() > 0.05]
    demuxer, frames = demux(b"".join(kept))
    _, whole = demux(data)
    lost = len(packets) - len(kept)
    assert 0 < demuxer.counters.continuity_errors <= lost
    assert sum(demuxer.losses) == demuxer.counters.continuity_errors
    assert demux(data)[0].losses == (0,) * len(demuxer.losses)
    assert len(whole) - 2 * lost <= len(frames) < len(whole)
    good = {(index, frame.units) for index, frame in whole}
    assert all((index, frame.units) in good for index, frame in frames)


def test_packets_that_come_twice_count_once() -> None:
    data, _ = ours()
    twice = b"".join(data[start : start + 188] * 2 for start in range(0, len(data), 188))
    demuxer, frames = demux(twice)
    assert len(frames) == len(demux(data)[1])
    assert demuxer.counters.continuity_errors == 0


def test_broken_tables_are_counted() -> None:
    data, _ = ours()
    broken = bytearray(data)
    broken[20] ^= 1
    demuxer, frames = demux(bytes(broken))
    assert demuxer.counters.broken == 1
    assert frames == []


def test_streams_that_are_not_supported_are_named() -> None:
    streams = (ElementaryStream(0x1B, 256), ElementaryStream(0x86, 257), ElementaryStream(0x06, 258))
    tables = PacketWriter(0).write_section(build_program_association(4096))
    tables += PacketWriter(4096).write_section(build_program_map(ProgramMap(256, streams)))
    demuxer, frames = demux(tables + ours()[0][2 * 188 :])
    assert demuxer.skipped == (0x86, 0x06)
    assert [str(each) for each in demuxer.tracks or ()] == ["H264"]
    assert len(frames) == 60


def test_a_track_without_data_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAXIMUM_PROBE_SIZE", 20_000)
    muxer = Muxer([track(0, VIDEO), track(1, AUDIO)])
    data = muxer.tables() + b"".join(
        muxer.write_frame(0, frame, frame.pts, frame.dts) for _, frame in video(0, regular(2), size=1000)
    )
    demuxer = Demuxer()
    frames = [found for start in range(0, len(data), 500) for found in demuxer.receive_data(data[start : start + 500])]
    assert len(frames) >= 58
    assert [str(each) for each in demuxer.tracks or ()] == ["H264"]


@pytest.mark.parametrize(
    ("codec", "key_frame"),
    [
        (H264(), (b"\x67\1\2\3", b"\x68", b"\x65\x88\x84")),
        (H265(), (b"\x40\1\2", b"\x42\1\2", b"\x44\1", b"\x26\1\xaf")),
        (MPEG4Video(), (b"\0\0\1\xb6\x10\1",)),
    ],
)
def test_parameters_that_cannot_be_parsed_hold_nothing_up(codec: Codec, key_frame: tuple[bytes, ...]) -> None:
    """They are passed on with the frames: a decoder may know more than we do."""
    muxer = Muxer([track(0, codec)])
    frame = Frame(key_frame, 3600, 3600, key=True)
    demuxer, frames = demux(muxer.tables() + muxer.write_frame(0, frame, 3600, 3600))
    assert [type(each.codec) for each in demuxer.tracks or ()] == [type(codec)]
    assert [found.units for _, found in frames] == [key_frame]
    assert frames[0][1].key


def test_adts_frames_may_lie_across_pes_packets() -> None:
    frames = [bytes((number,)) * (50 + number) for number in range(20)]
    stream = b"".join(aac.build_adts_header(AUDIO, len(frame)) + frame for frame in frames)
    parser = make_parser(ElementaryStream(0x0F, 257))
    assert parser is not None
    found = []
    start = 0
    while start < len(stream):
        found += parser.parse(stream[start : start + 333], None if start else 90_000, None if start else 90_000)
        start += 333
    assert [frame.units[0] for frame in found] == frames
    assert [frame.pts for frame in found] == [48_000 + 1024 * number for number in range(20)]


def test_a_frame_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAXIMUM_PES_SIZE", 10_000)
    muxer = Muxer([track(0, VIDEO)])
    data = muxer.tables() + muxer.write_frame(0, Frame((b"\x65" + bytes(50_000),), 0, 0, key=True), 0, 0)
    demuxer, frames = demux(data)
    assert frames == []
    assert demuxer.counters.broken == 1


@pytest.mark.interop
def test_reading_is_the_inverse_of_writing() -> None:
    samples = [sample("h264b"), sample("opus")]
    muxer = Muxer([each.track(index) for index, each in enumerate(samples)])
    data = [muxer.tables()]
    for index, frame in interleave(*samples):
        rate = samples[index].codec.clock_rate
        pts, dts = frame.pts * 90_000 // rate + 90_000, frame.dts * 90_000 // rate + 90_000
        data.append(muxer.write_frame(index, frame, pts, dts))
    _, frames = demux(b"".join(data))
    for index, each in enumerate(samples):
        found = [frame for number, frame in frames if number == index]
        offset = round(1.4 * each.codec.clock_rate)
        assert [(frame.pts, frame.dts) for frame in found] == [
            (frame.pts + offset, frame.dts + offset) for frame in each.frames
        ]


def test_build_pes_header_is_short_enough_for_a_packet() -> None:
    assert len(build_pes_header(0xE0, 1 << 20, 1 << 40, 0)) <= 170


def test_one_frame_tells_the_parameters_at_the_end_of_the_analysis() -> None:
    """As of a camera that takes a picture a minute."""
    muxer = Muxer([track(0, VIDEO)])
    data = muxer.tables() + muxer.write_frame(0, SINGLE, 90_000, 90_000)
    demuxer = Demuxer()
    assert demuxer.receive_data(data) == []
    assert demuxer.tracks is None
    ((index, frame),) = demuxer.end_analysis()
    assert demuxer.tracks == (track(0, VIDEO),)
    assert (index, frame.key, frame.units[-1]) == (0, True, SINGLE.units[-1])


def test_the_end_of_the_analysis_cuts_no_frame() -> None:
    muxer = Muxer([track(0, VIDEO), track(1, AUDIO)])
    frames = [muxer.write_frame(0, SINGLE, time, time) for time in (90_000, 180_000)]
    demuxer = Demuxer()
    assert demuxer.receive_data(muxer.tables() + frames[0] + frames[1][:188]) == []
    assert len(demuxer.end_analysis()) == 1
    ((_, frame),) = (*demuxer.receive_data(frames[1][188:]), *demuxer.flush())
    assert frame.units[-1] == SINGLE.units[-1]
