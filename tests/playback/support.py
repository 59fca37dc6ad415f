"""Writes and reads recorded files, without the code that is tested, and a server that plays them."""

from __future__ import annotations

import contextlib
import struct
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from tests.control.support import Server, running

STREAM = uuid.UUID("f5e6a1d0-0000-4000-8000-0123456789ab")
OTHER_STREAM = uuid.UUID("00000000-1111-4000-8000-0123456789ab")
VIDEO, AUDIO = 1, 2
RATES = {VIDEO: 90_000, AUDIO: 48_000}
EPOCH = 1_700_000_000
"""When the recordings of most tests begin, in seconds since 1970: 2023-11-14T22:13:20Z."""
SECOND = 1_000_000_000


@dataclass
class Sample:
    """One sample; times in ticks of its track."""

    track: int
    time: int
    duration: int
    data: bytes
    key: bool = True
    composition: int = 0


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, version: int, flags: int, *content: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def track_box(track: int, entry: bytes) -> bytes:
    is_video = track == VIDEO
    handler = b"vide" if is_video else b"soun"
    header = vmhd if is_video else smhd
    table = box(
        b"stbl",
        full(b"stsd", 0, 0, struct.pack(">I", 1), entry),
        *(full(kind, 0, 0, bytes(8 if kind == b"stsz" else 4)) for kind in (b"stts", b"stsc", b"stsz", b"stco")),
    )
    data = box(b"dinf", full(b"dref", 0, 0, struct.pack(">I", 1), full(b"url ", 0, 1)))
    return box(
        b"trak",
        full(b"tkhd", 0, 3, struct.pack(">IIIII", 0, 0, track, 0, 0), bytes(60)),
        box(
            b"mdia",
            full(b"mdhd", 0, 0, struct.pack(">IIIIHH", 0, 0, RATES[track], 0, 0x55C4, 0)),
            full(b"hdlr", 0, 0, bytes(4), handler, bytes(12), b"\0"),
            box(b"minf", header, data, table),
        ),
    )


vmhd = full(b"vmhd", 0, 1, bytes(8))
smhd = full(b"smhd", 0, 0, bytes(4))
VIDEO_ENTRY = box(b"avc1", bytes(78), box(b"avcC", b"\x01\x42\x00\x1e\xff\xe0\x00"))
OTHER_ENTRY = box(b"hvc1", bytes(78), box(b"hvcC", bytes(23)))
AUDIO_ENTRY = box(b"mp4a", bytes(28))


def head(
    *,
    place: tuple[uuid.UUID, int, int, int] | None = None,
    duration: int = 0,
    video: bytes = VIDEO_ENTRY,
    tracks: Sequence[int] = (VIDEO, AUDIO),
    boxes_of_tracks: Sequence[bytes] = (),
) -> bytes:
    """Return ftyp and moov. ``place``: recording, number, time, wall-clock time; ``duration`` in milliseconds."""
    entries = {VIDEO: video, AUDIO: AUDIO_ENTRY}
    extends = [full(b"trex", 0, 0, struct.pack(">5I", track, 1, 0, 0, 0)) for track in tracks]
    information = b""
    if place is not None:
        content = struct.pack(">16sQqq", place[0].bytes, *place[1:])
        information = box(b"udta", full(b"mtxi", 0, 0, content))
    return box(b"ftyp", b"mp42\0\0\0\x01mp41mp42isomhlsf") + box(
        b"moov",
        full(b"mvhd", 0, 0, struct.pack(">IIII", 0, 0, 1000, duration), bytes(80)),
        *(boxes_of_tracks or [track_box(track, entries[track]) for track in tracks]),
        box(b"mvex", *extends),
        information,
    )


def fragment(number: int, samples: Iterable[Sample]) -> bytes:
    """Return moof and mdat, with one track fragment per track."""
    by_track: dict[int, list[Sample]] = {}
    for sample in samples:
        by_track.setdefault(sample.track, []).append(sample)

    def moof(offset: int) -> bytes:
        parts = [full(b"mfhd", 0, 0, struct.pack(">I", number))]
        for track, found in by_track.items():
            rows = [
                struct.pack(">IIIi", each.duration, len(each.data), 0 if each.key else 1 << 16, each.composition)
                for each in found
            ]
            run = full(b"trun", 1, 0xF01, struct.pack(">Ii", len(found), offset), *rows)
            times = full(b"tfdt", 1, 0, struct.pack(">Q", found[0].time))
            parts.append(box(b"traf", full(b"tfhd", 0, 0x020000, struct.pack(">I", track)), times, run))
            offset += sum(len(each.data) for each in found)
        return box(b"moof", *parts)

    payload = b"".join(each.data for found in by_track.values() for each in found)
    return moof(len(moof(0)) + 8) + box(b"mdat", payload)


def camera(seconds: int, name: str = "a", *, gop: int = 2, rate: int = 10, first: int = 0) -> list[list[Sample]]:
    """Return the samples of a camera by seconds: ``rate`` pictures and 50 packets of sound per second.

    The bytes of each tell what it is: ``a-video-12``, counted from the start of the recording (``first`` seconds).
    """
    found = []
    for second in range(seconds):
        samples = []
        for number in range(second * rate, (second + 1) * rate):
            text = f"{name}-video-{first * rate + number};".encode() * (1 + number % 3)
            key = number % (gop * rate) == 0
            samples.append(Sample(VIDEO, number * 90_000 // rate, 90_000 // rate, text, key, 9_000))
        for number in range(second * 50, (second + 1) * 50):
            samples.append(Sample(AUDIO, number * 960, 960, f"{name}-audio-{first * 50 + number};".encode()))
        found.append(samples)
    return found


def movie(parts: Sequence[Sequence[Sample]], **options: Any) -> bytes:
    """Return a whole file with a fragment of each part."""
    return head(**options) + b"".join(fragment(number, samples) for number, samples in enumerate(parts))


class Recorder:
    """A directory with the recordings of a path."""

    def __init__(self, root: Path, path: str = "cam") -> None:
        self.root = root
        self.folder = root / path
        self.folder.mkdir(parents=True, exist_ok=True)
        self.record_path = str(root / "%path" / "%s-%f")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a path. Old recordings are kept."""
        return {"recordPath": self.record_path, "recordDeleteAfter": "0s"}

    def name(self, start: float, extension: str = "mp4") -> Path:
        """Return the name of the file that starts this many seconds after `EPOCH`."""
        seconds, microseconds = divmod(round((EPOCH + start) * 1_000_000), 1_000_000)
        return self.folder / f"{seconds}-{microseconds:06}.{extension}"

    def write(self, start: float, seconds: int, number: int | None = None, **options: Any) -> Path:
        """Write a file of a recording; with ``number``, it says where it belongs."""
        stream = options.pop("stream", STREAM)
        name = options.pop("name", "a")
        file = self.name(start)
        if number is not None:
            options["place"] = (stream, number, int(start * SECOND), int((EPOCH + start) * SECOND))
        options.setdefault("duration", seconds * 1000)
        file.write_bytes(movie(camera(seconds, name, first=int(start)), **options))
        return file


@contextlib.asynccontextmanager
async def playing(recorder: Recorder, **values: Any) -> AsyncIterator[tuple[Server, httpx2.AsyncClient]]:
    """Run a server that plays recordings, with a client for it."""
    keys = {
        "rtspDisable": True,
        "rtmpDisable": True,
        "hlsDisable": True,
        "api": False,
        "metrics": False,
        "playback": True,
        "playbackAddress": "127.0.0.1:0",
        "paths": {"all": recorder.settings},
    }
    async with running(**{**keys, **values}) as server:
        yield server, server.http("playback")


# Reading


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, offset of the content and end of each box."""
    end = len(data) if end is None else end
    while start < end:
        size, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1:
            size = struct.unpack_from(">Q", data, content)[0]
            content += 8
        assert content <= start + size <= end, (kind, start, size, end)
        yield kind, content, start + size
        start += size


def inside(data: bytes, *path: bytes) -> bytes:
    """Return the content of the first box at a path of types."""
    for kind in path:
        data = next(data[content:end] for found, content, end in boxes(data) if found == kind)
    return data


def read_fragments(data: bytes) -> dict[int, list[Sample]]:
    """Return the samples of a fragmented file or of media segments, by track."""
    samples: dict[int, list[Sample]] = {}
    start = 0
    for kind, content, end in boxes(data):
        if kind == b"moof":
            for child, at, stop in boxes(data, content, end):
                if child == b"traf":
                    read_track_fragment(data, at, stop, start, samples)
        start = end
    return samples


def read_track_fragment(data: bytes, at: int, stop: int, moof: int, samples: dict[int, list[Sample]]) -> None:
    track = time = 0
    for kind, content, _ in boxes(data, at, stop):
        if kind == b"tfhd":
            flags, track = struct.unpack_from(">II", data, content)
            assert flags == 0x020000
        elif kind == b"tfdt":
            time = struct.unpack_from(">Q", data, content + 4)[0]
        elif kind == b"trun":
            flags, count, offset = struct.unpack_from(">IIi", data, content)
            assert flags == 0x01000F01
            position = moof + offset
            for index in range(count):
                row = struct.unpack_from(">IIIi", data, content + 12 + 16 * index)
                payload = data[position : position + row[1]]
                sample = Sample(track, time, row[0], payload, not row[2] & 1 << 16, row[3])
                samples.setdefault(track, []).append(sample)
                position += row[1]
                time += row[0]


@dataclass
class IndexedTrack:
    """A track of a file with an index."""

    samples: list[Sample]
    edits: list[tuple[int, int]]
    """Duration in milliseconds, and media time in ticks."""


def read_indexed(data: bytes) -> dict[int, IndexedTrack]:
    """Return the tracks of an MP4 file with an index."""
    assert [kind for kind, _, _ in boxes(data)] == [b"ftyp", b"moov", b"mdat"]
    movie_content = inside(data, b"moov")
    found = {}
    for kind, content, end in boxes(movie_content):
        if kind == b"trak":
            trak = movie_content[content:end]
            track = struct.unpack_from(">I", inside(trak, b"tkhd"), 20)[0]
            found[track] = IndexedTrack(read_table(data, track, inside(trak, b"mdia", b"minf", b"stbl")), [])
            if b"edts" in [each for each, _, _ in boxes(trak)]:
                edits = inside(trak, b"edts", b"elst")
                count = struct.unpack_from(">I", edits, 4)[0]
                found[track].edits = [struct.unpack_from(">Qq", edits, 8 + 20 * index) for index in range(count)]
    return found


def read_table(data: bytes, track: int, table: bytes) -> list[Sample]:
    def numbers(kind: bytes, form: str = "I", skipped: int = 8) -> list[int]:
        content = inside(table, kind)[skipped:]
        return [value for (value,) in struct.iter_unpack(f">{form}", content)]

    present = [kind for kind, _, _ in boxes(table)]
    sizes, offsets, chunks = numbers(b"stsz", skipped=12), numbers(b"co64", "Q"), numbers(b"stsc")
    stts, ctts = numbers(b"stts"), numbers(b"ctts", "i") if b"ctts" in present else [len(sizes), 0]
    keys = set(numbers(b"stss")) if b"stss" in present else set(range(1, len(sizes) + 1))
    durations = [value for count, value in zip(stts[::2], stts[1::2], strict=True) for _ in range(count)]
    compositions = [value for count, value in zip(ctts[::2], ctts[1::2], strict=True) for _ in range(count)]
    assert len(durations) == len(compositions) == len(sizes)
    samples: list[Sample] = []
    time = 0
    for number, position in enumerate(offsets, 1):
        count = next(chunks[index + 1] for index in range(len(chunks) - 3, -1, -3) if chunks[index] <= number)
        for _ in range(count):
            index = len(samples)
            payload = data[position : position + sizes[index]]
            samples.append(Sample(track, time, durations[index], payload, index + 1 in keys, compositions[index]))
            position += sizes[index]
            time += durations[index]
    assert len(samples) == len(sizes)
    return samples
