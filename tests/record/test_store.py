"""How segments are named, and which files are found again."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from polycast.errors import ConfigurationError
from polycast.media.timebase import NANOSECONDS, WallTime
from polycast.record.store import SegmentStore

DEFAULT = "%path/%Y-%m-%d_%H-%M-%S-%f"


@pytest.fixture
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> object:
    """Let the server be in a time zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def at(*date: int, zone: timezone | None = None) -> WallTime:
    """Return a local date, or one of a time zone; the last number is microseconds."""
    moment = datetime(*date, tzinfo=zone)  # type: ignore[arg-type, misc]
    return WallTime(int(moment.replace(microsecond=0).timestamp()) * NANOSECONDS + moment.microsecond * 1000)


def write(*names: Path) -> None:
    for name in names:
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(b"media")


@pytest.mark.parametrize(
    ("zone", "template", "start", "name"),
    [
        ("UTC", DEFAULT, (2008, 11, 7, 11, 22, 4, 123456), "cam/2008-11-07_11-22-04-123456.mp4"),
        ("UTC", "%path/%s", (2021, 12, 2, 12, 15, 23, 0), "cam/1638447323.mp4"),
        ("UTC", "%path/%s.%f", (2021, 12, 2, 12, 15, 23, 567324), "cam/1638447323.567324.mp4"),
        ("UTC", f"{DEFAULT}_%z", (2021, 12, 2, 12, 15, 23, 567324), "cam/2021-12-02_12-15-23-567324_Z.mp4"),
        ("Africa/Maputo", f"{DEFAULT}_%z", (2021, 12, 2, 12, 15, 23, 7), "cam/2021-12-02_12-15-23-000007_+0200.mp4"),
        ("Asia/Kathmandu", f"{DEFAULT}_%z", (2021, 12, 2, 12, 15, 23, 7), "cam/2021-12-02_12-15-23-000007_+0545.mp4"),
        ("America/St_Johns", f"{DEFAULT}_%z", (2021, 12, 2, 1, 2, 3, 4), "cam/2021-12-02_01-02-03-000004_-0330.mp4"),
        ("America/New_York", "%Y/%m/%d/%path at %H.%M.%S", (2024, 7, 4, 9, 8, 7, 0), "2024/07/04/cam at 09.08.07.mp4"),
        ("UTC", "%path/[x](1)+%path-%s", (2021, 12, 2, 12, 15, 23, 0), "cam/[x](1)+cam-1638447323.mp4"),
    ],
    indirect=["zone"],
)
def test_names(tmp_path: Path, zone: str, template: str, start: tuple[int, ...], name: str) -> None:
    store = SegmentStore(f"{tmp_path}/{template}", "fmp4")
    file = store.file_of("cam", at(*start))
    assert file == f"{tmp_path}/{name}"
    assert store.parse(file) == ("cam", at(*start), file)
    write(Path(file))
    assert store.segments("cam") == list(store.scan_all()) == [("cam", at(*start), file)]


@pytest.mark.parametrize("zone", ["Europe/Berlin"], indirect=True)
def test_a_file_of_another_time_zone(tmp_path: Path, zone: str) -> None:
    """The recording was made before the server moved; its name says when."""
    store = SegmentStore(f"{tmp_path}/{DEFAULT}%z", "mpegts")
    found = store.parse(f"{tmp_path}/a/b/2021-12-02_12-15-23-567324-0330.ts")
    there = timezone(-timedelta(hours=3, minutes=30))
    assert found is not None
    assert (found.path, found.start) == ("a/b", at(2021, 12, 2, 12, 15, 23, 567324, zone=there))


@pytest.mark.parametrize(
    "name",
    [
        "cam/2008-11-07_11-22-04-123456.mp4.bak",
        "cam/.2008-11-07_11-22-04-123456.mp4",
        "cam/2008-11-07_11-22-04-123456.ts",
        "cam/2008-13-07_11-22-04-123456.mp4",
        "cam/2008-02-30_11-22-04-123456.mp4",
        "cam/2008-11-07_11-22-04-12345.mp4",
        "cam/x/2008-11-07_11-22-04-123456.mp4\n",
        "../cam/2008-11-07_11-22-04-123456.mp4",
        "a b/2008-11-07_11-22-04-123456.mp4",
        "a//b/../../2008-11-07_11-22-04-123456.mp4",
        "2008-11-07_11-22-04-123456.mp4",
        "notes.txt",
    ],
)
def test_foreign_files(tmp_path: Path, name: str) -> None:
    store = SegmentStore(f"{tmp_path}/{DEFAULT}", "fmp4")
    assert store.parse(f"{tmp_path}/{name}") is None


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc", "", "a\0b", "a b", ".", "%Y"])
def test_names_that_are_no_path(tmp_path: Path, name: str) -> None:
    store = SegmentStore(f"{tmp_path}/{DEFAULT}", "fmp4")
    with pytest.raises(ConfigurationError):
        store.file_of(name, WallTime(0))
    with pytest.raises(ConfigurationError):
        store.segments(name)


def test_a_time_without_a_date(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no date"):
        SegmentStore(f"{tmp_path}/{DEFAULT}", "fmp4").file_of("cam", WallTime(1 << 80))


def test_segments_are_sorted_by_time_and_belong_to_their_path(tmp_path: Path) -> None:
    store = SegmentStore(f"{tmp_path}/%path_%s", "fmp4")
    write(
        *(tmp_path / f"{name}.mp4" for name in ("a_1700000200", "a_1700000100", "b_1700000000", "a_1700000000_170")),
        *(
            tmp_path / f"{name}.mp4"
            for name in ("a/x_1700000300", "a_1700000100/b_1700000000", "a_1700000000_1700000000")
        ),
    )
    assert [segment.start // NANOSECONDS for segment in store.segments("a")] == [1700000100, 1700000200]
    assert [segment.path for segment in store.segments("a/x")] == ["a/x"]
    assert {segment.path for segment in store.scan_all()} == {"a", "b", "a/x", "a_1700000100/b", "a_1700000000"}
    assert store.segments("c") == []


def test_a_directory_that_is_missing_has_no_segments(tmp_path: Path) -> None:
    store = SegmentStore(f"{tmp_path}/none/{DEFAULT}", "fmp4")
    assert store.segments("cam") == list(store.scan_all()) == []


def test_directories_with_names_of_segments_are_none(tmp_path: Path) -> None:
    """The name of a path may be that of a file of another path."""
    store = SegmentStore(f"{tmp_path}/%path/%s", "fmp4")
    write(tmp_path / "cam" / "1700000000.mp4" / "1700000001.mp4")
    assert store.segments("cam") == []
    assert [segment.path for segment in store.scan_all()] == ["cam/1700000000.mp4"]
    assert len(store.segments("cam/1700000000.mp4")) == 1


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    store = SegmentStore(f"{tmp_path}/recordings/%path/%s", "fmp4")
    outside = tmp_path / "outside" / "1700000000.mp4"
    write(outside, tmp_path / "recordings" / "real" / "1700000000.mp4")
    (tmp_path / "recordings" / "cam").symlink_to(tmp_path / "outside")
    (tmp_path / "recordings" / "real" / "1700000001.mp4").symlink_to(outside)
    assert store.segments("cam") == []
    assert [segment.start // NANOSECONDS for segment in store.segments("real")] == [1700000000]
    assert [segment.path for segment in store.scan_all()] == ["real"]
    for file in ("cam/1700000000.mp4", "real/1700000001.mp4", "../outside/1700000000.mp4"):
        segment = store.parse(f"{tmp_path}/recordings/{file}") or store.segments("real")[0]
        with pytest.raises(OSError, match=r"not in .*recordings, or a symbolic link"):
            store.remove(segment._replace(file=f"{tmp_path}/recordings/{file}"))
    assert outside.exists()


def test_the_directory_itself_may_be_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "recordings").symlink_to(tmp_path / "disk")
    store = SegmentStore(f"{tmp_path}/recordings/%path/%s", "fmp4")
    write(tmp_path / "disk" / "cam" / "1700000000.mp4")
    (segment,) = store.segments("cam")
    store.remove(segment)
    assert (tmp_path / "recordings").is_symlink()
    assert list((tmp_path / "disk").iterdir()) == []


def test_deletion_leaves_no_empty_directories(tmp_path: Path) -> None:
    store = SegmentStore(f"{tmp_path}/recordings/%path/%Y/%m/%d_%H-%M-%S", "fmp4")
    write(Path(store.file_of("a/b", at(2024, 1, 2, 3, 4, 5))), Path(store.file_of("a/b", at(2024, 2, 2, 3, 4, 5))))
    first, second = store.segments("a/b")
    store.remove(first)
    assert os.listdir(tmp_path / "recordings" / "a" / "b" / "2024") == ["02"]
    store.remove(second)
    assert os.listdir(tmp_path / "recordings") == []
    with pytest.raises(FileNotFoundError):
        store.remove(second)


def test_a_segment_is_found_by_its_start(tmp_path: Path) -> None:
    store = SegmentStore(f"{tmp_path}/%path/%s", "fmp4")
    write(tmp_path / "cam" / "1700000000.mp4")
    found = store.find("cam", WallTime(1_700_000_000_999_999_999))
    assert found is not None
    assert found.file == f"{tmp_path}/cam/1700000000.mp4"
    assert store.find("cam", WallTime(1_700_000_001_000_000_000)) is None
    assert SegmentStore("%path%f", "fmp4").resolution == 1000


def test_relative_names_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SegmentStore("./recordings/%path/%s", "fmp4")
    assert store.root == f"{tmp_path}/recordings"
    assert store.file_of("cam", WallTime(1_700_000_000 * NANOSECONDS)) == f"{tmp_path}/recordings/cam/1700000000.mp4"
