"""Workers that hang, seen by the supervisor."""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.waiting import until

from polycast.log import Log
from polycast.workers import workers as module
from polycast.workers.workers import Workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")


class Process:
    """A worker that answers nothing; its signs of life are those of the test."""

    number = 1

    def __init__(self) -> None:
        self.channel = SimpleNamespace(has_heard=False, call=self._call)
        self.ended = asyncio.Event()

    async def _call(self, subject: str, body: object = None, answer: Any = None, *, seconds: float = 600) -> None:
        await asyncio.sleep(seconds)

    async def wait(self) -> int:
        await self.ended.wait()
        return -9

    def kill(self) -> None:
        self.ended.set()


def workers_with(process: Any) -> Workers:
    workers = Workers(1, Log(logging.getLogger("test")), "", None, lambda _: None)
    workers.slots[0].process = process
    return workers


async def test_one_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.01)
    process: Any = Process()
    workers = workers_with(process)
    async with asyncio.timeout(60):
        assert await workers._end_of(workers.slots[0], process) == -9
    assert "worker 1: does not answer for 0.12 s, and is ended" in caplog.text.replace("[worker 1]", "worker 1:")


async def test_one_that_is_slow_is_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.0)
    process: Any = Process()
    workers = workers_with(process)
    heard = 0

    class SlowChannel:
        @property
        def has_heard(self) -> bool:
            nonlocal heard
            heard += 1
            return heard % module.MAXIMUM_SILENT_CHECKS == 0

        @has_heard.setter
        def has_heard(self, value: bool) -> None: ...

    process.channel = SlowChannel()
    watching = asyncio.create_task(workers._end_of(workers.slots[0], process))
    await until(lambda: heard > 5 * module.MAXIMUM_SILENT_CHECKS)
    assert not process.ended.is_set()
    process.ended.set()
    assert await watching == -9


async def test_one_that_hangs_delays_the_end_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service manager waits for a limited time, too."""
    monkeypatch.setattr(module, "STOP_SECONDS", 0.01)
    process: Any = Process()
    async with asyncio.timeout(20):  # less than for the answer of a call
        await workers_with(process).stop()
    assert process.ended.is_set()


async def test_pauses_between_attempts_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the system has no room for another process at the moment, so that each attempt fails at once."""
    attempts, turn = 0, asyncio.sleep
    paused = asyncio.Event()

    class NoRoom:
        async def take(self, number: int) -> None:
            nonlocal attempts
            attempts += 1
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

        def refill(self, configuration: Any) -> None: ...

    async def sleep(seconds: float) -> None:
        if seconds:
            paused.set()
            await asyncio.Future()

    workers = workers_with(None)
    monkeypatch.setattr(workers, "_spare", NoRoom())
    monkeypatch.setattr(workers, "_configuration", object())
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    watching = asyncio.create_task(workers._watch(workers.slots[0]))
    async with asyncio.timeout(60):
        await paused.wait()
    for _ in range(100):
        await turn(0)
    watching.cancel()
    assert attempts == 2, "one at once, one with the pause that follows"
