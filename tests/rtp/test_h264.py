"""H.264 payloads that encoders and cameras send, byte by byte (RFC 6184)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from polycast.media.codec import H264
from polycast.media.frame import Frame
from polycast.rtp.header import build_packet
from polycast.rtp.payload.h264 import H264Depacketizer, H264Packetizer, peek

SPS = bytes.fromhex("6742c015da0507ec0440000003004000000c83c58ba8")
PPS = bytes.fromhex("68ce3c80")
IDR = bytes.fromhex("658884") + b"\x11" * 20
SECOND_SLICE = bytes.fromhex("650884") + b"\x22" * 20
INTER = bytes.fromhex("419a24") + b"\x33" * 20
SEI = bytes.fromhex("0605ff80")
DELIMITER = bytes.fromhex("0910")
START = b"\x00\x00\x00\x01"


def stap(*units: bytes) -> bytes:
    return b"\x78" + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


@dataclass(frozen=True)
class Case:
    name: str
    payloads: tuple[tuple[bytes, int, bool], ...]
    """Payload, timestamp, marker."""
    frames: tuple[tuple[int, tuple[bytes, ...]], ...]
    errors: int = 0
    lost: int = 0
    codec: H264 = H264(SPS, PPS)  # noqa: RUF009

    def __str__(self) -> str:
        return self.name


CASES = [
    Case("one unit", ((IDR, 5, True),), ((5, (IDR,)),)),
    Case("units one by one", ((SPS, 5, False), (PPS, 5, False), (IDR, 5, True)), ((5, (SPS, PPS, IDR)),)),
    Case("aggregate", ((stap(SPS, PPS, IDR), 5, True),), ((5, (SPS, PPS, IDR)),)),
    Case("aggregate with padding", ((stap(SPS, PPS, IDR) + bytes(2), 5, True),), ((5, (SPS, PPS, IDR)),)),
    Case("aggregate with one byte too many", ((stap(IDR) + b"\x00", 5, True),), ((5, (IDR,)),)),
    Case("delimiter", ((DELIMITER, 5, False), (stap(DELIMITER, IDR), 5, True)), ((5, (IDR,)),)),
    Case(
        "fragments",
        ((b"\x7c\x85" + IDR[1:5], 5, False), (b"\x7c\x05" + IDR[5:9], 5, False), (b"\x7c\x45" + IDR[9:], 5, True)),
        ((5, (IDR,)),),
    ),
    Case("a single fragment with start and end", ((b"\x7c\xc5" + IDR[1:], 5, True),), ((5, (IDR,)),)),
    Case(
        "parameter sets with a marker of their own",
        ((SPS, 5, True), (PPS, 5, True), (IDR, 5, True), (INTER, 8, True)),
        ((5, (SPS, PPS, IDR)), (8, (INTER,))),
    ),
    Case(
        "parameter sets with a timestamp of their own",
        ((stap(SPS, PPS), 4, False), (IDR, 5, True)),
        ((5, (SPS, PPS, IDR)),),
    ),
    Case(
        "no markers",
        ((IDR, 5, False), (SECOND_SLICE, 5, False), (INTER, 8, False), (INTER, 11, False)),
        ((5, (IDR, SECOND_SLICE)), (8, (INTER,))),
    ),
    Case("Annex B", ((START + SPS + START + PPS + START[1:] + IDR, 5, True),), ((5, (SPS, PPS, IDR)),)),
    Case(
        "Annex B behind the first unit",
        ((SPS + START + PPS + START + IDR, 5, True), (INTER, 8, True)),
        ((5, (SPS, PPS, IDR)), (8, (INTER,))),
    ),
    Case(
        "Annex B in fragments",
        ((b"\x7c\x87" + SPS[1:] + START + PPS, 5, False), (b"\x7c\x47" + START + IDR, 5, True)),
        ((5, (SPS, PPS, IDR)),),
    ),
    Case("parameter sets from the stream", ((stap(SPS, PPS, IDR), 5, True),), ((5, (SPS, PPS, IDR)),), codec=H264()),
    Case("starts at the first key frame", ((INTER, 2, True), (IDR, 5, True)), ((5, (IDR,)),)),
    Case("joined in the middle of a key frame", ((SECOND_SLICE, 2, True), (IDR, 5, True)), ((5, (IDR,)),), lost=1),
    Case("empty payload", ((b"", 5, False), (IDR, 5, True)), ((5, (IDR,)),)),
    Case("STAP-B", ((b"\x79\x00\x00\x00\x01\x65", 5, True), (IDR, 8, True)), ((8, (IDR,)),), errors=1, lost=1),
    Case("MTAP16", ((b"\x7a" + bytes(8), 5, True), (IDR, 8, True)), ((8, (IDR,)),), errors=1, lost=1),
    Case("FU-B", ((b"\x7d\x85\x00\x00\x88", 5, True), (IDR, 8, True)), ((8, (IDR,)),), errors=1, lost=1),
    Case("cut aggregate", ((stap(IDR)[:-1], 5, True), (IDR, 8, True)), ((8, (IDR,)),), errors=1, lost=1),
    Case("short fragment", ((b"\x7c", 5, True), (IDR, 8, True)), ((8, (IDR,)),), errors=1, lost=1),
    Case("fragment without start", ((b"\x7c\x05abc", 5, True), (IDR, 8, True)), ((8, (IDR,)),), lost=1),
    Case(
        "fragments without end",
        ((b"\x7c\x85" + IDR[1:9], 5, True), (IDR, 8, True)),
        ((8, (IDR,)),),
        lost=1,
    ),
    Case(
        "a new fragment starts",
        ((b"\x7c\x85" + IDR[1:9], 5, False), (b"\x7c\xc5" + IDR[1:], 5, True), (IDR, 8, True)),
        ((8, (IDR,)),),
        lost=1,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_depacketize(case: Case) -> None:
    depacketizer = H264Depacketizer(case.codec)
    frames: list[Frame] = []
    for index, (payload, timestamp, marker) in enumerate(case.payloads):
        packet = build_packet(96, 65_534 + index, timestamp, 1, payload, marker=marker)
        frames += depacketizer.push(packet, timestamp)
    assert [(frame.pts, frame.units) for frame in frames] == list(case.frames)
    assert [frame.dts for frame in frames] == [frame.pts for frame in frames]
    assert (depacketizer.errors, depacketizer.lost_frames) == (case.errors, case.lost)
    assert depacketizer.codec == H264(SPS, PPS)


@pytest.mark.parametrize(
    ("payload", "flags"),
    [
        (IDR, 1),
        (SECOND_SLICE, 0),
        (INTER, 0),
        (SPS, 3),
        (PPS, 2),
        (SEI, 0),
        (bytes.fromhex("060601c480"), 1),  # recovery point of no frames
        (bytes.fromhex("0606010880"), 0),  # recovery point of some frames
        (stap(SPS, PPS), 3),
        (stap(SEI, IDR), 1),
        (stap(PPS, INTER), 2),
        (stap(SECOND_SLICE), 0),
        (b"\x7c\x85" + IDR[1:], 1),
        (b"\x7c\x85" + SECOND_SLICE[1:], 0),
        (b"\x7c\x05" + IDR[1:], 0),
        (b"\x7c\x45" + IDR[1:], 0),
        (b"\x7c\x81" + INTER[1:], 0),
        (b"\x7c\x87" + SPS[1:], 3),
        (START + SPS + START + IDR, 3),
        (START + INTER, 0),
        (b"", 0),
        (b"\x65", 0),
        (b"\x7c", 0),
        (stap(IDR)[:-1], 0),
    ],
)
def test_peek(payload: bytes, flags: int) -> None:
    # What is behind the packet in its buffer must not matter.
    assert peek(b"\x65\x88" + payload + b"\x65\x88", 2, 2 + len(payload)) == flags


def test_packets_of_a_small_key_frame() -> None:
    """The reference server sends SPS, PPS and IDR picture in one STAP-A, with the highest NRI of them."""
    packetizer = H264Packetizer(96, 1, 0, 0)
    packetizer.codec = H264(SPS, PPS)
    (packet,) = packetizer.packetize(Frame((IDR,), 0, 0, key=True))
    assert packet.payload_bytes() == stap(SPS, PPS, IDR)
    assert (packet.marker, packet.key) == (True, True)


def test_packets_of_a_large_frame() -> None:
    """FU-A, each packet full but the last; all in one buffer."""
    packetizer = H264Packetizer(97, 7, 65_535, 100, maximum_payload=12)
    unit = b"\x65" + bytes(range(1, 25))
    packets = packetizer.packetize(Frame((unit,), 1000, 1000, key=True))
    assert [packet.payload_bytes() for packet in packets] == [
        b"\x7c\x85" + bytes(range(1, 11)),
        b"\x7c\x05" + bytes(range(11, 21)),
        b"\x7c\x45" + bytes(range(21, 25)),
    ]
    assert [packet.sequence for packet in packets] == [65_535, 0, 1]
    assert [packet.marker for packet in packets] == [False, False, True]
    assert [packet.key for packet in packets] == [True, False, False]
    assert {packet.timestamp for packet in packets} == {1100}
    assert len({id(packet.data) for packet in packets}) == 1


@pytest.mark.parametrize("is_start", [False, True])
def test_a_slice_that_does_not_begin_a_picture_is_complete_only_at_the_start_of_a_stream(is_start: bool) -> None:
    """In mid-stream, what begins the picture may have been missed."""
    depacketizer = H264Depacketizer(H264(SPS, PPS))
    if is_start:
        depacketizer.begin_stream()
    frames = depacketizer.push(build_packet(96, 1, 0, 1, SECOND_SLICE, marker=True), 0)
    assert len(frames) == is_start
