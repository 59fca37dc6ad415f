"""Connections that another worker process of the server serves, because it has the stream that they ask for.

Protocol engines do no I/O, so what one of them has received makes another one the same: the other worker gets the
socket and the received bytes, its engine processes them again, and what was answered already is not sent again.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

MAXIMUM_HISTORY: Final = 64 * 1024
"""Bytes of a connection that are remembered. Its first requests take less than 10 kB, tokens included."""


class HandedOver(Struct, frozen=True, array_like=True):
    """A connection on its way to another worker."""

    received: bytes
    """Everything that the client has sent."""
    answered: int
    """Bytes that were sent to it."""
    opened_at: float
    """Monotonic seconds: the clock of all processes of the machine."""
    seed: bytes
    """What the engine took its random numbers from; empty if it used none."""
    client: tuple[str, int] | None
    """Address and port of the client, if those of the socket are not its own; else None."""
    path: str
    """The path that it is to be handed over for if the other worker likes to; empty if only that one can serve it."""
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
        """Count what is to be sent; return what was not sent yet."""
        repeated = min(self._repeated, len(data))
        self._repeated -= repeated
        self.answered += len(data) - repeated
        return data[repeated:] if repeated else data
