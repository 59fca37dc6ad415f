"""Fuzz target: the index of MP4 files. Only `RemoteProtocolError` may leave it."""

from __future__ import annotations

import struct

from polycast.codecs import aac
from polycast.errors import RemoteProtocolError
from polycast.media.codec import H264, MPEG4Audio
from polycast.wire.mp4.boxes import Box, box, full_box, iterate
from polycast.wire.mp4.initialization import InitializationTrack, build_initialization
from polycast.wire.mp4.movie import read_index

_SPS = bytes.fromhex("6742c028d900780227e584000003000400000300f03c60c920")
_PPS = bytes.fromhex("68ce3c80")
_AAC = MPEG4Audio(aac.build_audio_specific_config(2, 48_000, 2), 48_000, 2)
_PARENTS = (b"moov", b"trak", b"mdia", b"minf")


def fuzz_one(data: bytes) -> None:
    """Read an index; its tables have one entry per sample."""
    try:
        movie = read_index(data)
    except RemoteProtocolError:
        return
    for track in movie.tracks:
        count = len(track.sizes)
        assert len(track.positions) == len(track.compositions) == len(track.times) - 1 == count
        assert list(track.times) == sorted(track.times)


def _table(kind: bytes, *rows: tuple[int, ...]) -> bytes:
    numbers = [number for row in rows for number in row]
    return full_box(kind, 0, 0, struct.pack(f">I{len(numbers)}I", len(rows), *numbers))


_TABLES = (
    _table(b"stts", (2, 100), (1, 50))
    + _table(b"ctts", (3, 200))
    + full_box(b"stsz", 0, 0, struct.pack(">5I", 0, 3, 10, 20, 30))
    + _table(b"stsc", (1, 2, 1), (2, 1, 1))
    + _table(b"stco", (1000,), (5000,))
)


def _with_tables(data: bytes, start: int, end: int) -> bytes:
    return b"".join(_rebuilt(data, each) for each in iterate(data, start, end))


def _rebuilt(data: bytes, each: Box) -> bytes:
    content = data[each.content : each.end]
    if each.kind in _PARENTS:
        content = _with_tables(data, each.content, each.end)
    elif each.kind == b"stbl":
        description = next(child for child in iterate(data, each.content, each.end) if child.kind == b"stsd")
        content = data[description.start : description.end] + _TABLES
    return box(each.kind, content)


def _seed() -> bytes:
    data = build_initialization(
        [InitializationTrack(1, H264(_SPS, _PPS), 90_000, "eng"), InitializationTrack(2, _AAC, 48_000, "eng")]
    )
    movie = next(each for each in iterate(data, 0, len(data)) if each.kind == b"moov")
    return _with_tables(data, movie.start, movie.end)


SEEDS: list[bytes] = [_seed()]
