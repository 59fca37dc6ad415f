"""What is closed at the end of a ``with`` block."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Closing:
    """Base class: ``with`` and ``async with`` close the object."""

    def close(self) -> object:
        """Close it."""
        raise NotImplementedError

    async def _close_async(self) -> None:
        """Do what `close` does, without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close_async()
