"""Recordings made without a server: the frames of samples in, files out, and what FFmpeg reads from them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
from tests.wire.hls.samples import Sample, essence, split

from polycast.errors import ProtocolError
from polycast.media.codec import Codec, MPEG4Audio, MPEG4Video
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime
from polycast.media.track import Track
from polycast.record.packagers import FORMATS, SegmentStart
from polycast.record.segmenter import Arrival, Segmenter, SegmenterOptions
from polycast.wire.mpegts.muxer import DECODER_DELAY

START = WallTime(1_700_000_000_000_000_000)
EARLIER = 5_000_000_000
"""Monotonic nanoseconds at the start."""


@dataclass
class Written:
    """One file."""

    start: SegmentStart
    parts: list[bytes] = field(default_factory=list)
    duration: int | None = None
    """Nanoseconds; None if it was never completed."""

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)

    @property
    def end(self) -> int:
        assert self.duration is not None
        return self.start.time + self.duration


class Shelf:
    """An output that keeps everything, while ``room`` says so."""

    def __init__(self) -> None:
        self.files: list[Written] = []
        self.room = True
        self.invalid: list[str] = []

    def report_invalid(self, track: Track, error: ProtocolError) -> None:
        self.invalid.append(f"{track.codec.name}: {error}")

    def has_room(self) -> bool:
        return self.room

    def write_part(self, start: SegmentStart, pieces: Sequence[bytes], size: int) -> bool:
        if not self.room:
            return False
        assert size == sum(map(len, pieces))
        if not self.files or self.files[-1].start != start:
            assert all(file.duration is not None for file in self.files[-1:]) or self.files[-1].start.stream
            self.files.append(Written(start))
        self.files[-1].parts.append(b"".join(pieces))
        return True

    def end_segment(self, start: SegmentStart, duration: int) -> None:
        assert self.files[-1].start == start
        self.files[-1].duration = duration


class Recording:
    """A segmenter and its shelf."""

    def __init__(self, tracks: Sequence[Track], record_format: str = "fmp4", **options: float) -> None:
        self.tracks = list(tracks)
        self.shelf = Shelf()
        self.now = 0.0
        """Seconds since the start."""
        self.clock_shift = 0.0
        """By how many seconds the clock of the computer was set."""
        self.segmenter = Segmenter(
            self.tracks,
            FORMATS[record_format].make_packager(self.tracks),
            SegmenterOptions(
                segment_duration=round(options.get("segment", 1.0) * NANOSECONDS),
                part_duration=round(options.get("part", 0.2) * NANOSECONDS),
                maximum_part_size=round(options.get("part_size", 50e6)),
                trusts_capture_times=bool(options.get("trusts", False)),
            ),
            self.shelf,
        )

    @property
    def files(self) -> list[Written]:
        return self.shelf.files

    def write(self, frames: Iterable[tuple[int, Frame]]) -> None:
        """Add frames that arrive at their decoding times."""
        for index, frame in frames:
            self.now = max(self.now, frame.dts / self.tracks[index].clock_rate)
            self.segmenter.write(index, frame, self.arrival())

    def arrival(self) -> Arrival:
        passed = round(self.now * NANOSECONDS)
        return Arrival(WallTime(START + passed + round(self.clock_shift * NANOSECONDS)), EARLIER + passed)

    def close(self) -> list[Written]:
        self.segmenter.close()
        return self.files


def shifted(sample: Sample, seconds: int = 1) -> Sample:
    """Return a sample that begins later, as streams do, so that no decoding time is negative."""
    ticks = seconds * sample.codec.clock_rate
    frames = [
        Frame(frame.units, frame.pts + ticks, frame.dts + ticks, key=frame.key, duration=frame.duration)
        for frame in sample.frames
    ]
    return Sample(sample.codec, tuple(frames))


@dataclass(frozen=True)
class Packet:
    """A packet as FFmpeg's demuxer returns it."""

    essence: tuple[bytes, ...]
    pts: float
    """Seconds on the timeline of the stream."""
    dts: float
    key: bool


def read(file: Written, folder: Path, codecs: Sequence[Codec], record_format: str) -> list[list[Packet]]:
    """Return what FFmpeg demuxes from a file, by stream, on the timeline of the recording."""
    path = folder / f"{file.start.number}-{os.urandom(4).hex()}"
    path.write_bytes(file.data)
    found: list[list[Packet]] = [[] for _ in codecs]
    offset = file.start.time / NANOSECONDS if record_format == "fmp4" else -DECODER_DELAY / 90_000
    options = {"correct_ts_overflow": "0"} if record_format == "mpegts" else {}
    with av.open(str(path), format="mp4" if record_format == "fmp4" else "mpegts", options=options) as container:
        lengths = [_length_size(stream) for stream in container.streams]
        for packet in container.demux():
            if not packet.size:
                continue
            codec = codecs[packet.stream_index]
            skipped = ADTS_HEADER if record_format == "mpegts" and isinstance(codec, MPEG4Audio) else 0
            data = bytes(packet)[skipped:]
            if record_format == "mpegts" and isinstance(codec, MPEG4Video) and packet.is_keyframe:
                assert data.startswith(codec.configuration)  # which MPEG-TS has no other place for
                data = data.removeprefix(codec.configuration)
            units, _ = split(codec, data, lengths[packet.stream_index])
            assert packet.time_base is not None
            assert packet.pts is not None
            assert packet.dts is not None
            scale = float(packet.time_base)
            found[packet.stream_index].append(
                Packet(
                    essence(codec, units), packet.pts * scale + offset, packet.dts * scale + offset, packet.is_keyframe
                )
            )
    return found


ADTS_HEADER = 7
"""Bytes in front of each frame of AAC in MPEG-TS, which FFmpeg's demuxer leaves there."""


def _length_size(stream: Any) -> int:
    if stream.codec_context is None:  # metadata
        return 0
    extradata = bytes(stream.codec_context.extradata or b"")
    return 4 if extradata[:1] == b"\x01" and stream.type == "video" else 0
