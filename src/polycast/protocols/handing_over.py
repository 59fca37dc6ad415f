"""Connections that another worker process of the server serves, because it has the stream that they ask for.

Protocol engines do no I/O, so the same input brings another engine to the same state: the other worker gets the socket
and the received bytes, its engine processes them again, and responses that were already sent are not sent again.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

MAXIMUM_HISTORY: Final = 64 * 1024
"""Bytes of a connection that are remembered. Its first requests take less than 10 kB, tokens included."""


class HandedOver(Struct, frozen=True, array_like=True):
    """A connection on its way to another worker."""

    received: bytes
    """All bytes that the client has sent."""
    answered: int
    """Number of bytes that were sent to the client."""
    opened_at: float
    """Monotonic seconds: the clock of all processes of the machine."""
    seed: bytes
    """Seed of the engine's random numbers; empty if it used none."""
    client: tuple[str, int] | None
    """Address and port of the client, if those of the socket are not its own; else None."""
    path: str
    """The path that it asks for: the other worker may refuse; empty if only that worker can serve it."""
    origin: int
    """The number of the worker that it comes from."""


class History:
    """What a connection needs to be handed over."""

    def __init__(self, answered_before: int = 0) -> None:
        """``answered_before``: bytes of the answers that another worker has sent."""
        self.received = bytearray()
        self.answered = 0
        self._repeated = answered_before

    def receive(self, data: bytes) -> bool:
        """Remember received bytes; return whether there is room for more."""
        self.received += data
        return len(self.received) <= MAXIMUM_HISTORY

    def answer(self, data: bytes) -> bytes:
        """Count bytes that are to be sent; return those that were not sent by the other worker."""
        repeated = min(self._repeated, len(data))
        self._repeated -= repeated
        self.answered += len(data) - repeated
        return data[repeated:] if repeated else data
