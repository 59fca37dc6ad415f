"""What a peer can make a connection do with small packets, in CPU time: a busy machine changes little."""

from __future__ import annotations

import time
from collections.abc import Callable

from polycast.wire.srt.connection import Connection, Parameters
from polycast.wire.srt.datagrams import split
from polycast.wire.srt.loss_list import build_loss_list
from polycast.wire.srt.packet import HEADER, ControlType, build_control

LIMIT = 0.04
"""Milliseconds of CPU time per packet, on average; a usual packet takes 0.005 to 0.02."""


def connection(*, receive_delay: float = 0.12) -> Connection:
    parameters = Parameters(
        own_id=1, peer_id=2, started_at=0.0, send_sequence=0, receive_sequence=0, window=25_600,
        receive_delay=receive_delay, send_delay=60.0, peer_arrival=0.0, peer_timestamp=0, idle_seconds=1000.0,
    )  # fmt: skip
    return Connection(parameters, 0.0)


def publishing(packets: int) -> Connection:
    sending = connection()
    for number in range(packets // 40):
        for datagrams in split(bytes(1316 * 40), 1316):
            sending.send(datagrams, number * 0.001)
    return sending


def data(sequence: int, timestamp: int = 0) -> bytes:
    return HEADER.pack(sequence & 0x7FFFFFFF, 0xC0000001, timestamp, 1) + b"x"


def milliseconds(packets: int, send: Callable[[int], None]) -> float:
    start = time.process_time()
    for number in range(packets):
        send(number)
    return (time.process_time() - start) * 1000 / packets


def test_packets_that_skip_thousands() -> None:
    receiving = connection()

    def skip(number: int) -> None:
        receiving.receive_data(data((number + 1) * 8190), number * 1e-4)
        receiving.data_to_send()

    assert milliseconds(1000, skip) < LIMIT


def test_dropping_thousands_again_and_again() -> None:
    receiving = connection()
    drop = build_control(ControlType.DROP_REQUEST, 1, 0, 1, bytes(4) + (8191).to_bytes(4, "big"))
    assert milliseconds(1000, lambda number: receiving.receive_data(drop, number * 1e-4)) < LIMIT


def test_requests_for_thousands() -> None:
    sending = publishing(4000)
    everything = build_control(ControlType.NAK, 0, 0, 1, build_loss_list([(0, 3999)]))

    def ask(number: int) -> None:
        sending.receive_data(everything, 0.5 + number * 1e-5)
        sending.data_to_send()

    assert milliseconds(1000, ask) < LIMIT


def test_acknowledging_one_by_one_what_was_sent_again() -> None:
    sending = publishing(4000)
    for first in range(0, 4000, 250):
        ranges = build_loss_list([(first, first + 249)])
        sending.receive_data(build_control(ControlType.NAK, 0, 0, 1, ranges), 0.3 + first * 1e-5)
    assert len(sending.data_to_send()) == 4000

    def acknowledge(number: int) -> None:
        body = (number + 1).to_bytes(4, "big")
        sending.receive_data(build_control(ControlType.ACK, number, 0, 1, body), 0.6 + number * 1e-5)

    assert milliseconds(1000, acknowledge) < LIMIT


def test_few_answers_to_requests_for_dropped_packets() -> None:
    sending = publishing(4000)
    sending.handle_timeout(100.0)
    sending.data_to_send()
    ranges = build_loss_list([(number, number) for number in range(0, 720, 2)])
    sending.receive_data(build_control(ControlType.NAK, 0, 0, 1, ranges), 100.0)
    answers = sending.data_to_send()
    assert 0 < sum(map(len, answers)) <= len(ranges)


def missing_for_ten_seconds(receiving: Connection) -> float:
    """Return the share of the CPU that a connection takes while its packets are missing."""
    now, start = 0.0, time.process_time()
    while now < 10:
        now = max(now + 0.001, receiving.next_timeout())
        receiving.handle_timeout(now)
        receiving.data_to_send()
    return (time.process_time() - start) / 10


def test_asking_for_thousands_in_one_gap() -> None:
    receiving = connection(receive_delay=65.0)
    receiving.receive_data(data(8000), 0.0)
    assert missing_for_ten_seconds(receiving) < 0.004


def test_asking_for_thousands_in_gaps_of_their_own() -> None:
    receiving = connection(receive_delay=65.0)
    for sequence in range(0, 8000, 2):
        receiving.receive_data(data(sequence), 0.0)
    receiving.data_to_send()
    asked: set[bytes] = set()
    now = 0.0
    while len(asked) < 3999 and now < 10:
        now = max(now + 0.001, receiving.next_timeout())
        receiving.handle_timeout(now)
        for packet in receiving.data_to_send():
            if HEADER.unpack_from(packet)[0] == 0x80030000:
                asked.update(packet[offset : offset + 4] for offset in range(16, len(packet), 4))
    assert len(asked) == 3999  # no request has room for more than some hundred
    assert missing_for_ten_seconds(receiving) < 0.1
