"""The table of what runs on demand, each pair of it."""

from __future__ import annotations

import asyncio

import pytest

from polycast.hub.on_demand import Input, OnDemand, State


class Recorder:
    def __init__(self, *, start_timeout: float = 60, close_after: float = 60) -> None:
        self.events: list[str] = []
        self.on_demand = OnDemand(
            asyncio.get_running_loop(),
            start=lambda: self.events.append("start"),
            stop=lambda reason: self.events.append(f"stop: {reason}"),
            on_stopped=lambda: self.events.append("stopped"),
            start_timeout=start_timeout,
            close_after=close_after,
        )

    def play(self, *inputs: Input) -> State:
        for each in inputs:
            self.on_demand.handle(each)
        return self.on_demand.state


WAYS: dict[State, tuple[Input, ...]] = {
    State.STOPPED: (),
    State.STARTING: (Input.WANTED,),
    State.CLOSING: (Input.WANTED, Input.BECAME_READY),
    State.READY: (Input.WANTED, Input.BECAME_READY, Input.USED),
}
"""How to get to each state."""

CHANGES = {
    (State.STOPPED, Input.WANTED): State.STARTING,
    (State.STARTING, Input.BECAME_READY): State.CLOSING,
    (State.STARTING, Input.TIMED_OUT): State.STOPPED,
    (State.CLOSING, Input.USED): State.READY,
    (State.CLOSING, Input.TIMED_OUT): State.STOPPED,
    (State.CLOSING, Input.LOST): State.STOPPED,
    (State.READY, Input.UNUSED): State.CLOSING,
    (State.READY, Input.LOST): State.STOPPED,
}
"""Everything else changes nothing."""


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("happened", Input)
async def test_each_pair(state: State, happened: Input) -> None:
    recorder = Recorder()
    assert recorder.play(*WAYS[state]) is state
    recorder.events.clear()
    following = recorder.play(happened)
    assert following is CHANGES.get((state, happened), state)
    expected = []
    if following is not state:
        if following is State.STARTING:
            expected = ["start"]
        elif following is State.STOPPED:
            reason = {State.STARTING: "timed out", State.CLOSING: "not in use anymore"}.get(state, "lost")
            expected = [f"stop: {reason}", "stopped"]
    assert [event.partition(":")[0] for event in recorder.events] == [event.partition(":")[0] for event in expected]
    recorder.on_demand.close()


async def test_start_timeout() -> None:
    recorder = Recorder(start_timeout=0.005)
    recorder.play(Input.WANTED)
    async with asyncio.timeout(60):
        while recorder.on_demand.state is not State.STOPPED:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert recorder.events == ["start", "stop: timed out", "stopped"]


async def test_close_after_nobody_used_it() -> None:
    recorder = Recorder(close_after=0.005)
    recorder.play(Input.WANTED, Input.BECAME_READY)
    async with asyncio.timeout(60):
        while recorder.on_demand.state is not State.STOPPED:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert recorder.events == ["start", "stop: not in use anymore", "stopped"]


async def test_use_cancels_the_timer() -> None:
    recorder = Recorder(close_after=0.005)
    recorder.play(Input.WANTED, Input.BECAME_READY, Input.USED)
    assert recorder.on_demand._timer is None


async def test_a_new_reader_restarts_the_timer() -> None:
    recorder = Recorder()
    recorder.play(Input.WANTED, Input.BECAME_READY)
    first = recorder.on_demand._timer
    assert first is not None
    recorder.play(Input.WANTED)
    assert first.cancelled()
    assert recorder.on_demand._timer is not None
    recorder.on_demand.close()


async def test_close_leaves_no_timer() -> None:
    recorder = Recorder(start_timeout=0)
    recorder.play(Input.WANTED)
    recorder.on_demand.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert recorder.events == ["start"]


async def test_it_starts_again() -> None:
    recorder = Recorder()
    recorder.play(Input.WANTED, Input.BECAME_READY, Input.USED, Input.LOST, Input.WANTED)
    assert recorder.events == ["start", "stop: lost", "stopped", "start"]
    recorder.on_demand.close()
