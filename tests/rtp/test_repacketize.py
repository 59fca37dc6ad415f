"""Packets too large for UDP: what is made of them decodes to the same frames."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.rtp.test_ffmpeg import depacketize
from tests.rtp.test_h264 import IDR, INTER, PPS, SPS, stap
from tests.rtp.test_loss import CASES, Case, packets_by_frame

from polycast.errors import RemoteProtocolError
from polycast.media.codec import H264
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.header import build_packet, packet_sizes_for, parse_packet, ssrc_of
from polycast.rtp.payload.h264 import H264Depacketizer
from polycast.rtp.payload.jpeg_header import HUFFMAN_TABLES
from polycast.rtp.payload.registry import make_depacketizer, make_packetizer
from polycast.rtp.repacketize import Repacketizer

LARGE = [case for case in CASES if case.encoding not in ("opus", "MPA", "AC3", "EAC3")]
LARGE.append(Case("audio", 96, "MP4A-LATM", 48_000, "cpresent=0;config=400023203fc0", lambda _, size: (bytes(size),)))
IMPOSSIBLE = [case for case in CASES if case.encoding == "opus"]


def large_packets(case: Case) -> tuple[list[tuple[bytes, ...]], list[RtpPacket]]:
    large = Case(case.media_type, case.payload_type, case.encoding, case.clock_rate, case.parameters, case.make, 3000)
    frames, groups = packets_by_frame(large, [7000, 100, 1500, 2900, 20])
    return [frame.units for frame in frames], [packet for group in groups for packet in group]


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_split(case: Case) -> None:
    frames, packets = large_packets(case)
    assert max(map(len, packets)) > 1472
    oversized = Repacketizer(case.track)
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


@pytest.mark.parametrize("case", LARGE, ids=str)
@pytest.mark.parametrize("datagram", [300, 1200, 1452, 1472])
def test_parts_fit_datagrams_of_any_size(case: Case, datagram: int) -> None:
    """Also when SRTP makes them longer by ten bytes."""
    frames, packets = large_packets(case)
    oversized = Repacketizer(case.track, packet_sizes_for(datagram))
    smaller = [part for packet in packets for part in oversized.push(packet)]
    assert max(map(len, smaller)) + 10 <= datagram
    assert [frame.units for frame in depacketize(case.track, smaller)] == frames


@pytest.mark.parametrize("case", IMPOSSIBLE, ids=str)
def test_what_cannot_be_split_must_fit_a_datagram(case: Case) -> None:
    packet = build_packet(96, 0, 0, 1, bytes(1189), marker=True)
    with pytest.raises(RemoteProtocolError, match=r"payload size \(1201\) greater than maximum allowed \(1190\)"):
        Repacketizer(case.track, packet_sizes_for(1200)).push(packet)


@pytest.mark.parametrize("case", IMPOSSIBLE, ids=str)
def test_packets_that_cannot_be_split_are_refused(case: Case) -> None:
    packet = build_packet(96, 0, 0, 1, bytes(1461), marker=True)
    with pytest.raises(RemoteProtocolError, match=r"payload size \(1473\) greater than maximum allowed \(1472\)"):
        Repacketizer(case.track).push(packet)


def test_small_packets_pass_untouched() -> None:
    oversized = Repacketizer(CASES[0].track)
    packet = build_packet(96, 5, 0, 1, INTER, marker=True)
    assert oversized.push(packet) == [packet]
    assert oversized.push(packet)[0] is packet


def test_aggregate_is_taken_apart() -> None:
    large = IDR + b"\x44" * 3000
    packet = build_packet(96, 65_535, 9, 1, stap(SPS, PPS, large), marker=True)
    oversized = Repacketizer(CASES[0].track)
    parts = oversized.push(packet)
    assert [part.payload_bytes()[:2] for part in parts] == [b"\x78\x00", b"\x7c\x85", b"\x7c\x05", b"\x7c\x45"]
    assert [part.sequence for part in parts] == [65_535, 0, 1, 2]
    (later,) = oversized.push(build_packet(96, 0, 10, 1, INTER, marker=True))
    assert (later.sequence, later.payload_bytes()) == (3, INTER)
    depacketizer = H264Depacketizer(H264())
    frames = [frame for part in (*parts, later) for frame in depacketizer.push(part, part.timestamp)]
    assert [frame.units for frame in frames] == [(SPS, PPS, large), (INTER,)]


def mp3_frame(number: int) -> bytes:
    """Return a frame of 417 bytes: 128 kbit/s at 44.1 kHz."""
    return bytes.fromhex("fffb9064") + bytes((number,)) * 413


def ac3_frame(number: int) -> bytes:
    """Return a frame of 256 bytes: 64 kbit/s at 48 kHz."""
    return bytes.fromhex("0b770000084043e1") + bytes((number,)) * 248


def eac3_frame(number: int) -> bytes:
    """Return a frame of 256 bytes: 64 kbit/s at 48 kHz."""
    return bytes.fromhex("0b77007f3480") + bytes((number,)) * 250


def aac_payload(*units: bytes) -> bytes:
    """RFC 3640 section 3.3.6: the number of bits of the headers, one header a unit, the units."""
    headers = b"".join((len(unit) << 3).to_bytes(2, "big") for unit in units)
    return (16 * len(units)).to_bytes(2, "big") + headers + b"".join(units)


AAC_UNITS = [bytes((0x21, number)) * 170 for number in range(4)]
AGGREGATES = {
    # What FFmpeg sends over TCP: as many frames as fit 1472 bytes.
    "mpeg4-generic": (AAC_UNITS, aac_payload(*AAC_UNITS), [3, 1], 1024),
    "one of AAC is too large": ([bytes(20), bytes(1500)], aac_payload(bytes(20), bytes(1500)), [1, 2], 1024),
    "MPA": ([*map(mp3_frame, range(4))], bytes(4) + b"".join(map(mp3_frame, range(4))), [3, 1], 2351),
    "AC3": ([*map(ac3_frame, range(6))], b"\0\6" + b"".join(map(ac3_frame, range(6))), [4, 2], 1536),
    "EAC3": ([*map(eac3_frame, range(6))], b"\0\6" + b"".join(map(eac3_frame, range(6))), [4, 2], 1536),
}


@pytest.mark.parametrize("name", AGGREGATES)
def test_frames_of_sound_are_shared_out(name: str) -> None:
    """Each packet has whole frames, the timestamp of its first one, and the marker if that marks whole frames."""
    units, payload, counts, duration = AGGREGATES[name]
    encoding = "mpeg4-generic" if "AAC" in name else name
    (case,) = [case for case in CASES if case.encoding == encoding]
    marks = encoding != "MPA"
    oversized = Repacketizer(case.track, packet_sizes_for(1300))
    parts = oversized.push(build_packet(case.payload_type, 7, 1000, 1, payload, marker=marks))
    assert max(map(len, parts)) <= 1290
    assert [part.sequence for part in parts] == [7 + index for index in range(len(parts))]
    depacketizer = make_depacketizer(case.track)
    assert depacketizer is not None
    frames = [list(depacketizer.push(part, part.timestamp)) for part in parts]
    assert [frame.units for found in frames for frame in found] == [(unit,) for unit in units]
    times = [frame.pts - 1000 for found in frames for frame in found]
    assert times == [index * duration for index in range(len(units))]
    if "too large" not in name:
        assert [len(found) for found in frames] == counts
    assert [part.marker for part in parts] == [marks and bool(found) for found in frames]


def test_fragments_of_mpeg_audio_know_where_they_are() -> None:
    (case,) = [case for case in CASES if case.encoding == "MPA"]
    frame = bytes.fromhex("fffde800") + bytes(range(256)) * 5 + bytes(444)  # layer II: 384 kbit/s at 32 kHz
    assert len(frame) == 1728
    packets = [
        build_packet(14, index, 0, 1, offset.to_bytes(4, "big") + frame[offset : offset + 1400], marker=False)
        for index, offset in enumerate((0, 1400))
    ]
    oversized = Repacketizer(case.track, packet_sizes_for(1000))
    parts = [part for packet in packets for part in oversized.push(packet)]
    assert max(map(len, parts)) <= 990
    assert units_of(case.track, parts) == [(frame,)]


def test_a_payload_header_as_large_as_a_packet_is_refused() -> None:
    """VP9 (RFC 9628 section 4.2.1): flexible mode, with a scalability structure of 255 pictures in a group."""
    (case,) = [case for case in CASES if case.encoding == "VP9"]
    payload = bytes((0x0A, 0x08, 255)) + bytes(255) + bytes(2000)
    with pytest.raises(RemoteProtocolError, match="the payload header is larger than a packet may be"):
        Repacketizer(case.track, packet_sizes_for(280)).push(build_packet(96, 1, 0, 1, payload, marker=True))


def test_samples_get_timestamps_of_their_own() -> None:
    track = Case("audio", 10, "L16", 44_100, "", CASES[0].make).track
    samples = bytes(range(256)) * 16
    parts = Repacketizer(track).push(build_packet(10, 1, 1000, 1, samples, marker=False))
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
    (packet,) = Repacketizer(CASES[6].track).push(parse_packet(wire, 0, len(wire)))
    assert (packet.payload_bytes(), packet.sequence, packet.marker) == (payload, 7, True)
    assert len(packet) == 12 + len(payload)


def jpeg(size: int, *, restart_interval: int = 0) -> bytes:
    """Return a JPEG picture whose entropy-coded data has ``size`` bytes."""
    tables = b"".join(b"\xff\xdb\x00\x43" + bytes((index,)) + bytes(range(1, 65)) for index in (0, 1))
    start = b"\xff\xc0\x00\x11\x08\x00\x40\x00\x40\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    restart = b"\xff\xdd\x00\x04" + restart_interval.to_bytes(2, "big") if restart_interval else b""
    huffman = b"\xff\xc4" + (len(HUFFMAN_TABLES) + 2).to_bytes(2, "big") + HUFFMAN_TABLES
    scan = b"\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00"
    data = bytes(index * 7 % 251 for index in range(size))
    return b"\xff\xd8" + tables + restart + start + huffman + scan + data + b"\xff\xd9"


FRAGMENTED = [
    *(case for case in CASES if case.encoding in ("H264", "H265")),
    Case("video", 26, "JPEG", 90_000, "", lambda _, size: (jpeg(size),)),
    Case("video", 26, "JPEG restarts", 90_000, "", lambda _, size: (jpeg(size, restart_interval=4),)),
]


def packets_of(case: Case, maximum: int, sizes: list[int]) -> tuple[list[tuple[bytes, ...]], list[RtpPacket]]:
    """Return frames, and packets as a sender makes them whose packets have ``maximum`` bytes."""
    encoding = case.encoding.partition(" ")[0]
    large = Case(
        case.media_type, case.payload_type, encoding, case.clock_rate, case.parameters, case.make, maximum - 12
    )
    _, groups = packets_by_frame(large, sizes)
    packets = [packet for group in groups for packet in group]
    # What the packets themselves say: JPEG headers are not carried as they are.
    return units_of(large.track, packets), packets


def units_of(track: Track, packets: list[RtpPacket]) -> list[tuple[bytes, ...]]:
    depacketizer = make_depacketizer(track)
    assert depacketizer is not None
    return [frame.units for packet in packets for frame in depacketizer.push(packet, packet.timestamp)]


def track_of(case: Case) -> Track:
    encoding = case.encoding.partition(" ")[0]
    return Case(case.media_type, case.payload_type, encoding, case.clock_rate, case.parameters, case.make).track


@pytest.mark.parametrize("case", FRAGMENTED, ids=str)
def test_fragments_are_cut_anew_into_hardly_more_packets(case: Case) -> None:
    frames, packets = packets_of(case, 1472, [70_000, 100, 15_000, 2900, 20, 50_000])
    assert len(frames) == 6
    oversized = Repacketizer(track_of(case))
    smaller = [part for packet in packets for part in oversized.push(packet)]
    assert max(map(len, packets)) == 1472
    assert max(map(len, smaller)) == 1440
    assert len(smaller) <= len(packets) * 1.05
    first = packets[0].sequence
    assert [packet.sequence for packet in smaller] == [first + index & 0xFFFF for index in range(len(smaller))]
    assert units_of(track_of(case), smaller) == frames
    # Packets of one size leave in one system call.
    assert sum(len(packet) == 1440 for packet in smaller) > 0.85 * len(smaller)
    assert smaller[0].key


@pytest.mark.parametrize("case", FRAGMENTED, ids=str)
@pytest.mark.parametrize("lost", range(30, 84, 6))
def test_lost_fragments_harm_only_their_frame(case: Case, lost: int) -> None:
    frames, packets = packets_of(case, 1472, [20_000] * 6)
    del packets[lost]
    oversized = Repacketizer(track_of(case))
    smaller = [part for packet in packets for part in oversized.push(packet)]
    steps = [after.sequence - before.sequence & 0xFFFF for before, after in pairwise(smaller)]
    assert sorted(steps)[-2:] == [1, 2]  # the loss shows
    found = units_of(track_of(case), smaller)
    assert len(found) in (4, 5)
    assert all(units in frames for units in found)


@pytest.mark.parametrize("case", FRAGMENTED, ids=str)
def test_small_fragments_pass_untouched(case: Case) -> None:
    _, packets = packets_of(case, 1000, [20_000, 500])
    oversized = Repacketizer(track_of(case))
    assert [part for packet in packets for part in oversized.push(packet)] == packets


@pytest.mark.parametrize("case", IMPOSSIBLE, ids=str)
def test_packets_that_cannot_be_split_pass_if_they_fit_a_datagram(case: Case) -> None:
    packet = build_packet(96, 0, 0, 1, bytes(1460), marker=True)
    assert Repacketizer(case.track).push(packet) == [packet]
    larger = build_packet(96, 0, 0, 1, bytes(3000), marker=True)
    assert Repacketizer(case.track, refuses=False).push(larger) == [larger]


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_generated_packets_fit_1440_bytes(case: Case) -> None:
    packetizer = make_packetizer(case.track, ssrc=1, initial_sequence=0, initial_timestamp=0)
    assert packetizer is not None
    packets = packetizer.packetize(Frame(case.make(0, 8000), 0, 0, key=True))
    assert max(map(len, packets)) == 1440
