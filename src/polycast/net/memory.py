"""Memory held by connections: received data that cannot be used yet, and data queued for slow peers.

Each connection has its own limits; these are the limits for the sum over all connections of an event loop. If one is
exceeded, the connection that holds the most is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Final, Protocol

from polycast.net.loop_local import LoopLocal

MINIMUM_SIZE: Final = 256 << 10
"""In bytes. Connections that hold less are not counted; a key frame of a common stream is below that."""

MINIMUM_RECEIVED_SIZE: Final = 4 << 10
"""In bytes, received. Connections that hold this much are counted, too: one address may have thousands, which hold no
more than `MAXIMUM_ADDRESS_SIZE` with less each."""

MAXIMUM_ADDRESS_SIZE: Final = 32 << 20
"""In bytes, received from one address. One connection may hold 28 MiB: half a second of a stream at 128 Mbit/s while
its tracks are being detected, and the largest message."""

MAXIMUM_RECEIVED_SIZE: Final = 256 << 20
"""In bytes, received from all addresses."""

MAXIMUM_SIZE: Final = 1 << 30
"""In bytes, received and waiting to be sent. A thousand slow readers of common streams hold less than this; on a
machine with less than four times as much, the limit is a quarter of its memory."""


class BufferingConnection(Protocol):
    """A connection that holds memory."""

    def abort(self, reason: str) -> None: ...


class HeldMemory:
    """Adds up what each connection holds, and closes the largest one when the sum exceeds a limit."""

    def __init__(self, maximum: int = MAXIMUM_SIZE) -> None:
        self.maximum = maximum
        self._held: dict[BufferingConnection, tuple[str, int, int]] = {}
        self._by_address: dict[str, int] = {}
        self.received = 0
        """Bytes received that are held, over all connections."""
        self.size = 0
        """Bytes that are held, over all connections."""

    def update(self, holder: BufferingConnection, address: str, received: int, waiting: int) -> None:
        """Set how many bytes the connection of ``address`` holds now: received, and waiting to be sent."""
        if holder in self._held:
            self.forget(holder)
        if received < MINIMUM_RECEIVED_SIZE and received + waiting < MINIMUM_SIZE:
            return
        self._held[holder] = address, received, waiting
        of_address = self._by_address[address] = self._by_address.get(address, 0) + received
        self.received += received
        self.size += received + waiting
        if of_address > MAXIMUM_ADDRESS_SIZE:
            self._end(f"all of {address} together have sent", lambda item: item[1] * (item[0] == address))
        elif self.received > MAXIMUM_RECEIVED_SIZE:
            self._end("all together have sent", lambda item: item[1])
        elif self.size > self.maximum:
            self._end("all together hold", lambda item: item[1] + item[2])

    def forget(self, holder: BufferingConnection) -> None:
        """The connection no longer holds anything."""
        item = self._held.pop(holder, None)
        if item is None:
            return
        address, received, waiting = item
        self.received -= received
        self.size -= received + waiting
        rest = self._by_address.pop(address, 0) - received  # several connections may hold nothing received
        if rest:
            self._by_address[address] = rest

    def _end(self, what: str, order: Callable[[tuple[str, int, int]], int]) -> None:
        largest = max(self._held, key=lambda holder: order(self._held[holder]))
        size = order(self._held[largest])
        self.forget(largest)
        largest.abort(f"{size} bytes wait; {what} more than may wait")


_MEMORY: Final = LoopLocal("held_memory", lambda loop: HeldMemory(_maximum()))


def held_memory_of(loop: asyncio.AbstractEventLoop) -> HeldMemory:
    """Return the memory held by the connections of a loop."""
    return _MEMORY.get(loop)


def _maximum() -> int:
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on Windows
        return min(MAXIMUM_SIZE, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)
    return MAXIMUM_SIZE
