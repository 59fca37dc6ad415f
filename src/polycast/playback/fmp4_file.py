"""Recorded files in fragmented MP4."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

from polycast.errors import RemoteProtocolError
from polycast.media.timebase import NANOSECONDS, rescale
from polycast.playback.files import MAXIMUM_TIME, Piece, UnreadableFile
from polycast.wire.mp4.recorded_movie import Place, RecordedMovie, RecordedTrack, read_recorded_movie
from polycast.wire.mp4.runs import Run, read_runs

MAXIMUM_HEAD: Final = 4 * 1024 * 1024
"""Bytes of a moov box; that of a recording has some thousand."""
MAXIMUM_MOOF: Final = 8 * 1024 * 1024
"""Bytes of a moof box: a million samples."""
MAXIMUM_FRAGMENTS: Final = 1 << 20
"""Fragments of a file that are read: a day, with ten per second."""
MAXIMUM_OTHER_BOXES: Final = 1 << 16
"""Boxes between two fragments of a file, usually one or two; millions would keep a thread busy for minutes."""
MAXIMUM_BOXES_BEFORE_MOVIE: Final = 16
"""Boxes before the moov box; usually there is only ftyp."""
_GLANCE: Final = 128
"""Bytes of a moof box that usually contain the first decoding time."""
_SKEW: Final = 2 * NANOSECONDS
"""Nanoseconds by which the fragments of one track may be behind those of another one."""


class _Fragment(NamedTuple):
    """Where a fragment is."""

    offset: int
    size: int
    """Of the moof box."""
    time: int
    """Decoding time of its first sample, in nanoseconds."""


class _Header(NamedTuple):
    kind: bytes
    content: int
    end: int


class Scan(NamedTuple):
    """What is known of a file without reading its samples."""

    fragments: list[_Fragment]
    end: int
    """Offset behind the last complete box: where more will be, while the file is written."""
    keys: list[int]
    """Decoding times of the key frames in nanoseconds, as far as they were looked for."""
    keyed: int
    """Number of fragments in which they were."""


class Fmp4File:
    """A file of fragmented MP4: written by Polycast, MediaMTX or another program."""

    def __init__(self, name: str, known: object = None) -> None:
        """Open a file. ``known`` is that of the same file, when it may have been shorter.

        Raises OSError, or UnreadableFile if it has no head.
        """
        self._file = open(name, "rb", buffering=0)  # noqa: SIM115
        self._scan = known if isinstance(known, Scan) else None
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self.movie, self._start = self._read_head()
        except BaseException:
            self._file.close()
            raise
        self._timescales = {track.track_id: track.timescale for track in self.movie.tracks}
        self._defaults = {track.track_id: track.defaults for track in self.movie.tracks}

    @property
    def tracks(self) -> tuple[RecordedTrack, ...]:
        return self.movie.tracks

    @property
    def place(self) -> Place | None:
        return self.movie.place

    @property
    def known(self) -> Scan | None:
        return self._scan

    @property
    def origin(self) -> int | None:
        return self.movie.place.time if self.movie.place is not None else None

    @property
    def is_complete(self) -> bool:
        """Whether the file says how long it is: it was closed by what wrote it."""
        return self.movie.duration > 0

    @property
    def duration(self) -> int:
        if self.movie.duration:
            return self.movie.duration
        longest = 0
        # the last fragment may not have samples of all tracks
        for fragment in self.scan().fragments[-8:]:
            for run in self._runs(fragment):
                longest = max(longest, self._nanoseconds(run.end, run.track_id))
        if not longest:
            raise UnreadableFile("it has no samples yet")
        return longest

    def close(self) -> None:
        self._file.close()

    # Reading

    def read(self, token: int, position: int, size: int) -> bytes:
        data = self._read_at(position, size)
        if len(data) < size:
            raise UnreadableFile("it became shorter")
        return data

    def _read_at(self, position: int, size: int) -> bytes:
        if position >= self._size:
            return b""
        self._file.seek(position)
        data = self._file.read(size) or b""
        while 0 < len(data) < size:
            more = self._file.read(size - len(data))
            if not more:
                break
            data += more
        return data

    def _header(self, data: bytes, position: int) -> _Header | None:
        """Return the box that starts at ``position``, whose first bytes are ``data``; None if there is none."""
        size, kind, content = int.from_bytes(data[:4], "big"), data[4:8], 8
        if size == 1:
            size, content = int.from_bytes(data[8:16], "big"), 16
        elif size == 0 and kind == b"mdat":  # up to the end of the file
            size = self._size - position
        if len(data) < content or size < content or not kind.isalnum():
            return None
        return _Header(kind, position + content, position + size)

    def _read_head(self) -> tuple[RecordedMovie, int]:
        position = 0
        for number in range(MAXIMUM_BOXES_BEFORE_MOVIE):
            header = self._header(self._read_at(position, 16), position)
            if header is None or (number == 0 and header.kind not in (b"ftyp", b"styp")):
                break
            if header.kind == b"moov":
                if header.end - position > MAXIMUM_HEAD:
                    raise UnreadableFile("its head is too large")
                if header.end > self._size:
                    break
                try:
                    return read_recorded_movie(self._read_at(position, header.end - position)), header.end
                except RemoteProtocolError as error:
                    raise UnreadableFile(str(error)) from None
            position = header.end
        raise UnreadableFile("it is empty" if not self._size else "it has no head of an MP4 file")

    def scan(self) -> Scan:
        """Return where all fragments are."""
        scan = self._scan
        if scan is None:
            scan = Scan([], self._start, [], 0)
        elif scan.end >= self._size:
            return scan
        fragments = list(scan.fragments)
        end = self._find_fragments(scan.end, fragments)
        self._scan = scan = Scan(fragments, end, scan.keys, scan.keyed)
        return scan

    def _find_fragments(self, position: int, found: list[_Fragment]) -> int:
        """Add the fragments from an offset on; return the offset behind the last complete box."""
        if found and position == found[-1].offset:
            del found[-1]
        others = 0
        while position < self._size and len(found) < MAXIMUM_FRAGMENTS and others < MAXIMUM_OTHER_BOXES:
            data = self._read_at(position, _GLANCE)
            header = self._header(data, position)
            if header is None:
                break
            if header.kind == b"moof":
                size = header.end - position
                if size > MAXIMUM_MOOF or header.end > self._size:
                    break
                time = self._time_of(data, position, size)
                if time is not None:
                    found.append(_Fragment(position, size, time))
                    others = 0
                else:
                    others += 1
                following = self._header(self._read_at(header.end, 16), header.end)
                if following is None or following.kind != b"mdat" or following.end > self._size:
                    break  # it is still being written, or was never finished
                position = following.end
            else:
                if header.end > self._size:
                    break
                others += 1
                position = header.end
        return position

    def _time_of(self, glance: bytes, position: int, size: int) -> int | None:
        """Return the first decoding time of a fragment in nanoseconds; None if it has no sample of a known track."""
        found = _first_time(glance[:size])
        if found is None or found[0] not in self._timescales:
            try:
                runs = read_runs(self._read_at(position, size), position, self._defaults)
            except RemoteProtocolError:
                return None
            found = next(((run.track_id, run.time) for run in runs if run.track_id in self._timescales), None)
        return self._nanoseconds(found[1], found[0]) if found is not None else None

    def _nanoseconds(self, time: int, track_id: int) -> int:
        """Return a time of a track in nanoseconds; that of a damaged file may be of any size, and is limited."""
        return min(rescale(time, self._timescales[track_id], NANOSECONDS), MAXIMUM_TIME)

    def _runs(self, fragment: _Fragment) -> list[Run]:
        """Return the samples of a fragment that are in the file; none if it is damaged."""
        try:
            runs = read_runs(self._read_at(fragment.offset, fragment.size), fragment.offset, self._defaults)
        except RemoteProtocolError:
            return []
        runs = [run.within(self._size) for run in runs if run.track_id in self._timescales]
        return [run for run in runs if len(run)]

    # Samples

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        fragments = self.scan().fragments
        waiting: list[Piece] = []
        first = max(bisect_right(fragments, start, key=lambda fragment: fragment.time) - 1, 0)
        missing = {track.track_id for track in self.tracks if track.is_video}
        # backwards to a key frame of each video track; one fragment more, because tracks need not be in step
        index = first
        while index >= 0 and (missing or index >= first - 1):
            runs = self._runs(fragments[index]) if fragments else []
            waiting.append(Piece(fragments[index].offset if fragments else 0, runs))
            missing -= {run.track_id for run in runs if self._has_key(run, start)}
            index -= 1
        yield from reversed(waiting)
        for fragment in fragments[first + 1 :]:
            if fragment.time >= end + _SKEW:
                break
            yield Piece(fragment.offset, self._runs(fragment))

    def _has_key(self, run: Run, start: int) -> bool:
        timescale = self._timescales[run.track_id]
        return run.last_sync(run.index_at(-(-start * timescale // NANOSECONDS) + 1)) is not None

    def key_times(self) -> list[int]:
        scan = self.scan()
        keys = list(scan.keys)
        # the last fragment may still be incomplete: its samples are looked at again
        complete = sum(fragment.offset < scan.end for fragment in scan.fragments[-1:]) + len(scan.fragments[:-1])
        for fragment in scan.fragments[scan.keyed : complete]:
            keys += self._key_times_of(fragment)
        self._scan = scan._replace(keys=keys, keyed=complete)
        for fragment in scan.fragments[complete:]:
            keys = keys + self._key_times_of(fragment)
        return keys

    def _key_times_of(self, fragment: _Fragment) -> list[int]:
        videos = [track.track_id for track in self.tracks if track.is_video]
        if not videos:
            return [fragment.time]
        return [
            self._nanoseconds(time, run.track_id)
            for run in self._runs(fragment)
            if run.track_id == videos[0]
            for time in run.sync_times()
        ]


def _first_time(data: bytes) -> tuple[int, int] | None:
    """Return track and first decoding time of a moof box, of which ``data`` is the start; None if it does not tell."""
    try:
        movie = next(iter(_boxes(data)))
        for fragment in _boxes(data, movie.content, movie.end):
            if fragment.kind == b"traf":
                track_id = None
                for child in _boxes(data, fragment.content, fragment.end):
                    if child.kind == b"tfhd":
                        track_id = int.from_bytes(data[child.content + 4 : child.content + 8], "big")
                    elif child.kind == b"tfdt" and track_id is not None:
                        size = 8 if data[child.content] == 1 else 4
                        if child.content + 4 + size > len(data):
                            return None
                        return track_id, int.from_bytes(data[child.content + 4 : child.content + 4 + size], "big")
                return None
    except (IndexError, StopIteration):
        pass
    return None


def _boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[_Header]:
    """Yield boxes that may continue behind the end of the data."""
    position, limit = start, len(data) if end is None else min(end, len(data))
    while position + 8 <= limit:
        size = int.from_bytes(data[position : position + 4], "big")
        if size < 8:
            return
        yield _Header(data[position + 4 : position + 8], position + 8, position + size)
        position += size
