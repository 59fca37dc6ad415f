"""Makes files of a period: fragmented, from its first byte on; or with an index, of known size.

All functions wait for the disk: they belong into a thread.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import accumulate
from typing import Final, NamedTuple, Protocol

from polycast.media.timebase import NANOSECONDS, rescale
from polycast.playback.cutter import Cut, Cutter
from polycast.playback.files import BLOCK, Piece, RecordedFile, UnreadableFile
from polycast.playback.index import Segment
from polycast.playback.opening import Files
from polycast.wire.mp4.presentation import Presentation, build_fragmented_head
from polycast.wire.mp4.runs import NOT_SYNC, Run, build_fragment_head

MAXIMUM_SAMPLES: Final = 20_000_000
"""Samples of a file with an index, which is made in memory: three days of 30 frames per second with sound."""

MAXIMUM_DRIFT: Final = 5 * NANOSECONDS
"""Nanoseconds between the timeline of a recording, which is more exact, and the clock. More means that the timeline
began again: recorders begin a new recording then."""


class NothingRecorded(Exception):
    """There is no sample in the period."""


class Abandoned(Exception):
    """Nobody wants the file any more."""


class PeriodTooLong(Exception):
    """A file with an index of all samples would need too much memory."""


class Placed(Protocol):
    """A recorded file with its time, by the clock and on the timeline of its recording."""

    @property
    def start(self) -> int: ...

    @property
    def time(self) -> int | None: ...


def distance(first: Placed, segment: Placed) -> int:
    """Return the nanoseconds from the start of a file to that of another one that continues it."""
    by_clock = segment.start - first.start
    if segment.time is not None and first.time is not None:
        exact = segment.time - first.time
        if abs(exact - by_clock) <= MAXIMUM_DRIFT:
            return exact
    return by_clock


class Wanted(NamedTuple):
    """The period that a file is made of."""

    start: int
    """Wall-clock time in nanoseconds since 1970."""
    duration: int
    """Nanoseconds."""
    skips_gaps: bool = False
    """Whether it goes on after a gap, which takes no time then. Otherwise it ends there."""


class _Source(NamedTuple):
    """An open file of the period."""

    file: RecordedFile
    segment: Segment
    base: int
    """When it starts, in nanoseconds from the start of the output."""
    end: int
    """When the period ends, in nanoseconds from the start of the output."""


def _placed(segments: Iterable[Segment], wanted: Wanted) -> Iterator[tuple[Segment, int]]:
    """Yield the files of a period, each with when it starts, in nanoseconds from the start of the output."""
    first: Segment | None = None
    base = first_base = 0
    before: Segment | None = None
    for segment in segments:
        if wanted.skips_gaps and segment.end <= wanted.start:
            continue
        if first is None or before is None:
            first_base = base = segment.start - wanted.start
            if wanted.skips_gaps:
                first_base = base = min(base, 0)
            first = segment
        elif segment.joins:
            base = first_base + distance(first, segment)
        elif wanted.skips_gaps and segment.head == before.head:
            first, first_base = segment, base + before.duration
            base = first_base
        else:
            return
        yield segment, base
        before = segment


def _sources(files: Files, segments: Iterable[Segment], wanted: Wanted) -> Iterator[_Source]:
    """Open one file of a period after the other; each is closed before the next one."""
    has_begun = False
    until = wanted.start + wanted.duration
    for segment, base in _placed(segments, wanted):
        with ExitStack() as stack:
            try:
                file = stack.enter_context(files.open(segment.file))
            except (OSError, UnreadableFile):
                if has_begun and not wanted.skips_gaps:
                    return
                continue
            has_begun = True
            yield _Source(file, segment, base, base + until - segment.start if wanted.skips_gaps else wanted.duration)
        if segment.end >= until:
            return


def _cuts(source: _Source, cutter: Cutter) -> Iterator[list[Cut]]:
    for piece in source.file.pieces(max(-source.base, 0), source.end - source.base):
        yield from cutter.cut(piece, source.base, source.end)
        time.sleep(0)  # the other threads have a turn


def fragmented(files: Files, segments: Iterable[Segment], wanted: Wanted) -> Iterator[bytes]:
    """Yield a fragmented MP4 file with what was recorded in a period, in blocks.

    What precedes its start back to a key frame comes at the beginning, without duration.
    Raises NothingRecorded before the first block, UnreadableFile or OSError if a file disappears.
    """
    cutter: Cutter | None = None
    sequence = 0
    block = bytearray()
    for source in _sources(files, segments, wanted):
        if cutter is None:
            cutter = Cutter(source.file.tracks)
        for group in _cuts(source, cutter):
            if not sequence:
                block += build_fragmented_head(source.file.tracks)
            sequence += 1
            runs = [cut.run if cut.shown_from is None else cut.run.without_duration(cut.shown_from) for cut in group]
            block += build_fragment_head(sequence, runs)
            for cut in group:
                for data in _read(source.file, cut):
                    block += data
                    if len(block) >= BLOCK:
                        yield bytes(block)
                        block.clear()
    if not sequence:
        raise NothingRecorded
    if block:
        yield bytes(block)


def _read(file: RecordedFile, cut: Cut) -> Iterator[bytes]:
    position, rest = cut.source.position, cut.source.size
    while rest:
        size = min(rest, BLOCK)
        yield file.read(cut.token, position, size)
        position += size
        rest -= size


class _Extents:
    """Consecutive bytes of files, in the order of the output. There are several for each second, so they are stored as
    columns of numbers: those of a day take 5 MB."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._files, self.tokens, self.positions, self.sizes = array("L"), array("Q"), array("Q"), array("Q")

    def add(self, file: str, token: int, position: int, size: int) -> None:
        if not self._names or self._names[-1] != file:
            self._names.append(file)
        self._files.append(len(self._names) - 1)
        self.tokens.append(token)
        self.positions.append(position)
        self.sizes.append(size)

    def __len__(self) -> int:
        return len(self.sizes)

    def file_of(self, index: int) -> str:
        """Return the name of the file of an extent."""
        return self._names[self._files[index]]


class IndexedFile:
    """An MP4 file with an index of its samples, whose media is still in the recorded files."""

    def __init__(self, files: Files, head: bytes, extents: _Extents, tag: str) -> None:
        self._files = files
        self._head = head
        self._extents = extents
        self._offsets = array("Q", accumulate(extents.sizes, initial=len(head)))
        self.tag = tag
        """Differs if the file does."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._offsets[-1]

    @property
    def head_size(self) -> int:
        """Bytes that are held in memory."""
        return len(self._head)

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from ``start`` to before ``end``, in blocks. Raises UnreadableFile or OSError."""
        while start < min(end, len(self._head)):
            yield self._head[start : min(end, start + BLOCK, len(self._head))]
            start = min(end, start + BLOCK, len(self._head))
        extents = self._extents
        index = max(bisect_right(self._offsets, start) - 1, 0)
        while start < end and index < len(extents):
            name = extents.file_of(index)
            with self._files.open(name) as file:
                while start < end and index < len(extents) and extents.file_of(index) == name:
                    skipped = start - self._offsets[index]
                    size = min(extents.sizes[index] - skipped, BLOCK, end - start)
                    yield file.read(extents.tokens[index], extents.positions[index] + skipped, size)
                    start += size
                    if start >= self._offsets[index + 1]:
                        index += 1


def indexed(files: Files, segments: Sequence[Segment], wanted: Wanted, is_abandoned: Callable[[], bool]) -> IndexedFile:
    """Return an MP4 file with what was recorded in a period.

    It begins with the key frame before its start; an edit list hides what precedes the start.
    Raises NothingRecorded or PeriodTooLong, and Abandoned soon after ``is_abandoned`` returns True: a long period takes
    minutes.
    """
    cutter: Cutter | None = None
    presentation: Presentation | None = None
    extents = _Extents()
    samples = 0
    digest = hashlib.blake2b(digest_size=12)
    for source in _sources(files, segments, wanted):
        if cutter is None or presentation is None:
            cutter = Cutter(source.file.tracks)
            presentation = Presentation(source.file.tracks)
        for group in _cuts(source, cutter):
            if is_abandoned():
                raise Abandoned
            for cut in group:
                presentation.add(cut.run)
                extents.add(source.segment.file, cut.token, cut.source.position, cut.source.size)
                samples += len(cut.run)
        if samples > MAXIMUM_SAMPLES:
            raise PeriodTooLong
        digest.update(f"{source.segment.file}\0{source.base}\0{samples}\0".encode())
    if presentation is None or presentation.is_empty:
        raise NothingRecorded
    head = presentation.build_head()
    digest.update(head)
    return IndexedFile(files, head, extents, digest.hexdigest())


def media_segment(files: Files, name: str, begin: int, end: int, base: int) -> Iterator[bytes]:
    """Yield a media segment of HLS: the samples of a file from ``begin`` to before ``end``, in nanoseconds from its
    start, which is at ``base`` on the timeline of the playlist.

    Raises NothingRecorded, before the first block, UnreadableFile or OSError.
    """
    with files.open(name) as file:
        cutter = Cutter(file.tracks)
        timescales = {track.track_id: track.timescale for track in file.tracks}
        sequence = 0
        for piece in file.pieces(begin, end):
            for group in cutter.cut(piece, -begin, end - begin):
                # all segments of a file are shifted by the same number of ticks, so that they fit exactly
                shifts = [rescale(base, NANOSECONDS, timescales[cut.run.track_id]) for cut in group]
                runs = [
                    cut.source.at(max(cut.source.time + shift, 0)) for cut, shift in zip(group, shifts, strict=True)
                ]
                sequence += 1
                yield b"".join(
                    [build_fragment_head(sequence, runs), *(data for cut in group for data in _read(file, cut))]
                )
        if not sequence:
            raise NothingRecorded


def initialization(files: Files, name: str) -> bytes:
    """Return the init segment of a file. Raises UnreadableFile or OSError."""
    with files.open(name) as file:
        return build_fragmented_head(file.tracks)


class KeyPicture(NamedTuple):
    """A picture at which decoding can begin."""

    time: int
    """Its decoding time in nanoseconds from the start of its file."""
    media: bytes
    """A fragmented MP4 file with nothing else."""


def key_picture(files: Files, name: str, time: int, known: Callable[[int], bool]) -> KeyPicture | int:
    """Return the last key frame at or before ``time``, in nanoseconds from the start of a file, or else the first one.

    ``known``: whether the picture at a time is known; then only this time is returned. Raises NothingRecorded if there
    is none, UnreadableFile or OSError.
    """
    with files.open(name) as file:
        videos = {track.track_id: track for track in file.tracks if track.is_video}
        found: tuple[int, Piece, Run, int] | None = None
        for piece in file.pieces(time, time + 1):
            for run in piece.runs:
                if run.track_id not in videos or (found is not None and found[2].track_id != run.track_id):
                    continue
                timescale = videos[run.track_id].timescale
                index = run.last_sync(run.index_at(rescale(time, NANOSECONDS, timescale) + 1))
                if index is None and found is None:
                    index = next((place for place, flags in enumerate(run.flags) if not flags & NOT_SYNC), None)
                if index is not None:
                    at = run.time + sum(run.durations[:index])
                    found = rescale(at, timescale, NANOSECONDS), piece, run, index
        if found is None:
            raise NothingRecorded
        at, piece, run, index = found
        if known(at):
            return at
        sample = run.cut(index, index + 1)
        head = build_fragmented_head([videos[run.track_id]]) + build_fragment_head(1, [sample.at(0)])
        return KeyPicture(at, head + file.read(piece.token, sample.position, sample.size))
