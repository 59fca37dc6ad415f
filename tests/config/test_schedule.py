"""Periods of the week."""

from __future__ import annotations

from datetime import datetime

import pytest

from polycast.config.schedule import is_scheduled, parse_period
from polycast.config.values import InvalidValueError

MONDAY = 30
"""Of November 2026."""


@pytest.mark.parametrize(
    ("schedule", "day", "time", "expected"),
    [
        ([], MONDAY, "03:00", True),
        (["Mon-Fri 08:00-18:00"], MONDAY, "08:00", True),
        (["Mon-Fri 08:00-18:00"], MONDAY, "07:59", False),
        (["Mon-Fri 08:00-18:00"], MONDAY, "17:59", True),
        (["Mon-Fri 08:00-18:00"], MONDAY, "18:00", False),
        (["Mon-Fri 08:00-18:00"], MONDAY - 1, "12:00", False),
        (["Mon-Fri 08:00-18:00", "Sun 12:00-13:00"], MONDAY - 1, "12:00", True),
        (["22:00-06:00"], MONDAY, "23:00", True),
        (["22:00-06:00"], MONDAY, "05:59", True),
        (["22:00-06:00"], MONDAY, "06:00", False),
        (["Sun 22:00-06:00"], MONDAY, "05:00", True),
        (["Sun 22:00-06:00"], MONDAY, "23:00", False),
        (["fri-mon 00:00-24:00"], MONDAY, "23:59", True),
        (["fri-mon 00:00-24:00"], MONDAY - 4, "12:00", False),
        (["Sat Mon 12:00-12:00"], MONDAY, "12:00", True),
        (["Sat Mon 12:00-12:00"], MONDAY - 1, "11:59", True),
        (["Sat Mon 12:00-12:00"], MONDAY - 1, "12:00", False),
    ],
)
def test_what_is_in_a_schedule(schedule: list[str], day: int, time: str, expected: bool) -> None:
    hour, minute = map(int, time.split(":"))
    assert is_scheduled(schedule, datetime(2026, 11, day, hour, minute)) is expected


@pytest.mark.parametrize(
    "text",
    ["", "Mon", "Mon-Fri", "8:00-18:00", "Mon,Tue 08:00-18:00", "24:00-06:00", "10:60-11:00"],
)
def test_what_is_no_period(text: str) -> None:
    with pytest.raises(InvalidValueError):
        parse_period(text)
