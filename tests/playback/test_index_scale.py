"""Questions to the index of a month in files of a minute look at few rows, wherever the period lies."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from polycast.playback import index

MINUTE = 60 * 10**9
DAY = 1440
FILES = 30 * DAY
STEPS = 100
"""Instructions of SQLite's virtual machine between two calls."""


@pytest.fixture(scope="module")
def database() -> sqlite3.Connection:
    """Return the index of files of which the first one of each day does not continue the one before."""
    made = index._connect(":memory:")
    made.execute("BEGIN")
    made.executemany(
        "INSERT INTO segments (path, start, file, directory, size, changed, end, joins, head) "
        "VALUES ('cam', ?, ?, 'cam', 1, -1, ?, ?, '')",
        ((n * MINUTE, f"cam/{n}.mp4", n * MINUTE + MINUTE, int(n % DAY != 0)) for n in range(FILES)),
    )
    made.execute("COMMIT")
    return made


def instructions(database: sqlite3.Connection, question: Callable[[], list[object]]) -> tuple[int, list[object]]:
    """Return how many hundreds of instructions a question takes, and the answer."""
    calls = 0

    def count() -> int:
        nonlocal calls
        calls += 1
        return 0

    database.set_progress_handler(count, STEPS)
    try:
        answer = question()
    finally:
        database.set_progress_handler(None, 0)
    return calls, answer


@pytest.mark.parametrize("day", [0, 1, 15, 29])
def test_a_day(database: sqlite3.Connection, day: int) -> None:
    start, end = day * DAY * MINUTE + MINUTE // 2, (day + 1) * DAY * MINUTE - 1
    taken, periods = instructions(database, lambda: [*index._periods(database, "cam", start, end)])
    assert periods == [(day * DAY * MINUTE, (day + 1) * DAY * MINUTE)]
    assert taken < 10


def test_all_days(database: sqlite3.Connection) -> None:
    taken, periods = instructions(database, lambda: [*index._periods(database, "cam", None, None)])
    assert periods == [(day * DAY * MINUTE, (day + 1) * DAY * MINUTE) for day in range(30)]
    assert taken < 100


@pytest.mark.parametrize("minute", [0, 20_000, FILES - 1])
def test_the_files_of_a_minute(database: sqlite3.Connection, minute: int) -> None:
    start = minute * MINUTE + 1
    taken, segments = instructions(database, lambda: [*index._segments(database, "cam", start, start + 1)])
    assert [segment.start for segment in segments] == [minute * MINUTE]  # type: ignore[attr-defined]
    assert taken < 10
