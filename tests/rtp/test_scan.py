"""Many packets inspected at once, against the same packets parsed one by one."""

from __future__ import annotations

import random
import struct

import pytest
from tests.rtp.codecs import CODECS
from tests.support.rtp import rtp as make_rtp

from polycast.media.codec import H264, Codec
from polycast.rtp.header import HEADER_SIZE, MAXIMUM_PACKET_SIZE, parse_packet
from polycast.rtp.payload.base import KEY
from polycast.rtp.payload.registry import payload_of_codec
from polycast.rtp.scan import PacketScanner, Summary
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.parser import MessageParser

GAP = 4

VIDEO = H264()

FRAGMENT = b"\x7c\x01" + b"slice"
FRAGMENT_OF_KEY_FRAME = b"\x7c\x85\x88" + b"slice"
FIRST_BYTES = (0x00, 0x08, 0x10, 0x40, 0x41, 0x62, 0x65, 0x67, 0x7C, 0x80, 0x90)
"""Of payloads that mean something in one of the formats."""


def rtp(sequence: int, payload: bytes, *, marker: bool = False) -> bytes:
    return make_rtp(sequence, payload, timestamp=3000, marker=marker)


def prepare(packets: list[bytes], codec: Codec = VIDEO) -> tuple[PacketScanner, InterleavedRun]:
    parser = MessageParser()
    parser.receive_data(b"".join(b"$\0" + struct.pack(">H", len(packet)) + packet for packet in packets))
    run = parser.next_event()
    assert isinstance(run, InterleavedRun)
    payload = payload_of_codec(codec)
    return PacketScanner(96, MAXIMUM_PACKET_SIZE, payload.peek_for(codec), payload.continuation), run


def scan(packets: list[bytes], codec: Codec = VIDEO) -> Summary | None:
    scanner, run = prepare(packets, codec)
    found = scanner.scan(run)
    assert scanner._scan_each(run) == (None if found is None else (*found[:3], list(found[3])))
    return found


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_the_scan_matches_the_packets(codec: Codec) -> None:
    randomness = random.Random(1)
    peek = payload_of_codec(codec).peek_for(codec)
    for number in range(2000):
        size = 3 if number % 2 else 12  # at least; half of the reads have packets of one size
        packets = [
            rtp(
                sequence,
                bytes((randomness.choice(FIRST_BYTES),)) + randomness.randbytes(randomness.randrange(size, 13)),
                marker=randomness.random() < 0.2,
            )
            for sequence in range(7, 7 + randomness.randrange(1, 8))
        ]
        found = scan(packets, codec)
        assert found is not None
        sequence, timestamp, marker, flagged = found
        parsed = [parse_packet(packet, 0, len(packet)) for packet in packets]
        assert (sequence, timestamp, marker) == (7, 3000, parsed[-1].marker)
        flags = [peek(packet.data, packet.payload, packet.end) for packet in parsed]
        assert [flag for flag, _, _ in flagged] == [flag for flag in flags if flag]
        assert [end - start for _, start, end in flagged] == [
            len(packet) for packet, flag in zip(packets, flags, strict=True) if flag
        ]


def test_a_key_frame_is_flagged_where_it_begins() -> None:
    packets = [rtp(1, FRAGMENT), rtp(2, FRAGMENT_OF_KEY_FRAME), rtp(3, FRAGMENT, marker=True)]
    start = GAP + len(packets[0]) + GAP
    assert scan(packets) == (1, 3000, True, [(KEY, start, start + len(packets[1]))])


def test_sequence_numbers_wrap_after_the_largest() -> None:
    for first in (65_534, 254, 255, 0xFEFF):
        packets = [rtp(first + number & 0xFFFF, FRAGMENT) for number in range(5)]
        found = scan(packets)
        assert found is not None
        assert found[0] == first
        scanner, run = prepare(packets)
        assert scanner._scan_uniform(run) == found, "the shortcut is taken"


@pytest.mark.parametrize("numbers", [(254, 255, 512), (255, 0), (254, 511, 256), (510, 255, 512), (65_535, 256)])
def test_sequence_numbers_whose_low_bytes_alone_continue_are_refused(numbers: tuple[int, ...]) -> None:
    assert scan([rtp(number, FRAGMENT) for number in numbers]) is None


@pytest.mark.parametrize(
    "odd",
    [
        rtp(3, FRAGMENT),
        rtp(1, FRAGMENT),
        b"\x40" + rtp(2, FRAGMENT)[1:],
        b"\xa0" + rtp(2, FRAGMENT)[1:] + b"\0\0\3",
        b"\x90" + rtp(2, b"\xbe\xde\0\0" + FRAGMENT)[1:],
        b"\x81" + rtp(2, b"\0\0\0\1" + FRAGMENT)[1:],
        rtp(2, bytes(MAXIMUM_PACKET_SIZE - HEADER_SIZE + 1)),
        rtp(2, b"abc"),
        rtp(2, b""),
        rtp(2, FRAGMENT)[:3],
        b"",
    ],
    ids=["gap", "repeated", "version", "padding", "extension", "source", "large", "small", "empty", "cut", "nothing"],
)
def test_packets_that_are_not_plain_are_refused(odd: bytes) -> None:
    assert scan([rtp(1, FRAGMENT), odd]) is None
    assert scan([odd]) is None or odd in (rtp(3, FRAGMENT), rtp(1, FRAGMENT))
    assert scan([rtp(1, FRAGMENT), odd, rtp(4, FRAGMENT)]) is None


def test_the_largest_and_the_smallest_plain_packet() -> None:
    assert scan([rtp(1, bytes(MAXIMUM_PACKET_SIZE - HEADER_SIZE)), rtp(2, b"abcd")]) is not None
