"""The tracks that a client plays: those of the stream, and sound that is converted to AAC for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from polycast.media.track import Track
from polycast.protocols.transcode_audio import advice_to_convert
from polycast.protocols.transcoding import TranscodedTrack
from polycast.transcode.audio import AAC
from polycast.wire.rtmp.server import ServerConnection
from polycast.wire.rtmp.supported import Selection


def select_converted(
    engine: ServerConnection, tracks: Sequence[Track], convert: Callable[[Track], TranscodedTrack]
) -> tuple[Selection, tuple[TranscodedTrack, ...]]:
    """Return the tracks for a client that takes none of the stream's audio tracks, or did not say so: the first one
    that can be decoded is converted to AAC.

    ``convert`` returns an audio track as AAC. The converted track is also the second result.
    """
    certain = engine.select_tracks(tracks, presumes_enhanced_audio=False)
    source = next((track for track in tracks if AAC.can_be_made_of(track.codec)), None)
    if source is None:
        return engine.select_tracks(tracks), ()
    if any(track.kind == "audio" for track in certain.tracks):
        return certain, ()
    converted = convert(source)
    others = [track for track in tracks if track.kind != "audio"]
    selection = engine.select_tracks([*others, converted.track])
    if converted.track not in selection.tracks:  # the client announced that it does not take AAC
        return engine.select_tracks(tracks), ()
    skipped = tuple(item for item in certain.skipped if item[0] is not source)
    return Selection(selection.tracks, skipped), (converted,)


def advice(track: Track, selection: Selection) -> str:
    """Return which setting would make a skipped track audible, as the end of a sentence; empty if none does."""
    is_silent = all(other.kind != "audio" for other in selection.tracks)
    return advice_to_convert(track) if is_silent and AAC.can_be_made_of(track.codec) else ""
