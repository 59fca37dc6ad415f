"""Packets with their sizes over TCP (RFC 4571 section 2)."""

from __future__ import annotations

import pytest

from polycast.errors import RemoteProtocolError
from polycast.wire.webrtc.framing import MAXIMUM_SIZE, Deframer, frame

CASES = [
    (b"", []),
    (b"\x00\x03abc", [b"abc"]),
    (b"\x00\x00\x00\x01x\x00\x00", [b"", b"x", b""]),
    (b"\x01\x00" + bytes(256) + b"\x00\x02no", [bytes(256), b"no"]),
    (b"\x20\x00" + bytes(MAXIMUM_SIZE), [bytes(MAXIMUM_SIZE)]),
]


def packets_of(deframer: Deframer) -> list[bytes]:
    found = []
    while (packet := deframer.next_packet()) is not None:
        found.append(packet)
    return found


@pytest.mark.parametrize(("data", "packets"), CASES)
def test_packets(data: bytes, packets: list[bytes]) -> None:
    assert b"".join(map(frame, packets)) == data
    deframer = Deframer()
    deframer.receive_data(data)
    assert packets_of(deframer) == packets
    assert deframer.held_size == 0


@pytest.mark.parametrize(("data", "packets"), CASES)
def test_byte_at_a_time(data: bytes, packets: list[bytes]) -> None:
    deframer, found = Deframer(), []
    for value in data:
        deframer.receive_data(bytes((value,)))
        found += packets_of(deframer)
    assert found == packets


@pytest.mark.parametrize("data", [b"\x00", b"\x00\x03ab", b"\x20\x00" + bytes(MAXIMUM_SIZE - 1)])
def test_an_incomplete_packet_is_held(data: bytes) -> None:
    deframer = Deframer()
    deframer.receive_data(data)
    assert deframer.next_packet() is None
    assert deframer.held_size == len(data)


def test_a_packet_that_is_too_large_is_refused_before_it_arrives() -> None:
    deframer = Deframer()
    deframer.receive_data(b"\x00\x01a" + (MAXIMUM_SIZE + 1).to_bytes(2, "big"))
    assert deframer.next_packet() == b"a"
    with pytest.raises(RemoteProtocolError, match="a packet of 8193 bytes"):
        deframer.next_packet()
