"""Detects when process groups have ended, with one pass over the system's processes for all of them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from polycast.control import command_guard

# Seconds between two passes, initially and at most: there is no notification when the last process of a group ends.
POLL_SECONDS: Final = 0.01
LONGEST_POLL_SECONDS: Final = 0.2


class GroupWatch:
    """Watches the processes of commands. The passes run in a thread, because they would block the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, mark: str) -> None:
        """``mark`` is the prefix of the marks of all commands."""
        self._loop = loop
        self._mark = mark
        self._waiting: dict[str, tuple[set[int], asyncio.Future[None]]] = {}
        self._asked: list[asyncio.Future[dict[str, set[int]]]] = []
        self._pause = POLL_SECONDS
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def marked(self, mark: str) -> set[int]:
        """Return the process groups with living processes that have the mark."""
        asked: asyncio.Future[dict[str, set[int]]] = self._loop.create_future()
        self._asked.append(asked)
        self._watch_soon()
        return (await asked).get(mark, set())

    async def ended(self, groups: set[int], mark: str) -> None:
        """Wait until no process of the groups or with the mark is alive. Only one caller may wait for a mark.

        Groups of processes with the mark that are found meanwhile are added to ``groups``.
        """
        ended = self._loop.create_future()
        self._waiting[mark] = groups, ended
        self._watch_soon()
        try:
            await ended
        finally:
            del self._waiting[mark]

    def _watch_soon(self) -> None:
        self._pause = POLL_SECONDS
        self._wake.set()
        if self._task is None:
            self._task = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        try:
            while self._waiting or self._asked:
                self._wake.clear()
                asked, self._asked = self._asked, []
                waiting = dict(self._waiting)
                groups = set().union(*(groups for groups, _ in waiting.values()))
                living, marked = await self._loop.run_in_executor(None, command_guard.survey, groups, self._mark)
                for question in asked:
                    if not question.done():
                        question.set_result(marked)
                for mark, (own, ended) in waiting.items():
                    with_mark = marked.get(mark, set())
                    own |= with_mark
                    if not with_mark and not own & living and not ended.done():
                        ended.set_result(None)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause):
                        await self._wake.wait()
                self._pause = min(self._pause * 2, LONGEST_POLL_SECONDS)
        finally:
            self._task = None
