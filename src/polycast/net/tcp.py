"""The shell of every TCP connection: what servers and clients of all protocols have in common.

A protocol derives from `TcpConnection` and implements what it does with received bytes (see `net.budget`). The shell
owns the transport, the connection state, read coalescing, the outbox, stalled peers, internal errors, connection slots,
memory limits and the work budget.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import ClassVar, Final, cast

from polycast.errors import RemoteProtocolError
from polycast.log import Log
from polycast.net.address import peer_of
from polycast.net.budget import BudgetedProtocol
from polycast.net.close_reason import describe_close
from polycast.net.connection_slots import ConnectionSlots, SlotHolder, connection_slots_of
from polycast.net.lingering import LingeringClose
from polycast.net.memory import held_memory_of
from polycast.net.outbox import Outbox

CLOSE_GRACE_SECONDS: Final = 2.0
"""For the last bytes (a response, a TLS close_notify) to leave a connection that is being closed, and for the peer to
close its side."""

ANSWER_LIMIT_FACTOR: Final = 2
"""A peer that sends requests but does not read the answers is closed when this many times the outbox's limit is queued;
media alone stays below that."""


class ConnectionState(Enum):
    """State of a connection."""

    OPENING = auto()
    """There is no transport yet."""
    OPEN = auto()
    DRAINING = auto()
    """The last bytes are being sent, and the peer is expected to close its side; received data is discarded."""
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
"""A missing pair changes nothing: closing twice is the same as closing once."""


class TcpConnection(BudgetedProtocol):
    """A TCP connection, plain or TLS, incoming or outgoing. ``clock`` returns monotonic seconds."""

    peer_name: ClassVar[str] = "client"
    """What the log calls the other side."""
    unread_reason: ClassVar[str] = "the client does not read the responses"
    """The reason for closing a peer for which too much data is queued."""
    is_accepted: ClassVar[bool] = True
    """Whether it is an incoming connection, which needs a slot (`net.connection_slots`)."""
    lingers: ClassVar[bool] = True
    """Whether `close` waits for the peer to close its side, so that it can read the last bytes (`net.lingering`)."""
    outbox: Outbox

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(loop, clock)
        self.log = log
        self.forwarded: tuple[str, int] | None = None
        """IP address and port of the client behind a proxy; None if there is no proxy."""
        self.peer: tuple[str, int] = ("", 0)
        self.close_reason = ""
        self.opened_at = clock()
        self.silent_since: float | None = self.opened_at
        """The protocol sets it to None as soon as the peer has sent a whole request."""
        self._state = ConnectionState.OPENING
        self._draining_since = 0.0
        self._has_peer_ended = False
        """Whether the peer has closed its side."""
        self._memory = held_memory_of(loop)

    # For protocols

    def on_connected(self) -> None:
        """The connection is open; ``transport``, ``peer`` and ``outbox`` are set."""

    def on_protocol_error(self, error: RemoteProtocolError) -> None:
        """The peer violated the protocol."""
        self.close(f"invalid data: {error}")

    def on_internal_error(self) -> None:
        """Called while an unexpected exception is being handled: a bug, which ends only this connection."""
        self.log.exception("internal error")
        self.abort("internal error")

    def on_closing(self, reason: str) -> None:
        """The connection is no longer open: stop publishing and reading. Called once."""

    def on_lost(self, reason: str) -> None:
        """The connection is lost."""

    @property
    def state(self) -> ConnectionState:
        return self._state

    @property
    def slots(self) -> ConnectionSlots[SlotHolder]:
        """The slots of which an incoming connection needs one."""
        return connection_slots_of(self.loop)

    @property
    def held_size(self) -> int:
        """Number of received bytes that the protocol holds because it cannot use them yet."""
        return 0

    def answer(self, data: bytes) -> None:
        """Send an answer or another control message. A peer that does not read them is closed."""
        if not self.is_open:
            return
        self.outbox.write(data)
        self.check_unread()

    def check_unread(self) -> None:
        """Close the connection if the peer does not read the answers that it causes."""
        if self.transport.get_write_buffer_size() > ANSWER_LIMIT_FACTOR * self.outbox.limit:
            self.abort(self.unread_reason)

    def layer(self, transport: asyncio.Transport, *, encodes: bool) -> None:
        """Use a transport that passes through the old one from now on (`net.layered`).

        ``encodes``: what is sent also passes through it.
        """
        self.transport = transport
        if encodes:
            self.outbox = Outbox(transport, self.clock())

    # Life

    def close(self, reason: str) -> None:
        """Close after everything queued has been sent."""
        if self._step(_Input.CLOSE, reason):
            self._draining_since = self.clock()
            self.silent_since = -math.inf  # it may be evicted for another client at any time
            self._close_transport()

    def _close_transport(self) -> None:
        """Close the transport after the last bytes."""
        transport = self.transport
        if self._has_peer_ended or not self.lingers or transport.is_closing() or not transport.can_write_eof():
            transport.close()  # a TLS transport lingers by itself
        else:
            LingeringClose(transport, self, self.loop, CLOSE_GRACE_SECONDS)

    def abort(self, reason: str) -> None:
        """Close immediately; queued data is lost."""
        if self._step(_Input.ABORT, reason):
            self.transport.abort()

    def check_progress(self, now: float, write_timeout: float) -> bool:
        """Called about once a second: abort a connection that does not finish closing, or whose peer has accepted no
        data for ``write_timeout`` seconds; return whether it is still open."""
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
        self.peer = self.forwarded or peer_of(transport.get_extra_info("peername"))
        self.outbox = Outbox(self.transport, self.opened_at)
        if self.is_accepted and not self._acquire_slot():
            self.transport.abort()
            return
        self._step(_Input.CONNECTED)
        self.on_connected()

    def _acquire_slot(self) -> bool:
        """Return whether there is a slot, perhaps that of another connection, which is closed for it."""
        slots = self.slots
        host, now = self.peer[0], self.clock()
        slots.acquire(self, host)
        if not slots.is_exceeded(host):
            return True
        silent = slots.oldest_silent(host, now)
        if silent is not None:
            slots.release(silent)
            silent.evict()
            return True
        slots.release(self)
        count = slots.count_refused(now)
        if count:
            self.log.warning("connections refused because there are too many: %d, most recently from %s", count, host)
        return False

    def evict(self) -> None:
        """Close: another client needs the slot."""
        self.abort("no request was received, and another client needs the connection slot")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._state is ConnectionState.OPENING:
            return  # refused
        self.drop()
        self.slots.release(self)
        self._memory.forget(self)
        self._step(_Input.LOST, describe_close(exc, self.peer_name))
        self.on_lost(self.close_reason)

    def pause_writing(self) -> None:
        self.outbox.pause()

    def resume_writing(self) -> None:
        """Nothing to do: a reader resumes at the next key frame."""

    def eof_received(self) -> bool:
        self._has_peer_ended = True
        self.close_reason = self.close_reason or f"closed by the {self.peer_name}"
        return False
