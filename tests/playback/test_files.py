"""Recorded files that are damaged, incomplete, being written, or no recordings: the others are played."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest
from tests.playback.support import (
    EPOCH,
    SECOND,
    STREAM,
    VIDEO,
    Recorder,
    Sample,
    camera,
    fragment,
    head,
    movie,
    playing,
    read_fragments,
    read_indexed,
)
from tests.playback.test_get import at, names

from polycast.log import Log
from polycast.playback.index import NAME, Period, RecordingIndex
from polycast.playback.opening import open_file


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


def index_of(recorder: Recorder) -> RecordingIndex:
    return RecordingIndex(recorder.record_path, Log())


def periods(index: RecordingIndex, *limits: float) -> list[tuple[float, float]]:
    """Return the start and end of each period in seconds after the start of the recordings."""
    times = [round((EPOCH + limit) * SECOND) for limit in limits]
    found: list[Period] = index.periods("cam", *times)
    return [((start - EPOCH * SECOND) / SECOND, (end - EPOCH * SECOND) / SECOND) for start, end in found]


def part(number: int) -> bytes:
    """Return a fragment with one second of a camera."""
    return fragment(number, camera(10)[number])


GOOD = head(place=(STREAM, 1, 4 * SECOND, 0)) + part(0) + part(1)
DAMAGED = {
    "empty": b"",
    "four bytes": GOOD[:4],
    "half a head": GOOD[:200],
    "no fragment": head(),
    "text": b"This is no recording, but somebody's notes.\n" * 10,
    "zeros": bytes(4096),
    "no moov": GOOD[:32] + part(0),
    "another start": b"\0\0\0\x08free" + GOOD,
    "half a moof": head() + part(0)[:300],
    "not fragmented": head().replace(b"mvex", b"free") + part(0),
    "no track": head(tracks=()) + part(0),
    "samples after 600 years": head() + fragment(0, [Sample(VIDEO, 1 << 61, 3000, b"a")]),
    "huge moov": b"\0\0\0\x20ftyp" + bytes(24) + b"\x7f\xff\xff\xffmoov" + bytes(100),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
async def test_a_damaged_file_is_left_out(recorder: Recorder, content: bytes) -> None:
    recorder.write(0, 4, 0)
    damaged = recorder.name(4)
    damaged.write_bytes(content)
    os.utime(damaged, (EPOCH, EPOCH))
    recorder.write(8, 4, 2)
    async with playing(recorder) as (server, client):
        response = await client.get("/list", params={"path": "cam"})
        assert response.status_code == 200
        assert [(entry["start"], entry["duration"]) for entry in response.json()] == [
            (at(0)[:19] + "Z", 4),
            (at(8)[:19] + "Z", 4),
        ]
        for form in ("fmp4", "mp4"):
            query = {"path": "cam", "start": at(1), "duration": "20", "format": form}
            body = (await client.get("/get", params=query)).content
            video = read_fragments(body)[VIDEO] if form == "fmp4" else read_indexed(body)[VIDEO].samples
            assert names(video)[-1] == 39
        for _ in range(2):  # it is complained about once
            assert (await client.get("/list", params={"path": "cam"})).status_code == 200
        warnings = [line for line in server.log.lines if line.startswith("WARNING") and damaged.name in line]
        assert len(warnings) == 1
        assert "cannot be played: " in warnings[0]


async def test_a_file_of_an_impossible_year_is_left_out(recorder: Recorder) -> None:
    recorder.write(0, 4, 0)
    (recorder.folder / "9999999999-000000.mp4").write_bytes(GOOD)  # in 2286: more than 63 bits of nanoseconds
    async with playing(recorder) as (_, client):
        response = await client.get("/list", params={"path": "cam"})
        assert [entry["duration"] for entry in response.json()] == [4]


BROKEN = {
    "cut in a sample": (GOOD[:-200], 2),
    "cut in a moof": (GOOD + part(2)[:100], 2),
    "zeros at the end": (GOOD + bytes(5000), 2),
    "too many boxes": (GOOD + b"\0\0\0\x08free" * 70_000 + part(2), 2),
    "text at the end": (GOOD + b"and then something else" * 100, 2),
    "a box that is too large": (GOOD + b"\x7f\xff\xff\xffmdat", 2),
    "a damaged moof": (GOOD + part(2).replace(b"tfdt", b"tfxx").replace(b"trun", b"trxx") + part(3), 4),
    "an unknown track": (
        GOOD + part(2).replace(b"\x00\x02\x00\x00\x00\x00\x00\x01", b"\x00\x02\x00\x00\x00\x00\x00\x09"),
        3,
    ),
    "other boxes between": (head() + b"\0\0\0\x0cfreeabcd" + part(0) + b"\0\0\0\x08skip" + part(1), 2),
}


@pytest.mark.parametrize(("content", "seconds"), BROKEN.values(), ids=BROKEN)
async def test_what_precedes_the_damage_is_played(recorder: Recorder, content: bytes, seconds: int) -> None:
    recorder.name(0).write_bytes(content)
    async with playing(recorder) as (_, client):
        listed = (await client.get("/list", params={"path": "cam"})).json()
        assert len(listed) == 1
        assert seconds - 1 < listed[0]["duration"] <= seconds
        for form in ("fmp4", "mp4"):
            query = {"path": "cam", "start": at(0), "duration": "20", "format": form}
            body = (await client.get("/get", params=query)).content
            video = read_fragments(body)[VIDEO] if form == "fmp4" else read_indexed(body)[VIDEO].samples
            found = names(video)
            assert found[0] == 0
            assert len(found) >= 14


def test_a_file_grows(recorder: Recorder) -> None:
    index = index_of(recorder)
    file = recorder.name(0)
    file.write_bytes(head() + part(0))
    assert periods(index) == [(0, 1)]
    with file.open("ab") as writer:
        for number in range(1, 5):
            whole = part(number)
            writer.write(whole[:150])
            writer.flush()
            assert periods(index) == [(0, number)]
            writer.write(whole[150:])
            writer.flush()
            assert periods(index) == [(0, number + 1)]


async def test_a_growing_file_is_read_as_far_as_it_is_written(recorder: Recorder) -> None:
    file = recorder.name(0)
    file.write_bytes(head() + part(0) + part(1)[:-1])
    query = {"path": "cam", "start": at(0), "duration": "20"}
    async with playing(recorder) as (_, client):
        assert names(read_fragments((await client.get("/get", params=query)).content)[VIDEO]) == list(range(20))
        file.write_bytes(head() + part(0) + part(1) + part(2))
        assert names(read_fragments((await client.get("/get", params=query)).content)[VIDEO]) == list(range(30))


def test_files_are_added_and_removed_by_others(recorder: Recorder) -> None:
    index = index_of(recorder)
    assert periods(index) == []
    files = [recorder.write(4 * number, 4, number) for number in range(5)]
    assert periods(index) == [(0, 20)]
    files[2].unlink()
    assert periods(index) == [(0, 8), (12, 20)]
    recorder.write(8, 4, 2)
    assert periods(index) == [(0, 20)]
    for file in files[:2]:
        file.unlink()
    assert periods(index) == [(8, 20)]
    recorder.write(40, 4)
    assert periods(index) == [(8, 20), (40, 44)]
    assert periods(index, 10, 12) == [(8, 16)]
    assert periods(index, 20, 39.9) == []
    assert periods(index, 20, 40) == [(40, 44)]
    assert periods(index, 19.9) == [(8, 20), (40, 44)]
    for file in recorder.folder.iterdir():
        file.unlink()
    recorder.folder.rmdir()
    assert periods(index) == []


def test_directories_of_days(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.record_path = str(tmp_path / "%path" / "%Y" / "%m-%d" / "%s-%f")
    index = index_of(recorder)
    assert periods(index) == []
    for day, number in (("11-14", 0), ("11-15", 1), ("11-16", 2)):
        recorder.folder = tmp_path / "cam" / "2023" / day
        recorder.folder.mkdir(parents=True)
        recorder.write(4 * number, 4, number)
        assert periods(index) == [(0, 4 * (number + 1))]
    (tmp_path / "cam" / "2023" / "other").mkdir()
    next((tmp_path / "cam" / "2023" / "11-15").iterdir()).unlink()
    (tmp_path / "cam" / "2023" / "11-15").rmdir()
    assert periods(index) == [(0, 4), (8, 12)]


def test_two_paths_in_one_directory(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.record_path = str(tmp_path / "%s-%f_%path")
    for path, seconds in (("cam", 4), ("cam2", 2), ("x/cam", 1)):
        file = tmp_path / f"{EPOCH}-000000_{path}.mp4"
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(movie(camera(seconds)))
    index = index_of(recorder)
    assert periods(index) == [(0, 4)]
    assert [round((end - start) / SECOND) for start, end in index.periods("cam2")] == [2]
    assert [round((end - start) / SECOND) for start, end in index.periods("x/cam")] == [1]


def test_links_are_not_followed(recorder: Recorder, tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(movie(camera(4)))
    recorder.name(0).symlink_to(secret)
    assert periods(index_of(recorder)) == []


@pytest.mark.parametrize("obstacle", ["link", "file"])
def test_the_name_of_a_path_may_be_no_directory(recorder: Recorder, tmp_path: Path, obstacle: str) -> None:
    recorder.write(0, 4, 0)
    index = index_of(recorder)
    assert periods(index) == [(0, 4)]
    folder, outside = recorder.name(0).parent, tmp_path / "outside"
    folder.rename(outside)
    if obstacle == "link":
        folder.symlink_to(outside)
    else:
        folder.write_bytes(b"important")
    assert periods(index) == []
    assert periods(index_of(recorder)) == []


@pytest.mark.parametrize("damage", ["text", "missing", "version", "tables", "directory"])
def test_the_index_is_made_again(recorder: Recorder, damage: str) -> None:
    recorder.write(0, 4, 0)
    database = recorder.root / NAME
    if damage == "directory":
        database.mkdir()
    index = index_of(recorder)
    assert periods(index) == [(0, 4)]
    index.close()
    if damage == "text":
        database.write_bytes(b"no database at all" * 1000)
    elif damage == "missing":
        database.unlink()
    elif damage != "directory":
        connection = sqlite3.connect(database)
        connection.execute("PRAGMA user_version = 99" if damage == "version" else "DROP TABLE segments")
        connection.close()
    recorder.write(4, 4, 1)
    index = index_of(recorder)
    assert periods(index) == [(0, 8)]
    assert periods(index) == [(0, 8)]


def test_the_index_is_kept(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of a complete file is not read again, not even by another process."""
    for number in range(3):
        recorder.write(4 * number, 4, number)
    index = index_of(recorder)
    assert periods(index) == [(0, 12)]
    index.close()
    recorder.write(12, 4, 3)
    opened: list[str] = []

    def count(name: str, known: object) -> object:
        opened.append(name)
        return open_file(name, known)

    monkeypatch.setattr("polycast.playback.opening.open_file", count)
    assert periods(index_of(recorder)) == [(0, 16)]
    assert opened == [str(recorder.name(12))]


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_the_directory_is_another_one_than_before(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was deleted, or another disk is mounted there; nothing on the old one stays open."""
    monkeypatch.setattr("polycast.playback.refresh.LARGE", 1)
    recorder = Recorder(tmp_path / "recordings")
    for number in range(3):
        recorder.write(4 * number, 4, number)
    index = index_of(recorder)
    assert periods(index) == [(0, 12)]
    if how == "deleted":
        shutil.rmtree(recorder.root)
    else:
        recorder.root.rename(tmp_path / "old")
    assert periods(index) == []
    recorder.folder.mkdir(parents=True)
    for number in range(2, 5):
        recorder.write(4 * number, 4, number)
    assert periods(index) == [(8, 20)]
    assert (recorder.root / NAME).exists()
    recorder.write(20, 4, 5)
    assert periods(index) == [(8, 24)]
    if sys.platform == "linux":
        files = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if os.path.lexists(each)]
        assert [each for each in files if str(tmp_path) in each and NAME in each] == [
            each for each in files if each.startswith(str(recorder.root / NAME)) and "(deleted)" not in each
        ]


def test_another_process_holds_the_index(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder.write(0, 4, 0)
    assert periods(index_of(recorder)) == [(0, 4)]
    recorder.write(4, 4, 1)
    monkeypatch.setattr("polycast.playback.index.BUSY_TIMEOUT", 0.01)
    database = recorder.root / NAME
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert periods(index_of(recorder)) == [(0, 8)]  # in memory
        assert other.execute("SELECT count(*) FROM segments").fetchone() == (1,), "what others use is not replaced"
        other.execute("ROLLBACK")
    assert periods(index_of(recorder)) == [(0, 8)]
    with contextlib.closing(sqlite3.connect(database)) as other:
        assert other.execute("SELECT count(*) FROM segments").fetchone() == (2,)


async def test_a_client_that_leaves_closes_the_files(recorder: Recorder) -> None:
    samples = camera(10)
    for second in samples:
        for sample in second:
            sample.data = bytes(200_000)
    recorder.name(0).write_bytes(movie(samples))
    query = {"path": "cam", "start": at(0), "duration": "20"}
    async with playing(recorder) as (server, client):

        def is_open() -> bool:
            folder = Path("/proc/self/fd")
            links = [os.readlink(each) for each in folder.iterdir() if each.is_symlink() or each.exists()]
            return str(recorder.name(0)) in links

        async with client.stream("GET", "/get", params=query) as response:
            assert response.status_code == 200
            await anext(response.aiter_raw())
            assert is_open()
        await server.until(lambda: not is_open())


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is part of Linux")
def test_a_large_directory_is_read_once(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polycast.playback.refresh.LARGE", 1)
    for number in range(4):
        recorder.write(4 * number, 4, number)
    index = index_of(recorder)
    assert periods(index) == [(0, 16)]

    def refuse(*_: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr("polycast.playback.refresh.os.scandir", refuse)
        assert periods(index) == [(0, 16)]
        recorder.write(16, 4, 4)
        recorder.write(20, 4, 5)
        assert periods(index) == [(0, 24)]
        recorder.name(8).unlink()
        recorder.name(12).rename(recorder.folder / "notes")
        assert periods(index) == [(0, 8), (16, 24)]
        recorder.write(8, 4, 2)
        (recorder.folder / "notes").rename(recorder.name(12))
        assert periods(index) == [(0, 24)]
        recorder.name(28).symlink_to(recorder.name(8))
        recorder.name(32).mkdir()
        assert periods(index) == [(0, 24)]
    # another directory of the same name
    recorder.folder.rename(recorder.root / "old")
    recorder.folder.mkdir()
    recorder.write(0, 4, 0)
    assert periods(index) == [(0, 4)]
    recorder.write(4, 4, 1)
    assert periods(index) == [(0, 8)]
    index.close()


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is part of Linux")
def test_a_directory_with_too_many_changes_is_read_again(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polycast.playback.refresh.LARGE", 1)
    monkeypatch.setattr("polycast.playback.watch.MAXIMUM_NAMES", 3)
    index = index_of(recorder)
    for number in range(2):
        recorder.write(4 * number, 4, number)
    assert periods(index) == [(0, 8)]
    for number in range(2, 8):
        recorder.write(4 * number, 4, number)
    assert periods(index) == [(0, 32)]
    recorder.write(32, 4, 8)
    assert periods(index) == [(0, 36)]
    index.close()
