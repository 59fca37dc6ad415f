"""The shell of every TCP connection: what servers and clients of all protocols have in common.

A protocol derives from `TcpConnection` and says what it does with bytes (see `net.budget`). The shell owns the
transport, the state of the connection, read coalescing, the outbox, stalled peers, internal errors, places, memory, and
the budget of work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import ClassVar, Final, cast

from polycast.errors import RemoteProtocolError
from polycast.log import Log
from polycast.net.address import peer_of
from polycast.net.budget import BudgetedProtocol
from polycast.net.close_reason import describe_loss
from polycast.net.memory import held_memory_of
from polycast.net.outbox import Outbox
from polycast.net.places import places_of

CLOSE_GRACE_SECONDS: Final = 2.0
"""For the last bytes (a response, a TLS farewell) to leave a connection that is being closed."""

ANSWER_LIMIT_FACTOR: Final = 2
"""A peer that sends requests and takes no answers is closed when this many times the outbox's limit wait for it; media
alone stays below."""


class ConnectionState(Enum):
    """What a connection may do."""

    OPENING = auto()
    """There is no transport yet."""
    OPEN = auto()
    DRAINING = auto()
    """The last bytes leave; what still arrives is dropped."""
    CLOSED = auto()


class _Input(Enum):
    CONNECTED = auto()
    CLOSE = auto()
    ABORT = auto()
    LOST = auto()


_NEXT: Final = {
    (ConnectionState.OPENING, _Input.CONNECTED): ConnectionState.OPEN,
    (ConnectionState.OPEN, _Input.CLOSE): ConnectionState.DRAINING,
    (ConnectionState.OPEN, _Input.ABORT): ConnectionState.CLOSED,
    (ConnectionState.OPEN, _Input.LOST): ConnectionState.CLOSED,
    (ConnectionState.DRAINING, _Input.ABORT): ConnectionState.CLOSED,
    (ConnectionState.DRAINING, _Input.LOST): ConnectionState.CLOSED,
}
"""A pair that is missing changes nothing: closing twice is closing once."""


class TcpConnection(BudgetedProtocol):
    """One connection, plain or in TLS, accepted or made. ``clock`` returns monotonic seconds."""

    peer_name: ClassVar[str] = "client"
    """What the log calls the other side."""
    unread_reason: ClassVar[str] = "the client does not read the responses"
    """Why a peer is closed for which too much waits."""
    is_accepted: ClassVar[bool] = True
    """Whether it takes one of the places for connections that were accepted (`net.places`)."""
    outbox: Outbox

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(loop, clock)
        self.log = log
        self.peer: tuple[str, int] = ("", 0)
        self.close_reason = ""
        self.opened_at = clock()
        self.silent_since: float | None = self.opened_at
        """The protocol sets it to None as soon as the peer has shown what it wants, by a whole request."""
        self._state = ConnectionState.OPENING
        self._draining_since = 0.0
        self._memory = held_memory_of(loop)

    # For protocols

    def on_connected(self) -> None:
        """The connection is open; ``transport``, ``peer`` and ``outbox`` are there."""

    def on_protocol_error(self, error: RemoteProtocolError) -> None:
        """The peer broke the protocol."""
        self.close(f"invalid data: {error}")

    def on_internal_error(self) -> None:
        """Called with the exception that is being handled, a bug of ours; it ends this connection only."""
        self.log.exception("internal error")
        self.abort("internal error")

    def on_closing(self, reason: str) -> None:
        """The connection is no longer open: give up its part in streams. Called once."""

    def on_lost(self, reason: str) -> None:
        """The connection is gone."""

    def close_transport(self) -> None:
        """Let the last bytes leave, then close."""
        self.transport.close()

    @property
    def state(self) -> ConnectionState:
        return self._state

    @property
    def held_size(self) -> int:
        """Bytes received that the protocol keeps because it cannot use them yet."""
        return 0

    def answer(self, data: bytes) -> None:
        """Send what the peer asked for, or has to take. A peer that does not read that is closed."""
        if not self.is_open:
            return
        self.outbox.write(data)
        if self.transport.get_write_buffer_size() > ANSWER_LIMIT_FACTOR * self.outbox.limit:
            self.abort(self.unread_reason)

    # Life

    def close(self, reason: str) -> None:
        """Close once everything queued was sent."""
        if self._step(_Input.CLOSE, reason):
            self._draining_since = self.clock()
            self.close_transport()

    def abort(self, reason: str) -> None:
        """Close at once; what is queued is lost."""
        if self._step(_Input.ABORT, reason):
            self.transport.abort()

    def check_progress(self, now: float, write_timeout: float) -> bool:
        """Called about once a second: end a connection that does not close, or whose peer takes nothing for
        ``write_timeout`` seconds; return whether it is open still."""
        if self._state is ConnectionState.DRAINING:
            if now - self._draining_since >= CLOSE_GRACE_SECONDS:
                self.abort("")
        elif self.is_open and self.outbox.is_stuck(now, write_timeout):
            self.abort(f"the {self.peer_name} took no data for {write_timeout:g} s")
        else:
            self.check_memory()
        return self.is_open

    def check_memory(self) -> None:
        if self._state is not ConnectionState.CLOSED:
            received = self.waiting_size + self.held_size
            self._memory.update(self, self.peer[0], received, self.transport.get_write_buffer_size())

    def _step(self, happened: _Input, reason: str = "") -> bool:
        state = _NEXT.get((self._state, happened), self._state)
        if state is self._state:
            return False
        self.close_reason = self.close_reason or reason
        was_open, self._state = self.is_open, state
        self.is_open = state is ConnectionState.OPEN
        if was_open:
            self.on_closing(self.close_reason)
        return True

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.peer = peer_of(transport.get_extra_info("peername"))
        self.outbox = Outbox(self.transport, self.opened_at)
        if self.is_accepted and not self._take_place():
            self.transport.abort()
            return
        self._step(_Input.CONNECTED)
        self.on_connected()

    def _take_place(self) -> bool:
        """Return whether there is a place, perhaps one that somebody else had to give up."""
        places = places_of(self.loop)
        host, now = self.peer[0], self.clock()
        places.take(self, host)
        if not places.is_over(host):
            return True
        silent = places.victim(host, now)
        if silent is not None:
            places.leave(silent)
            silent.give_way()
            return True
        places.leave(self)
        count = places.refuse(now)
        if count:
            self.log.warning("connections refused, the last one of %s, as there are too many: %d", host, count)
        return False

    def give_way(self) -> None:
        """Close: another client needs the place."""
        self.abort("no request was received, and another client needs the connection's place")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._state is ConnectionState.OPENING:
            return  # refused
        self.drop()
        places_of(self.loop).leave(self)
        self._memory.forget(self)
        self._step(_Input.LOST, describe_loss(exc, self.peer_name))
        self.on_lost(self.close_reason)

    def pause_writing(self) -> None:
        self.outbox.pause()

    def resume_writing(self) -> None:
        """A reader goes on at its next key frame by itself."""

    def eof_received(self) -> bool:
        self.close_reason = self.close_reason or f"closed by the {self.peer_name}"
        return False
