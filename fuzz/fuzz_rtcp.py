"""Fuzz target: whatever an RTCP packet holds, it parses or raises RemoteProtocolError, and goes out as it came in."""

from __future__ import annotations

from polycast.errors import RemoteProtocolError
from polycast.rtp.rtcp import (
    FullIntraRequest,
    GenericNack,
    Goodbye,
    PictureLossIndication,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    SourceDescription,
    TransportFeedback,
    UnknownPacket,
    parse_compound,
    serialize_compound,
)

_BLOCK = ReportBlock(1, 2, -3, 4, 5, 6, 7)

SEEDS: list[bytes] = [
    b"",
    serialize_compound([SenderReport(1, 2 << 32, 3, 4, 5, (_BLOCK, _BLOCK)), SourceDescription(((1, "name"),))]),
    serialize_compound([ReceiverReport(1, (_BLOCK,)), Goodbye((1, 2), "reason")]),
    serialize_compound([PictureLossIndication(1, 2), FullIntraRequest(1, 0, ((2, 3),))]),
    serialize_compound([GenericNack(1, 2, (65535, 0, 5, 40))]),
    serialize_compound([TransportFeedback(205, 15, 1, 2, b"abcd"), UnknownPacket(204, 3, bytes(12))]),
    b"\xa0\xcc\x00\x02abcd\x00\x00\x00\x04",
]


def fuzz_one(data: bytes) -> None:
    """Parse, serialise, parse again: the same packets."""
    try:
        packets = parse_compound(data)
    except RemoteProtocolError:
        return
    again = parse_compound(serialize_compound(packets))
    if len(again) != len(packets):
        raise AssertionError("the number of packets changed")
    for packet, copy in zip(packets, again, strict=True):
        # Names with broken UTF-8 grow; bodies without their padding are filled up.
        if not isinstance(packet, SourceDescription | Goodbye | TransportFeedback | UnknownPacket | GenericNack) and (
            packet != copy
        ):
            raise AssertionError(f"{packet} became {copy}")
