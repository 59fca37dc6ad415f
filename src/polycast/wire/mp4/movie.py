"""Reads the index of an MP4 file that is not fragmented (ISO/IEC 14496-12 section 8.6, 8.7): where its samples are."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from struct import unpack_from
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.mp4.boxes import Box, find, iterate
from polycast.wire.mp4.tracks import MAXIMUM_TRACKS, InputTrack, movie_timescale_of, read_track

MAXIMUM_MOVIE_SIZE: Final = 16 * 1024 * 1024
"""Bytes of a moov box: some 30 per sample."""
MAXIMUM_SAMPLES: Final = 500_000
"""Samples of one file: two hours of 25 pictures/s with AAC, in 14 MB of memory."""
MAXIMUM_SAMPLE_SIZE: Final = 16 * 1024 * 1024
"""Bytes: more than any picture has."""
_MAXIMUM_TIME: Final = 1 << 56
"""Ticks: larger times are considered invalid."""


@dataclass(slots=True)
class MovieTrack:
    """A track, and its samples by number. Times are in ticks of its timescale."""

    track: InputTrack
    positions: Sequence[int]
    """Where each sample begins in the file, in bytes."""
    sizes: Sequence[int]
    """In bytes."""
    times: Sequence[int]
    """When each sample is decoded; one more than there are samples: the last one is the end of the track."""
    compositions: Sequence[int]
    """By how much later each sample is presented; may be negative."""


@dataclass(frozen=True, slots=True)
class Movie:
    """The index of a file."""

    tracks: Sequence[MovieTrack]
    skipped: int
    """Number of tracks whose codec is not supported."""


def read_index(data: bytes) -> Movie:
    """Return the index of the file whose moov box is ``data``, with its header.

    Raises RemoteProtocolError if it is invalid, or has too many tracks or samples.
    """
    movie = next(iterate(data, 0, len(data)), None)
    if movie is None or movie.kind != b"moov":
        raise RemoteProtocolError("this is not a moov box")
    timescale = movie_timescale_of(data, movie)
    tracks: list[MovieTrack] = []
    skipped = samples = 0
    for box in iterate(data, movie.content, movie.end):
        if box.kind != b"trak":
            continue
        if len(tracks) + skipped == MAXIMUM_TRACKS:
            raise RemoteProtocolError("an MP4 file has too many tracks")
        track = read_track(data, box, timescale)
        if track is None:
            skipped += 1
            continue
        tracks.append(_read_samples(data, box, track, MAXIMUM_SAMPLES - samples))
        samples += len(tracks[-1].sizes)
    return Movie(tracks, skipped)


def _read_samples(data: bytes, box: Box, track: InputTrack, maximum: int) -> MovieTrack:
    table = find(data, box, b"mdia", b"minf", b"stbl")
    if table is None:
        raise RemoteProtocolError("a track has no sample table")
    sizes = _read_sizes(data, table, maximum)
    count = len(sizes)
    durations = _read_runs(data, table, b"stts", count)
    times = array("q", (0,))
    time = 0
    for duration in durations:
        time += duration
        times.append(time)
    if time > _MAXIMUM_TIME or len(times) != count + 1:
        raise RemoteProtocolError("the times of a track are not valid")
    compositions = array("q", _read_runs(data, table, b"ctts", count, is_optional=True))
    compositions.extend(repeat(0, count - len(compositions)))
    return MovieTrack(track, _read_positions(data, table, sizes), sizes, times, compositions)


def _read_sizes(data: bytes, table: Box, maximum: int) -> Sequence[int]:
    box = find(data, table, b"stsz")
    if box is None or box.end - box.content < 12:
        raise RemoteProtocolError("a track has no sizes of samples")
    size, count = unpack_from(">II", data, box.content + 4)
    if count > maximum:
        raise RemoteProtocolError(f"an MP4 file has more than {MAXIMUM_SAMPLES} samples")
    if size:
        sizes = array("I", repeat(size, count))
    elif box.end - box.content < 12 + 4 * count:
        raise RemoteProtocolError("the sizes of samples are cut off")
    else:
        sizes = array("I", unpack_from(f">{count}I", data, box.content + 12))
    if max(sizes, default=0) > MAXIMUM_SAMPLE_SIZE:
        raise RemoteProtocolError(f"a sample is larger than {MAXIMUM_SAMPLE_SIZE} bytes")
    return sizes


def _entries(data: bytes, table: Box, kind: bytes, form: str, size: int) -> list[tuple[int, ...]] | None:
    """Return the entries of a table of a track; None if it has no such table."""
    box = find(data, table, kind)
    if box is None:
        return None
    if box.end - box.content < 8:
        raise RemoteProtocolError(f"the box {kind.decode()} is cut off")
    (count,) = unpack_from(">I", data, box.content + 4)
    if count > MAXIMUM_SAMPLES or box.end - box.content < 8 + size * count:
        raise RemoteProtocolError(f"the box {kind.decode()} is cut off")
    is_signed = data[box.content] == 1 and kind == b"ctts"
    form = form.replace("I", "i") if is_signed else form
    return [unpack_from(form, data, box.content + 8 + size * number) for number in range(count)]


def _read_runs(data: bytes, table: Box, kind: bytes, count: int, *, is_optional: bool = False) -> Iterator[int]:
    """Return the values of a table that has, for runs of samples, their number and the value of each (at most
    ``count`` values)."""
    entries = _entries(data, table, kind, ">II", 8)
    if entries is None and not is_optional:
        raise RemoteProtocolError("a track has no times of samples")
    return islice((value for number, value in entries or () for _ in range(number)), count)


def _read_positions(data: bytes, table: Box, sizes: Sequence[int]) -> Sequence[int]:
    chunks = _entries(data, table, b"stco", ">I", 4) or _entries(data, table, b"co64", ">Q", 8) or []
    runs = _entries(data, table, b"stsc", ">III", 12) or []
    positions = array("q")
    count = len(sizes)
    for number, (first, samples, description) in enumerate(runs):
        last = runs[number + 1][0] - 1 if number + 1 < len(runs) else len(chunks)
        if description != 1:
            raise RemoteProtocolError("a track with several descriptions of samples is not supported")
        if not 1 <= first <= last + 1 <= len(chunks) + 1:
            raise RemoteProtocolError("the chunks of a track are not in order")
        for (position,) in chunks[first - 1 : last]:
            if position > _MAXIMUM_TIME:
                raise RemoteProtocolError("the position of a chunk is not valid")
            for _ in range(min(samples, count - len(positions))):
                positions.append(position)
                position += sizes[len(positions) - 1]
    if len(positions) != count:
        raise RemoteProtocolError("the chunks of a track do not have all of its samples")
    return positions
