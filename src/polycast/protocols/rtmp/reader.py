"""A client that plays: the frames of a stream as messages, serialised once for all clients with the same tracks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from polycast.errors import LocalProtocolError
from polycast.hub.batch import FrameBatch
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import FrameReader, Stream
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.net.outbox import Outbox
from polycast.protocols.transcoding import TranscodedTrack
from polycast.wire.rtmp.muxer import Muxer


class MessageForm(NamedTuple):
    """A batch as messages. Created for each frame of each stream, so it is as cheap as possible."""

    data: bytes
    message_count: int
    """Number of messages."""
    key_offset: int
    """Offset in ``data`` at which a new reader can start; -1 for none."""
    key_timestamp: int
    """Timestamp of the message at that offset, in milliseconds."""
    key_count: int
    """Number of messages from there on."""
    has_update: bool
    """Whether the parameters of a track change in it."""


class SharedMuxer:
    """Serialises a stream for all readers with the same tracks."""

    def __init__(
        self, tracks: tuple[Track, ...], transcoded: tuple[TranscodedTrack, ...] = (), muxer: Muxer | None = None
    ) -> None:
        """``transcoded``: those among the tracks that are made of others. ``muxer`` makes messages of these tracks; by
        default, those of RTMP."""
        self.muxer = muxer if muxer is not None else Muxer(tracks)
        self.transcoded = transcoded
        self.indexes = frozenset(track.index for track in tracks)
        self._key_track = next((track.index for track in tracks if track.kind == "video"), None)
        self._form_key = ("messages", id(self))

    def refresh(self, tracks: tuple[Track, ...]) -> None:
        """Set the current descriptions of the tracks, which may have changed while nobody played."""
        for old, new in zip(self.muxer.tracks, tracks, strict=True):
            if old.codec != new.codec:
                self.muxer.update(new)

    def form(self, batch: FrameBatch) -> MessageForm:
        """Return the batch as messages, built for the first reader that asks."""
        return batch.form(self._form_key, self._build)

    def _build(self, batch: FrameBatch) -> MessageForm:
        for track in self.transcoded:
            track.take(batch)
        muxer = self.muxer
        parts: list[bytes] = []
        offset = 0
        key_offset = key_timestamp = key_part = -1
        has_update = False
        last: tuple[int, Frame] | None = None
        for index, entry in batch.entries:
            if index not in self.indexes:
                continue
            if isinstance(entry, Frame):
                if not muxer.is_complete(index):
                    continue  # it cannot be decoded before the parameters arrive
                if entry.key and key_offset < 0 and (index == self._key_track or self._key_track is None):
                    key_offset, key_timestamp, key_part = offset, muxer.timestamp(index, entry), len(parts)
                message = muxer.message(index, entry)
                last = (index, entry)
            else:
                try:
                    message = muxer.update(entry, muxer.timestamp(*last) if last is not None else 0)
                except LocalProtocolError:
                    continue  # parameters that the format does not support; the old ones remain
                if not message:
                    continue
                has_update = True
            parts.append(message)
            offset += len(message)
        key_count = len(parts) - key_part if key_part >= 0 else 0
        return MessageForm(b"".join(parts), len(parts), key_offset, key_timestamp, key_count, has_update)


class MessageReader(FrameReader):
    """Sends a stream to one client, from a key frame on."""

    def __init__(
        self,
        shared: SharedMuxer,
        outbox: Outbox,
        counters: Counters,
        *,
        close: Callable[[str], None],
        reference: Callable[[], Reference],
    ) -> None:
        self._shared = shared
        self._outbox = outbox
        self.counters: Counters = counters
        self._close = close
        self._reference = reference
        self.flowing = False
        """Whether it has started, which it does at the first key frame."""
        self._is_stale = False
        """Whether parameters changed after the client got the sequence headers, while nothing was sent to it."""

    def begin(self, stream: Stream) -> None:
        """The reader was attached to the stream."""
        for track in self._shared.transcoded:
            track.attach(self, stream)

    def end(self) -> None:
        """The reader was detached."""
        for track in self._shared.transcoded:
            track.detach(self)

    def close_reader(self, reason: str) -> None:
        self.end()
        self._close(reason)

    def reference(self) -> Reference:
        return self._reference()

    def deliver_frames(self, batch: FrameBatch) -> None:
        form = self._shared.form(batch)
        outbox = self._outbox
        if self.flowing and outbox.ready:
            # Inlined: this is all that happens for most readers and batches.
            data = form.data
            if data:
                outbox.write(data)
                counters = self.counters
                counters.bytes_sent += len(data)
                counters.packets_sent += form.message_count
            return
        self._is_stale |= form.has_update
        drops = self.flowing
        if form.key_offset < 0 or (drops and not outbox.has_drained()):
            if drops:
                self._drop(form.message_count)
            return
        if drops:
            outbox.ready = True
            self._drop(form.message_count - form.key_count)
        self.flowing = True
        data = form.data[form.key_offset :]
        if self._is_stale:
            self._is_stale = False
            data = self._shared.muxer.initial(form.key_timestamp) + data
        self._send(data, form.key_count)

    def _drop(self, count: int) -> None:
        self._outbox.dropped += count
        self.counters.packets_dropped += count

    def _send(self, data: bytes, count: int) -> None:
        if data:
            self._outbox.write(data)
            self.counters.bytes_sent += len(data)
            self.counters.packets_sent += count
