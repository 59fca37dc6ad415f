"""The samples of movie fragments as columns of numbers: read, cut and written without touching each sample.

A sample is described where it is in a file; its bytes are never looked at.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from struct import pack, unpack_from
from typing import Final, TypeAlias

from polycast.errors import RemoteProtocolError
from polycast.wire.mp4.boxes import Box, iterate
from polycast.wire.mp4.recorded_movie import SampleDefaults

MAXIMUM_SAMPLES: Final = 1 << 20
"""Samples of one fragment: hours of sound. A row has four bytes or more, so the size of the moof box limits it too."""
MAXIMUM_RUNS: Final = 4_096
"""Track runs of one fragment."""
MAXIMUM_SIZE: Final = 1 << 30
"""Bytes of the samples of one fragment; offsets within it have 31 bits."""
MAXIMUM_TIME: Final = 1 << 61
"""Ticks: later times are invalid."""

NOT_SYNC: Final = 0x00010000
"""Sample flags: decoding cannot begin here (sample_is_non_sync_sample, section 8.8.3.1)."""

_BASE_DATA_OFFSET: Final = 0x000001
_SAMPLE_DESCRIPTION: Final = 0x000002
_DEFAULT_DURATION: Final = 0x000008
_DEFAULT_SIZE: Final = 0x000010
_DEFAULT_FLAGS: Final = 0x000020
_DEFAULT_BASE_IS_MOOF: Final = 0x020000
_RUN_DATA_OFFSET: Final = 0x000001
_RUN_FIRST_FLAGS: Final = 0x000004
_COLUMNS: Final = (0x000100, 0x000200, 0x000400, 0x000800)  # duration, size, flags, composition offset
_WRITTEN_FLAGS: Final = 0x01000000 | _RUN_DATA_OFFSET | sum(_COLUMNS)

Column: TypeAlias = "array[int]"


def _column(values: Sequence[int] = ()) -> Column:
    return array("I", values)


class Run:
    """Consecutive samples of one track whose bytes follow each other in the file. Treated as immutable."""

    __slots__ = ("compositions", "durations", "flags", "position", "sizes", "time", "track_id")

    def __init__(
        self,
        track_id: int,
        time: int,
        position: int,
        columns: tuple[Column, Column, Column, Column],
    ) -> None:
        """``columns``: durations, sizes, flags, and composition offsets (modulo 2**32) of the samples."""
        self.track_id = track_id
        self.time = time
        """Decoding time of the first sample in ticks of the track."""
        self.position = position
        """Offset of its first byte in the file."""
        self.durations, self.sizes, self.flags, self.compositions = columns

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def end(self) -> int:
        """Decoding time after the last sample."""
        return self.time + sum(self.durations)

    @property
    def size(self) -> int:
        """Bytes of all samples."""
        return sum(self.sizes)

    def index_at(self, time: int) -> int:
        """Return the index of the first sample that is not before ``time``; the number of samples if all are."""
        starts = list(accumulate(self.durations, initial=self.time))
        return bisect_left(starts, time, 0, len(self.sizes))

    def cut(self, first: int, last: int) -> Run:
        """Return the samples from index ``first`` to before ``last``."""
        if first == 0 and last >= len(self.sizes):
            return self
        return Run(
            self.track_id,
            self.time + sum(self.durations[:first]),
            self.position + sum(self.sizes[:first]),
            (self.durations[first:last], self.sizes[first:last], self.flags[first:last], self.compositions[first:last]),
        )

    def at(self, time: int) -> Run:
        """Return the same samples at another decoding time."""
        return Run(self.track_id, time, self.position, (self.durations, self.sizes, self.flags, self.compositions))

    def without_duration(self, time: int) -> Run:
        """Return the same samples, all at one time: a decoder gets them, but nobody sees them."""
        return Run(
            self.track_id, time, self.position, (_column([0]) * len(self), self.sizes, self.flags, self.compositions)
        )

    def last_sync(self, end: int) -> int | None:
        """Return the index of the last sample before index ``end`` at which decoding can begin."""
        flags = self.flags
        for index in range(min(end, len(flags)) - 1, -1, -1):
            if not flags[index] & NOT_SYNC:
                return index
        return None

    def sync_times(self) -> list[int]:
        """Return the decoding times of the samples at which decoding can begin."""
        found = [index for index, flags in enumerate(self.flags) if not flags & NOT_SYNC]
        if not found:
            return []
        starts = list(accumulate(self.durations, initial=self.time))
        return [starts[index] for index in found]

    def within(self, limit: int) -> Run:
        """Return the samples whose bytes are before offset ``limit`` of the file."""
        if self.position + self.size <= limit:
            return self
        ends = list(accumulate(self.sizes, initial=self.position))
        return self.cut(0, max(bisect_left(ends, limit + 1) - 1, 0))


class _FragmentHeader:
    """What a tfhd box says (section 8.8.7)."""

    __slots__ = ("base", "defaults", "track_id")

    def __init__(self, data: bytes, box: Box, known: Mapping[int, SampleDefaults], moof: int, end: int) -> None:
        """``moof`` is the offset of the moof box in the file, ``end`` that after the samples of the track before."""
        if box.end - box.content < 8:
            raise RemoteProtocolError("a track fragment header is too short")
        flags, self.track_id = unpack_from(">II", data, box.content)
        fields = data[box.content + 8 : box.end] + bytes(24)
        offset = 0

        def take(bit: int, size: int, default: int) -> int:
            nonlocal offset
            if not flags & bit:
                return default
            offset += size
            return int.from_bytes(fields[offset - size : offset], "big")

        base = moof if flags & _DEFAULT_BASE_IS_MOOF else end
        self.base = take(_BASE_DATA_OFFSET, 8, base)
        take(_SAMPLE_DESCRIPTION, 4, 0)
        default = known.get(self.track_id, SampleDefaults())
        self.defaults = SampleDefaults(
            take(_DEFAULT_DURATION, 4, default.duration),
            take(_DEFAULT_SIZE, 4, default.size),
            take(_DEFAULT_FLAGS, 4, default.flags),
        )


class _Reader:
    """Reads the track fragments of one moof box."""

    def __init__(self, data: bytes, offset: int, defaults: Mapping[int, SampleDefaults]) -> None:
        self._data = data
        self._offset = offset
        self._defaults = defaults
        self._end = offset
        self._samples = self._size = 0
        self.runs: list[Run] = []

    def read(self, box: Box) -> None:
        data = self._data
        for fragment in iterate(data, box.content, box.end):
            if fragment.kind != b"traf":
                continue
            header: _FragmentHeader | None = None
            time = 0
            for child in iterate(data, fragment.content, fragment.end):
                if child.kind == b"tfhd":
                    header = _FragmentHeader(data, child, self._defaults, self._offset, self._end)
                    self._end = header.base
                elif child.kind == b"tfdt":
                    time = _decode_time(data, child)
                elif child.kind == b"trun" and header is not None:
                    time = self._read_run(child, header, time)

    def _read_run(self, box: Box, header: _FragmentHeader, time: int) -> int:
        """Add a run; return the decoding time after it."""
        data = self._data
        if box.end - box.content < 8:
            raise RemoteProtocolError("a track run is too short")
        flags, count = unpack_from(">II", data, box.content)
        offset = box.content + 8
        is_present = [bool(flags & bit) for bit in _COLUMNS]
        fixed = 4 * (bool(flags & _RUN_DATA_OFFSET) + bool(flags & _RUN_FIRST_FLAGS))
        row = sum(is_present)
        self._samples += count
        if self._samples > MAXIMUM_SAMPLES or offset + fixed + 4 * row * count > box.end:
            raise RemoteProtocolError("a track run has too many samples")
        if len(self.runs) == MAXIMUM_RUNS:
            raise RemoteProtocolError("a movie fragment has too many track runs")
        position = self._end
        if flags & _RUN_DATA_OFFSET:
            position = header.base + unpack_from(">i", data, offset)[0]
        first_flags = unpack_from(">I", data, offset + fixed - 4)[0] if flags & _RUN_FIRST_FLAGS else None
        table = _column()
        table.frombytes(data[offset + fixed : offset + fixed + 4 * row * count])
        if sys.byteorder == "little":
            table.byteswap()
        columns: list[Column] = []
        place = 0
        for present, default in zip(is_present, (*header.defaults, 0), strict=True):
            columns.append(table[place::row] if present else _column([default]) * count)
            place += present
        if first_flags is not None and count:
            columns[2][0] = first_flags
        if position < 0:
            raise RemoteProtocolError("a track run is before the start of the file")
        run = Run(header.track_id, time, position, (columns[0], columns[1], columns[2], columns[3]))
        self._end = position + run.size
        self._size += run.size
        if self._size > MAXIMUM_SIZE:
            raise RemoteProtocolError("a movie fragment is too large")
        if count:
            self.runs.append(run)
        return run.end


def _decode_time(data: bytes, box: Box) -> int:
    content = data[box.content : box.end]
    wide = len(content) >= 12 and content[0] == 1
    time = int.from_bytes(content[4:12] if wide else content[4:8], "big")
    if len(content) < 8 or time > MAXIMUM_TIME:
        raise RemoteProtocolError("a decoding time is not valid")
    return time


def read_runs(data: bytes, offset: int, defaults: Mapping[int, SampleDefaults]) -> list[Run]:
    """Return the samples that a moof box describes, by their tracks, in its order.

    Args:
        data: The whole box.
        offset: Where it is in the file.
        defaults: Of the samples of each track.

    Raises RemoteProtocolError if it is invalid.

    """
    reader = _Reader(data, offset, defaults)
    reader.read(next(iterate(data, 0, len(data))))
    return reader.runs


def build_fragment_head(sequence: int, runs: Sequence[Run]) -> bytes:
    """Return moof and the header of mdat (section 8.8), to be followed by the samples of the runs.

    ``sequence`` is the number of the fragment, written modulo 2**32. Times must be 0 or more.
    """
    run_sizes = [20 + 16 * len(run) for run in runs]
    moof_size = 24 + sum(run_sizes) + 44 * len(runs)
    payload = sum(run.size for run in runs)
    data_offset = moof_size + 8
    pieces = [pack(">I4sI4sII", moof_size, b"moof", 16, b"mfhd", 0, sequence & 0xFFFFFFFF)]
    for run, size in zip(runs, run_sizes, strict=True):
        pieces.append(pack(">I4sI4sII", 44 + size, b"traf", 16, b"tfhd", _DEFAULT_BASE_IS_MOOF, run.track_id))
        pieces.append(pack(">I4sIQ", 20, b"tfdt", 0x01000000, run.time))
        pieces.append(pack(">I4sIII", size, b"trun", _WRITTEN_FLAGS, len(run), data_offset))
        table = _column([0]) * (4 * len(run))
        table[0::4], table[1::4], table[2::4], table[3::4] = run.durations, run.sizes, run.flags, run.compositions
        if sys.byteorder == "little":
            table.byteswap()
        pieces.append(table.tobytes())
        data_offset += run.size
    pieces.append(pack(">I4s", 8 + payload, b"mdat"))
    return b"".join(pieces)
