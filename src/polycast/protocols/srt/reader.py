"""Clients that read: a stream as an MPEG transport stream, muxed once for all readers of the same tracks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from polycast.errors import LocalProtocolError, ProtocolError
from polycast.hub.batch import FrameBatch
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import FrameReader
from polycast.media.frame import Frame
from polycast.media.timebase import rescale
from polycast.media.track import Track
from polycast.protocols.srt.link import Link
from polycast.wire.mpegts.codecs import CODECS
from polycast.wire.mpegts.constants import CLOCK_RATE
from polycast.wire.mpegts.muxer import MAXIMUM_TRACKS, Muxer
from polycast.wire.srt.datagrams import Datagrams, split

TABLE_SECONDS: Final = 0.5
"""Seconds between two copies of the tables without a key frame; DVB recommends at most 0.5 (ETSI TR 101 290)."""


class TransportForm(NamedTuple):
    """A batch as datagrams."""

    before: tuple[Datagrams, ...]
    """What only those need who read already."""
    rest: tuple[Datagrams, ...]
    """From where a new reader can start; empty if there is no such place."""
    size: int
    """Bytes of both."""


_NOTHING: Final = TransportForm((), (), 0)


def select_tracks(tracks: Sequence[Track]) -> tuple[Track, ...]:
    """Return the tracks that MPEG-TS carries."""
    usable = [
        track
        for track in tracks
        if (mapping := CODECS.get(track.codec)) is not None and mapping.obstacle(track.codec) is None
    ]
    return tuple(usable[:MAXIMUM_TRACKS])


class SharedTransport:
    """Muxes a stream for all readers with the same tracks and size of packets."""

    def __init__(self, tracks: tuple[Track, ...], payload_size: int) -> None:
        """Raises LocalProtocolError if there is no track."""
        if not tracks:
            raise LocalProtocolError("the stream has no track that MPEG-TS carries")
        self._muxer = Muxer(tracks)
        self._payload_size = payload_size
        self._positions = {track.index: position for position, track in enumerate(tracks)}
        self._rates = [track.clock_rate for track in tracks]
        self._key_track = next((track.index for track in tracks if track.kind == "video"), None)
        self._tables_at: int | None = None
        """Time of the last tables (90 kHz)."""
        self._form_key = ("transport", id(self))

    def refresh(self, tracks: Sequence[Track]) -> None:
        """Set the current descriptions of the tracks, which may have changed while nobody read."""
        for track in tracks:
            self._update(track)

    def form(self, batch: FrameBatch) -> TransportForm:
        """Return the batch as datagrams, built for the first reader that asks."""
        return batch.form(self._form_key, self._build)

    def _build(self, batch: FrameBatch) -> TransportForm:
        before: list[bytes] = []
        rest: list[bytes] = []
        parts = before
        for index, entry in batch.entries:
            position = self._positions.get(index)
            if position is None:
                continue
            if not isinstance(entry, Frame):
                self._update(entry)
                continue
            rate = self._rates[position]
            pts, dts = (rescale(time, rate, CLOCK_RATE) for time in (entry.pts, entry.dts))
            starts = entry.key and (index == self._key_track or self._key_track is None)
            try:
                packets = self._muxer.write_frame(position, entry, pts, dts)
            except ProtocolError:
                continue  # a frame that the format cannot carry, such as a too large one of AAC
            if (starts and self._key_track is not None) or self._are_tables_due(dts):
                self._tables_at = dts
                if starts and not rest:
                    parts = rest
                parts.append(self._muxer.tables())
            parts.append(packets)
        if not before and not rest:
            return _NOTHING
        first, second = b"".join(before), b"".join(rest)
        size = len(first) + len(second)
        return TransportForm(split(first, self._payload_size), split(second, self._payload_size), size)

    def _are_tables_due(self, time: int) -> bool:
        last = self._tables_at
        return last is None or not 0 <= time - last < TABLE_SECONDS * CLOCK_RATE

    def _update(self, track: Track) -> None:
        position = self._positions.get(track.index)
        if position is not None:
            try:
                self._muxer.update_track(position, track)
            except LocalProtocolError:
                return  # the format does not support it; what was known before remains


class TransportReader(FrameReader):
    """Sends a stream to one peer, from a key frame on."""

    def __init__(
        self,
        shared: SharedTransport,
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
        form = self._shared.form(batch)
        now = self._clock()
        if self.flowing:
            self._link.send(form.before, now)
        elif not form.rest:
            return
        self.flowing = True
        self._link.send(form.rest, now)

    def close_reader(self, reason: str) -> None:
        self._close(reason)

    def reference(self) -> Reference:
        return self._reference()
