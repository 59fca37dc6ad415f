"""The queue between a reader and its TCP connection: a limit in bytes, and what happens above it.

A slow reader never slows down others: above the limit, whole batches are dropped until the next key frame; a reader
that makes no progress for the write timeout is closed.
"""

from __future__ import annotations

from typing import Protocol

# Seconds of stream that may wait for a slow reader.
QUEUE_SECONDS = 2.0

# The limit is never lower than this: two large key frames, whatever the measured bit rate.
MINIMUM_LIMIT = 1024 * 1024

# Nor higher than this, in bytes: the memory for one stalled reader.
MAXIMUM_LIMIT = 64 * 1024 * 1024


class WriteTransport(Protocol):
    """The part of asyncio's transports that is used here."""

    def write(self, data: bytes) -> None: ...
    def is_closing(self) -> bool: ...
    def get_write_buffer_size(self) -> int: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


class Outbox:
    """Byte-limited output of one reader.

    The connection calls `pause` and `resume` from asyncio's ``pause_writing`` and ``resume_writing``; the reader asks
    ``ready`` before each batch and reports drops with `drop`. `check` is called about once a second.
    """

    __slots__ = (
        "_dropped_reported",
        "_last_drained",
        "_last_progress",
        "_transport",
        "dropped",
        "limit",
        "ready",
        "written",
    )

    def __init__(self, transport: WriteTransport, now: float) -> None:
        self._transport = transport
        self.limit = MINIMUM_LIMIT
        self.ready = True
        """False from when the queue exceeds the limit until the next key frame after it has drained."""
        self.written = 0
        """Bytes handed to the transport."""
        self.dropped = 0
        """Packets or frames dropped."""
        self._dropped_reported = 0
        self._last_drained = 0
        self._last_progress = now
        transport.set_write_buffer_limits(high=self.limit, low=self.limit // 4)

    def set_bit_rate(self, bit_rate: float, minimum: int = 0) -> None:
        """Adapt the limit to the stream's bit rate (bit/s); ``minimum``, in bytes, is from the configuration."""
        limit = int(min(MAXIMUM_LIMIT, max(MINIMUM_LIMIT, minimum, bit_rate / 8 * QUEUE_SECONDS)))
        # Small changes of the rate are not worth the work.
        if limit > self.limit * 1.25 or limit < self.limit * 0.5:
            self.limit = limit
            self._transport.set_write_buffer_limits(high=limit, low=limit // 4)

    def write(self, data: bytes) -> None:
        """Queue bytes regardless of the limit; after the connection was lost, do nothing."""
        if not self._transport.is_closing():
            self.written += len(data)
            self._transport.write(data)

    def pause(self) -> None:
        """The queue is over the limit."""
        self.ready = False

    def has_drained(self) -> bool:
        """Whether a reader whose packets were dropped can continue at a key frame."""
        return self._transport.get_write_buffer_size() <= self.limit // 4

    def take_dropped(self) -> int:
        """Return how many were dropped since the last call, for one log line a second."""
        count = self.dropped - self._dropped_reported
        self._dropped_reported = self.dropped
        return count

    def is_stuck(self, now: float, write_timeout: float) -> bool:
        """Whether data is queued and the peer has accepted none for ``write_timeout`` seconds."""
        waiting = self._transport.get_write_buffer_size()
        drained = self.written - waiting
        # Less than before is not progress: with TLS, queued data is counted encrypted, so it may exceed what was
        # written.
        if waiting == 0 or drained > self._last_drained:
            self._last_drained = drained
            self._last_progress = now
            return False
        return now - self._last_progress >= write_timeout
