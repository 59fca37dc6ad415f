"""Packets back in order: what comes out, and when."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from polycast.media.packet import RtpPacket
from polycast.rtp.header import build_packet
from polycast.rtp.reorder import MAXIMUM_HELD_SIZE, Reorderer


def packet(sequence: int) -> RtpPacket:
    return build_packet(96, sequence, 0, 1, b"", marker=False)


def push(reorderer: Reorderer, *sequences: int, now: float = 0.0) -> list[int]:
    return [out.sequence for sequence in sequences for out in reorderer.push(packet(sequence & 0xFFFF), now)]


def test_in_order_passes_at_once() -> None:
    reorderer = Reorderer()
    for sequence in range(65_530, 65_550):
        assert push(reorderer, sequence) == [sequence & 0xFFFF]
    assert reorderer.next_timeout() is None
    assert (reorderer.lost, reorderer.duplicates, reorderer.reordered) == (0, 0, 0)


def test_swapped_packets() -> None:
    reorderer = Reorderer()
    assert push(reorderer, 65_534) == [65_534]
    assert push(reorderer, 0, 1) == []
    assert push(reorderer, 65_535) == [65_535, 0, 1]
    assert push(reorderer, 2) == [2]
    assert (reorderer.lost, reorderer.duplicates, reorderer.reordered) == (0, 0, 1)


def test_duplicates_and_late_packets_are_dropped() -> None:
    reorderer = Reorderer()
    assert push(reorderer, 10, 10, 11, 9, 13, 13) == [10, 11]
    assert reorderer.duplicates == 3
    assert push(reorderer, 12) == [12, 13]


def test_gap_ends_with_the_size() -> None:
    reorderer = Reorderer(size=4)
    assert push(reorderer, 0, 2, 3, 4) == [0]
    assert push(reorderer, 5) == [2, 3, 4, 5]
    assert reorderer.lost == 1
    assert push(reorderer, 1) == []
    assert push(reorderer, 6) == [6]


def test_gap_ends_with_the_bytes_that_are_held_back() -> None:
    reorderer = Reorderer()
    large = bytes(60_000)
    push(reorderer, 0)
    for start in (2, 40):  # twice: what was released no longer counts
        held = MAXIMUM_HELD_SIZE // len(large)
        sequences = range(start, start + held + 1)
        packets = [build_packet(96, sequence, 0, 1, large, marker=False) for sequence in sequences]
        released = [out.sequence for each in packets for out in reorderer.push(each, 0.0)]
        assert released == list(sequences)
        assert reorderer.next_timeout() is None


def test_gap_ends_after_the_timeout_without_a_flush() -> None:
    reorderer = Reorderer(timeout=0.1)
    assert push(reorderer, 0, 2, now=5.0) == [0]
    assert push(reorderer, 4, now=5.09) == []
    assert push(reorderer, 5, now=5.1) == [2]
    assert reorderer.lost == 1
    # The next gap has a time of its own; a packet that comes late, but before it was given up, still has its turn.
    assert push(reorderer, 6, now=5.19) == []
    assert push(reorderer, 3, now=5.3) == [3, 4, 5, 6]
    assert (reorderer.lost, reorderer.reordered) == (1, 1)


def test_long_gap_is_skipped_immediately() -> None:
    reorderer = Reorderer(size=64)
    assert push(reorderer, 0, 1000, 1001) == [0, 1000, 1001]
    assert reorderer.lost == 999


def test_gap_ends_with_the_time() -> None:
    reorderer = Reorderer(timeout=0.125)
    assert push(reorderer, 0, 2, now=5.0) == [0]
    assert reorderer.next_timeout() == 5.125
    assert push(reorderer, 4, now=5.05) == []
    assert reorderer.next_timeout() == 5.125
    assert list(reorderer.flush(5.12)) == []
    assert [out.sequence for out in reorderer.flush(5.125)] == [2]
    assert reorderer.next_timeout() == 5.25
    assert [out.sequence for out in reorderer.flush(5.25)] == [4]
    assert reorderer.next_timeout() is None
    assert reorderer.lost == 2


def test_time_starts_at_the_first_flush_if_it_is_unknown() -> None:
    reorderer = Reorderer(timeout=0.1)
    reorderer.push(packet(0))
    reorderer.push(packet(2))
    assert reorderer.next_timeout() == 0.0
    assert list(reorderer.flush(8.0)) == []
    assert reorderer.next_timeout() == 8.1
    assert [out.sequence for out in reorderer.flush(8.1)] == [2]


def test_restart_of_the_sender() -> None:
    reorderer = Reorderer()
    assert push(reorderer, 100, 102) == [100]
    assert push(reorderer, 40_000) == []
    assert push(reorderer, 40_001) == [102, 40_000, 40_001]
    assert push(reorderer, 40_002) == [40_002]


def test_stray_packet_does_not_restart() -> None:
    reorderer = Reorderer()
    assert push(reorderer, 100, 40_000, 101, 40_001, 102) == [100, 101, 102]


@given(st.integers(0, 65_535), st.integers(0, 1_000_000), st.lists(st.booleans(), min_size=20, max_size=200))
def test_displaced_packets_are_put_in_order(first: int, seed: int, kept: list[bool]) -> None:
    kept[1] = True
    kept[::7] = [True] * len(kept[::7])  # gaps and displacement together stay below the size of the buffer
    arrivals = [(index, first + index) for index, keep in enumerate(kept) if keep]
    shuffled = random.Random(seed)
    # Up to 8 places late, but the first packet first: nothing can be in front of it.
    order = sorted(arrivals, key=lambda item: item[0] + (shuffled.random() * 8 if item[0] else -9))
    reorderer = Reorderer(size=16)
    out = push(reorderer, *(sequence for _, sequence in order))
    now = 1.0
    while reorderer.next_timeout() is not None:
        now += 1.0
        out += [packet.sequence for packet in reorderer.flush(now)]
    assert out == [sequence & 0xFFFF for _, sequence in arrivals]
    assert reorderer.lost == kept[: arrivals[-1][0]].count(False)
    assert reorderer.duplicates == 0
