"""The shell of every TCP connection: what servers and clients of all protocols have in common.

A protocol derives from `TcpConnection` and says what it does with bytes; the shell owns the transport, the state of the
connection, read coalescing, the outbox, stalled peers, internal errors, memory, and the budget of work.

**The budget of work.** No client may hold the loop, so nothing that a peer sends is worked through without end:

- `TcpConnection.receive` is called with what one read brought. It gives the bytes to the engine and works through the
  engine's events until there are none, or until `is_slice_over` says that others have their turn. Ask before each
  event; the time is read each time, as events cost from a microsecond to a millisecond.
- Return True to say "there is more to do". The shell then pauses reading and calls `TcpConnection.go_on` in one of the
  next turns, again and again until that returns False; then it reads on.
- Return False when there is nothing to do without more bytes, or without an answer that a task is working on. That task
  calls `resume_work` when it is done; `hold_reading` and `release_reading` keep the peer from sending more meanwhile.
- An engine that returns all events of the bytes it is given cannot ask in between. Its protocol sets `is_divisible`:
  then the shell calls `receive` with pieces of what was read, as large as the time they take allows.
- `end_slice` is called after the last event of a slice: what the media of one read means to readers goes out together.
- An event is never divided. An engine whose single events may be costly limits them, or hands them out in parts.

A connection that has used more than its share for a while (`SHARE`) does not work while it is read any more, only in
its slices of the queue (`net.work`), so that it falls behind by itself. ``weight`` multiplies the share: a publisher
works for all of its readers.
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
from polycast.net.coalescing import coalescing_of
from polycast.net.losses import describe_loss
from polycast.net.memory import MINIMUM_SIZE, held_memory_of
from polycast.net.outbox import Outbox
from polycast.net.places import places_of
from polycast.net.work import LEAD_SECONDS, LONGEST_SECONDS, READ_SIZE, SHARE, SLICE_SECONDS, work_queue_of

CLOSE_GRACE_SECONDS: Final = 2.0
"""For the last bytes (a response, a TLS farewell) to leave a connection that is being closed."""

ANSWER_LIMIT_FACTOR: Final = 2
"""A peer that sends requests and takes no answers is closed when this many times the outbox's limit wait for it; media
alone stays below."""

FIRST_PIECE_SIZE: Final = 16 * 1024
"""Bytes that an engine which cannot be interrupted gets at once, before it is known how long they take."""

SMALLEST_PIECE_SIZE: Final = 512

_BUDGET: Final = 1
_PROTOCOL: Final = 2


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


class TcpConnection(asyncio.Protocol):
    """One connection, plain or in TLS, accepted or made. ``clock`` returns monotonic seconds."""

    peer_name: ClassVar[str] = "client"
    """What the log calls the other side."""
    unread_reason: ClassVar[str] = "the client does not read the responses"
    """Why a peer is closed for which too much waits."""
    is_accepted: ClassVar[bool] = True
    """Whether it takes one of the places for connections that were accepted (`net.places`)."""
    is_divisible: ClassVar[bool] = False
    """Whether `receive` wants pieces of what was read (see the module's head)."""
    transport: asyncio.Transport
    outbox: Outbox

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self.loop = loop
        self.log = log
        self.clock = clock
        self.peer: tuple[str, int] = ("", 0)
        self.close_reason = ""
        self.opened_at = clock()
        self.silent_since: float | None = self.opened_at
        """The protocol sets it to None as soon as the peer has shown what it wants, by a whole request."""
        self.is_gathered = False
        """Whether the last read brought what had arrived over some time (`net.coalescing`)."""
        self.weight = 1
        """How many times `SHARE` it may use."""
        self._state = ConnectionState.OPENING
        self.is_open = False
        """Whether bytes are taken and sent: neither closing nor lost."""
        self._draining_since = 0.0
        self._on_read = coalescing_of(loop).on_read
        self._memory = held_memory_of(loop)
        self._unchecked = 0
        """Bytes received since it was last looked how much is held."""
        self._pauses = 0
        """Why reading is paused: bits."""
        self._held = b""
        """What was read and waits for a slice, from ``_offset`` on."""
        self._offset = 0
        self._has_more = False
        """Whether `go_on` has something to do."""
        self._piece_size = FIRST_PIECE_SIZE if self.is_divisible else READ_SIZE
        self._slice_end = 0.0
        self._ends_slices = type(self).end_slice is not TcpConnection.end_slice
        self._used_until = 0.0
        """Until when its share of the loop is used up."""

    # For protocols

    def on_connected(self) -> None:
        """The connection is open; ``transport``, ``peer`` and ``outbox`` are there."""

    def receive(self, data: bytes, now: float) -> bool:
        """Take what one read brought; return whether there is more to do (see the module's head).

        RemoteProtocolError goes to `on_protocol_error`; any other exception is a bug and goes to `on_internal_error`.
        """
        raise NotImplementedError

    def go_on(self, now: float) -> bool:
        """Go on with what `receive` left, for another slice; return whether there is still more."""
        return False

    def end_slice(self, now: float) -> None:
        """Called when `receive` or `go_on` have done what they could for now."""

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

    @property
    def is_behind(self) -> bool:
        """Whether bytes of the peer wait for us, so that its silence is not its own."""
        return bool(self._pauses & _BUDGET)

    def is_slice_over(self) -> bool:
        """Whether others have their turn: then return True from `receive` or `go_on`, if anything is left."""
        return self.clock() >= self._slice_end

    def resume_work(self) -> None:
        """Something that work was waiting for is there: an answer, room in a queue."""
        if self.is_open and not self._pauses & _BUDGET and self._work(b"", self.clock()):
            self._enqueue()

    def hold_reading(self) -> None:
        """Read nothing more until `release_reading`."""
        self._pause(_PROTOCOL)

    def release_reading(self) -> None:
        self._resume(_PROTOCOL)

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
            self._check_memory()
        return self.is_open

    def _check_memory(self) -> None:
        self._unchecked = 0
        if self._state is not ConnectionState.CLOSED:
            received = len(self._held) + self.held_size
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
        self._held = b""
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

    def data_received(self, data: bytes) -> None:
        self.is_gathered = self._on_read()
        if not self.is_open:
            if len(data) >= READ_SIZE:  # what is dropped takes time, too
                self.transport.pause_reading()
                self.loop.call_soon(self.transport.resume_reading)
            return
        now = self.clock()
        if self._pauses & _BUDGET:  # a transport that had read before it was paused
            self._held = self._held[self._offset :] + data
            self._offset = 0
        elif self._used_until > now + LEAD_SECONDS:
            self._held = data
            self._enqueue()
        elif self._work(data, now) or len(data) >= READ_SIZE:
            self._enqueue()

    # Work

    def _work(self, data: bytes, now: float) -> bool:
        """Work for a slice; return whether there is more to do."""
        self._slice_end = now + SLICE_SECONDS
        try:
            if data and not (self._has_more or self._offset) and len(data) <= self._piece_size:
                self._has_more = self.receive(data, now)
            else:
                self._work_in_pieces(data, now)
            if self._ends_slices:
                self.end_slice(now)
        except RemoteProtocolError as error:
            self.on_protocol_error(error)
        except Exception:
            self.on_internal_error()
        took = min(self.clock() - now, LONGEST_SECONDS)
        self._used_until = max(self._used_until, now) + took / (SHARE * self.weight)
        self._unchecked += len(data)
        if self._unchecked >= MINIMUM_SIZE:
            self._check_memory()
        return (self._has_more or bool(self._held)) and self.is_open

    def _work_in_pieces(self, data: bytes, now: float) -> None:
        """Finish what is left, then take ``data`` for as long as the slice lasts; the rest is held."""
        self._held = data
        if self._has_more or not data:
            self._has_more = self.go_on(now)
            now = self.clock()
        size, position = len(data), self._offset
        while position < size and not self._has_more and self.is_open:
            piece = data[position : position + self._piece_size]
            position += len(piece)
            self._has_more = self.receive(piece, now)
            then, now = now, self.clock()
            if self.is_divisible:
                self._fit_pieces(len(piece), now - then)
            if now >= self._slice_end:
                break
        self._held, self._offset = (data, position) if position < size else (b"", 0)

    def _fit_pieces(self, size: int, seconds: float) -> None:
        """Have pieces take half of a slice at most, if they can."""
        if seconds > SLICE_SECONDS / 2:
            self._piece_size = max(SMALLEST_PIECE_SIZE, int(size * SLICE_SECONDS / 2 / seconds))
        elif seconds < SLICE_SECONDS / 8 and size == self._piece_size < READ_SIZE:
            self._piece_size = 2 * size

    def _enqueue(self) -> None:
        if self.is_open:
            self._pause(_BUDGET)
            work_queue_of(self.loop).add(self)

    def work(self) -> bool:
        """A slice of the queue."""
        if not self.is_open:
            return False
        data, self._held = self._held, b""
        has_more = self._work(data, self.clock())
        if not has_more:
            self._resume(_BUDGET)
        return has_more

    def _pause(self, cause: int) -> None:
        if not self._pauses and self.is_open:
            self.transport.pause_reading()
        self._pauses |= cause

    def _resume(self, cause: int) -> None:
        if self._pauses == cause and self.is_open:
            self.transport.resume_reading()
        self._pauses &= ~cause
