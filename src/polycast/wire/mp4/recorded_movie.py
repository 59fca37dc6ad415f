"""Reads the head of a recorded file: the tracks of its moov box as they are, and where it belongs in the recording.

Tracks are copied without being understood, so that files of every codec can be served, those of other programs, too.
"""

from __future__ import annotations

import uuid
from collections import deque
from struct import unpack_from
from typing import Final, NamedTuple

from polycast.errors import RemoteProtocolError
from polycast.media.timebase import NANOSECONDS, rescale
from polycast.wire.mp4.boxes import Box, find, iterate
from polycast.wire.mp4.tracks import MAXIMUM_TIMESCALE, MAXIMUM_TRACKS

VIDEO: Final = b"vide"
"""Handler type of tracks with pictures (ISO/IEC 14496-12 section 12.1.1)."""
_INFORMATION_SIZE: Final = 4 + 16 + 3 * 8


class Place(NamedTuple):
    """Where a file belongs in the recording of a stream: MediaMTX's ``mtxi`` box."""

    stream: uuid.UUID
    """The recording: files of others never continue this one."""
    number: int
    """Of this file within the recording, from 0."""
    time: int
    """Decoding time of the file's start on the timeline of the recording, in nanoseconds."""
    wall_time: int
    """Wall-clock time of the file's start in nanoseconds since 1970."""


class SampleDefaults(NamedTuple):
    """What samples have that do not say it themselves (trex, section 8.8.3)."""

    duration: int = 0
    size: int = 0
    flags: int = 0


class RecordedTrack(NamedTuple):
    """A track as the file describes it."""

    track_id: int
    timescale: int
    """Ticks per second of the sample times."""
    handler: bytes
    """Handler type, four bytes: `VIDEO` for pictures."""
    kind: bytes
    """Type of the sample entry, four bytes, such as ``avc1``."""
    box: bytes
    """The whole trak box."""
    defaults: SampleDefaults

    @property
    def is_video(self) -> bool:
        return self.handler == VIDEO


class RecordedMovie(NamedTuple):
    """The head of a file."""

    tracks: tuple[RecordedTrack, ...]
    duration: int
    """Nanoseconds; 0 while the file is being written."""
    place: Place | None
    """None in files that do not say it."""


def _field(data: bytes, box: Box | None, name: str, narrow: int, wide: int, size: int = 4) -> int:
    """Return a number at one of two offsets in the content of a full box, which depends on its version."""
    if box is None or box.end == box.content:
        raise RemoteProtocolError(f"there is no {name} box")
    offset = wide if data[box.content] == 1 else narrow
    if box.content + offset + size > box.end:
        raise RemoteProtocolError(f"the {name} box is too short")
    return int.from_bytes(data[box.content + offset : box.content + offset + size], "big")


def _read_track(data: bytes, box: Box) -> RecordedTrack:
    track_id = _field(data, find(data, box, b"tkhd"), "tkhd", 12, 20)
    timescale = _field(data, find(data, box, b"mdia", b"mdhd"), "mdhd", 12, 20)
    if not 0 < timescale <= MAXIMUM_TIMESCALE:
        raise RemoteProtocolError(f"a timescale of {timescale} is not valid")
    handler = _field(data, find(data, box, b"mdia", b"hdlr"), "hdlr", 8, 8).to_bytes(4, "big")
    table = find(data, box, b"mdia", b"minf", b"stbl", b"stsd")
    kind = _field(data, table, "stsd", 12, 12).to_bytes(4, "big")
    for path in ((), (b"mdia",), (b"mdia", b"minf")):  # these are copied into other files, whole
        parent = find(data, box, *path)
        deque(iterate(data, parent.content, parent.end) if parent is not None else (), maxlen=0)
    return RecordedTrack(track_id, timescale, handler, kind, data[box.start : box.end], SampleDefaults())


def _read_defaults(data: bytes, movie: Box) -> dict[int, SampleDefaults]:
    extends = find(data, movie, b"mvex")
    found: dict[int, SampleDefaults] = {}
    for box in iterate(data, extends.content, extends.end) if extends is not None else ():
        if box.kind == b"trex" and box.end - box.content >= 24 and len(found) < MAXIMUM_TRACKS:
            track_id, _, duration, size, flags = unpack_from(">5I", data, box.content + 4)
            found[track_id] = SampleDefaults(duration, size, flags)
    return found


def _read_place(data: bytes, movie: Box) -> Place | None:
    for user_data in iterate(data, movie.content, movie.end):
        box = find(data, user_data, b"mtxi") if user_data.kind == b"udta" else None
        if box is not None and box.end - box.content >= _INFORMATION_SIZE:
            stream, number, time, wall_time = unpack_from(">16sQqq", data, box.content + 4)
            return Place(uuid.UUID(bytes=stream), number, time, wall_time)
    return None


def read_recorded_movie(data: bytes) -> RecordedMovie:
    """Return the head of a file from its moov box.

    Raises RemoteProtocolError if it is invalid, has no track or too many, or if the samples are not in fragments.
    """
    movie = next(iterate(data, 0, len(data)))
    header = find(data, movie, b"mvhd")
    timescale = _field(data, header, "mvhd", 12, 20)
    wide = header is not None and data[header.content] == 1
    duration = _field(data, header, "mvhd", 16, 24, 8 if wide else 4)
    if find(data, movie, b"mvex") is None:
        raise RemoteProtocolError("the file is not fragmented")
    defaults = _read_defaults(data, movie)
    tracks: dict[int, RecordedTrack] = {}
    for box in iterate(data, movie.content, movie.end):
        if box.kind == b"trak":
            track = _read_track(data, box)
            tracks[track.track_id] = track._replace(defaults=defaults.get(track.track_id, track.defaults))
            if len(tracks) > MAXIMUM_TRACKS:
                raise RemoteProtocolError("the file has too many tracks")
    if not tracks:
        raise RemoteProtocolError("the file has no track")
    is_known = timescale > 0 and duration not in (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
    return RecordedMovie(
        tuple(tracks.values()),
        rescale(duration, timescale, NANOSECONDS) if is_known else 0,
        _read_place(data, movie),
    )
