"""Parser of init segments: the tracks of a moov box and their codecs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from polycast.errors import RemoteProtocolError
from polycast.media.codec import Codec
from polycast.wire.mp4.boxes import Box, find, iterate
from polycast.wire.mp4.mapping import Described, Samples
from polycast.wire.mp4.sample_entries import parse_sample_entry

MAXIMUM_TRACKS = 16
"""Tracks read from a moov box; a rendition of HLS has one or two."""
MAXIMUM_TIMESCALE = 1_000_000_000
"""Ticks per second: nanoseconds are the finest that makes sense."""


@dataclass(slots=True)
class TrackDefaults:
    """Default values for the samples of a track (trex, section 8.8.3)."""

    duration: int = 0
    size: int = 0


@dataclass(slots=True)
class InputTrack:
    """A track of an init segment."""

    track_id: int
    timescale: int
    codec: Codec
    samples: Samples
    time_offset: int
    """Ticks of the timescale to add to sample times, from the edit list."""
    language: str | None
    defaults: TrackDefaults


def _content(data: bytes, box: Box) -> bytes:
    return data[box.content : box.end]


def _read_sample_entry(data: bytes, table: Box, handler: bytes) -> Described[Any] | None:
    """Return what the first sample entry of an stsd box says; None if its codec is not supported."""
    for entry in iterate(data, min(table.content + 8, table.end), table.end):
        return parse_sample_entry(data, entry, handler)
    return None


def _required(data: bytes, parent: Box, size: int, *path: bytes) -> bytes:
    found = find(data, parent, *path)
    if found is None or found.end - found.content < size:
        raise RemoteProtocolError(f"a track has no usable {path[-1].decode('latin-1')} box")
    return _content(data, found)


def _read_time_offset(data: bytes, track: Box, timescale: int, movie_timescale: int) -> int:
    """Return the offset of the edit list (section 8.6.6) for sample times: a delay, minus what is trimmed at the
    start."""
    edits = find(data, track, b"edts", b"elst")
    if edits is None:
        return 0
    content = _content(data, edits)
    wide = len(content) > 0 and content[0] == 1
    size = 20 if wide else 12
    field = 8 if wide else 4
    delay = 0
    for offset in range(8, len(content) - size + 1, size):
        duration = int.from_bytes(content[offset : offset + field], "big")
        media_time = int.from_bytes(content[offset + field : offset + 2 * field], "big", signed=True)
        if media_time >= 0:
            return delay - media_time
        delay += duration * timescale // movie_timescale
    return delay


def movie_timescale_of(data: bytes, movie: Box) -> int:
    """Return the ticks per second of a moov box. Raises RemoteProtocolError if it has no usable header."""
    header = _required(data, movie, 20, b"mvhd")
    return int.from_bytes(header[20:24] if header[0] == 1 else header[12:16], "big") or 1


def read_track(data: bytes, box: Box, movie_timescale: int) -> InputTrack | None:
    """Return the track of a trak box; None if its codec is not supported. Raises RemoteProtocolError."""
    header = _required(data, box, 24, b"tkhd")
    track_id = int.from_bytes(header[20:24] if header[0] == 1 else header[12:16], "big")
    media = _required(data, box, 24, b"mdia", b"mdhd")
    wide = media[0] == 1
    timescale = int.from_bytes(media[20:24] if wide else media[12:16], "big")
    if not 0 < timescale <= MAXIMUM_TIMESCALE:
        raise RemoteProtocolError(f"a timescale of {timescale} is not valid")
    language = int.from_bytes(media[32:34] if wide else media[20:22], "big")
    letters = bytes(0x60 + (language >> shift & 0x1F) for shift in (10, 5, 0))
    handler = _required(data, box, 12, b"mdia", b"hdlr")[8:12]
    table = find(data, box, b"mdia", b"minf", b"stbl", b"stsd")
    if table is None:
        raise RemoteProtocolError("a track has no sample descriptions")
    found = _read_sample_entry(data, table, handler)
    if found is None:
        return None
    return InputTrack(
        track_id,
        timescale,
        found.codec,
        found.samples,
        _read_time_offset(data, box, timescale, movie_timescale),
        letters.decode("ascii") if letters.isalpha() and letters != b"und" else None,
        TrackDefaults(),
    )


def read_movie(data: bytes, movie: Box) -> tuple[list[InputTrack], int]:
    """Return the supported tracks of a moov box, and the number of unsupported ones.

    Raises RemoteProtocolError if it is invalid or has too many tracks.
    """
    movie_timescale = movie_timescale_of(data, movie)
    tracks: list[InputTrack] = []
    skipped = 0
    defaults: dict[int, TrackDefaults] = {}
    for box in iterate(data, movie.content, movie.end):
        if box.kind == b"trak":
            if len(tracks) + skipped == MAXIMUM_TRACKS:
                raise RemoteProtocolError("an init segment has too many tracks")
            track = read_track(data, box, movie_timescale)
            if track is None:
                skipped += 1
            else:
                tracks.append(track)
        elif box.kind == b"mvex":
            for child in iterate(data, box.content, box.end):
                content = _content(data, child)
                if child.kind == b"trex" and len(content) >= 24 and len(defaults) < MAXIMUM_TRACKS:
                    fields = [int.from_bytes(content[start : start + 4], "big") for start in range(4, 24, 4)]
                    defaults[fields[0]] = TrackDefaults(duration=fields[2], size=fields[3])
    for track in tracks:
        track.defaults = defaults.get(track.track_id, track.defaults)
    return tracks, skipped
