"""A stream as an MPEG transport stream, muxed once for all readers of the same tracks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from polycast.errors import LocalProtocolError, ProtocolError
from polycast.hub.batch import FrameBatch
from polycast.media.frame import Frame
from polycast.media.timebase import rescale
from polycast.media.track import Track
from polycast.wire.mpegts.codecs import CODECS
from polycast.wire.mpegts.constants import CLOCK_RATE
from polycast.wire.mpegts.muxer import MAXIMUM_TRACKS, Muxer

TABLE_SECONDS: Final = 0.5
"""Seconds between two copies of the tables without a key frame; DVB recommends at most 0.5 (ETSI TR 101 290)."""


class TransportForm(NamedTuple):
    """A batch as transport packets."""

    before: bytes
    """What only those need who read already."""
    rest: bytes
    """From where a new reader can start; empty if there is no such place."""


def select_tracks(tracks: Sequence[Track]) -> tuple[Track, ...]:
    """Return the tracks that MPEG-TS carries."""
    usable = [
        track
        for track in tracks
        if (mapping := CODECS.get(track.codec)) is not None and mapping.obstacle(track.codec) is None
    ]
    return tuple(usable[:MAXIMUM_TRACKS])


class SharedTransport:
    """Muxes a stream for all readers with the same tracks."""

    def __init__(self, tracks: tuple[Track, ...]) -> None:
        """Raises LocalProtocolError if there is no track."""
        if not tracks:
            raise LocalProtocolError("the stream has no track that MPEG-TS carries")
        self._muxer = Muxer(tracks)
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
        """Return the batch as transport packets, built for the first reader that asks."""
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
        return TransportForm(b"".join(before), b"".join(rest))

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
