"""Short streams that FFmpeg encodes, as tracks and frames; and what FFmpeg reads from the files that we write."""

from __future__ import annotations

import atexit
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import av
import pytest
from tests.interop.tools import quick_program

from polycast.codecs import aac, av1, flac, h264, h265, nal, vp9
from polycast.codecs.opus import parse_id_header
from polycast.media.codec import AC3, EAC3, VP9, Codec, MPEGAudio, Opus
from polycast.media.frame import Frame
from polycast.media.track import Track

SECONDS = 4
VIDEO = {
    "h264": ("libx264", "mp4", "-preset", "ultrafast", "-g", "25", "-keyint_min", "25", "-sc_threshold", "0"),
    "h264b": ("libx264", "mp4", "-preset", "fast", "-g", "25", "-bf", "2", "-sc_threshold", "0"),
    "h265": ("libx265", "mp4", "-preset", "ultrafast", "-x265-params", "keyint=25:scenecut=0:open-gop=0:log-level=0"),
    "av1": ("libsvtav1", "mp4", "-preset", "12", "-g", "25", "-svtav1-params", "keyint=25"),
    "vp9": ("libvpx-vp9", "webm", "-deadline", "realtime", "-cpu-used", "8", "-g", "25", "-lag-in-frames", "0"),
}
AUDIO = {
    "aac": ("aac", "mp4"),
    "opus": ("libopus", "ogg"),
    "mp3": ("libmp3lame", "mp3", "-write_xing", "0", "-id3v2_version", "0"),
    "ac3": ("ac3", "ac3"),
    "eac3": ("eac3", "eac3"),
    "flac": ("flac", "mp4", "-strict", "-2"),
}


@dataclass(frozen=True)
class Sample:
    """One elementary stream: its track (index 0) and its frames in decoding order."""

    codec: Codec
    frames: tuple[Frame, ...]

    def track(self, index: int, **fields: Any) -> Track:
        return Track(index, self.codec, **fields)


@cache
def sample_folder() -> Path:
    folder = Path(mkdtemp(prefix="polycast-samples-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    return folder


@cache
def _encoders() -> str:
    if shutil.which("ffmpeg") is None:
        return ""
    return subprocess.run(
        [quick_program(), "-hide_banner", "-encoders"], capture_output=True, check=True, text=True
    ).stdout


@cache
def sample(
    name: str, *, rate: int = 25, size: str = "320x180", sample_rate: int = 48_000, seconds: float = SECONDS
) -> Sample:
    """Return a stream by its name in `VIDEO` or `AUDIO`. Skips the test where FFmpeg cannot encode it."""
    encoder, extension, *arguments = VIDEO.get(name) or AUDIO[name]
    if f" {encoder} " not in _encoders():
        pytest.skip(f"FFmpeg has no {encoder}")
    path = sample_folder() / f"{name}-{rate}-{size}-{sample_rate}-{seconds}.{extension}"
    if name in VIDEO:
        source = f"testsrc2=size={size}:rate={rate}:duration={seconds}"
        choice = ["-c:v", encoder, "-pix_fmt", "yuv420p"]
    else:
        source = f"aevalsrc=0.3*sin(440*2*PI*t)|0.3*sin(660*2*PI*t):s={sample_rate}:d={seconds}"
        choice = ["-c:a", encoder]
    ffmpeg = (quick_program(), "-v", "error", "-y", "-threads", "1")
    command = [*ffmpeg, "-f", "lavfi", "-i", source, *choice, *arguments, path]
    subprocess.run(command, check=True, capture_output=True)
    return read(path)


def read(path: Path) -> Sample:
    """Read a file with FFmpeg's demuxer."""
    with av.open(str(path)) as container:
        stream = container.streams[0]
        extradata = bytes(stream.codec_context.extradata or b"")
        codec = _codec(stream, extradata)
        packets = [packet for packet in container.demux(stream) if packet.size]
        frames = []
        for packet in packets:
            scale = packet.time_base * codec.clock_rate
            units, key = split(codec, bytes(packet), 4)
            if isinstance(codec, VP9) and not codec.width:
                codec = vp9.updated(codec, units[0])
            pts, dts = round(packet.pts * scale), round(packet.dts * scale)
            duration = round(packet.duration * scale) if codec.kind == "audio" else None
            frames.append(Frame(units, pts, min(dts, pts), key=key, duration=duration))
    return Sample(codec, tuple(frames))


def _codec(stream: Any, extradata: bytes) -> Codec:
    context = stream.codec_context
    name = context.name
    if name == "h264":
        return h264.parse_configuration_record(extradata)[0]
    if name == "hevc":
        return h265.parse_configuration_record(extradata)[0]
    if name in ("av1", "libdav1d", "libaom-av1"):
        return av1.parse_configuration_record(extradata)
    if name in ("vp9", "libvpx-vp9"):
        return VP9()
    if name == "aac":
        return aac.parse_audio_specific_config(extradata)
    if name in ("opus", "libopus"):
        return Opus(parse_id_header(extradata).channels)
    if name in ("mp3", "mp3float"):
        return MPEGAudio(context.sample_rate, context.channels)
    if name == "ac3":
        return AC3(context.sample_rate, context.channels)
    if name == "eac3":
        return EAC3(context.sample_rate, context.channels)
    assert name == "flac", name
    return flac.parse_stream_info(extradata[-34:])


def split(codec: Codec, data: bytes, length_size: int = 0) -> tuple[tuple[bytes, ...], bool]:
    """Return the units of a packet, without delimiters; ``length_size`` 0 means start codes."""
    if codec.name in ("H264", "H265"):
        units = nal.split_length_prefixed(data, length_size) if length_size else nal.split_annexb(data)
        if codec.name == "H264":
            units = [unit for unit in units if unit[0] & 0x1F != 9]
            return tuple(units), h264.is_key(units)
        units = [unit for unit in units if unit[0] >> 1 & 0x3F != 35]
        return tuple(units), h265.is_key(units)
    if codec.name == "AV1":
        obus = [unit for unit in av1.split_obus(data) if unit[0] >> 3 & 0xF != 2]
        return tuple(obus), av1.is_key(obus)
    if codec.name == "VP9":
        return (data,), vp9.is_key(data)
    return (data,), True


def essence(codec: Codec, units: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the units that hold pictures or sound: without parameter sets, which containers move about."""
    if codec.name == "H264":
        return tuple(unit for unit in units if unit[0] & 0x1F not in (7, 8, 9))
    if codec.name == "H265":
        return tuple(unit for unit in units if unit[0] >> 1 & 0x3F not in (32, 33, 34, 35))
    if codec.name == "AV1":
        return tuple(unit for unit in units if unit[0] >> 3 & 0xF not in (1, 2))
    return tuple(units)


@dataclass(frozen=True)
class ReadPacket:
    """A packet as FFmpeg's demuxer returns it."""

    essence: tuple[bytes, ...]
    pts: float
    """Seconds."""
    dts: float
    key: bool


def read_packets(path: Path, codecs: Sequence[Codec], **options: str) -> list[list[ReadPacket]]:
    """Return what FFmpeg demuxes from a file or playlist, by stream in the order of ``codecs``."""
    found: list[list[ReadPacket]] = [[] for _ in codecs]
    with av.open(str(path), options=options) as container:
        streams = list(container.streams)
        lengths = []
        for stream in streams:
            extradata = bytes(stream.codec_context.extradata or b"")
            lengths.append(4 if extradata[:1] == b"\x01" and stream.type == "video" else 0)
        order = [next(i for i, s in enumerate(streams) if _name(s) == _expected(codec)) for codec in codecs]
        for packet in container.demux():
            if not packet.size or packet.stream_index not in order:
                continue
            position = order.index(packet.stream_index)
            codec = codecs[position]
            units, _ = split(codec, bytes(packet), lengths[packet.stream_index])
            scale = float(packet.time_base)
            found[position].append(
                ReadPacket(essence(codec, units), packet.pts * scale, packet.dts * scale, packet.is_keyframe)
            )
    return found


_NAMES = {"H264": "h264", "H265": "hevc", "AV1": "av1", "VP9": "vp9", "MPEG4Audio": "aac", "Opus": "opus"} | {
    "MPEG2Audio": "mp3",
    "AC3": "ac3",
    "EAC3": "eac3",
    "FLAC": "flac",
}


def _expected(codec: Codec) -> str:
    return _NAMES[codec.name]


def _name(stream: Any) -> str:
    name = str(stream.codec_context.codec.canonical_name)
    return {"libdav1d": "av1", "mp3float": "mp3"}.get(name, name)


def interleave(*samples: Sample) -> Iterator[tuple[int, Frame]]:
    """Yield the frames of several streams with the index of their track, in the order of their decoding times."""
    numbers = count()
    rows = [
        (frame.dts / each.codec.clock_rate, index, next(numbers), frame)
        for index, each in enumerate(samples)
        for frame in each.frames
    ]
    for _, index, _, frame in sorted(rows):
        yield index, frame
