"""Lists of many recorded files: how long the index takes to be made, and a list of a year in files of a minute.

``python -m bench.recordings [--segments 525600]`` makes that many names of a small recording in a temporary directory,
with a gap each day, and asks for the list as a playback server does. The first list makes the index.
"""

from __future__ import annotations

import argparse
import os
import statistics
import struct
import tempfile
import time
from pathlib import Path

from polycast.log import Log
from polycast.playback.index import RecordingIndex

MINUTE = 60
YEAR = 365 * 24 * 60
EPOCH = 1_700_000_000
LINKS = 50_000
"""Names of one file; ext4 allows 65,000."""
MINUTES_PER_DAY = 1440
REQUESTS = 20


def box(kind: bytes, *content: bytes) -> bytes:
    """Return a box (ISO/IEC 14496-12 section 4.2)."""
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, version: int, flags: int, *content: bytes) -> bytes:
    """Return a box with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def recording(seconds: int) -> bytes:
    """Return a file with one picture that is shown so long."""
    entry = box(b"avc1", bytes(78), box(b"avcC", b"\x01\x42\x00\x1e\xff\xe0\x00"))
    table = box(b"stbl", full(b"stsd", 0, 0, struct.pack(">I", 1), entry))
    media = box(
        b"mdia",
        full(b"mdhd", 0, 0, struct.pack(">IIIIHH", 0, 0, 90_000, 0, 0x55C4, 0)),
        full(b"hdlr", 0, 0, bytes(4), b"vide", bytes(12), b"\0"),
        box(b"minf", table),
    )
    track = box(b"trak", full(b"tkhd", 0, 3, struct.pack(">IIIII", 0, 0, 1, 0, 0), bytes(60)), media)
    extends = box(b"mvex", full(b"trex", 0, 0, struct.pack(">5I", 1, 1, 0, 0, 0)))
    header = full(b"mvhd", 0, 0, struct.pack(">IIII", 0, 0, 1000, seconds * 1000), bytes(80))
    run = full(b"trun", 1, 0x301, struct.pack(">IiII", 1, 108, seconds * 90_000, 4))
    times = full(b"tfdt", 1, 0, struct.pack(">Q", 0))
    fragment = box(b"traf", full(b"tfhd", 0, 0x020000, struct.pack(">I", 1)), times, run)
    moof = box(b"moof", full(b"mfhd", 0, 0, struct.pack(">I", 1)), fragment)
    return box(b"ftyp", b"mp42\0\0\0\x01mp41") + box(b"moov", header, track, extends) + moof + box(b"mdat", bytes(4))


def make_files(folder: Path, count: int) -> None:
    """Make ``count`` files of a minute, and leave out the last minute of each day."""
    content = recording(MINUTE)
    source = ""
    made = minute = 0
    while made < count:
        minute += 1
        if minute % MINUTES_PER_DAY == 0:
            continue
        name = str(folder / f"{EPOCH + minute * MINUTE}-000000.mp4")
        if made % LINKS == 0:
            Path(name).write_bytes(content)
            source = name
        else:
            os.link(source, name)
        made += 1
    for file in folder.iterdir():  # complete long ago
        os.utime(file, (EPOCH, EPOCH))


def milliseconds(index: RecordingIndex, start: int | None = None, end: int | None = None) -> tuple[float, float, int]:
    """Return how long a list takes, as a median and at most, and how many periods it has."""
    taken = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        periods = index.periods("cam", start, end)
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken), max(taken), len(periods)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=YEAR)
    count = parser.parse_args().segments
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        folder = Path(directory) / "cam"
        folder.mkdir()
        began = time.perf_counter()
        make_files(folder, count)
        print(f"{count:,} files made in {time.perf_counter() - began:.1f} s", flush=True)
        index = RecordingIndex(f"{directory}/%path/%s-%f", Log())
        began = time.perf_counter()
        index.periods("cam")
        taken = time.perf_counter() - began
        print(
            f"the first list, which makes the index: {taken:.1f} s, {taken / count * 1e6:.0f} us per file", flush=True
        )
        day = (EPOCH + 30 * 86_400) * 10**9
        for what, limits in (("everything", (None, None)), ("one day", (day, day + 86_400 * 10**9))):
            median, longest, periods = milliseconds(index, *limits)
            print(f"list of {what}: median {median:.2f} ms, at most {longest:.2f} ms, {periods} periods")
        (folder / f"{EPOCH + 10**9}-000000.mp4").write_bytes(recording(MINUTE))
        began = time.perf_counter()
        periods = len(index.periods("cam"))
        print(f"list after a file was added: {(time.perf_counter() - began) * 1000:.2f} ms, {periods} periods")
        index.close()
        index = RecordingIndex(f"{directory}/%path/%s-%f", Log())
        began = time.perf_counter()
        index.periods("cam")
        print(f"first list of the next run of the server: {(time.perf_counter() - began) * 1000:.2f} ms")
        index.close()


if __name__ == "__main__":
    main()
