"""Loss recovery, retransmission and transport-wide feedback."""

from __future__ import annotations

import random
import struct

import pytest

from polycast.rtp import loss_recovery, retransmission
from polycast.rtp.header import HEADER_SIZE, build_packet, parse_packet
from polycast.rtp.loss_recovery import LossRecovery
from polycast.rtp.retransmission import PacketHistory, ResendBudget, original_of, retransmission_payload
from polycast.rtp.rtcp import MAXIMUM_LOST, GenericNack, parse_compound, serialize_compound
from polycast.rtp.transport_feedback import ArrivalRecorder


def test_missing_packets_are_asked_for() -> None:
    recovery = LossRecovery()
    for sequence in (65533, 65534, 1, 3):
        recovery.receive(sequence, 0.0)
    assert recovery.next_timeout() == loss_recovery.FIRST_REQUEST_SECONDS
    assert recovery.requests(0.0) == [], "they may only be late"
    assert recovery.requests(0.01) == [65535, 0, 2]
    assert recovery.requests(0.02) == []
    recovery.receive(0, 0.03)
    recovery.receive(65535, 0.03)
    assert recovery.requests(0.1) == [2]
    assert (recovery.recovered, recovery.requested) == (2, 4)


def test_a_packet_out_of_order_is_not_asked_for() -> None:
    recovery = LossRecovery()
    for sequence in (1, 3, 2, 4):
        recovery.receive(sequence, 0.0)
    assert recovery.next_timeout() is None
    assert recovery.recovered == 0


def test_requests_wait_for_the_round_trip_and_end() -> None:
    recovery = LossRecovery()
    recovery.round_trip = 0.2
    recovery.receive(1, 0.0)
    recovery.receive(3, 0.0)
    times = []
    now = 0.0
    while recovery.next_timeout() is not None:
        now = recovery.next_timeout() or 0.0
        if recovery.requests(now):
            times.append(now)
    assert times == pytest.approx([0.01 + 0.25 * number for number in range(loss_recovery.MAXIMUM_REQUESTS)])
    assert recovery.given_up == 1
    assert recovery.needs_key_frame


def test_after_a_long_gap_only_a_key_frame_helps() -> None:
    recovery = LossRecovery()
    recovery.receive(0, 0.0)
    recovery.receive(loss_recovery.MAXIMUM_MISSING + 1, 0.0)
    assert recovery.requests(1.0) == []
    assert recovery.needs_key_frame
    recovery = LossRecovery()
    for sequence in range(0, 4 * loss_recovery.MAXIMUM_MISSING, 2):
        recovery.receive(sequence, 0.0)
    assert len(recovery.requests(1.0)) == loss_recovery.MAXIMUM_SEQUENCES_PER_REQUEST
    assert recovery.given_up == loss_recovery.MAXIMUM_MISSING - 1


@pytest.mark.parametrize("seed", range(10))
def test_everything_that_was_lost_is_sent_again(seed: int) -> None:
    """A publisher and a receiver with 5 % loss either way and 30 ms delay."""
    network = random.Random(seed)
    recovery, received = LossRecovery(), set()
    sent = [(0.0025 * number + 0.03, number) for number in range(2000)]
    flying = [packet for packet in sent if network.random() >= 0.05]
    now = 0.0
    while flying or recovery.next_timeout() is not None:
        flying.sort()
        timeout = recovery.next_timeout()
        if flying and (timeout is None or flying[0][0] <= timeout):
            now, sequence = flying.pop(0)
            recovery.receive(sequence, now)
            received.add(sequence)
        elif timeout is not None:
            now = timeout
            for sequence in recovery.requests(now) if network.random() >= 0.05 else ():
                if network.random() >= 0.05:
                    flying.append((now + 0.06, sequence))
    first = min(received)
    assert received >= set(range(first, max(received)))
    assert recovery.given_up == 0


def test_history_finds_the_last_packets() -> None:
    history = PacketHistory()
    packets = [build_packet(96, number, 0, 1, b"x", marker=False) for number in range(65000, 65536 + 1000)]
    history.add(packets)
    kept = packets[-retransmission.HISTORY_SIZE :]
    assert [history.find(packet.sequence) for packet in kept] == kept
    assert history.find(packets[0].sequence) is None
    assert PacketHistory().find(0) is None


def test_a_packet_survives_its_retransmission() -> None:
    packet = build_packet(96, 4711, 90000, 0x11111111, b"payload", marker=True)
    resent = build_packet(97, 1, 90000, 0x22222222, retransmission_payload(packet), marker=True)
    assert original_of(resent.data, HEADER_SIZE, 0x11111111, 96) == packet.data
    assert parse_packet(packet.data, 0, len(packet.data)).sequence == 4711
    padding = build_packet(97, 2, 90000, 0x22222222, b"", marker=False)
    assert original_of(padding.data, HEADER_SIZE, 0x11111111, 96) is None


def test_resending_is_bounded() -> None:
    start = 1796.1  # a time from which an interval cannot be taken exactly
    budget = ResendBudget(start)
    storm = [sequence for _ in range(20) for sequence in range(1000) if budget.allows(sequence, start)]
    assert storm == list(range(retransmission.MAXIMUM_RESENDS_PER_SECOND))
    assert budget.allows(1, start + 0.5)
    assert not budget.allows(1, start + 0.51), "the same packet is still on its way"
    assert budget.allows(1, start + 0.53)
    assert not budget.is_used_up
    assert not all(budget.allows(sequence, start + 0.54) for sequence in range(2000, 3000))
    assert budget.is_used_up


def test_reports_of_a_reader_are_bounded() -> None:
    budget = ResendBudget(100.0)
    assert sum(budget.allows_report(100.0) for _ in range(3000)) == retransmission.MAXIMUM_REPORTS_PER_SECOND
    assert sum(budget.allows_report(100.0 + number / 20) for number in range(1, 21)) == 20
    assert sum(budget.allows_report(200.0) for _ in range(3000)) == retransmission.MAXIMUM_REPORTS_PER_SECOND


@pytest.mark.parametrize("mask", [0, 1, 0x8000, 0xA5A5, 0xFFFF])
def test_masks_of_a_nack(mask: int) -> None:
    data = struct.pack("!BBHIIHH", 0x81, 205, 3, 1, 2, 0xFFF8, mask)
    (nack,) = parse_compound(data)
    assert isinstance(nack, GenericNack)
    later = [bit for bit in range(16) if mask >> bit & 1]
    assert nack.lost == (0xFFF8, *((0xFFF9 + bit) & 0xFFFF for bit in later))


def test_a_nack_of_more_than_anybody_keeps_is_cut() -> None:
    control = struct.pack("!HH", 1, 0xFFFF) * 300
    (nack,) = parse_compound(struct.pack("!BBHII", 0x81, 205, 302, 1, 2) + control)
    assert isinstance(nack, GenericNack)
    assert MAXIMUM_LOST <= len(nack.lost) <= MAXIMUM_LOST + 16


def decode(control: bytes) -> tuple[int, int, list[float | None]]:
    """Read transport feedback by section 3.1 of the draft: (count of feedback, first sequence, arrival in seconds)."""
    base, count = struct.unpack_from("!HH", control)
    time = int.from_bytes(control[4:7], "big", signed=True) * 0.064
    symbols: list[int] = []
    position = 8
    while len(symbols) < count:
        chunk = int.from_bytes(control[position : position + 2], "big")
        position += 2
        if chunk >> 15 == 0:
            symbols += [chunk >> 13 & 3] * (chunk & 0x1FFF)
        elif chunk >> 14 & 1:
            symbols += [chunk >> shift & 3 for shift in range(12, -1, -2)]
        else:
            symbols += [chunk >> shift & 1 for shift in range(13, -1, -1)]
    arrivals: list[float | None] = []
    for symbol in symbols[:count]:
        if symbol == 0:
            arrivals.append(None)
            continue
        size = 1 if symbol == 1 else 2
        delta = int.from_bytes(control[position : position + size], "big", signed=size == 2)
        position += size
        time += delta * 0.00025
        arrivals.append(time)
    assert len(control) - position < 4, "nothing but padding is left"
    return control[7], base, arrivals


@pytest.mark.parametrize("seed", range(20))
def test_arrival_times_reach_the_publisher(seed: int) -> None:
    network = random.Random(seed)
    recorder = ArrivalRecorder()
    start = 65400 + network.randrange(300)
    expected: dict[int, float] = {}
    now = 1000.0
    told: dict[int, float] = {}
    for turn in range(6):
        batch = [start + 60 * turn + number for number in range(60) if network.random() > 0.1]
        for index in range(len(batch) - 1):
            if network.random() < 0.05:
                batch[index], batch[index + 1] = batch[index + 1], batch[index]
        for number in batch:
            now += network.choice((0.0001, 0.002, 0.09, 3.0) if turn == 3 else (0.0, 0.0003, 0.004))
            recorder.receive(number & 0xFFFF, now)
            expected[number] = now
        feedback = recorder.feedback(1, 2)
        assert feedback is not None
        (parsed,) = parse_compound(serialize_compound([feedback]))
        assert parsed == feedback
        count, base, arrivals = decode(feedback.control)
        assert count == turn
        base += 0 if base >= 0x8000 else 0x10000
        told |= {base + number: time for number, time in enumerate(arrivals) if time is not None}
    assert recorder.feedback(1, 2) is None
    assert set(told) == set(expected)
    assert all(abs(told[number] - time) <= 0.000_2 for number, time in expected.items())
