"""Captures, read by Wireshark's program for terminals."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.tshark import read_capture

from polycast.wire.pcapng import TcpConversation, file_header, udp_packet

TIME = 1_700_000_000_123_456_789
CHECKS = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE")
GOOD = "1"


@pytest.mark.parametrize(
    ("hosts", "is_server"),
    [
        (("192.0.2.1", "198.51.100.2"), True),
        (("2001:db8::1", "::1"), False),
        (("2001:db8::1", "192.0.2.1"), True),
    ],
)
def test_a_connection_is_read_with_its_data_in_order(tmp_path: Path, hosts: tuple[str, str], is_server: bool) -> None:
    made = TcpConversation((hosts[0], 8554), (hosts[1], 40_001), is_server=is_server)
    question, answer = b"question", bytes(range(256)) * 600 + b"odd"
    capture = tmp_path / "capture.pcapng"
    capture.write_bytes(
        file_header()
        + made.opening(TIME)
        + made.data(question, TIME + 1, is_received=is_server)
        + made.data(answer, TIME + 2, is_received=not is_server)
        + made.closing(TIME + 3)
    )
    fields = ("frame.time_epoch", "tcp.srcport", "tcp.flags.str", "tcp.len", "tcp.payload", "tcp.analysis.flags")
    sums = ("tcp.checksum.status", "ip.checksum.status")
    rows = read_capture(capture, *fields, *sums, options=CHECKS)
    client = "40001" if is_server else "8554"
    server = "8554" if is_server else "40001"
    assert [(row[1], row[2].strip("·"), int(row[3])) for row in rows] == [
        (client, "S", 0),
        (server, "A··S", 0),
        (client, "A", 0),
        (client, "AP", 8),
        (server, "AP", 65_000),
        (server, "AP", 65_000),
        (server, "AP", len(answer) - 130_000),
        (server if is_server else client, "A···F", 0),
        (client if is_server else server, "A···F", 0),
    ]
    assert bytes.fromhex(rows[3][4]) == question
    assert bytes.fromhex("".join(row[4] for row in rows[4:7])) == answer
    assert rows[0][0] == "1700000000.123456789"
    assert not any(row[5] for row in rows), "something is wrong with the sequence numbers"
    is_ipv4 = not any(":" in host for host in hosts)
    assert {row[6] for row in rows} == {GOOD}
    assert {row[7] for row in rows} == {GOOD if is_ipv4 else ""}


def test_what_was_left_out_is_a_gap(tmp_path: Path) -> None:
    made = TcpConversation(("127.0.0.1", 1), ("127.0.0.1", 2), is_server=True)
    blocks = file_header() + made.opening(TIME) + made.data(b"abc", TIME, is_received=True)
    made.skip(10, is_received=True)
    capture = tmp_path / "capture.pcapng"
    capture.write_bytes(blocks + made.data(b"de", TIME, is_received=True))
    rows = read_capture(capture, "tcp.seq", "tcp.analysis.lost_segment")
    assert rows[3:] == [["1", ""], ["14", "1"]]


def test_datagrams(tmp_path: Path) -> None:
    payloads = [b"", b"x", bytes(1_472)]
    packets = [
        udp_packet((host, 8000), (other, 5000), payload, TIME)
        for host, other in (("192.0.2.1", "198.51.100.2"), ("2001:db8::1", "::1"))
        for payload in payloads
    ]
    capture = tmp_path / "capture.pcapng"
    capture.write_bytes(file_header() + b"".join(packets))
    fields = ("udp.srcport", "udp.dstport", "udp.length", "udp.payload", "udp.checksum.status")
    rows = read_capture(capture, *fields, options=CHECKS)
    assert rows == [["8000", "5000", str(8 + len(data)), data.hex(), GOOD] for data in payloads * 2]
