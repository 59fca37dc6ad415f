"""The limits of a reader's queue."""

from __future__ import annotations

from polycast.net.outbox import MAXIMUM_LIMIT, MINIMUM_LIMIT, Outbox


class Transport:
    """A transport that keeps everything until the test takes it."""

    def __init__(self) -> None:
        self.waiting = 0
        self.is_lost = False
        self.limits: list[tuple[int | None, int | None]] = []

    def write(self, data: bytes) -> None:
        self.waiting += len(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.is_lost

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits.append((high, low))


def test_limit_at_first() -> None:
    transport = Transport()
    outbox = Outbox(transport, 0)
    assert outbox.ready
    assert transport.limits == [(MINIMUM_LIMIT, MINIMUM_LIMIT // 4)]


def test_limit_follows_the_bit_rate() -> None:
    transport = Transport()
    outbox = Outbox(transport, 0)
    outbox.set_bit_rate(40_000_000)  # two seconds of it
    assert outbox.limit == 10_000_000
    outbox.set_bit_rate(41_000_000)  # a small change is none
    assert outbox.limit == 10_000_000
    outbox.set_bit_rate(10**12)
    assert outbox.limit == MAXIMUM_LIMIT
    outbox.set_bit_rate(0)
    assert outbox.limit == MINIMUM_LIMIT
    outbox.set_bit_rate(0, minimum=5_000_000)
    assert outbox.limit == 5_000_000
    assert transport.limits[-1] == (5_000_000, 1_250_000)


def test_pause_and_drain() -> None:
    transport = Transport()
    outbox = Outbox(transport, 0)
    outbox.write(bytes(MINIMUM_LIMIT + 1))
    outbox.pause()
    assert not outbox.ready
    assert not outbox.has_drained()
    transport.waiting = MINIMUM_LIMIT // 4
    assert outbox.has_drained()


def test_drops_are_reported_once() -> None:
    outbox = Outbox(Transport(), 0)
    outbox.dropped += 5
    assert outbox.take_dropped() == 5
    assert outbox.take_dropped() == 0
    outbox.dropped += 2
    assert outbox.take_dropped() == 2


def test_stuck_only_when_something_waits_and_nothing_moves() -> None:
    transport = Transport()
    outbox = Outbox(transport, 0)
    assert not outbox.is_stuck(100, 10)  # nothing waits
    outbox.write(b"x" * 100)
    assert not outbox.is_stuck(105, 10)
    assert not outbox.is_stuck(109.9, 10)
    transport.waiting = 99  # one byte was taken
    assert not outbox.is_stuck(114, 10)
    assert not outbox.is_stuck(123.9, 10)
    assert outbox.is_stuck(124, 10)
    transport.waiting = 0
    assert not outbox.is_stuck(125, 10)


def test_nothing_is_written_to_a_lost_connection() -> None:
    transport = Transport()
    outbox = Outbox(transport, 0)
    outbox.write(b"x")
    transport.is_lost = True
    outbox.write(b"y")
    assert outbox.written == transport.waiting == 1


def test_writing_more_is_no_progress() -> None:
    transport = Transport()
    outbox = Outbox(transport, 0)
    outbox.write(b"x")
    assert not outbox.is_stuck(1, 10)
    outbox.write(b"x")
    assert not outbox.is_stuck(9.9, 10)
    assert outbox.is_stuck(10, 10)


def test_the_queue_may_be_larger_than_what_was_written() -> None:
    transport = Transport()
    outbox = Outbox(transport, 0)
    outbox.write(b"x" * 100)
    assert not outbox.is_stuck(1, 10)
    transport.waiting += 22  # as TLS does
    assert not outbox.is_stuck(9.9, 10)
    assert outbox.is_stuck(11, 10)
