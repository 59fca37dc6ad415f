"""The timer that ends the search for a publisher's tracks."""

from __future__ import annotations

import asyncio

import pytest
from tests.wire.rtmp.support import raw, video_header

from polycast.protocols.rtmp.analysis import AnalysisTimer
from polycast.wire.rtmp.demuxer import ANALYSIS_PERIOD, GRACE_PERIOD, Demuxer
from polycast.wire.rtmp.metadata import Metadata


class Loop(asyncio.AbstractEventLoop):
    """Timers of a loop that calls them when the test says so."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, delay, callback, *args, context=None):  # type: ignore[no-untyped-def]
        self.timers.append(Timer(delay, lambda: callback(*args)))
        return self.timers[-1]


class Timer:
    def __init__(self, delay, callback) -> None:  # type: ignore[no-untyped-def]
        self.delay = delay
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def demuxer() -> Demuxer:
    """An analysis that started at time 10."""
    demuxer = Demuxer()
    demuxer.receive(raw(9, video_header()), 10.0)
    return demuxer


def test_the_callback_is_never_early(demuxer: Demuxer) -> None:
    loop = Loop()
    times = iter((10.9996, 11.0))
    calls: list[str] = []
    timer = AnalysisTimer(loop, lambda: next(times))
    timer.watch(demuxer, 10.25, lambda: calls.append("over"))
    assert [item.delay for item in loop.timers] == [ANALYSIS_PERIOD - 0.25]
    loop.timers[0].callback()  # uvloop counts milliseconds
    assert (calls, len(loop.timers)) == ([], 2)
    assert loop.timers[1].delay == pytest.approx(0.0004)
    loop.timers[1].callback()
    assert (calls, len(loop.timers)) == (["over"], 2)


def test_a_new_deadline_replaces_the_one_before(demuxer: Demuxer) -> None:
    loop = Loop()
    timer = AnalysisTimer(loop, lambda: 10.0)
    timer.watch(demuxer, 10.0, lambda: None)
    demuxer.receive_metadata(Metadata(video=True, audio=False), 10.5)
    timer.watch(demuxer, 10.5, lambda: None)
    assert [item.delay for item in loop.timers] == [ANALYSIS_PERIOD, pytest.approx(GRACE_PERIOD)]
    assert [item.cancelled for item in loop.timers] == [True, False]
    timer.watch(None, 10.5, lambda: None)
    assert all(item.cancelled for item in loop.timers)
