"""What a stream is sent as: built once for all readers of a stream in the same form."""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple, Protocol

from polycast.errors import LocalProtocolError
from polycast.hub.batch import FrameBatch
from polycast.hub.stream import FrameReader, Stream
from polycast.media.codec import MJPEG
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.protocols.rtmp.reader import SharedMuxer
from polycast.protocols.transcoding import TranscodedTrack
from polycast.protocols.transport_form import SharedTransport
from polycast.protocols.transport_form import select_tracks as select_transport_tracks
from polycast.transcode.jpeg import JPEG
from polycast.wire.rtmp.flv_file import FlvMuxer
from polycast.wire.rtmp.supported import select_tracks as select_flv_tracks

BOUNDARY: Final = "frame"


class StreamForm(NamedTuple):
    """A batch in a format."""

    data: bytes
    start: int
    """Offset in ``data`` at which a new reader can start; -1 for none."""
    time: int = 0
    """Of what is there, for `Format.head`."""


class Format(Protocol):
    """A format of one stream."""

    content_type: ClassVar[str]

    def form(self, batch: FrameBatch) -> StreamForm:
        """Return a batch, built for the first reader that asks."""
        ...

    def head(self, form: StreamForm) -> bytes:
        """Return what a new reader gets before the place in a batch where it starts."""
        ...

    def restart(self, form: StreamForm) -> bytes:
        """Return what a reader gets there that was too slow to get everything before it."""
        ...

    def begin(self, reader: FrameReader, stream: Stream) -> None:
        """A reader was attached to the stream."""

    def end(self, reader: FrameReader) -> None:
        """It was detached."""


class _Untranscoded:
    def begin(self, reader: FrameReader, stream: Stream) -> None:
        pass

    def end(self, reader: FrameReader) -> None:
        pass


class FlvFormat(_Untranscoded):
    """An FLV file without an end."""

    content_type: ClassVar[str] = "video/x-flv"

    def __init__(self, tracks: tuple[Track, ...]) -> None:
        """Raises LocalProtocolError if FLV can carry none of the tracks."""
        carried = select_flv_tracks(tracks).tracks
        if not carried:
            raise LocalProtocolError("the stream doesn't contain a track with a codec that FLV can carry")
        self._muxer = FlvMuxer(carried)
        self._shared = SharedMuxer(carried, muxer=self._muxer)

    def form(self, batch: FrameBatch) -> StreamForm:
        form = self._shared.form(batch)
        return StreamForm(form.data, form.key_offset, form.key_timestamp)

    def head(self, form: StreamForm) -> bytes:
        return self._muxer.header() + self._muxer.initial(form.time)

    def restart(self, form: StreamForm) -> bytes:
        return self._muxer.initial(form.time)  # parameters may have changed


class TransportFormat(_Untranscoded):
    """An MPEG transport stream."""

    content_type: ClassVar[str] = "video/mp2t"

    def __init__(self, tracks: tuple[Track, ...]) -> None:
        """Raises LocalProtocolError if MPEG-TS can carry none of the tracks."""
        self._shared = SharedTransport(select_transport_tracks(tracks))

    def form(self, batch: FrameBatch) -> StreamForm:
        before, rest = self._shared.form(batch)
        return StreamForm(before + rest, len(before) if rest else -1)

    def head(self, form: StreamForm) -> bytes:
        return b""

    def restart(self, form: StreamForm) -> bytes:
        return b""


class PictureFormat:
    """JPEG pictures, one after the other (multipart/x-mixed-replace)."""

    content_type: ClassVar[str] = f"multipart/x-mixed-replace; boundary={BOUNDARY}"

    def __init__(self, track: Track, transcoded: TranscodedTrack | None) -> None:
        """``track`` is of JPEG pictures: one of the stream's, or that of ``transcoded``."""
        self._track = track
        self._transcoded = transcoded
        self._form_key = ("pictures", id(self))

    def pictures(self, batch: FrameBatch) -> list[bytes]:
        """Return the pictures in a batch."""
        if self._transcoded is not None:
            self._transcoded.take(batch)
        return [
            entry.units[0]
            for index, entry in batch.entries
            if index == self._track.index and isinstance(entry, Frame) and entry.units
        ]

    def form(self, batch: FrameBatch) -> StreamForm:
        return batch.form(self._form_key, self._build)

    def _build(self, batch: FrameBatch) -> StreamForm:
        parts = [_part(picture) for picture in self.pictures(batch)]
        return StreamForm(b"".join(parts), 0 if parts else -1)

    def head(self, form: StreamForm) -> bytes:
        return b""

    def restart(self, form: StreamForm) -> bytes:
        return b""

    def begin(self, reader: FrameReader, stream: Stream) -> None:
        if self._transcoded is not None:
            self._transcoded.attach(reader, stream)

    def end(self, reader: FrameReader) -> None:
        if self._transcoded is not None:
            self._transcoded.detach(reader)


def _part(picture: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
    return head.encode() + picture + b"\r\n"


def picture_source(tracks: tuple[Track, ...]) -> Track:
    """Return the track whose pictures are shown: one of JPEG, or one that JPEG can be made of.

    Raises LocalProtocolError if there is none.
    """
    pictures = [track for track in tracks if track.kind == "video"]
    for track in pictures:
        if isinstance(track.codec, MJPEG):
            return track
    for track in pictures:
        if JPEG.can_be_made_of(track.codec):
            return track
    raise LocalProtocolError("the stream doesn't contain a track of which pictures can be made")
