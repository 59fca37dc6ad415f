"""An MP4 file as a slate: the times of its frames, and the frames themselves."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import count
from typing import BinaryIO, Final, NamedTuple

from polycast.errors import PolycastError, RemoteProtocolError
from polycast.hub.slate import SlateFrame
from polycast.media.timebase import rescale_nearest
from polycast.media.track import Track
from polycast.wire.mp4.boxes import read_header
from polycast.wire.mp4.movie import MAXIMUM_MOVIE_SIZE, MovieTrack, read_index

MAXIMUM_BOXES: Final = 100
"""Boxes of a file before its index; most have three."""
MINIMUM_SECONDS: Final = 0.1
"""Of a clip: a shorter one would be read too often."""
MAXIMUM_FRAME_RATE: Final = 1_000
"""Frames per second, of all tracks together: several tracks of 60 pictures/s with sound have some hundred."""
_HINT: Final = "write it with: ffmpeg -i in.mp4 -c copy out.mp4"
_HEADER_SIZE: Final = 16
_FIRST_BOXES: Final = frozenset({b"ftyp", b"moov", b"free", b"skip", b"wide", b"mdat", b"pdin", b"uuid"})


class ClipError(PolycastError):
    """A file cannot be a slate. The text says why."""


class Place(NamedTuple):
    """One frame of an endless playback of a clip."""

    due: float
    """When it is decoded, in seconds from the beginning of the first playback."""
    track: int
    number: int
    """Of the sample in its track."""
    since: float
    """When its playback began, in the same seconds."""


class Clip:
    """The frames of a file, without their data."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the index of a file. Raises ClipError or OSError."""
        try:
            movie = read_index(_read_movie_box(file))
        except RemoteProtocolError as error:
            raise ClipError(f"file is not valid MP4: {error}") from error
        if movie.skipped:
            raise ClipError(
                "unsupported codec: tracks can be H264, H265, AV1, VP9, Opus, MPEG4Audio, MP3, AC-3 or FLAC"
            )
        if not movie.tracks:
            raise ClipError("file does not contain any track")
        if not all(each.sizes for each in movie.tracks):
            raise ClipError(f"file is fragmented, or has a track without frames ({_HINT})")
        self._tracks = movie.tracks
        self.tracks: Sequence[Track] = [Track(index, each.track.codec) for index, each in enumerate(movie.tracks)]
        self._shifts = [_decoding_shift(each) for each in movie.tracks]
        """By how many ticks of its timescale each track is decoded earlier than its samples say."""
        self._start = min(self._seconds(index, 0) for index in range(len(movie.tracks)))
        presented = [_presentation(each) for each in movie.tracks]
        self.seconds = max(end for _, end in presented) - min(start for start, _ in presented)
        """Its length, from the first presentation to the end of the longest track."""
        frames = sum(len(each.sizes) for each in movie.tracks)
        if self.seconds < MINIMUM_SECONDS:
            raise ClipError(f"file is shorter than {MINIMUM_SECONDS:g} s")
        if frames > self.seconds * MAXIMUM_FRAME_RATE:
            raise ClipError(f"file has more than {MAXIMUM_FRAME_RATE} frames a second")

    def places(self, began: float = 0.0) -> Iterator[Place]:
        """Yield the frames of endless playbacks, in the order in which they are due. The first one begins at ``began``
        seconds."""
        return heapq.merge(*(self._places_of(index, began) for index in range(len(self._tracks))))

    def _places_of(self, index: int, began: float) -> Iterator[Place]:
        for playback in count():
            since = began + playback * self.seconds
            for number in range(len(self._tracks[index].sizes)):
                yield Place(since + self._seconds(index, number) - self._start, index, number, since)

    def size_of(self, place: Place) -> int:
        """Return the size of a frame in bytes."""
        return self._tracks[place.track].sizes[place.number]

    def read(self, file: BinaryIO, place: Place) -> SlateFrame | None:
        """Read a frame; None if it is not valid. Raises OSError."""
        movie = self._tracks[place.track]
        track = movie.track
        file.seek(movie.positions[place.number])
        try:
            units, key = track.samples(file.read(movie.sizes[place.number]))
        except RemoteProtocolError:
            return None
        if not units:
            return None
        time = movie.times[place.number] + track.time_offset
        decoded = time - self._shifts[place.track]
        rate = self.tracks[place.track].clock_rate
        offset = round((place.since - self._start) * rate)
        dts = rescale_nearest(decoded, track.timescale, rate) + offset
        pts = rescale_nearest(time + movie.compositions[place.number], track.timescale, rate) + offset
        duration = rescale_nearest(movie.times[place.number + 1] - movie.times[place.number], track.timescale, rate)
        return SlateFrame(place.due, place.track, units, max(pts, dts), dts, duration, key)

    def _seconds(self, index: int, number: int) -> float:
        movie = self._tracks[index]
        ticks = movie.times[number] + movie.track.time_offset - self._shifts[index]
        return ticks / movie.track.timescale


def _decoding_shift(movie: MovieTrack) -> int:
    """Return by how much the samples are to be decoded earlier so that none is after its presentation."""
    return max(0, -min(movie.compositions, default=0))


def _presentation(movie: MovieTrack) -> tuple[float, float]:
    """Return when the presentation of a track begins and ends, in seconds."""
    offset = movie.compositions[0] + movie.track.time_offset
    return (movie.times[0] + offset) / movie.track.timescale, (movie.times[-1] + offset) / movie.track.timescale


def _read_movie_box(file: BinaryIO) -> bytes:
    """Return the moov box of a file."""
    position = 0
    for number in range(MAXIMUM_BOXES):
        file.seek(position)
        head = file.read(_HEADER_SIZE)
        header = read_header(head, 0, len(head))
        if header is None:
            break
        if not number and header.kind not in _FIRST_BOXES:
            raise ClipError(f"file is not MP4, magic bytes are [{' '.join(map(str, head[4:8]))}]")
        size = header.end - header.start
        if header.kind == b"moov":
            if size > MAXIMUM_MOVIE_SIZE:
                raise ClipError(f"the index of the file is larger than {MAXIMUM_MOVIE_SIZE >> 20} MiB")
            file.seek(position)
            return file.read(size)
        if header.kind == b"moof":
            break
        if int.from_bytes(head[:4], "big") == 0:
            break  # the last box
        position += size
    if not position:
        raise ClipError("file is not MP4")
    raise ClipError(f"file does not contain any track ({_HINT})")
