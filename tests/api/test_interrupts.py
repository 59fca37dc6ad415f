"""The thread of the loop: Ctrl-C while the main thread waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from polycast.api.runtime import LoopThread

PATIENCE = 30.0


class Watched(Coroutine[Any, Any, None]):
    """Notes which threads use it."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.ended = threading.Event()

    def send(self, value: Any) -> Any:
        self._end()
        raise StopIteration

    def throw(self, *error: Any) -> Any:
        self._end()
        raise error[0]

    def close(self) -> None:
        self._end()

    def __await__(self) -> Any:
        raise NotImplementedError

    def _end(self) -> None:
        self.threads.append(threading.get_ident())
        self.ended.set()


@pytest.mark.parametrize("is_sent", [False, True])
def test_an_interrupt_leaves_the_coroutine_to_the_thread_of_the_loop(
    monkeypatch: pytest.MonkeyPatch, is_sent: bool
) -> None:
    """It may begin to run in the same moment."""
    thread = LoopThread("test")
    released = threading.Event()

    def interrupt(runtime: LoopThread, future: object, send: Callable[[], object]) -> None:
        thread.loop.call_soon_threadsafe(released.wait, PATIENCE)  # so that nothing begins before the interrupt
        if is_sent:
            send()
        raise KeyboardInterrupt

    monkeypatch.setattr(LoopThread, "_wait", interrupt)
    work = Watched()
    try:
        with pytest.raises(KeyboardInterrupt):
            thread.run(work)
        released.set()
        assert work.ended.wait(PATIENCE)
        assert set(work.threads) == {thread._thread_id}
    finally:
        released.set()
        thread.stop()
