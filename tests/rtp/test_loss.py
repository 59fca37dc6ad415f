"""Every payload format with losses: each frame whose packets all arrive comes out as it went in, no other one does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rtp.test_ffmpeg import depacketize

from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.payload.jpeg_header import build_header
from polycast.rtp.payload.registry import codec_from_sdp, make_depacketizer, make_packetizer

# Constrained baseline without reordering.
H264_SETS = "Z0LAFdoFB+wEQAAAAwBAAAAMg8WLqA==,aM48gA=="


def body(number: int, size: int) -> bytes:
    """Return bytes that differ from frame to frame and hold no start code."""
    return bytes(1 + (number * 37 + index * (index >> 8 | 1)) % 255 for index in range(size))


def h264(number: int, size: int) -> tuple[bytes, ...]:
    first = b"\x65\x88" if number == 0 else b"\x41\x9a"
    second = bytes((first[0], 0x08))  # first_mb_in_slice is not 0
    return first + body(number, size), second + body(number, size // 3)


def h265(number: int, size: int) -> tuple[bytes, ...]:
    first = b"\x26\x01\x80" if number == 0 else b"\x02\x01\x80"
    return first + body(number, size), first[:2] + b"\x08" + body(number, size // 3)


def av1(number: int, size: int) -> tuple[bytes, ...]:
    frame = b"\x30\x10" if number == 0 else b"\x30\x30"
    header = (bytes.fromhex("080000004b3cffbcfbbc8040"),) if number == 0 else ()
    return (*header, frame + body(number, size), b"\x28" + body(number, size // 3))


def one(key: str, other: str) -> Callable[[int, int], tuple[bytes, ...]]:
    """Return a maker of single-unit frames that begin as told (hexadecimal)."""

    def make(number: int, size: int) -> tuple[bytes, ...]:
        return (bytes.fromhex(other if number else key) + body(number, size),)

    return make


def mpeg_audio(number: int, size: int) -> tuple[bytes, ...]:
    return (bytes.fromhex("fffb9064") + body(number, 413),)  # 128 kbit/s at 44.1 kHz: 417 bytes


def ac3(number: int, size: int) -> tuple[bytes, ...]:
    return (bytes.fromhex("0b770000084043e1") + body(number, 248),)  # 64 kbit/s at 48 kHz: 256 bytes


def eac3(number: int, size: int) -> tuple[bytes, ...]:
    return (bytes.fromhex("0b77007f3480") + body(number, 250),)  # 64 kbit/s at 48 kHz: 256 bytes


@dataclass(frozen=True)
class Case:
    media_type: str
    payload_type: int
    encoding: str
    clock_rate: int
    parameters: str
    make: Callable[[int, int], tuple[bytes, ...]]
    maximum_payload: int = 100

    def __str__(self) -> str:
        return self.encoding

    @property
    def track(self) -> Track:
        channels = 2 if self.media_type == "audio" else None
        codec, form = codec_from_sdp(
            self.media_type, self.payload_type, self.encoding, self.clock_rate, channels, self.parameters
        )
        return Track(0, codec, form)


MPEG4_KEY = "000001b001000001b58913000001000000012000c48881f45141443000012b6000000001b610"
MPEG2_KEY = "000001b314000f0013ffffe018000001b8000800000000010000 0fffff8000000101"
JPEG_HEADER_TABLES = bytes(range(1, 65))

CASES = [
    Case("video", 96, "H264", 90_000, f"sprop-parameter-sets={H264_SETS}", h264),
    Case("video", 96, "H265", 90_000, "", h265),
    Case("video", 96, "AV1", 90_000, "", av1),
    Case("video", 96, "VP8", 90_000, "", one("3001009d012a4001f000", "3101")),
    Case("video", 96, "VP9", 90_000, "", one("824983420013f00ef0", "8604")),
    Case("video", 96, "MP4V-ES", 90_000, "", one(MPEG4_KEY, "000001b650")),
    Case("video", 32, "MPV", 90_000, "", one(MPEG2_KEY, "000001000057ffff8000000101")),
    Case("audio", 96, "mpeg4-generic", 48_000, "config=1190", one("21", "21")),
    Case("audio", 96, "opus", 48_000, "", one("fc", "fc"), 2000),
    Case("audio", 14, "MPA", 90_000, "", mpeg_audio),
    Case("audio", 96, "AC3", 48_000, "", ac3),
    Case("audio", 96, "EAC3", 48_000, "", eac3),
    Case("application", 96, "SMPTE336M", 90_000, "", one("060e2b34", "060e2b34")),
]


def packets_by_frame(case: Case, sizes: list[int]) -> tuple[list[Frame], list[list[RtpPacket]]]:
    packetizer = make_packetizer(
        case.track, ssrc=1, initial_sequence=65_500, initial_timestamp=0, maximum_payload=case.maximum_payload
    )
    assert packetizer is not None
    packetizer.codec = None  # type: ignore[attr-defined]  # parameter sets would be packets beside the frame's
    frames = [
        Frame(case.make(number, size), number * 3000, number * 3000, key=number == 0)
        for number, size in enumerate(sizes)
    ]
    return frames, [packetizer.packetize(frame) for frame in frames]


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(deadline=None, max_examples=60)
@given(sizes=st.lists(st.integers(1, 700), min_size=2, max_size=12), data=st.data())
def test_losses(case: Case, sizes: list[int], data: st.DataObject) -> None:
    frames, groups = packets_by_frame(case, sizes)
    packets = [packet for group in groups for packet in group]
    lost = data.draw(st.sets(st.integers(len(groups[0]), len(packets) - 1), max_size=len(packets) // 3))
    depacketizer = make_depacketizer(case.track)
    assert depacketizer is not None
    found: list[Frame] = []
    for index, packet in enumerate(packets):
        if index not in lost:
            found += depacketizer.push(packet, packet.timestamp)
    expected = []
    index = 0
    for frame, group in zip(frames, groups, strict=True):
        if not lost & set(range(index, index + len(group))):
            expected.append(frame)
        index += len(group)
    assert [(frame.pts, frame.units) for frame in found] == [(frame.pts, frame.units) for frame in expected]
    assert depacketizer.errors == 0
    assert depacketizer.lost_frames <= len(frames) - len(expected)


@pytest.mark.parametrize("case", [case for case in CASES if case.media_type == "video"], ids=str)
def test_missing_marker(case: Case) -> None:
    """A change of the timestamp ends a video frame, too."""
    frames, groups = packets_by_frame(case, [300, 10, 200, 50])
    depacketizer = make_depacketizer(case.track)
    assert depacketizer is not None
    found = []
    for packet in (packet for group in groups for packet in group):
        packet.marker = False
        found += depacketizer.push(packet, packet.timestamp)
    assert [frame.units for frame in found] == [frame.units for frame in frames[:-1]]


def test_jpeg_losses() -> None:
    track = Case("video", 26, "JPEG", 90_000, "", one("", "")).track
    header = build_header(1, 320, 240, JPEG_HEADER_TABLES * 2, 0)
    frames = [
        Frame((header + body(number, 900) + b"\xff\xd9",), number * 3000, number * 3000, key=True)
        for number in range(5)
    ]
    packetizer = make_packetizer(track, ssrc=1, initial_sequence=0, initial_timestamp=0, maximum_payload=300)
    assert packetizer is not None
    groups = [packetizer.packetize(frame) for frame in frames]
    assert [frame.units for frame in depacketize(track, [packet for group in groups for packet in group])] == [
        frame.units for frame in frames
    ]
    for lost in range(len(groups[2])):
        depacketizer = make_depacketizer(track)
        assert depacketizer is not None
        kept = [*groups[0], *groups[1], *groups[2][:lost], *groups[2][lost + 1 :], *groups[3], *groups[4]]
        found = [frame for packet in kept for frame in depacketizer.push(packet, packet.timestamp)]
        assert [frame.pts for frame in found] == [0, 3000, 9000, 12_000]
        assert depacketizer.lost_frames <= 1
