"""Packets too large for UDP: what is made of them decodes to the same frames."""

from __future__ import annotations

import pytest
from tests.rtp.test_ffmpeg import depacketize
from tests.rtp.test_h264 import IDR, INTER, PPS, SPS, stap
from tests.rtp.test_loss import CASES, Case, packets_by_frame

from polycast.errors import RemoteProtocolError
from polycast.media.codec import H264
from polycast.media.packet import RtpPacket
from polycast.rtp.header import build_packet, parse_packet, ssrc_of
from polycast.rtp.payload.h264 import H264Depacketizer
from polycast.rtp.payload.registry import make_depacketizer
from polycast.rtp.repacketize import Oversized

LARGE = [case for case in CASES if case.encoding in ("H264", "H265", "VP8", "VP9", "MP4V-ES")]
IMPOSSIBLE = [case for case in CASES if case.encoding in ("mpeg4-generic", "opus", "MPV", "AV1")]


def large_packets(case: Case) -> tuple[list[tuple[bytes, ...]], list[RtpPacket]]:
    large = Case(case.media_type, case.payload_type, case.encoding, case.clock_rate, case.parameters, case.make, 3000)
    frames, groups = packets_by_frame(large, [7000, 100, 1500, 2900, 20])
    return [frame.units for frame in frames], [packet for group in groups for packet in group]


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_split(case: Case) -> None:
    frames, packets = large_packets(case)
    assert max(map(len, packets)) > 1472
    oversized = Oversized(case.track)
    smaller = [part for packet in packets for part in oversized.push(packet)]
    assert max(map(len, smaller)) <= 1472
    first = packets[0].sequence
    assert [packet.sequence for packet in smaller] == [first + index & 0xFFFF for index in range(len(smaller))]
    assert [packet.timestamp for packet in smaller if packet.marker] == [
        packet.timestamp for packet in packets if packet.marker
    ]
    assert {ssrc_of(packet) for packet in smaller} == {ssrc_of(packets[0])}
    for packet in smaller:
        parsed = parse_packet(packet.data, packet.start, packet.end)
        assert (parsed.sequence, parsed.timestamp, parsed.marker) == (packet.sequence, packet.timestamp, packet.marker)
    assert [frame.units for frame in depacketize(case.track, smaller)] == frames
    assert smaller[0].key


@pytest.mark.parametrize("case", IMPOSSIBLE, ids=str)
def test_what_cannot_be_split_is_refused(case: Case) -> None:
    packet = build_packet(96, 0, 0, 1, bytes(1461), marker=True)
    with pytest.raises(RemoteProtocolError, match=r"payload size \(1473\) greater than maximum allowed \(1472\)"):
        Oversized(case.track).push(packet)


def test_small_packets_pass_untouched() -> None:
    oversized = Oversized(CASES[0].track)
    packet = build_packet(96, 5, 0, 1, INTER, marker=True)
    assert oversized.push(packet) == [packet]
    assert oversized.push(packet)[0] is packet


def test_aggregate_is_taken_apart() -> None:
    large = IDR + b"\x44" * 3000
    packet = build_packet(96, 65_535, 9, 1, stap(SPS, PPS, large), marker=True)
    oversized = Oversized(CASES[0].track)
    parts = oversized.push(packet)
    assert [part.payload_bytes()[:2] for part in parts] == [b"\x78\x00", b"\x7c\x85", b"\x7c\x05", b"\x7c\x45"]
    assert [part.sequence for part in parts] == [65_535, 0, 1, 2]
    (later,) = oversized.push(build_packet(96, 0, 10, 1, INTER, marker=True))
    assert (later.sequence, later.payload_bytes()) == (3, INTER)
    depacketizer = H264Depacketizer(H264())
    frames = [frame for part in (*parts, later) for frame in depacketizer.push(part, part.timestamp)]
    assert [frame.units for frame in frames] == [(SPS, PPS, large), (INTER,)]


def test_samples_get_timestamps_of_their_own() -> None:
    track = Case("audio", 10, "L16", 44_100, "", CASES[0].make).track
    samples = bytes(range(256)) * 16
    parts = Oversized(track).push(build_packet(10, 1, 1000, 1, samples, marker=False))
    depacketizer = make_depacketizer(track)
    assert depacketizer is not None
    frames = [frame for part in parts for frame in depacketizer.push(part, part.timestamp)]
    assert b"".join(frame.units[0] for frame in frames) == samples
    time = 1000
    for frame in frames:
        assert frame.pts == time
        time += frame.duration or 0
    assert time == 1000 + len(samples) // 4


def test_large_header_extension_is_left_out() -> None:
    payload = INTER + bytes(1400)
    extension = b"\xbe\xde\x00\x14" + bytes(80)
    wire = b"\x90\xe0\x00\x07" + bytes(8) + extension + payload
    (packet,) = Oversized(CASES[6].track).push(parse_packet(wire, 0, len(wire)))
    assert (packet.payload_bytes(), packet.sequence, packet.marker) == (payload, 7, True)
    assert len(packet) == 12 + len(payload)
