"""RTCP: one list of packets is parsed, serialised and cut."""

from __future__ import annotations

import pytest

from polycast.errors import RemoteProtocolError
from polycast.rtp.rtcp import (
    MAXIMUM_DESCRIPTION_ITEMS,
    MAXIMUM_PACKETS_PER_COMPOUND,
    FullIntraRequest,
    GenericNack,
    Goodbye,
    PictureLossIndication,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    TransportFeedback,
    UnknownPacket,
    parse_compound,
    serialize_compound,
)

BLOCK = ReportBlock(0x01020304, 0x80, -2, 0x0001FFFF, 17, 0xAABBCCDD, 0x10000)
BLOCK_WIRE = "01020304 80fffffe 0001ffff 00000011 aabbccdd 00010000"

CASES: list[tuple[str, RtcpPacket]] = [
    (
        "80c80006 11111111 e1e2e3e4 80000000 00000064 00000005 00000400",
        SenderReport(0x11111111, 0xE1E2E3E480000000, 100, 5, 1024),
    ),
    (
        f"81c8000c 11111111 e1e2e3e4 80000000 00000064 00000005 00000400 {BLOCK_WIRE}",
        SenderReport(0x11111111, 0xE1E2E3E480000000, 100, 5, 1024, (BLOCK,)),
    ),
    ("80c90001 11111111", ReceiverReport(0x11111111)),
    (f"82c9000d 11111111 {BLOCK_WIRE} {BLOCK_WIRE}", ReceiverReport(0x11111111, (BLOCK, BLOCK))),
    ("81ca0003 11111111 01046162 63640000", SourceDescription(((0x11111111, "abcd"),))),
    ("81ca0003 11111111 01056162 63646500", SourceDescription(((0x11111111, "abcde"),))),
    ("81ca0004 11111111 01066162 63646566 00000000", SourceDescription(((0x11111111, "abcdef"),))),
    ("82ca0004 00000001 01016100 00000002 01016200", SourceDescription(((1, "a"), (2, "b")))),
    ("81cb0001 00000001", Goodbye((1,))),
    ("82cb0004 00000001 00000002 04627965 21000000", Goodbye((1, 2), "bye!")),
    ("81ce0002 00000001 00000002", PictureLossIndication(1, 2)),
    ("84ce0004 00000001 00000000 00000002 07000000", FullIntraRequest(1, 0, ((2, 7),))),
    ("81cd0003 00000001 00000002 ffff0005", GenericNack(1, 2, (65535, 0, 2))),
    ("81cd0004 00000001 00000002 00010000 00640001", GenericNack(1, 2, (1, 100, 101))),
    ("8fcd0003 00000001 00000002 61626364", TransportFeedback(205, 15, 1, 2, b"abcd")),
    ("8fce0003 00000001 00000002 52454d42", TransportFeedback(206, 15, 1, 2, b"REMB")),
    ("83cc0003 00000001 6e616d65 61626364", UnknownPacket(204, 3, b"\0\0\0\1nameabcd")),
    ("80cf0000", UnknownPacket(207, 0, b"")),
]


@pytest.mark.parametrize(("wire", "packet"), CASES)
def test_parse_and_serialize(wire: str, packet: RtcpPacket) -> None:
    data = bytes.fromhex(wire)
    assert parse_compound(data) == [packet]
    assert serialize_compound([packet]) == data
    assert parse_compound(b"xyz" + data + b"xyz", 3, 3 + len(data)) == [packet]


def test_compound() -> None:
    data = bytes.fromhex("".join(wire for wire, _ in CASES))
    packets = [packet for _, packet in CASES]
    assert parse_compound(data) == packets
    assert serialize_compound(packets) == data


@pytest.mark.parametrize(("wire", "packet"), CASES)
def test_cut_packets_are_refused(wire: str, packet: RtcpPacket) -> None:
    data = bytes.fromhex(wire)
    for end in range(1, len(data)):
        with pytest.raises(RemoteProtocolError):
            parse_compound(data, 0, end)


@pytest.mark.parametrize(
    "wire",
    [
        "40c90001 00000001",  # version 1
        "80c80005 11111111 e1e2e3e4 80000000 00000064 00000005",  # sender information is cut off
        "80c90000",
        "81c90001 00000001",  # a block is missing
        "81ca0000",
        "81ca0002 00000001 01097a7a",  # the item is longer than the packet
        "81cb0000",
        "81cb0002 00000001 09616263",
        "81ce0001 00000001",
        "a0c90001 00000000",  # padding of zero
        "a0c90001 00000009",  # padding over the packet
    ],
)
def test_broken(wire: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_compound(bytes.fromhex(wire))


def test_padding_is_stripped() -> None:
    assert parse_compound(bytes.fromhex("a0c90002 11111111 00000004")) == [ReceiverReport(0x11111111)]


def test_other_items_are_passed_over() -> None:
    wire = "81ca0004 11111111 06027678 01026162 00000000"
    assert parse_compound(bytes.fromhex(wire)) == [SourceDescription(((0x11111111, "ab"),))]


def test_number_of_packets_is_limited() -> None:
    empty = bytes.fromhex("80cf0000")
    assert len(parse_compound(empty * MAXIMUM_PACKETS_PER_COMPOUND)) == MAXIMUM_PACKETS_PER_COMPOUND
    with pytest.raises(RemoteProtocolError):
        parse_compound(empty * (MAXIMUM_PACKETS_PER_COMPOUND + 1))


def test_number_of_items_is_limited() -> None:
    """A packet of empty ones took 15 ms."""

    def description(items: int) -> bytes:
        body = bytes.fromhex("11111111") + bytes((1, 0)) * items
        body += bytes(4 - len(body) % 4)
        return bytes((0x81, 0xCA)) + (len(body) // 4).to_bytes(2, "big") + body

    (packet,) = parse_compound(description(MAXIMUM_DESCRIPTION_ITEMS))
    assert isinstance(packet, SourceDescription)
    assert len(packet.names) == MAXIMUM_DESCRIPTION_ITEMS
    with pytest.raises(RemoteProtocolError, match="too many items"):
        parse_compound(description(MAXIMUM_DESCRIPTION_ITEMS + 1))
