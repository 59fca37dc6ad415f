"""The RTP header: one list of packets is parsed, rewritten and rebuilt."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycast.errors import RemoteProtocolError
from polycast.rtp.header import (
    build_header,
    build_packet,
    normalized,
    parse_packet,
    payload_type_of,
    rewrite,
    ssrc_of,
)


@dataclass(frozen=True)
class Case:
    name: str
    wire: str
    """Hexadecimal."""
    payload: str
    sequence: int = 0x4711
    timestamp: int = 0x01020304
    ssrc: int = 0xDEADBEEF
    payload_type: int = 96
    marker: bool = False
    sent: str | None = None
    """What goes out again, where it is not what came in."""

    def __str__(self) -> str:
        return self.name


CASES = [
    Case("plain", "8060 4711 01020304 deadbeef 616263", "616263"),
    Case("marker", "80e0 4711 01020304 deadbeef 616263", "616263", marker=True),
    Case("empty", "8000 0000 00000000 00000001", "", 0, 0, 1, 0),
    Case("highest values", "80ff ffff ffffffff ffffffff 00", "00", 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 127, True),
    Case("two contributing sources", "8260 4711 01020304 deadbeef 00000001 00000002 616263", "616263"),
    Case("extension", "9060 4711 01020304 deadbeef bede0001 10aa0000 616263", "616263"),
    Case("empty extension", "9060 4711 01020304 deadbeef bede0000 616263", "616263"),
    Case("source and extension", "9160 4711 01020304 deadbeef 00000001 abac0001 10aa0000 61", "61"),
    Case(
        "padding",
        "a060 4711 01020304 deadbeef 616263 00000003",
        "61626300",
        sent="8060 4711 01020304 deadbeef 61626300",
    ),
    Case("only padding", "a060 4711 01020304 deadbeef 00000004", "", sent="8060 4711 01020304 deadbeef"),
    Case(
        "padding after an extension",
        "b060 4711 01020304 deadbeef bede0001 10aa0000 6101",
        "61",
        sent="9060 4711 01020304 deadbeef bede0001 10aa0000 61",
    ),
]

BROKEN = {
    "nothing": "",
    "short": "8060 4711 01020304 deadbe",
    "version 0": "0060 4711 01020304 deadbeef",
    "version 1": "4060 4711 01020304 deadbeef",
    "version 3": "c060 4711 01020304 deadbeef",
    "sources are cut off": "8260 4711 01020304 deadbeef 00000001 0000",
    "extension header is cut off": "9060 4711 01020304 deadbeef be",
    "extension is cut off": "9060 4711 01020304 deadbeef bede0002 00000000",
    "padding of zero": "a060 4711 01020304 deadbeef 6100",
    "padding without room": "a060 4711 01020304 deadbeef",
    "padding over the payload": "a060 4711 01020304 deadbeef 6105",
    "padding over an extension": "b060 4711 01020304 deadbeef bede0001 10aa0000 6103",
}


@pytest.mark.parametrize("offset", [0, 7])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_parse(case: Case, offset: int) -> None:
    wire = bytes.fromhex(case.wire)
    data = b"\xa5" * offset + wire + b"\x5a" * 3
    packet = parse_packet(data, offset, offset + len(wire))
    assert packet.payload_bytes().hex() == case.payload
    assert (packet.sequence, packet.timestamp, packet.marker) == (case.sequence, case.timestamp, case.marker)
    assert (ssrc_of(packet), payload_type_of(packet), packet.key) == (case.ssrc, case.payload_type, False)
    sent = bytes.fromhex(case.sent or case.wire)
    assert packet.data[packet.start : packet.end] == sent
    assert len(packet) == len(sent)
    assert normalized(packet) is packet
    assert rewrite(packet).data == sent
    if case.sent is None:
        assert packet.data is data


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str) -> None:
    wire = bytes.fromhex(BROKEN[name])
    # Bytes behind the packet must not be taken for its own.
    with pytest.raises(RemoteProtocolError):
        parse_packet(b"\x80" * 5 + wire + b"\x01" * 40, 5, 5 + len(wire))


@pytest.mark.parametrize("case", [case for case in CASES if case.sent is None], ids=str)
def test_every_cut_is_refused_or_shorter(case: Case) -> None:
    wire = bytes.fromhex(case.wire)
    header = len(wire) - len(case.payload) // 2
    for end in range(len(wire)):
        if end < header:
            with pytest.raises(RemoteProtocolError):
                parse_packet(wire, 0, end)
        else:
            assert parse_packet(wire, 0, end).payload_bytes() == wire[header:end]


def test_rewrite_changes_only_the_given_fields() -> None:
    wire = bytes.fromhex(CASES[4].wire)
    packet = parse_packet(wire, 0, len(wire))
    packet.key = True
    changed = rewrite(packet, payload_type=8, sequence=65_536 + 5, timestamp=(1 << 32) + 6, ssrc=7, marker=True)
    assert changed.data.hex(" ", -4) == bytes.fromhex("82880005 00000006 00000007 00000001 00000002 616263").hex(
        " ", -4
    )
    assert (changed.sequence, changed.timestamp, changed.marker, changed.key) == (5, 6, True, True)
    assert changed.payload_bytes() == b"abc"
    assert packet.data == wire
    assert packet.sequence == 0x4711


@given(
    st.integers(0, 127),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.booleans(),
    st.binary(max_size=50),
)
def test_build_and_parse(
    payload_type: int, sequence: int, timestamp: int, ssrc: int, marker: bool, payload: bytes
) -> None:
    built = build_packet(payload_type, sequence, timestamp, ssrc, payload, marker=marker)
    assert built.data == build_header(payload_type, sequence, timestamp, ssrc, marker=marker) + payload
    packet = parse_packet(built.data, 0, len(built.data))
    assert (packet.sequence, packet.timestamp, packet.marker) == (sequence, timestamp, marker)
    assert (payload_type_of(packet), ssrc_of(packet), packet.payload_bytes()) == (payload_type, ssrc, payload)
    assert repr(packet) == repr(built)
