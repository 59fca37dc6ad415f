"""Tells when process groups have ended, all of them with one look at the system's processes."""

from __future__ import annotations

import asyncio
from typing import Final

from polycast.control import command_guard

# Seconds between two looks: at first, and at most. Nothing tells when the last process of a group ends.
POLL_SECONDS: Final = 0.01
LONGEST_POLL_SECONDS: Final = 0.2


class GroupWatch:
    """Watches the groups that somebody waits for. The looks are taken beside the loop, which they would hold up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._pause = POLL_SECONDS
        self._task: asyncio.Task[None] | None = None

    async def ended(self, group: int) -> None:
        """Return when no process of the group lives. Each group has one that waits for it."""
        ended = self._waiting[group] = self._loop.create_future()
        self._pause = POLL_SECONDS
        if self._task is None:
            self._task = self._loop.create_task(self._watch())
        try:
            await ended
        finally:
            del self._waiting[group]

    async def _watch(self) -> None:
        try:
            while self._waiting:
                groups = set(self._waiting)
                living = await self._loop.run_in_executor(None, command_guard.living, groups)
                for group in groups - living:
                    ended = self._waiting.get(group)
                    if ended is not None and not ended.done():
                        ended.set_result(None)
                await asyncio.sleep(self._pause)
                self._pause = min(self._pause * 2, LONGEST_POLL_SECONDS)
        finally:
            self._task = None
