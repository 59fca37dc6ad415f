"""Sound that is converted to AAC for HLS, because not all players support it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from polycast.hub.batch import FrameBatch
from polycast.hub.path import Path
from polycast.hub.stream import FrameReader, Stream
from polycast.media.track import Track
from polycast.protocols.transcode_audio import advice_to_convert
from polycast.protocols.transcoding import TranscodedTrack, transcoded_track
from polycast.transcode.audio import AAC
from polycast.wire.hls.codecs import is_sound_for_all
from polycast.wire.hls.options import Variant


def is_converted(variant: Variant, track: Track) -> bool:
    """Whether a track is converted to AAC if the path says so."""
    return AAC.can_be_made_of(track.codec) and not is_sound_for_all(variant, track.codec)


def planned_tracks(variant: Variant, path: Path) -> Sequence[Track]:
    """Return the tracks of a path's stream, with the codecs that readers get."""
    tracks = path.stream.descriptions if path.stream is not None else ()
    if not path.configuration.transcode_audio:
        return tracks
    return [replace(track, codec=AAC.codec, rtp=None) if is_converted(variant, track) else track for track in tracks]


def advice(variant: Variant, track: Track) -> str:
    """Return which setting would make a skipped track audible, as the end of a sentence; empty if none does."""
    return advice_to_convert(track) if is_converted(variant, track) else ""


class ConvertedSound:
    """The converted tracks of one reader."""

    def __init__(self, variant: Variant, loop: asyncio.AbstractEventLoop) -> None:
        self._variant = variant
        self._loop = loop
        self._tracks: list[TranscodedTrack] = []

    def tracks_of(self, path: Path, stream: Stream) -> Sequence[Track]:
        """Return the tracks of a stream with those in AAC that are converted, if the path says so."""
        self._tracks = []
        if not path.configuration.transcode_audio:
            return stream.descriptions

        tracks: list[Track] = []
        for track in stream.descriptions:
            if is_converted(self._variant, track):
                made = transcoded_track(stream, track, AAC, self._loop, path.log)
                self._tracks.append(made)
                track = made.track
            tracks.append(track)
        return tracks

    def begin(self, reader: FrameReader, stream: Stream, carried: Sequence[Track]) -> None:
        """The reader was attached to the stream, of which it wants these tracks."""
        indexes = {track.index for track in carried}
        self._tracks = [track for track in self._tracks if track.track.index in indexes]
        for track in self._tracks:
            track.attach(reader, stream)

    def take(self, batch: FrameBatch) -> None:
        """Take what is to be converted from a batch of the stream."""
        for track in self._tracks:
            track.take(batch)

    def end(self, reader: FrameReader) -> None:
        """The reader was detached."""
        for track in self._tracks:
            track.detach(reader)
        self._tracks = []
