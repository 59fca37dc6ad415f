"""Changes of the configuration are made one after another; those that wait for their turn have a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from polycast.errors import PolycastError

MAXIMUM_PENDING: Final = 64
"""Changes that are made or wait for their turn: programs add dozens of paths at once, but each change may hold a body
of 1 MiB, also when its client has left."""


class TooManyChangesError(PolycastError):
    """`MAXIMUM_PENDING` changes have not ended yet."""

    def __init__(self) -> None:
        super().__init__(
            "too many changes of the configuration are waiting; nothing was changed: send the request again later"
        )


class Turns:
    """The order of changes."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        """Held while a change is made."""
        self._pending = 0

    async def complete(self, change: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Make a change when its turn comes, also if the caller is cancelled, and wait for its end.

        Raises TooManyChangesError, before ``change`` is called, and whatever that raises.
        """
        if self._pending >= MAXIMUM_PENDING:
            raise TooManyChangesError
        self._pending += 1
        work = asyncio.get_running_loop().create_task(self._in_turn(change))
        work.add_done_callback(self._on_done)
        await asyncio.shield(work)  # a client that disconnects must not leave a partial change

    async def _in_turn(self, change: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with self.lock:
            await change()

    def _on_done(self, work: asyncio.Task[None]) -> None:
        self._pending -= 1
        if not work.cancelled():
            work.exception()  # retrieved, in case nobody else does
