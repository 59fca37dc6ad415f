"""FFmpeg reads what we write: every codec in every container gives the access units that went in, at their times."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.wire.hls.samples import AUDIO, VIDEO, Sample, essence, interleave, read_packets, sample

from polycast.wire.hls.muxer import Muxer
from polycast.wire.hls.options import MuxerOptions, Variant
from polycast.wire.hls.resource import Resource

pytestmark = pytest.mark.interop

CASES = [
    (variant, video, audio)
    for variant in Variant
    for video, audio in [
        ("h264", "aac"),
        ("h264b", "aac"),
        ("h264", "opus"),
        ("h264", "mp3"),
        ("h264b", "ac3"),
        ("h264b", "eac3"),
        ("h265", "aac"),
        (None, "aac"),
        (None, "opus"),
        (None, "mp3"),
        ("h264", None),
        *(
            []
            if variant is Variant.MPEGTS
            else [("av1", "opus"), ("vp9", "opus"), ("h264", "flac"), ("av1", "aac"), (None, "flac")]
        ),
    ]
]


def write(muxer: Muxer, folder: Path) -> Path:
    """Write all files of a muxer; its playlists get an end, so that FFmpeg reads them once."""
    for rendition in muxer._renditions:
        for name, file in rendition.files.items():
            (folder / name).write_bytes(file.body)
        playlist = muxer.playlist(f"{rendition.name}.m3u8")
        assert isinstance(playlist, Resource)
        # FFmpeg 5 asks for gaps
        text = re.sub(r"#EXT-X-PROGRAM[^\n]*\n#EXT-X-GAP\n#EXTINF[^\n]*\ngap.mp4\n", "", playlist.body.decode())
        (folder / f"{rendition.name}.m3u8").write_text(text + "#EXT-X-ENDLIST\n")
    return folder / "stream.m3u8"


@pytest.mark.parametrize(("variant", "video", "audio"), CASES)
def test_ffmpeg_reads_the_access_units(variant: Variant, video: str | None, audio: str | None, tmp_path: Path) -> None:
    samples = [sample(name) for name in (video, audio) if name is not None]
    tracks = [each.track(index) for index, each in enumerate(samples)]
    muxer = Muxer(variant, tracks, MuxerOptions(prefix="p", segment_count=50))
    assert not muxer.skipped
    for index, frame in interleave(*samples):
        muxer.write_frame(index, frame, 0.0, frame.wall_time or _START)
    assert muxer.counters.corrected_times == muxer.counters.dropped == muxer.counters.out_of_sync == 0
    path = write(muxer, tmp_path)
    found = read_packets(path, [each.codec for each in samples], allowed_extensions="ALL")
    shifts = []
    for each, packets in zip(samples, found, strict=True):
        # three whole segments of a second, where the key frames are each second
        assert len(packets) > 0.6 * len(each.frames)
        shifts.append(compare(each, packets))
    # the same shift for all tracks: they stay in sync to a tick
    assert max(shifts) - min(shifts) < 0.0001


_START = 1_700_000_000_000_000_000


def compare(source: Sample, packets: list) -> float:  # type: ignore[type-arg]
    """Check that the packets are the frames, with their times; return by how many seconds they are shifted."""
    rate = source.codec.clock_rate
    wanted = [essence(source.codec, frame.units) for frame in source.frames]
    units = [_strip(source, packet.essence) for packet in packets]
    # audio in front of the first key frame is left out
    first = wanted.index(units[0])
    assert first <= 2
    assert units == wanted[first : first + len(units)]
    frames = source.frames[first:]
    shift = packets[0].pts - frames[0].pts / rate
    for packet, frame in zip(packets, frames, strict=False):
        assert packet.pts == pytest.approx(frame.pts / rate + shift, abs=0.00005)
        assert packet.dts == pytest.approx(frame.dts / rate + shift, abs=0.00005)
        assert packet.key == frame.key
    return shift


def _strip(source: Sample, units: tuple[bytes, ...]) -> tuple[bytes, ...]:
    if source.codec.name == "MPEG4Audio" and units[0][:2] == b"\xff\xf1":  # the ADTS header
        return (units[0][7:],)
    return units


@pytest.mark.parametrize("variant", Variant)
def test_ffmpeg_reads_renditions(variant: Variant, tmp_path: Path) -> None:
    samples = [sample("h264"), sample("aac"), sample("opus")]
    tracks = [each.track(index) for index, each in enumerate(samples)]
    muxer = Muxer(variant, tracks, MuxerOptions(prefix="p", segment_count=50))
    for index, frame in interleave(*samples):
        muxer.write_frame(index, frame, 0.0, _START)
    write(muxer, tmp_path)
    index_file = muxer.index()
    assert isinstance(index_file, Resource)
    (tmp_path / "index.m3u8").write_bytes(index_file.body)
    found = read_packets(tmp_path / "index.m3u8", [each.codec for each in samples], allowed_extensions="ALL")
    shifts = [compare(each, packets) for each, packets in zip(samples, found, strict=True)]
    assert max(shifts) - min(shifts) < 0.0001


def test_a_wrong_frame_would_be_found(tmp_path: Path) -> None:
    source = sample("h264")
    muxer = Muxer(Variant.MPEGTS, [source.track(0)], MuxerOptions(prefix="p", segment_count=50))
    for number, frame in enumerate(source.frames):
        muxer.write_frame(0, source.frames[9] if number == 10 else frame, 0.0, _START)
    packets = read_packets(write(muxer, tmp_path), [source.codec], allowed_extensions="ALL")[0]
    with pytest.raises(AssertionError):
        compare(source, packets)


def test_names_of_samples_are_those_of_the_cases() -> None:
    assert {video for _, video, _ in CASES} - {None} == set(VIDEO)
    assert {audio for _, _, audio in CASES} - {None} == set(AUDIO)
