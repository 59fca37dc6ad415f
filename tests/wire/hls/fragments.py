"""A minimal parser for MP4 fragments (ISO/IEC 14496-12 sections 8.8.7 and 8.8.8)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_CONTAINERS = (b"moof", b"traf")
_IS_NO_SYNC_SAMPLE = 0x10000


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Yield (type, body) of all boxes, with those in fragments, in order."""
    end = len(data) if end is None else end
    while start < end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if kind in _CONTAINERS:
            yield kind, b""
            yield from boxes(data, start + 8, start + size)
        else:
            yield kind, data[start + 8 : start + size]
        start += size


@dataclass
class TrackRun:
    """What a track fragment tells of its samples; in the form that our segments have."""

    track_id: int
    base_time: int
    durations: list[int]


def track_runs(data: bytes) -> list[TrackRun]:
    """Return the track fragments of a segment, in order."""
    runs: list[TrackRun] = []
    for kind, body in boxes(data):
        if kind == b"tfhd":
            runs.append(TrackRun(struct.unpack_from(">I", body, 4)[0], 0, []))
        elif kind == b"tfdt":
            runs[-1].base_time = struct.unpack_from(">Q", body, 4)[0]
        elif kind == b"trun":
            flags, count = struct.unpack_from(">II", body)
            width = sum(4 for bit in (0x100, 0x200, 0x400, 0x800) if flags & bit)
            runs[-1].durations = [struct.unpack_from(">I", body, 12 + width * index)[0] for index in range(count)]
    return runs


def has_sync_sample(fragment: bytes) -> bool:
    """Whether decoding can begin somewhere in each track of the fragment. In sound it always can."""
    tracks: list[bool] = []
    flags_of_track = None
    for kind, body in boxes(fragment):
        if kind == b"tfhd":
            flags_of_track = _default_flags(body)
        elif kind == b"trun":
            tracks.append(not all(flags & _IS_NO_SYNC_SAMPLE for flags in _sample_flags(body, flags_of_track)))
    return bool(tracks) and all(tracks)


def _default_flags(body: bytes) -> int | None:
    flags = struct.unpack_from(">I", body)[0] & 0xFFFFFF
    if not flags & 0x20:
        return None
    place = 8 + sum(size for bit, size in ((0x1, 8), (0x2, 4), (0x8, 4), (0x10, 4)) if flags & bit)
    return int(struct.unpack_from(">I", body, place)[0])


def _sample_flags(body: bytes, default: int | None) -> Iterator[int]:
    flags, count = struct.unpack_from(">II", body)
    place = 8 + (4 if flags & 0x1 else 0)
    first = None
    if flags & 0x4:
        first = struct.unpack_from(">I", body, place)[0]
        place += 4
    before = sum(4 for bit in (0x100, 0x200) if flags & bit)
    size = before + sum(4 for bit in (0x400, 0x800) if flags & bit)
    for number in range(count):
        if number == 0 and first is not None:
            yield first
        elif flags & 0x400:
            yield struct.unpack_from(">I", body, place + number * size + before)[0]
        else:
            yield default or 0
