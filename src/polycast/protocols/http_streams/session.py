"""A client that gets a stream as one long response."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from polycast.hub.batch import FrameBatch
from polycast.hub.path import Path
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import FrameReader, Stream
from polycast.log import Log
from polycast.net.http.transaction import Transaction
from polycast.net.outbox import MAXIMUM_LIMIT, MINIMUM_LIMIT, QUEUE_SECONDS
from polycast.protocols.http_streams.formats import Format, PictureFormat
from polycast.wire.http.response import Response

_DRAINED_PART: Final = 4
"""A client that was too slow gets more when this part of the limit is left."""


class _Reader(FrameReader):
    """What both kinds of sessions have in common: being attached, and the end."""

    def __init__(
        self,
        transaction: Transaction,
        shared: Format,
        reference: Reference,
        on_ended: Callable[[], None],
    ) -> None:
        self.counters: Counters = Counters()
        self._transaction = transaction
        self._shared = shared
        self._reference = reference
        self._on_ended = on_ended
        self._path: Path | None = None

    def reference(self) -> Reference:
        return self._reference

    def begin(self, path: Path, stream: Stream) -> None:
        """Read a stream. Raises PathError."""
        path.attach_reader(self, stream)
        self._path = path
        self._shared.begin(self, stream)
        self._transaction.on_cancelled = self._on_cancelled

    def _on_cancelled(self, _: Transaction) -> None:
        self.leave()

    def leave(self) -> None:
        """Stop reading."""
        path, self._path = self._path, None
        if path is not None:
            self._shared.end(self)
            path.remove_reader(self)
            self._on_ended()


class StreamSession(_Reader):
    """Sends a stream from a key frame on, until it ends or the client leaves."""

    def __init__(
        self,
        transaction: Transaction,
        shared: Format,
        reference: Reference,
        on_ended: Callable[[], None],
        *,
        log: Log,
    ) -> None:
        super().__init__(transaction, shared, reference, on_ended)
        self._log = log
        self._limit = MINIMUM_LIMIT
        self._is_flowing = False
        """Whether it has started, which it does at the first key frame."""
        self._is_blocked = False
        """Whether the client was too slow, and nothing was sent since then."""
        self._told_dropped = 0
        self.bytes_sent = 0
        """Bytes of the response's body."""

    def deliver_frames(self, batch: FrameBatch) -> None:
        form = self._shared.form(batch)
        if self._is_flowing and not self._is_blocked and self._transaction.unsent < self._limit:
            self._send(form.data)
            return
        if self._is_flowing:
            self._is_blocked = True
            if form.start < 0 or self._transaction.unsent > self._limit // _DRAINED_PART:
                self.counters.packets_dropped += bool(form.data)
                return
        elif form.start < 0:
            return
        head = self._shared.restart(form) if self._is_flowing else self._shared.head(form)
        self._is_flowing, self._is_blocked = True, False
        self._send(head + form.data[form.start :])

    def _send(self, data: bytes) -> None:
        if data:
            self.bytes_sent += len(data)
            self.counters.bytes_sent += len(data)
            self.counters.packets_sent += 1
            self._transaction.send(data)

    def close_reader(self, reason: str) -> None:
        self.leave()
        self._transaction.end()

    @property
    def waiting_size(self) -> int:
        """Bytes that the client has yet to accept, about."""
        return self._transaction.unsent

    def abort(self, reason: str) -> None:
        """Close at once."""
        self.leave()
        self._log.warning("closed: %s", reason)
        self._transaction.connection.abort(reason)

    def tick(self, bit_rate: float) -> None:
        """Called about once a second; ``bit_rate`` of the stream in bit/s."""
        self._limit = int(min(MAXIMUM_LIMIT, max(MINIMUM_LIMIT, bit_rate / 8 * QUEUE_SECONDS)))
        dropped = self.counters.packets_dropped
        if dropped != self._told_dropped:
            self._log.warning(
                "the client is too slow to read the stream: %d batches dropped", dropped - self._told_dropped
            )
            self._told_dropped = dropped

    @property
    def stream_bit_rate(self) -> float:
        """Bit rate of its stream, in bit/s."""
        stream = self._path.stream if self._path is not None else None
        return stream.meter.bit_rate if stream is not None else 0.0


class PictureSession(_Reader):
    """Sends the next picture of a stream."""

    def __init__(
        self,
        transaction: Transaction,
        shared: PictureFormat,
        reference: Reference,
        on_ended: Callable[[], None],
        *,
        respond: Callable[[bytes], Response],
        absent: Callable[[], Response],
    ) -> None:
        """``respond`` makes a response of a picture; ``absent`` is the one if there is none."""
        super().__init__(transaction, shared, reference, on_ended)
        self._pictures = shared.pictures
        self._respond = respond
        self._absent = absent

    def deliver_frames(self, batch: FrameBatch) -> None:
        pictures: Sequence[bytes] = self._pictures(batch)
        if pictures and self._path is not None:
            self.counters.bytes_sent += len(pictures[-1])
            self.leave()
            self._transaction.respond(self._respond(pictures[-1]))

    def close_reader(self, reason: str) -> None:
        self.give_up()

    def give_up(self) -> None:
        """There is no picture."""
        if self._path is not None:
            self.leave()
            self._transaction.respond(self._absent())
