"""The work budget of a connection: no callback processes an unlimited amount of what a peer sends.

- `BudgetedProtocol.receive` is called with the data of one read. It passes the bytes to the engine and processes the
  engine's events until there are none left, or until `is_slice_over` says that other connections are due. Ask before
  each event; the clock is read each time, because events cost from a microsecond to a millisecond.
- Return True for "there is more to do". Reading is then paused, and `BudgetedProtocol.continue_receiving` is called in
  later turns of the event loop until it returns False; then reading resumes.
- Return False when nothing can be done without more bytes, or without an answer that a task is preparing. That task
  calls `resume_work` when it is done; `hold_reading` and `release_reading` keep the peer from sending more meanwhile.
- An engine that returns all events of the given bytes at once cannot ask in between. Its protocol sets `is_divisible`;
  `receive` then gets the data in pieces, as large as the time they take allows.
- `end_slice` is called after the last event of a slice, so that the media of one read is sent to readers together.
- An event is never divided. An engine whose single events may be costly limits them, or returns them in parts.

A connection that has exceeded its share for a while (`SHARE`) is no longer served when it is read, but only in its
slices of the queue (`net.work`), so that only this connection falls behind. ``weight`` multiplies the share: a
publisher works for all of its readers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import ClassVar, Final

from polycast.errors import RemoteProtocolError
from polycast.net.coalescing import coalescing_of
from polycast.net.memory import MINIMUM_SIZE
from polycast.net.work import LONGEST_SECONDS, READ_SIZE, SHARE, SLICE_SECONDS, work_queue_of

FIRST_PIECE_SIZE: Final = 16 * 1024
"""Bytes passed at once to an engine that cannot be interrupted, before it is known how long they take."""

SMALLEST_PIECE_SIZE: Final = 512

_BUDGET: Final = 1
_PROTOCOL: Final = 2


class BudgetedProtocol(asyncio.Protocol):
    """Reads from a transport within the budget of a connection. ``clock`` returns monotonic seconds."""

    # What each read needs. Objects with more than 30 other attributes keep them in a dictionary, which is slower.
    __slots__ = (
        "_coalescing",
        "_ends_slices",
        "_has_more",
        "_held",
        "_offset",
        "_pauses",
        "_piece_size",
        "_queue",
        "_slice_end",
        "_used_until",
        "bytes_received",
        "clock",
        "is_open",
        "loop",
        "transport",
        "weight",
    )
    is_divisible: ClassVar[bool] = False
    """Whether `receive` wants the data of a read in pieces (see the module's docstring)."""
    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self.loop = loop
        self.clock = clock
        self.is_open = False
        """Whether data is received and sent: neither closing nor lost."""
        self.weight = 1
        """The connection may use this many times `SHARE`."""
        self._coalescing = coalescing_of(loop)
        self._queue = work_queue_of(loop)
        self.bytes_received = 0
        """Number of bytes received so far."""
        self._pauses = 0
        """Reasons for which reading is paused, as bits."""
        self._held = b""
        """Data that was read and waits for a slice, from ``_offset`` on."""
        self._offset = 0
        self._has_more = False
        """Whether `continue_receiving` has something to do."""
        self._piece_size = FIRST_PIECE_SIZE if self.is_divisible else READ_SIZE
        self._slice_end = 0.0
        self._ends_slices = type(self).end_slice is not BudgetedProtocol.end_slice
        self._used_until = 0.0
        """Time until which its share of the loop is used up."""

    # For protocols

    def receive(self, data: bytes, now: float) -> bool:
        """Process the data of one read; return whether there is more to do (see the module's docstring).

        RemoteProtocolError goes to `on_protocol_error`; any other exception is a bug and goes to `on_internal_error`.
        """
        raise NotImplementedError

    def continue_receiving(self, now: float) -> bool:
        """Continue with what `receive` left, for another slice; return whether there is still more."""
        return False

    def end_slice(self, now: float) -> None:
        """Called when `receive` or `continue_receiving` has done all it can for now."""

    def on_protocol_error(self, error: RemoteProtocolError) -> None:
        """The peer violated the protocol."""
        raise NotImplementedError

    def on_internal_error(self) -> None:
        """Called while an unexpected exception is being handled: a bug, which ends only this connection."""
        raise NotImplementedError

    def check_memory(self) -> None:
        """Called from time to time while much data is received."""

    @property
    def is_coalesced(self) -> bool:
        """Whether reads are coalesced: each returns what has arrived over some time (`net.coalescing`)."""
        return self._coalescing.is_active

    @property
    def is_behind(self) -> bool:
        """Whether received data is waiting to be processed, so that silence is not the peer's fault."""
        return bool(self._pauses & _BUDGET)

    def is_slice_over(self) -> bool:
        """Whether other connections are due: then return True from `receive` or `continue_receiving`, if anything is
        left."""
        return self.clock() >= self._slice_end

    def resume_work(self) -> None:
        """Continue: something that the work was waiting for is available (an answer, room in a queue)."""
        if self.is_open and not self._pauses & _BUDGET and self._work(b"", self.clock()):
            self._enqueue()

    def hold_reading(self) -> None:
        """Stop reading until `release_reading`."""
        self._pause(_PROTOCOL)

    def release_reading(self) -> None:
        self._resume(_PROTOCOL)

    @property
    def waiting_size(self) -> int:
        """Number of bytes that were read and wait for a slice."""
        return len(self._held) - self._offset

    def drop(self) -> None:
        """Discard the data that was read and waits."""
        self._held, self._offset = b"", 0

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self._coalescing.on_read()
        if not self.is_open:
            return
        now = self.clock()
        if self._pauses & _BUDGET:  # the transport had already read when it was paused
            self._held = self._held[self._offset :] + data
            self._offset = 0
        elif self._used_until > now + self._queue.lead:
            self._held = data
            self._enqueue()
        elif self._work(data, now) or len(data) >= READ_SIZE:
            self._enqueue()

    # Work

    def _work(self, data: bytes, now: float) -> bool:
        """Process for one slice; return whether there is more to do."""
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
        took = self.clock() - now
        if took > LONGEST_SECONDS:
            took = LONGEST_SECONDS
        used_until = self._used_until
        if used_until < now:
            used_until = now
        self._used_until = used_until + took / (SHARE * self.weight)
        before = self.bytes_received
        self.bytes_received = received = before + len(data)
        if before ^ received >= MINIMUM_SIZE:  # a power of two: once for so many bytes
            self.check_memory()
        if not (self._has_more or self._held):
            return False
        if not self.is_open:
            self.drop()  # it will not be processed
        return self.is_open

    def _work_in_pieces(self, data: bytes, now: float) -> None:
        """Finish what is left, then process ``data`` for as long as the slice lasts; the rest is held."""
        self._held = data
        if self._has_more or not data:
            self._has_more = self.continue_receiving(now)
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
        """Adjust the size of pieces so that one takes at most half of a slice, if possible."""
        if seconds > SLICE_SECONDS / 2:
            self._piece_size = max(SMALLEST_PIECE_SIZE, int(size * SLICE_SECONDS / 2 / seconds))
        elif seconds < SLICE_SECONDS / 8 and size == self._piece_size < READ_SIZE:
            self._piece_size = 2 * size

    def _enqueue(self) -> None:
        if self.is_open:
            self._pause(_BUDGET)
            self._queue.add(self)

    def work(self) -> bool:
        """Called by the work queue for one slice."""
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
