"""What is recorded is what was published: every codec in both formats, read back by FFmpeg."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import av
import pytest
from tests.record.support import Recording, Written, read, shifted
from tests.wire.hls.samples import AUDIO, VIDEO, Sample, essence, interleave, sample, sample_folder

from polycast.media.codec import G711, KLV, LPCM, MJPEG, VP8, Codec, MPEG2Video, MPEG4Video
from polycast.media.frame import Frame
from polycast.record.packagers import FORMATS

OTHER_VIDEO = {
    "mpeg4": ("mpeg4", "m4v", MPEG4Video()),
    "mpeg2": ("mpeg2video", "m2v", MPEG2Video()),
    "mpeg1": ("mpeg1video", "m1v", MPEG2Video()),
    "mjpeg": ("mjpeg", "avi", MJPEG()),
    "vp8": ("libvpx", "webm", VP8()),
}
"""Encoder, file extension, and the codec, for what the samples of HLS lack."""
SECONDS = 4
LABEL = bytes.fromhex("060e2b34020b01010e01030101000000")


def pictures(name: str) -> Sample:
    """Return a stream of another codec: 4 s of 25 pictures, a key frame each second."""
    encoder, extension, codec = OTHER_VIDEO[name]
    path = sample_folder() / f"record-{name}.{extension}"
    if not path.exists():
        source = ["-f", "lavfi", "-i", f"testsrc2=size=320x180:rate=25:duration={SECONDS}"]
        options = ["-g", "25", "-pix_fmt", "yuvj420p" if name == "mjpeg" else "yuv420p", "-q:v", "5"]
        command = ["ffmpeg", "-v", "error", "-y", "-threads", "1", *source, "-c:v", encoder, *options, str(path)]
        subprocess.run(command, check=True)
    with av.open(str(path)) as container:
        extradata = bytes(container.streams.video[0].codec_context.extradata or b"")
        packets = [packet for packet in container.demux(video=0) if packet.size]
    if isinstance(codec, MPEG4Video):
        codec = MPEG4Video(extradata)
    frames = [
        Frame((bytes(packet),), number * 3600, number * 3600, key=packet.is_keyframe)
        for number, packet in enumerate(packets)
    ]
    return Sample(codec, tuple(frames))


def units(codec: Codec, size: int, ticks: int) -> Sample:
    """Return units of made-up bytes, one after the other."""
    count = SECONDS * codec.clock_rate // ticks
    duration = ticks if codec.kind == "audio" else None
    prefix = LABEL + bytes((0x82, size >> 8, size & 0xFF)) if isinstance(codec, KLV) else b""
    data = [prefix + bytes((number * 7 + position * 3) & 0xFF for position in range(size)) for number in range(count)]
    frames = [
        Frame((unit,), number * ticks, number * ticks, key=True, duration=duration) for number, unit in enumerate(data)
    ]
    return Sample(codec, tuple(frames))


def stream(name: str) -> Sample:
    """Return a stream by its name."""
    if name in OTHER_VIDEO:
        return pictures(name)
    others = {
        "pcmu": lambda: units(G711(mu_law=True), 160, 160),
        "pcma": lambda: units(G711(mu_law=False, channels=2), 320, 160),
        "l16": lambda: units(LPCM(16, 48_000, 2), 3840, 960),
        "l24": lambda: units(LPCM(24, 44_100, 1), 1323, 441),
        "klv": lambda: units(KLV(), 100, 9000),
    }
    return others[name]() if name in others else sample(name)


NAMES = (*VIDEO, *AUDIO, *OTHER_VIDEO, "pcmu", "pcma", "l16", "l24", "klv")
CASES = [
    (name, record_format)
    for record_format, names in (
        ("fmp4", [name for name in NAMES if name != "klv"]),
        ("mpegts", ["h264", "h264b", "h265", "aac", "opus", "mp3", "ac3", "eac3", "mpeg4", "mpeg2", "mpeg1", "klv"]),
    )
    for name in names
]


def record(samples: Sequence[Sample], record_format: str, **options: float) -> list[Written]:
    """Record some streams together, in segments of one second."""
    recording = Recording([each.track(index) for index, each in enumerate(samples)], record_format, **options)
    recording.write(interleave(*samples))
    files = recording.close()
    assert recording.shelf.invalid == []
    counters = recording.segmenter.counters
    assert (counters.dropped, counters.late, counters.invalid) == (0, 0, 0)
    return files


def expected(codec: Codec, frame: Frame) -> tuple[bytes, ...]:
    """Return what FFmpeg finds of a frame."""
    if isinstance(codec, G711):
        return (decoded(codec, frame.units[0]),)
    return essence(codec, frame.units)


def decoded(codec: G711, data: bytes) -> bytes:
    """Return G.711 as FFmpeg decodes it, as big-endian samples."""
    kind = "mulaw" if codec.mu_law else "alaw"
    command = ["ffmpeg", "-v", "error", "-f", kind, "-ar", "8000", "-i", "-", "-f", "s16be", "-"]
    return subprocess.run(command, input=data, check=True, capture_output=True).stdout


@pytest.mark.parametrize(("name", "record_format"), CASES)
def test_a_recording_has_what_was_published(name: str, record_format: str, tmp_path: Path) -> None:
    given = shifted(stream(name))
    rate = given.codec.clock_rate
    files = record([given], record_format)
    assert SECONDS <= len(files) <= SECONDS + 1  # encoders of sound begin a little earlier
    found = [packet for file in files for packet in read(file, tmp_path, [given.codec], record_format)[0]]
    if isinstance(given.codec, G711):  # decoded all at once, to start one process
        assert b"".join(packet.essence[0] for packet in found) == decoded(
            given.codec, b"".join(frame.units[0] for frame in given.frames)
        )
    elif isinstance(given.codec, LPCM):
        assert b"".join(packet.essence[0] for packet in found) == b"".join(frame.units[0] for frame in given.frames)
    else:
        assert [packet.essence for packet in found] == [expected(given.codec, frame) for frame in given.frames]
        assert [packet.pts for packet in found] == pytest.approx(
            [frame.pts / rate for frame in given.frames], abs=0.001
        )
        if record_format == "fmp4" or name not in OTHER_VIDEO:  # otherwise FFmpeg makes up the decoding times
            assert [packet.dts for packet in found] == pytest.approx(
                [frame.dts / rate for frame in given.frames], abs=0.001
            )
        if record_format == "fmp4":
            assert [packet.key for packet in found] == [frame.key for frame in given.frames]


@pytest.mark.parametrize(("name", "record_format"), [case for case in CASES if case[0] != "klv"])
def test_each_file_can_be_decoded_alone(name: str, record_format: str, tmp_path: Path) -> None:
    given = stream(name)
    files = record([shifted(given)], record_format)
    decoded_frames = 0
    for number, file in enumerate(files):
        path = tmp_path / str(number)
        path.write_bytes(file.data)
        with av.open(str(path), format="mp4" if record_format == "fmp4" else "mpegts") as container:
            found = sum(1 for _ in container.decode(container.streams[0]))
        assert found
        decoded_frames += found
    if given.codec.kind == "video":
        assert decoded_frames == len(given.frames)


@pytest.mark.parametrize("names", [("h264b", "aac"), ("aac", "h264"), ("h265", "opus", "mp3"), ("mjpeg", "pcmu")])
@pytest.mark.parametrize("record_format", ["fmp4", "mpegts"])
def test_segments_have_neither_gap_nor_overlap(names: tuple[str, ...], record_format: str, tmp_path: Path) -> None:
    table = FORMATS[record_format].carries
    given = [shifted(stream(name)) for name in names if stream(name).codec in table]
    if len(given) < 2:
        pytest.skip("the format carries only one of them")
    codecs = [each.codec for each in given]
    files = record(given, record_format)
    assert [file.start.number for file in files] == list(range(len(files)))
    assert SECONDS <= len(files) <= SECONDS + 1
    assert len({file.start.stream for file in files}) == 1
    for before, after in pairwise(files):
        assert before.end == after.start.time
        assert after.start.wall_time - before.start.wall_time == before.duration
    for position, each in enumerate(given):
        packets = [read(file, tmp_path, codecs, record_format)[position] for file in files]
        joined = [packet for file in packets for packet in file]
        assert len(joined) == len(each.frames)
        if not isinstance(each.codec, G711):
            assert [packet.essence for packet in joined] == [essence(each.codec, frame.units) for frame in each.frames]
        times = [frame.dts / each.codec.clock_rate for frame in each.frames]
        assert [packet.dts for packet in joined] == pytest.approx(times, abs=0.001)
        for file, found in zip(files, packets, strict=True):
            assert found[0].dts >= file.start.time / 1e9 - 0.001
            assert found[0].key
