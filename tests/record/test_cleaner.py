"""What is deleted, and what never is."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.running import application
from tests.support.waiting import until

from polycast.config import Configuration, LoadedConfiguration, from_mapping
from polycast.log import Log
from polycast.media.timebase import NANOSECONDS, WallTime
from polycast.record.cleaner import LONGEST_PAUSE, SIZE_PAUSE, Cleaning, pause_after

NOW = 1_700_000_000
HOUR = 3600


def configuration(folder: Path, paths: Mapping[str, Mapping[str, Any]], **settings: Any) -> Configuration:
    return from_mapping(
        {
            **settings,
            "paths": {
                name: {"recordPath": f"{folder}/%path/%s", "recordSegmentDuration": "1m", **path}
                for name, path in paths.items()
            },
        }
    )


def write(folder: Path, path: str, *ages: int, size: int = 100, extension: str = "mp4") -> None:
    """Make files that begin some seconds ago."""
    for age in ages:
        file = folder / path / f"{NOW - age}.{extension}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(size))


def clean(settings: Configuration, *open_files: str) -> Cleaning:
    now = WallTime(NOW * NANOSECONDS)
    cleaning = Cleaning(settings, frozenset(open_files), now, Log(), threading.Event())
    cleaning.clean()
    return cleaning


def ages(folder: Path) -> dict[str, list[int]]:
    """Return the ages of the files that are left, by path."""
    found: dict[str, list[int]] = {}
    for file in folder.rglob("*.*"):
        found.setdefault(str(file.parent.relative_to(folder)), []).append(NOW - int(file.stem))
    return {path: sorted(each) for path, each in found.items()}


def test_old_files_and_empty_directories_are_deleted(tmp_path: Path) -> None:
    write(tmp_path, "cam", 0, HOUR - 1, HOUR + 1, 9 * HOUR)
    write(tmp_path, "floor/door", 2 * HOUR)
    write(tmp_path, "kept", 9 * HOUR)
    paths = {"cam": {"recordDeleteAfter": "1h"}, "floor/door": {"recordDeleteAfter": "1h"}}
    assert clean(configuration(tmp_path, {**paths, "kept": {"recordDeleteAfter": "0s"}})).deleted == 3
    assert ages(tmp_path) == {"cam": [0, HOUR - 1], "kept": [9 * HOUR]}
    assert not (tmp_path / "floor").exists()


def test_paths_of_expressions_have_the_settings_of_the_first_entry_that_matches(tmp_path: Path) -> None:
    for name in ("cam1", "cam2", "other"):
        write(tmp_path, name, 0, 2 * HOUR, 5 * HOUR)
    paths = {
        "cam1": {"recordDeleteAfter": "1h"},
        "~^cam": {"recordDeleteAfter": "3h"},
        "all": {"recordDeleteAfter": "0s"},
    }
    clean(configuration(tmp_path, paths))
    assert ages(tmp_path) == {"cam1": [0], "cam2": [0, 2 * HOUR], "other": [0, 2 * HOUR, 5 * HOUR]}


def test_paths_that_are_not_configured_any_more_keep_their_files(tmp_path: Path) -> None:
    write(tmp_path, "former", 99 * HOUR)
    clean(configuration(tmp_path, {"~^cam": {"recordDeleteAfter": "1h"}, "cam": {}}))
    assert ages(tmp_path) == {"former": [99 * HOUR]}


def test_files_of_others_are_never_deleted(tmp_path: Path) -> None:
    write(tmp_path, "cam", 5 * HOUR)
    write(tmp_path, "cam", 5 * HOUR, extension="ts")
    strangers = ["cam/notes.txt", "cam/1600000000.mp4.bak", "1600000000.mp4", "cam/x/1600000000.mp4"]
    for name in strangers:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    clean(configuration(tmp_path, {"cam": {"recordDeleteAfter": "1h"}}))
    assert all((tmp_path / name).exists() for name in strangers)
    assert [file.name for file in (tmp_path / "cam").glob("*.*")].count(f"{NOW - 5 * HOUR}.ts") == 1
    assert not (tmp_path / "cam" / f"{NOW - 5 * HOUR}.mp4").exists()


def test_nothing_outside_the_directory_is_touched(tmp_path: Path) -> None:
    inside, outside = tmp_path / "recordings", tmp_path / "outside"
    write(outside, "cam", 5 * HOUR)
    inside.mkdir()
    (inside / "cam").symlink_to(outside / "cam")
    (inside / "all").mkdir()
    (inside / "all" / f"{NOW - 5 * HOUR}.mp4").symlink_to(outside / "cam" / f"{NOW - 5 * HOUR}.mp4")
    clean(configuration(inside, {"cam": {"recordDeleteAfter": "1h"}, "all": {"recordDeleteAfter": "1h"}}))
    assert ages(outside) == {"cam": [5 * HOUR]}


def test_the_oldest_files_of_a_path_are_deleted_if_it_is_too_large(tmp_path: Path) -> None:
    write(tmp_path, "cam", *range(0, 1000, 100), size=1000)
    write(tmp_path, "other", *range(0, 1000, 100), size=1000)
    paths = {"~^(cam|other)$": {"recordMaxSize": "4500B", "recordDeleteAfter": "0s"}}
    clean(configuration(tmp_path, paths))
    assert ages(tmp_path) == {"cam": [0, 100, 200, 300], "other": [0, 100, 200, 300]}


def test_the_oldest_files_of_all_paths_are_deleted_if_they_are_too_large_together(tmp_path: Path) -> None:
    write(tmp_path, "a", 10, 30, 50, 70, size=1000)
    write(tmp_path, "b", 20, 40, 60, 80, size=1000)
    paths: dict[str, dict[str, Any]] = {"a": {"recordDeleteAfter": "0s"}, "b": {"recordDeleteAfter": "0s"}}
    clean(configuration(tmp_path, paths, recordMaxTotalSize="5K"))
    assert ages(tmp_path) == {"a": [10, 30, 50], "b": [20, 40]}


def test_a_file_that_is_being_written_stays(tmp_path: Path) -> None:
    write(tmp_path, "cam", 5 * HOUR, size=1000)
    paths = {"cam": {"recordDeleteAfter": "1h", "recordMaxSize": "10B"}}
    settings = configuration(tmp_path, paths, recordMaxTotalSize="10B")
    clean(settings, f"{tmp_path}/cam/{NOW - 5 * HOUR}.mp4")
    assert ages(tmp_path) == {"cam": [5 * HOUR]}
    clean(settings)
    assert ages(tmp_path) == {}


def test_a_directory_that_cannot_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "cam", 5 * HOUR, 6 * HOUR)

    def refuse(file: str) -> None:
        raise PermissionError(13, "Permission denied", file)

    monkeypatch.setattr(os, "unlink", refuse)
    assert clean(configuration(tmp_path, {"cam": {"recordDeleteAfter": "1h"}})).deleted == 0


def test_how_often(tmp_path: Path) -> None:
    def pause(took: float = 0.0, total: str = "0B", **path: Any) -> float | None:
        paths = {"a": path, "b": {"recordDeleteAfter": "0s"}}
        return pause_after(configuration(tmp_path, paths, recordMaxTotalSize=total), took)

    assert pause(recordDeleteAfter="0s") is None
    assert pause(recordDeleteAfter="1d") == LONGEST_PAUSE
    assert pause(recordDeleteAfter="10m") == 300
    assert pause(recordMaxSize="1G") == SIZE_PAUSE
    assert pause(recordMaxSize="1G", took=10.0) == 200
    assert pause(recordDeleteAfter="0s", total="1G") == SIZE_PAUSE


async def test_a_running_server_cleans_at_its_start_and_when_its_settings_change(tmp_path: Path) -> None:
    def settings(age: str) -> Configuration:
        paths = {"cam": {"recordPath": f"{tmp_path}/%path/%s", "recordDeleteAfter": age, "recordSegmentDuration": "1m"}}
        return from_mapping({"rtspDisable": True, "rtmpDisable": True, "hlsDisable": True, "paths": paths})

    now = int(time.time())
    old, older = (tmp_path / "cam" / f"{now - age}.mp4" for age in (2 * HOUR, 30 * HOUR))
    for file in (old, older):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"")
    async with application(LoadedConfiguration(settings("1d"), None, [], frozenset())) as (app, log):
        await until(lambda: not older.exists(), log.lines)
        assert old.exists()
        await app.reload(settings("1h"))
        await until(lambda: not old.exists(), log.lines)
        assert asyncio.get_running_loop().is_running()
