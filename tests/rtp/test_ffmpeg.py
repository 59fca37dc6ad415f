"""FFmpeg's RTP muxer against our depacketizers: what comes out must be what its encoder put in.

And the way back: what we packetize must come out of our depacketizers and of FFmpeg's demuxer unchanged.
"""

from __future__ import annotations

import itertools
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.rtp import ffmpeg

from polycast.codecs import h264, h265
from polycast.codecs.nal import split_annexb
from polycast.media.codec import H264, H265, label
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.timebase import TimestampExtender
from polycast.media.track import Track
from polycast.rtp.payload.base import KEY, PARAMETERS
from polycast.rtp.payload.registry import make_depacketizer, make_packetizer, payload_of_codec

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs FFmpeg"),
]

PICTURE = ["-f", "lavfi", "-i", "testsrc=size=320x240:rate=25:duration=0.4", "-pix_fmt", "yuv420p"]
SOUND = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=0.4"]


@dataclass(frozen=True)
class Case:
    """One codec and how FFmpeg makes it."""

    name: str
    """The label of the codec."""
    encode: tuple[str, ...]
    send: tuple[str, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.note}".strip()


def video(name: str, *options: str, note: str = "", send: tuple[str, ...] = ()) -> Case:
    return Case(name, (*PICTURE, *options), send, note)


def audio(name: str, *options: str, note: str = "", send: tuple[str, ...] = ()) -> Case:
    return Case(name, (*SOUND, *options), send, note)


NAL_CASES = [
    video("H264", "-c:v", "libx264", "-preset", "ultrafast", "-g", "4", "-b:v", "2M", note="without B frames"),
    video("H264", "-c:v", "libx264", "-preset", "fast", "-g", "4", "-bf", "3", "-x264-params", "slices=3", note="B"),
    video("H265", "-c:v", "libx265", "-preset", "ultrafast", "-g", "4", "-x265-params", "log-level=none"),
]

FRAME_CASES = [
    video("VP8", "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", "4", "-b:v", "2M"),
    video("VP9", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "4", "-b:v", "2M",
          send=("-strict", "experimental")),
    video("MPEG4Video", "-c:v", "mpeg4", "-g", "4", "-b:v", "2M"),
    video("MPEG2Video", "-c:v", "mpeg2video", "-g", "4", "-b:v", "2M"),
    audio("MPEG4Audio", "-c:a", "aac", "-ac", "2"),
    audio("MPEG4Audio", "-c:a", "aac", "-ac", "1", "-ar", "44100", note="LATM", send=("-rtpflags", "latm")),
    audio("Opus", "-c:a", "libopus", "-ac", "2"),
    audio("MPEG2Audio", "-c:a", "libmp3lame", "-b:a", "128k", note="layer III"),
    audio("MPEG2Audio", "-c:a", "mp2", "-b:a", "384k", "-ac", "2", note="layer II"),
    audio("Speex", "-c:a", "libspeex", "-ar", "16000"),
]  # fmt: skip

SAMPLE_CASES = [
    audio("PCMU", "-c:a", "pcm_mulaw", "-ar", "8000", "-ac", "1"),
    audio("PCMA", "-c:a", "pcm_alaw", "-ar", "8000", "-ac", "1"),
    audio("PCMA", "-c:a", "pcm_alaw", "-ar", "16000", "-ac", "2", note="16 kHz stereo"),
    audio("LPCM", "-c:a", "pcm_s16be", "-ac", "2", note="16 bits"),
    audio("LPCM", "-c:a", "pcm_s16be", "-ac", "2", "-ar", "44100", note="static type"),
    audio("LPCM", "-c:a", "pcm_s24be", "-ac", "1", note="24 bits"),
    audio("G722", "-c:a", "g722", "-ar", "16000", "-ac", "1"),
]


def receive(case: Case, folder: Path, source: Path) -> tuple[Track, list[RtpPacket], list[Frame]]:
    """Send a file with FFmpeg; return the track with its latest parameters, the packets, and the frames in them."""
    track, packets = ffmpeg.send(source, folder, *case.send)
    assert label(track.codec) == case.name
    return track, packets, depacketize(track, packets)


def depacketize(track: Track, packets: Sequence[RtpPacket]) -> list[Frame]:
    depacketizer = make_depacketizer(track)
    assert depacketizer is not None
    extender = TimestampExtender()
    frames: list[Frame] = []
    first = 0
    for index, packet in enumerate(packets):
        data = bytes(packet.data)
        extended = extender.extend(packet.timestamp)
        first = first if index else extended
        frames += depacketizer.push(packet, extended - first)
        assert packet.data == data, "the depacketizer changed its input"
    assert (depacketizer.errors, depacketizer.lost_frames) == (0, 0)
    return frames


def packetize(track: Track, frames: Sequence[Frame]) -> list[RtpPacket]:
    packetizer = make_packetizer(track, ssrc=7, initial_sequence=65_530, initial_timestamp=0xFFFFFF00)
    assert packetizer is not None
    packets = [packet for frame in frames for packet in packetizer.packetize(frame)]
    assert all(packet.end - packet.payload <= 1460 for packet in packets)
    return packets


def check_round_trip(track: Track, frames: Sequence[Frame]) -> None:
    again = depacketize(track, packetize(track, frames))
    assert [frame.units for frame in again] == [with_parameter_sets(track, frame) for frame in frames]
    offset = frames[0].pts
    assert [(frame.pts, frame.dts, frame.key) for frame in again] == [
        (frame.pts - offset, frame.dts - offset, frame.key) for frame in frames
    ]


def with_parameter_sets(track: Track, frame: Frame) -> tuple[bytes, ...]:
    """Packetizers put the parameter sets in front of every key frame."""
    if isinstance(track.codec, H264):
        return h264.with_parameter_sets(track.codec, frame.units)
    if isinstance(track.codec, H265):
        return h265.with_parameter_sets(track.codec, frame.units)
    return frame.units


def check_keys(track: Track, packets: Sequence[RtpPacket], frames: Sequence[Frame]) -> None:
    """The key packets of video are where key frames begin, and only those; all packets of audio are key."""
    peek = payload_of_codec(track.codec).peek_for(track.codec)
    if track.kind == "audio":
        assert all(peek(packet.data, packet.payload, packet.end) == KEY for packet in packets)
        return
    timestamps = []
    for packet in packets:
        if peek(packet.data, packet.payload, packet.end) & KEY and packet.timestamp not in timestamps:
            timestamps.append(packet.timestamp)
    first = packets[0].timestamp
    assert [(timestamp - first) & 0xFFFFFFFF for timestamp in timestamps] == [
        (frame.pts - frames[0].pts) & 0xFFFFFFFF for frame in frames if frame.key
    ]


@pytest.mark.parametrize("case", NAL_CASES, ids=str)
def test_nal_units(case: Case, tmp_path: Path) -> None:
    source = tmp_path / "source.nut"
    ffmpeg.run(*case.encode, str(source))
    # Access unit delimiters show where FFmpeg's parser sees access units begin.
    kind = case.name.lower().replace("h265", "hevc")
    stream = tmp_path / "stream.bin"
    ffmpeg.run("-i", str(source), "-c", "copy", "-bsf:v", f"{kind}_metadata=aud=insert", "-f", kind, str(stream))
    expected: list[list[bytes]] = []
    for unit in split_annexb(stream.read_bytes()):
        if (unit[0] & 0x1F if case.name == "H264" else unit[0] >> 1) == (9 if case.name == "H264" else 35):
            expected.append([])
        else:
            expected[-1].append(unit)
    track, packets, frames = receive(case, tmp_path, source)
    assert [list(frame.units) for frame in frames] == expected
    truth = ffmpeg.list_packets(source)
    # The time base of the file need not be 90 kHz; the frames are 3600 ticks apart.
    unit_of_time = (truth[-1].dts - truth[0].dts) // (len(truth) - 1)
    assert [(frame.pts - frames[0].pts) // 3600 for frame in frames] == [
        (row.pts - truth[0].pts) // unit_of_time for row in truth
    ]
    assert [(frame.pts - frame.dts) // 3600 for frame in frames] == [
        (row.pts - row.dts) // unit_of_time for row in truth
    ]
    check_keys(track, packets, frames)
    check_round_trip(track, frames)


@pytest.mark.parametrize("case", FRAME_CASES, ids=str)
def test_frames(case: Case, tmp_path: Path) -> None:
    source = tmp_path / "source.nut"
    ffmpeg.run(*case.encode, str(source))
    track, packets, frames = receive(case, tmp_path, source)
    truth = ffmpeg.list_packets(source)
    found = [(len(frame.units[0]), zlib.adler32(frame.units[0], 0)) for frame in frames]
    # FFmpeg's muxer keeps back what does not fill a packet of several audio frames, and forgets it at the end.
    assert len(found) >= len(truth) - (0 if track.kind == "video" else 4)
    assert found == [(row.size, row.checksum) for row in truth[: len(found)]]
    for frame, following in itertools.pairwise(frames):
        # FFmpeg rounds to the source's time base, a millisecond at worst.
        if frame.duration is not None:
            assert abs(following.pts - frame.pts - frame.duration) <= track.clock_rate // 1000
    check_keys(track, packets, frames)
    check_round_trip(track, frames)
    if case.name != "Speex" and Path("/proc/net/udp").exists():
        # To FFmpeg's demuxer, what our packetizer sends is the same.
        received = ffmpeg.receive(track, packetize(track, frames), tmp_path)
        assert [(row.size, row.checksum) for row in received] == found


@pytest.mark.parametrize("case", SAMPLE_CASES, ids=str)
def test_samples(case: Case, tmp_path: Path) -> None:
    source = tmp_path / "source.nut"
    ffmpeg.run(*case.encode, str(source))
    ffmpeg.run("-i", str(source), "-map", "0", "-c", "copy", "-f", "data", str(tmp_path / "samples.bin"))
    track, _, frames = receive(case, tmp_path, source)
    assert b"".join(frame.units[0] for frame in frames) == (tmp_path / "samples.bin").read_bytes()
    for frame, following in itertools.pairwise(frames):
        assert frame.duration == following.pts - frame.pts
    # Packets of our own are smaller than FFmpeg's.
    again = depacketize(track, packetize(track, frames))
    assert b"".join(frame.units[0] for frame in again) == b"".join(frame.units[0] for frame in frames)


def test_jpeg(tmp_path: Path) -> None:
    """The headers are not the same bytes, so the pictures are compared."""
    case = Case("JPEG", (*PICTURE, "-pix_fmt", "yuvj420p", "-c:v", "mjpeg", "-huffman", "default", "-q:v", "5"))
    source = tmp_path / "source.nut"
    ffmpeg.run(*case.encode, str(source))
    track, packets, frames = receive(case, tmp_path, source)
    (tmp_path / "frames.mjpeg").write_bytes(b"".join(frame.units[0] for frame in frames))
    pictures = ["-pix_fmt", "yuvj420p", "-f", "framemd5", "-"]
    expected = [line.split(",")[-1] for line in ffmpeg.run("-i", str(source), *pictures).splitlines() if line[0] != "#"]
    found = ffmpeg.run("-f", "mjpeg", "-i", str(tmp_path / "frames.mjpeg"), *pictures).splitlines()
    assert [line.split(",")[-1] for line in found if line[0] != "#"] == expected
    check_keys(track, packets, frames)
    # What we rebuilt has a table for each component, so it goes round unchanged from the second time on.
    again = depacketize(track, packetize(track, frames))
    (tmp_path / "again.mjpeg").write_bytes(b"".join(frame.units[0] for frame in again))
    found = ffmpeg.run("-f", "mjpeg", "-i", str(tmp_path / "again.mjpeg"), *pictures).splitlines()
    assert [line.split(",")[-1] for line in found if line[0] != "#"] == expected
    check_round_trip(track, again)


def test_parameter_sets_in_band(tmp_path: Path) -> None:
    """A track whose SDP has no parameter sets gets them from its packets."""
    source = tmp_path / "source.nut"
    ffmpeg.run(*NAL_CASES[0].encode, str(source))
    track, packets = ffmpeg.send(source, tmp_path, "-bsf:v", "dump_extra")
    codec = type(track.codec)()
    for packet in packets:
        if payload_of_codec(codec).peek_for(codec)(packet.data, packet.payload, packet.end) & PARAMETERS:
            codec = payload_of_codec(codec).parameters_from_packet(codec, packet.data, packet.payload, packet.end)
    assert codec == track.codec
