"""How much incomplete input all connections hold together: a limit for each address, and one for the server."""

from __future__ import annotations

from typing import Final, Protocol

MINIMUM_SIZE: Final = 256 << 10
"""In bytes. Connections that hold less are not counted; a key frame of a common stream is below that."""

MAXIMUM_ADDRESS_SIZE: Final = 32 << 20
"""In bytes, of all connections from one address. One connection may hold 28 MiB: half a second of a stream at
128 Mbit/s while its tracks are looked for, and the largest message."""

MAXIMUM_TOTAL_SIZE: Final = 256 << 20
"""In bytes, of all connections of a server."""


class Holder(Protocol):
    """A connection that holds input."""

    def abort(self, reason: str) -> None: ...


class HeldInput:
    """Told by each connection how much it holds, ends the one that holds most when it is too much in sum."""

    def __init__(self) -> None:
        self._sizes: dict[Holder, tuple[str, int]] = {}

    def update(self, holder: Holder, address: str, size: int) -> None:
        """Take the number of bytes that a connection from ``address`` holds now."""
        if size < MINIMUM_SIZE:
            if self._sizes:
                self._sizes.pop(holder, None)
            return
        self._sizes[holder] = (address, size)
        neighbours = {other: item[1] for other, item in self._sizes.items() if item[0] == address}
        if sum(neighbours.values()) > MAXIMUM_ADDRESS_SIZE:
            self._end(max(neighbours, key=neighbours.__getitem__), f"all clients of {address} together")
        elif sum(size for _, size in self._sizes.values()) > MAXIMUM_TOTAL_SIZE:
            self._end(max(self._sizes, key=lambda other: self._sizes[other][1]), "all clients together")

    def _end(self, holder: Holder, owners: str) -> None:
        _, size = self._sizes.pop(holder)
        holder.abort(f"{size} bytes of unfinished messages; {owners} have sent more than may wait")
