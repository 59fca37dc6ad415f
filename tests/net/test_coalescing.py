"""How an event loop is kept from polling its sockets too often; time passes only when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from polycast.net import coalescing
from polycast.net.coalescing import BEGIN_RATE, INTERVAL, MEASURED_READS, MEASURED_SECONDS, ReadCoalescing
from polycast.net.loop import new_event_loop


class Loop:
    """Turns of an event loop, with a clock that stands still between them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleeps: list[float] = []
        self._callbacks: list[Callable[[], None]] = []
        self.coalescing = ReadCoalescing(self._callbacks.append, clock=lambda: self.now, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    def turn(self, reads: int, seconds: float = 0.0) -> None:
        """One turn: callbacks of the turn before, then reads that take so long altogether."""
        callbacks, self._callbacks[:] = list(self._callbacks), []
        assert len(callbacks) <= 1  # however many reads there were
        for callback in callbacks:
            callback()
        for _ in range(reads):
            self.coalescing.on_read()
        self.now += seconds

    def get_busy(self) -> None:
        """Turns with four reads each, at twice the rate at which coalescing begins."""
        for _ in range(MEASURED_READS):
            self.turn(4, 2 / BEGIN_RATE)
        self.sleeps.clear()


def test_a_few_reads_are_never_delayed() -> None:
    loop = Loop()
    for _ in range(20):  # 30 frames a second of one stream, in twelve pieces
        for _ in range(30 * 12):
            loop.turn(1, 1 / (30 * 12))
    assert not loop.coalescing.is_active
    assert not loop.sleeps


def test_a_burst_is_delivered_immediately() -> None:
    loop = Loop()
    loop.now += 1.0
    for _ in range(MEASURED_READS - 1):
        loop.turn(1, 1e-6)
    loop.now += 1.0
    loop.turn(1)
    assert not loop.coalescing.is_active
    assert not loop.sleeps


def test_many_reads_make_the_loop_poll_once_an_interval() -> None:
    loop = Loop()
    loop.get_busy()
    assert loop.coalescing.is_active
    began = loop.now
    for _ in range(100):
        loop.turn(10, INTERVAL / 4)
    assert loop.now - began == pytest.approx(100 * INTERVAL, rel=0.02)
    assert max(loop.sleeps) <= INTERVAL
    assert loop.sleeps[-1] == pytest.approx(INTERVAL * 3 / 4)


def test_a_turn_that_took_an_interval_is_not_followed_by_a_rest() -> None:
    loop = Loop()
    loop.get_busy()
    loop.turn(10, INTERVAL)
    loop.sleeps.clear()
    for _ in range(100):
        loop.turn(10, 1.01 * INTERVAL)
    assert loop.coalescing.is_active
    assert not loop.sleeps


def test_a_socket_that_has_more_is_polled_without_a_rest() -> None:
    loop = Loop()
    loop.get_busy()
    loop.turn(10)
    loop.coalescing.poll_now()
    loop.sleeps.clear()
    loop.turn(10)
    assert not loop.sleeps
    loop.turn(10)
    assert loop.sleeps


def test_it_ends_when_reads_become_rare() -> None:
    loop = Loop()
    loop.get_busy()
    for _ in range(round(2 * MEASURED_SECONDS * 100)):
        loop.turn(1, 0.01)
    assert not loop.coalescing.is_active
    loop.sleeps.clear()
    for _ in range(100):
        loop.turn(1, INTERVAL / 2)
    assert not loop.sleeps


def test_it_continues_although_it_makes_reads_rarer() -> None:
    loop = Loop()
    loop.get_busy()
    for _ in range(2000):
        loop.turn(2)
    assert loop.coalescing.is_active


@pytest.mark.parametrize("make_loop", [new_event_loop, asyncio.new_event_loop])
def test_a_real_loop_pauses_before_it_polls_again(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def run() -> None:
        rests: list[float] = []
        loop = asyncio.get_running_loop()
        reads = ReadCoalescing(loop.call_soon, clock=lambda: 0.0, sleep=rests.append)
        reads.is_active = True
        for _ in range(3):
            reads.on_read()
            reads.on_read()
            assert not rests
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert rests == [INTERVAL]
            rests.clear()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(run())


def test_only_loops_that_were_named_are_coalesced() -> None:
    ours, other = new_event_loop(), asyncio.new_event_loop()
    try:
        coalescing.coalesce_reads(ours)
        assert coalescing.coalescing_of(ours) is coalescing.coalescing_of(ours)
        foreign = coalescing.coalescing_of(other)
        assert foreign is not coalescing.coalescing_of(ours)
        for _ in range(100 * MEASURED_READS):
            foreign.on_read()
        assert not foreign.is_active
    finally:
        ours.close()
        other.close()
