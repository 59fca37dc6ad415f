"""Memory held by connections: received data that cannot be used yet, and data queued for slow peers.

Each connection has its own limits; these are the limits for the sum over all connections of an event loop. If one is
exceeded, the connection that holds the most is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
from typing import Final, Protocol

from polycast.net.loop_local import LoopLocal
from polycast.security.addresses import network_of

MINIMUM_SIZE: Final = 256 << 10
"""In bytes. Connections that hold less are not counted; a key frame of a common stream is below that."""

MINIMUM_RECEIVED_SIZE: Final = 4 << 10
"""In bytes, received. Connections that hold this much are counted, too: one address may have thousands, which hold no
more than `MAXIMUM_ADDRESS_SIZE` with less each."""

MAXIMUM_ADDRESS_SIZE: Final = 64 << 20
"""In bytes, received from one address: key frames of some hundred publishers behind it, or what two connections may
hold. One may hold 28 MiB: half a second of a stream at 128 Mbit/s while its tracks are being detected, and the largest
message."""

MAXIMUM_RECEIVED_SIZE: Final = 256 << 20
"""In bytes, received from all addresses."""

MAXIMUM_SIZE: Final = 1 << 30
"""In bytes, received and waiting to be sent. A thousand slow readers of common streams hold less than this; on a
machine with less than four times as much, the limit is a quarter of its memory."""

_OUTDATED_PART: Final = 2
_OUTDATED_ENTRIES: Final = 64
"""Entries of the heap beyond which it is made anew."""


class BufferingConnection(Protocol):
    """A connection that holds memory."""

    def abort(self, reason: str) -> None: ...


class _Amounts:
    """How many bytes each connection holds of one kind: their sum, and which one holds most."""

    __slots__ = ("_heap", "_holders", "_next", "_sizes", "total")

    def __init__(self) -> None:
        self.total = 0
        self._next = 0
        self._sizes: dict[BufferingConnection, tuple[int, int]] = {}
        """Bytes, and the number of this entry."""
        self._holders: dict[int, BufferingConnection] = {}
        """By number of the entry. The heap has numbers only: it would keep connections that are closed."""
        self._heap: list[tuple[int, int]] | None = None
        """Negative sizes and numbers of entries, also outdated ones; made when it is first needed."""

    def __bool__(self) -> bool:
        return bool(self._sizes)

    def set(self, holder: BufferingConnection, size: int) -> None:
        """Set how many bytes a connection holds."""
        self.remove(holder)
        number = self._next
        self._next += 1
        self.total += size
        self._sizes[holder] = size, number
        self._holders[number] = holder
        heap = self._heap
        if heap is not None:
            heapq.heappush(heap, (-size, number))
            if len(heap) > _OUTDATED_PART * len(self._sizes) + _OUTDATED_ENTRIES:
                self._heap = None

    def remove(self, holder: BufferingConnection) -> None:
        size, number = self._sizes.pop(holder, (0, -1))
        self.total -= size
        self._holders.pop(number, None)

    def largest(self) -> tuple[BufferingConnection, int]:
        """Return the connection that holds most, and its bytes. There must be one."""
        if self._heap is None:
            self._heap = [(-size, number) for size, number in self._sizes.values()]
            heapq.heapify(self._heap)
        heap = self._heap
        while heap[0][1] not in self._holders:
            heapq.heappop(heap)
        size, number = heap[0]
        return self._holders[number], -size


class HeldMemory:
    """Adds up what each connection holds, and closes the largest one when the sum exceeds a limit."""

    def __init__(self, maximum: int = MAXIMUM_SIZE) -> None:
        self.maximum = maximum
        self._addresses: dict[BufferingConnection, str] = {}
        self._by_address: dict[str, _Amounts] = {}
        """What was received from each address; of IPv6, from each network."""
        self._received = _Amounts()
        self._all = _Amounts()

    @property
    def received(self) -> int:
        """Bytes received that are held, over all connections."""
        return self._received.total

    @property
    def size(self) -> int:
        """Bytes that are held, over all connections."""
        return self._all.total

    def update(self, holder: BufferingConnection, address: str, received: int, waiting: int) -> None:
        """Set how many bytes the connection of ``address`` holds now: received, and waiting to be sent."""
        if received < MINIMUM_RECEIVED_SIZE and received + waiting < MINIMUM_SIZE:
            self.forget(holder)
            return
        address = network_of(address)
        if self._addresses.get(holder, address) != address:
            self.forget(holder)
        self._addresses[holder] = address
        of_address = self._by_address.get(address)
        if of_address is None:
            of_address = self._by_address[address] = _Amounts()
        of_address.set(holder, received)
        self._received.set(holder, received)
        self._all.set(holder, received + waiting)
        if of_address.total > MAXIMUM_ADDRESS_SIZE:
            self._end(f"all of {address} together have sent", of_address)
        elif self.received > MAXIMUM_RECEIVED_SIZE:
            self._end("all together have sent", self._received)
        elif self.size > self.maximum:
            self._end("all together hold", self._all)

    def forget(self, holder: BufferingConnection) -> None:
        """The connection no longer holds anything."""
        address = self._addresses.pop(holder, None)
        if address is None:
            return
        self._received.remove(holder)
        self._all.remove(holder)
        of_address = self._by_address[address]
        of_address.remove(holder)
        if not of_address:
            del self._by_address[address]

    def _end(self, what: str, amounts: _Amounts) -> None:
        largest, size = amounts.largest()
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
