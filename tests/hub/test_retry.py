"""Attempts, pauses and what is told of them, by a clock of the test's own."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import pytest
from tests.support.waiting import PATIENCE

from polycast.errors import PolycastError
from polycast.hub.retry import (
    JITTER,
    STREAM_OVER,
    Backoff,
    Ended,
    Failure,
    Next,
    RetryPauses,
    StopRetrying,
    Supervisor,
)
from polycast.log import Log

PAUSES = RetryPauses(5.0, 60.0)
EXACT = 1.0


class Clock:
    """Nobody waits: time goes on by what would have been slept."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []
        self.hold: asyncio.Event | None = None
        """While set to an event, sleepers wait for it."""
        self.is_asleep = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.is_asleep.set()
        if self.hold is not None:
            await self.hold.wait()
        self.time += seconds
        await asyncio.sleep(0)


class Thing:
    """What is attempted: a list of steps, one for each attempt, the last of which stops it."""

    def __init__(self, *steps: Callable[[Thing], Awaitable[None]], following: Next = Next.PAUSE) -> None:
        self.clock = Clock()
        self.steps = list(steps)
        self.following = following
        self.ended: list[Ended] = []
        self.seen: list[Failure | None] = []
        """The failure at the start of each attempt."""
        self.pauses = PAUSES
        self.logged: list[logging.LogRecord] = []
        logger = logging.Logger("test")
        logger.addFilter(lambda record: self.logged.append(record))  # type: ignore[func-returns-value]
        self.supervisor = Supervisor(
            self.attempt,
            self.on_ended,
            pauses=lambda: self.pauses,
            describe=lambda error: f"<{error}>",
            log=lambda: Log(logger),
            sleep=self.clock.sleep,
            wall_clock=lambda: self.clock.time,
            backoff=Backoff(lambda low, high: EXACT),
        )

    async def attempt(self) -> None:
        self.seen.append(self.supervisor.failure)
        if not self.steps:
            raise StopRetrying
        await self.steps.pop(0)(self)

    def on_ended(self, ended: Ended) -> Next:
        self.ended.append(ended)
        return self.following

    async def run(self) -> Thing:
        async with asyncio.timeout(PATIENCE):
            await self.supervisor.start(asyncio.get_running_loop())
        return self


async def fail(thing: Thing) -> None:
    raise PolycastError("refused")


async def fail_with_oserror(thing: Thing) -> None:
    raise ConnectionResetError("reset")


async def work(thing: Thing) -> None:
    thing.supervisor.worked()
    assert thing.supervisor.failure is None
    thing.clock.time += 100
    raise PolycastError("lost")


async def work_to_the_end(thing: Thing) -> None:
    thing.supervisor.worked()


async def break_down(thing: Thing) -> None:
    raise ZeroDivisionError("a defect")


async def test_the_pause_doubles_up_to_the_longest_and_is_reset_after_a_success() -> None:
    thing = await Thing(*[fail] * 6, work, fail, fail).run()
    assert thing.clock.slept == [5, 10, 20, 40, 60, 60, 5, 10, 20]
    assert [ended.pause for ended in thing.ended] == thing.clock.slept
    assert [ended.has_worked for ended in thing.ended] == [False] * 6 + [True] + [False] * 2


async def test_failures_have_a_reason_a_start_time_and_a_next_attempt() -> None:
    thing = Thing(fail, fail_with_oserror, work)
    thing.clock.hold = asyncio.Event()
    assert thing.supervisor.failure is None
    task = thing.supervisor.start(asyncio.get_running_loop())
    await thing.clock.is_asleep.wait()
    assert thing.supervisor.failure == Failure("<refused>", 1000.0, 1005.0)
    thing.clock.hold.set()
    await task
    # While an attempt is under way, none is planned; the beginning stays until it works.
    assert thing.seen == [None, Failure("<refused>", 1000), Failure("<reset>", 1000), Failure("<lost>", 1115)]
    assert [ended.reason for ended in thing.ended] == ["<refused>", "<reset>", "<lost>"]


async def test_the_end_of_a_working_attempt() -> None:
    thing = await Thing(work_to_the_end).run()
    (ended,) = thing.ended
    assert (ended.reason, str(ended.error), ended.has_worked) == (f"<{STREAM_OVER}>", STREAM_OVER, True)


async def test_an_internal_error_is_logged_and_the_attempt_repeated() -> None:
    thing = await Thing(break_down, fail).run()
    assert [ended.reason for ended in thing.ended] == ["internal error", "<refused>"]
    assert isinstance(thing.ended[0].error, ZeroDivisionError)
    (record,) = thing.logged
    assert record.exc_info is not None
    assert record.exc_info[1] is thing.ended[0].error


async def test_immediate_retries_do_not_count() -> None:
    thing = await Thing(fail, fail, following=Next.AT_ONCE).run()
    assert thing.clock.slept == []
    thing.following, thing.steps = Next.PAUSE, [fail]
    await thing.run()
    assert thing.clock.slept == [5]


async def test_the_owner_may_stop_it() -> None:
    thing = await Thing(fail, fail, following=Next.STOP).run()
    assert len(thing.ended) == len(thing.steps) == 1


async def test_changed_settings_count_from_the_next_pause_on() -> None:
    thing = Thing(fail, fail, fail)

    async def change(thing: Thing) -> None:
        thing.pauses = RetryPauses(1.0, 3.0)
        raise PolycastError("x")

    thing.steps[1] = change
    await thing.run()
    assert thing.clock.slept == [5, 2, 3]


@pytest.mark.parametrize("when", ["attempt", "pause"])
async def test_stopping(when: str) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(thing: Thing) -> None:
        started.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    thing = Thing(fail, wait) if when == "attempt" else Thing(fail)
    if when == "pause":
        thing.clock.hold = asyncio.Event()
    task = thing.supervisor.start(asyncio.get_running_loop())
    assert thing.supervisor.is_running
    await (started if when == "attempt" else thing.clock.is_asleep).wait()
    assert thing.supervisor.stop() is task
    assert not thing.supervisor.is_running
    assert thing.supervisor.failure == Failure("<refused>", 1000.0)
    assert thing.supervisor.stop() is None
    await asyncio.wait([task])
    assert task.cancelled()
    assert cancelled.is_set() is (when == "attempt")
    assert len(thing.ended) == 1


async def test_an_attempt_that_swallows_its_cancellation_is_the_last_one() -> None:
    started = asyncio.Event()

    async def swallow(thing: Thing) -> None:
        started.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise PolycastError("cancelled") from None

    thing = Thing(swallow, fail)
    task = thing.supervisor.start(asyncio.get_running_loop())
    await started.wait()
    thing.supervisor.stop()
    await asyncio.wait([task])
    assert not thing.ended
    assert len(thing.steps) == 1


async def test_a_start_after_a_stop_begins_with_the_first_pause() -> None:
    thing = await Thing(fail, fail).run()
    thing.supervisor.stop()
    thing.steps = [fail]
    await thing.run()
    assert thing.clock.slept == [5, 10, 5]


def test_retries_of_many_sources_are_spread() -> None:
    backoff = Backoff(random.Random(5).uniform)
    pauses = {round(backoff.pause(PAUSES), 6) for _ in range(50)}
    assert len(pauses) > 40
    assert 5.0 * (1 - JITTER) <= min(pauses) <= max(pauses) <= 5.0 * (1 + JITTER)


def test_a_thing_that_fails_for_years() -> None:
    backoff = Backoff(lambda low, high: (low + high) / 2)
    for _ in range(100_000):
        backoff.advance()
    assert backoff.pause(RetryPauses(0.001, 1e12)) == pytest.approx(0.001 * 2**30)
