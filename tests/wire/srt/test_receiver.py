"""The receiving side: packets that come in order are taken at once, with the same result as all others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycast.wire.srt.counters import ReceptionCounters
from polycast.wire.srt.delivery_clock import DeliveryClock
from polycast.wire.srt.packet import SEQUENCE_MASK, TIME_MASK, extend_time
from polycast.wire.srt.receiver import WINDOW, Receiver
from polycast.wire.srt.round_trip import RoundTrip


def state_of(receiver: Receiver, counters: ReceptionCounters) -> list[object]:
    return [
        counters,
        receiver.next,
        receiver.newest,
        receiver.position,
        receiver.room,
        receiver.held_size,
        receiver.next_delivery(),
        receiver.next_request(),
    ]


def receive(first: int, steps: list[tuple[int, int]], *, at_once: bool) -> list[object]:
    """Receive packets by their distance to the last one, and deliver what is due; return everything that is seen."""
    counters = ReceptionCounters()
    receiver = Receiver(first, DeliveryClock(0.0, 0xFFFFFF00, 0.12), RoundTrip(), counters)
    seen: list[object] = []
    number, now = first - 1, 0.0
    for step, size in steps:
        number += step
        now += 0.01
        sequence, timestamp = number & SEQUENCE_MASK, (0xFFFFFF00 + int(now * 1e6)) & TIME_MASK
        payload = bytes(size)
        if not (at_once and receiver.add_next(sequence, timestamp, payload)):
            if receiver.is_wanted(sequence, size):
                seen.append(receiver.add(sequence, timestamp, payload, now))
            else:
                seen.append("refused")
        else:
            seen.append(None)
        seen += [receiver.deliver(now), *map(repr, state_of(receiver, counters))]
    return [*seen, receiver.deliver_all()]


@given(
    first=st.sampled_from([0, 1, 5_000, SEQUENCE_MASK - 3]),
    steps=st.lists(
        st.tuples(st.sampled_from([1, 1, 1, 1, 1, 0, 2, 3, -1, -2, WINDOW, WINDOW + 1]), st.sampled_from([0, 1, 1316])),
        max_size=40,
    ),
)
def test_packets_in_order_are_taken_as_others_are(first: int, steps: list[tuple[int, int]]) -> None:
    assert receive(first, steps, at_once=True) == receive(first, steps, at_once=False)


@given(start=st.integers(0, 1 << 34), timestamps=st.lists(st.integers(0, TIME_MASK), min_size=1, max_size=4))
def test_a_timestamp_is_the_nearest_one_to_the_newest(start: int, timestamps: list[int]) -> None:
    clock = DeliveryClock(0.0, start, 0.0)
    newest = start
    for timestamp in timestamps:
        nearest = extend_time(timestamp, newest)
        assert clock.due(timestamp) == pytest.approx((nearest - start) * 1e-6, abs=1e-4)
        newest = max(newest, nearest)
