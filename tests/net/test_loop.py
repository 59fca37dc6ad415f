"""Timers that do not run before the loop has read its sockets."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable

import pytest

from polycast.net import loop as loop_module
from polycast.net.loop import LateTimer, new_event_loop, sleep_and_read

Factory = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=[new_event_loop, asyncio.new_event_loop])
def factory(request: pytest.FixtureRequest) -> Factory:
    return request.param  # type: ignore[no-any-return]


class Receiver(asyncio.Protocol):
    def __init__(self, told: list[str]) -> None:
        self.told = told

    def data_received(self, data: bytes) -> None:
        self.told.append("data")


STALL_SECONDS = 0.2
"""Shorter than in the server: tests are blocked for that long."""


@pytest.mark.skipif(sys.platform == "win32", reason="its loop has no readers of sockets")
@pytest.mark.parametrize("kind", ["timer", "sleep"])
@pytest.mark.parametrize("stall", [0.05, STALL_SECONDS + 0.1])
def test_what_arrived_in_a_stall_is_read_first(
    factory: Factory, kind: str, stall: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "STALL_SECONDS", STALL_SECONDS)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        told: list[str] = []
        done = asyncio.Event()

        def judge() -> None:
            told.append("judged")
            done.set()

        async def sleeper() -> None:
            await sleep_and_read(0.01)
            judge()

        ours, theirs = socket.socketpair()
        first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for each in (ours, theirs, first, second):
            each.setblocking(False)
        transport, _ = await loop.connect_accepted_socket(lambda: Receiver(told), ours)
        loop.add_reader(first, lambda: told.append(first.recv(10).decode()))
        task = None
        if kind == "timer":
            LateTimer(loop, 0.01, judge)
        else:
            task = loop.create_task(sleeper())
            await asyncio.sleep(0)
        theirs.send(b"1")
        second.send(b"datagram")
        time.sleep(stall)  # noqa: ASYNC251
        await done.wait()
        assert sorted(told[:-1]) == ["data", "datagram"]
        assert told[-1] == "judged"
        transport.close()
        loop.remove_reader(first)
        for each in (theirs, first, second):
            each.close()
        del task

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run())


def test_a_cancelled_timer_never_calls(factory: Factory) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        told: list[str] = []
        timer = LateTimer(loop, 0.0, lambda: told.append("called"))
        timer.cancel()
        late = LateTimer(loop, 0.0, lambda: told.append("called"))
        await asyncio.sleep(0.001)
        late.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(told) <= 1

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run())
