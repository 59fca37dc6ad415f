"""An event loop whose time passes at once: it never waits, but goes to the next timer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """Whatever runs on it does the same in each run, and takes no time. Nothing on it may use a socket or a thread."""

    def __init__(self) -> None:
        super().__init__()
        self._moment = 1000.0

    def time(self) -> float:
        return self._moment

    def _run_once(self) -> None:
        # Timers that were cancelled are removed by the loop itself, some turns later.
        scheduled = [timer for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        if not self._ready and scheduled:  # type: ignore[attr-defined]
            self._moment = max(self._moment, min(timer.when() for timer in scheduled))
        super()._run_once()  # type: ignore[misc]


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run until the coroutine has ended; nothing may have failed in the background."""
    problems: list[str] = []
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _, context: problems.append(repr(context)))
    try:
        loop.run_until_complete(asyncio.wait_for(main, timeout=3600))
    finally:
        for _ in range(10):  # what ends may start something
            left = [task for task in asyncio.all_tasks(loop) if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()
    assert not problems, "\n".join(problems)
