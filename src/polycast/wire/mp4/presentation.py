"""Writes files that other programs copy tracks into: the heads of fragmented ones, and whole MP4 files with an index of
their samples (ISO/IEC 14496-12 section 8.6).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby
from struct import pack
from typing import Final

from polycast.media.timebase import rescale
from polycast.wire.mp4.boxes import box, find, full_box, iterate, read_header
from polycast.wire.mp4.recorded_movie import RecordedTrack
from polycast.wire.mp4.runs import NOT_SYNC, Run

_FILE_TYPE: Final = box(b"ftyp", b"mp42", pack(">I", 1), b"mp41mp42isomhlsf")
_MATRIX: Final = pack(">9I", 0x00010000, 0, 0, 0, 0x00010000, 0, 0, 0, 0x40000000)
_MOVIE_TIMESCALE: Final = 1000
_NOT_COPIED: Final = (b"edts", b"tref", b"meta", b"udta")


def _movie_header(duration: int, tracks: Sequence[RecordedTrack]) -> bytes:
    next_track = max(track.track_id for track in tracks) + 1
    fields = pack(">QQIQIH10x", 0, 0, _MOVIE_TIMESCALE, duration, 0x00010000, 0x0100)
    return full_box(b"mvhd", 1, 0, fields, _MATRIX, pack(">24xI", next_track & 0xFFFFFFFF))


def build_fragmented_head(tracks: Sequence[RecordedTrack]) -> bytes:
    """Return ftyp and moov of a fragmented file with these tracks."""
    extends = [full_box(b"trex", 0, 0, pack(">IIIII", track.track_id, 1, 0, 0, 0)) for track in tracks]
    boxes = [track.box for track in tracks]
    return _FILE_TYPE + box(b"moov", _movie_header(0, tracks), *boxes, box(b"mvex", *extends))


class _Lengths:
    """Equal numbers in a row, counted: the form of stts and ctts boxes."""

    def __init__(self) -> None:
        self.pairs = array("I")
        """Count and number, alternating."""

    def extend(self, values: array[int]) -> None:
        pairs = self.pairs
        for value, group in groupby(values):
            count = sum(1 for _ in group)
            if pairs and pairs[-1] == value:
                pairs[-2] += count
            else:
                pairs.extend((count, value))

    def set_last(self, value: int) -> None:
        """Change the last number."""
        pairs = self.pairs
        pairs[-2] -= 1
        if not pairs[-2]:
            del pairs[-2:]
        self.extend(array("I", (value,)))


class _TrackIndex:
    """The samples of one track, as they are collected."""

    def __init__(self, track: RecordedTrack) -> None:
        self.track = track
        self.sizes = array("I")
        self.durations = _Lengths()
        self.compositions = _Lengths()
        self.sync = array("I")
        """Numbers of the samples at which decoding can begin, from 1."""
        self.chunk_samples = array("I")
        """Number of samples of each chunk."""
        self.chunk_offsets = array("Q")
        """Offset of the first byte of each chunk from the start of the media."""
        self.start = 0
        """Decoding time of the first sample in ticks; may be negative."""
        self.end = 0
        self._last = 0

    def add(self, run: Run, offset: int) -> None:
        if not self.sizes:
            self.start = run.time
        elif run.time != self.end:
            # the sample before is shown until this one is due
            self.durations.set_last(max(self._last + run.time - self.end, 0))
        self._last = run.durations[-1]
        self.end = run.end
        first = len(self.sizes) + 1
        self.sync.extend(first + index for index, flags in enumerate(run.flags) if not flags & NOT_SYNC)
        self.sizes.extend(run.sizes)
        self.durations.extend(run.durations)
        self.compositions.extend(run.compositions)
        self.chunk_samples.append(len(run))
        self.chunk_offsets.append(offset)

    def build(self, media_offset: int) -> bytes:
        """Return the trak box; ``media_offset`` is the file offset of the first byte of the media."""
        track = self.track
        data = track.box
        trak = read_header(data, 0, len(data))
        assert trak is not None
        length = max(self.end - self.start, 0)
        shown = max(rescale(self.end, track.timescale, _MOVIE_TIMESCALE), 0)
        pieces = []
        for child in iterate(data, trak.content, trak.end):
            content = data[child.content : child.end]
            if child.kind == b"tkhd":
                pieces += [_with_duration(b"tkhd", content, shown), self._edits()]
            elif child.kind == b"mdia":
                pieces.append(self._media(content, length, media_offset))
            elif child.kind not in _NOT_COPIED:
                pieces.append(data[child.start : child.end])
        return box(b"trak", *pieces)

    def _edits(self) -> bytes:
        """Return the edit list: what precedes time 0 is decoded, but not shown (section 8.6.6)."""
        shown = max(rescale(self.end, self.track.timescale, _MOVIE_TIMESCALE), 0)
        if self.start < 0:
            entries = [(shown, -self.start)]
        elif self.start > 0:
            delay = rescale(self.start, self.track.timescale, _MOVIE_TIMESCALE)
            entries = [(delay, -1), (max(shown - delay, 0), 0)]
        else:
            return b""
        rows = [pack(">QqI", duration, time, 0x00010000) for duration, time in entries]
        return box(b"edts", full_box(b"elst", 1, 0, pack(">I", len(rows)), *rows))

    def _media(self, content: bytes, length: int, media_offset: int) -> bytes:
        pieces = []
        for child in iterate(content, 0, len(content)):
            body = content[child.content : child.end]
            if child.kind == b"mdhd":
                pieces.append(_with_duration(b"mdhd", body, length))
            elif child.kind == b"minf":
                table = find(content, child, b"stbl")
                kept = [
                    content[part.start : part.end]
                    for part in iterate(content, child.content, child.end)
                    if part.kind != b"stbl"
                ]
                description = find(content, table, b"stsd") if table is not None else None
                if description is not None:
                    kept.append(self._table(content[description.start : description.end], media_offset))
                pieces.append(box(b"minf", *kept))
            else:
                pieces.append(content[child.start : child.end])
        return box(b"mdia", *pieces)

    def _table(self, description: bytes, media_offset: int) -> bytes:
        durations, compositions = self.durations.pairs, self.compositions.pairs
        pieces = [description, full_box(b"stts", 0, 0, pack(">I", len(durations) // 2), _bytes(durations))]
        if len(self.sync) != len(self.sizes):
            pieces.append(full_box(b"stss", 0, 0, pack(">I", len(self.sync)), _bytes(self.sync)))
        if compositions[1:] != array("I", [0]):
            count = pack(">I", len(compositions) // 2)
            pieces.append(full_box(b"ctts", 1, 0, count, _bytes(compositions)))
        chunks = array("I")
        last = 0
        for number, count_of_samples in enumerate(self.chunk_samples, 1):
            if count_of_samples != last:
                chunks.extend((number, count_of_samples, 1))
                last = count_of_samples
        pieces.append(full_box(b"stsc", 0, 0, pack(">I", len(chunks) // 3), _bytes(chunks)))
        pieces.append(full_box(b"stsz", 0, 0, pack(">II", 0, len(self.sizes)), _bytes(self.sizes)))
        offsets = array("Q", (media_offset + offset for offset in self.chunk_offsets))
        pieces.append(full_box(b"co64", 0, 0, pack(">I", len(offsets)), _bytes(offsets)))
        return box(b"stbl", *pieces)


class Presentation:
    """Collects the samples of a file with an index; then the head of the file is known, and how large it is.

    The samples follow the head in the order in which they were added.
    """

    def __init__(self, tracks: Sequence[RecordedTrack]) -> None:
        self._indexes = {track.track_id: _TrackIndex(track) for track in tracks}
        self.media_size = 0
        """Bytes of all samples."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is shown: there is no sample that lasts beyond time 0."""
        return all(not index.sizes or index.end <= 0 for index in self._indexes.values())

    def add(self, run: Run) -> None:
        """Add samples of one track. Samples before time 0 are decoded, but not shown."""
        if len(run):
            self._indexes[run.track_id].add(run, self.media_size)
            self.media_size += run.size

    def build_head(self) -> bytes:
        """Return ftyp, moov and the header of mdat."""
        used = [index for index in self._indexes.values() if index.sizes]
        media = pack(">I4sQ", 1, b"mdat", 16 + self.media_size)
        size = sum(map(len, self._movie(used, 0)))
        head = b"".join(self._movie(used, size + len(media)))
        return head + media

    def _movie(self, used: Sequence[_TrackIndex], media_offset: int) -> Iterator[bytes]:
        tracks = [index.track for index in used]
        duration = max((rescale(index.end, index.track.timescale, _MOVIE_TIMESCALE) for index in used), default=0)
        yield _FILE_TYPE
        yield box(b"moov", _movie_header(max(duration, 0), tracks), *(index.build(media_offset) for index in used))


def _bytes(values: array[int]) -> bytes:
    if sys.byteorder == "little":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _with_duration(kind: bytes, content: bytes, duration: int) -> bytes:
    """Return a tkhd or mdhd box with another duration, in version 1, whose duration has 64 bits."""
    wide = content[0] == 1
    times, size = (16, 8) if wide else (8, 4)
    created = content[4 : 4 + times]
    if not wide:
        created = bytes(4) + created[:4] + bytes(4) + created[4:]
    fixed = 8 if kind == b"tkhd" else 4  # track id and four reserved bytes; time scale
    rest = content[4 + times : 4 + times + fixed]
    after = content[4 + times + fixed + size :]
    return full_box(kind, 1, int.from_bytes(content[1:4], "big"), created, rest, duration.to_bytes(8, "big"), after)
