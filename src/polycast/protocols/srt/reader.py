"""Clients that read: a stream as an MPEG transport stream, laid out as datagrams once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from polycast.hub.batch import FrameBatch
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import FrameReader
from polycast.media.track import Track
from polycast.protocols.srt.link import Link
from polycast.protocols.transport_form import SharedTransport
from polycast.wire.srt.datagrams import Datagrams, split


class DatagramForm(NamedTuple):
    """A batch as datagrams."""

    before: tuple[Datagrams, ...]
    """What only those need who read already."""
    rest: tuple[Datagrams, ...]
    """From where a new reader can start; empty if there is no such place."""


class SharedDatagrams:
    """Muxes a stream for all readers with the same tracks and size of packets."""

    def __init__(self, tracks: tuple[Track, ...], payload_size: int) -> None:
        """Raises LocalProtocolError if there is no track."""
        self._transport = SharedTransport(tracks)
        self._payload_size = payload_size
        self._form_key = ("datagrams", id(self))

    def refresh(self, tracks: Sequence[Track]) -> None:
        """Set the current descriptions of the tracks, which may have changed while nobody read."""
        self._transport.refresh(tracks)

    def form(self, batch: FrameBatch) -> DatagramForm:
        """Return the batch as datagrams, built for the first reader that asks."""
        return batch.form(self._form_key, self._build)

    def _build(self, batch: FrameBatch) -> DatagramForm:
        before, rest = self._transport.form(batch)
        return DatagramForm(split(before, self._payload_size), split(rest, self._payload_size))


class TransportReader(FrameReader):
    """Sends a stream to one peer, from a key frame on."""

    def __init__(
        self,
        shared: SharedDatagrams,
        link: Link,
        counters: Counters | None,
        *,
        clock: Callable[[], float],
        close: Callable[[str], None],
        reference: Callable[[], Reference],
    ) -> None:
        self._shared = shared
        self._link = link
        self.counters = counters
        self._clock = clock
        self._close = close
        self._reference = reference
        self.flowing = False
        """Whether it has started, which it does at the first key frame."""

    def deliver_frames(self, batch: FrameBatch) -> None:
        before, rest = self._shared.form(batch)
        datagrams = before + rest if self.flowing else rest
        if datagrams:
            self.flowing = True
            self._link.send(datagrams, self._clock())

    def close_reader(self, reason: str) -> None:
        self._close(reason)

    def reference(self) -> Reference:
        return self._reference()
