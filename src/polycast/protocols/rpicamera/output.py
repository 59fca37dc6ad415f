"""What the camera program writes to its standard output."""

from __future__ import annotations

import asyncio
from typing import Final

from polycast.net.loop import sleep_and_read

READ_SIZE: Final = 256 * 1024
"""Bytes of one read from the pipe."""

REST_SECONDS: Final = 0.02
"""Seconds to wait for what the program wrote before it ended: that is in the pipe already."""

LONGEST_REST_SECONDS: Final = 2.0
"""Seconds after the end of the program for which data is read at most: a child of it may go on writing."""


class CameraOutput:
    """The output ends with the program, even if a child of it still holds the pipe."""

    def __init__(self, pipe: asyncio.StreamReader, process: asyncio.subprocess.Process) -> None:
        self._loop = asyncio.get_running_loop()
        self._pipe = pipe
        self._ended = self._loop.create_task(process.wait())
        self._reading: asyncio.Task[bytes] | None = None
        self._last_read: float | None = None
        """Until when data is read after the end of the program."""

    async def read(self, seconds: float) -> bytes | None:
        """Return what was written: None if that is nothing for some seconds, empty at the end."""
        reading = self._reading = self._reading or self._loop.create_task(self._pipe.read(READ_SIZE))
        await asyncio.wait((reading, self._ended), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not self._ended.done():
            if not reading.done():
                return None
        elif self._is_over():
            return b""
        elif not reading.done():
            await sleep_and_read(REST_SECONDS)
            if not reading.done():
                return b""
        self._reading = None
        return reading.result()

    def _is_over(self) -> bool:
        now = self._loop.time()
        if self._last_read is None:
            self._last_read = now + LONGEST_REST_SECONDS
        return now >= self._last_read

    async def drain(self) -> None:
        """Read and discard everything."""
        await self.close()
        while await self._pipe.read(READ_SIZE):
            pass

    async def close(self) -> None:
        """Stop waiting for data and for the end of the program."""
        reading, self._reading = self._reading, None
        tasks = [task for task in (reading, self._ended) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
