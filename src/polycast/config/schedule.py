"""Periods of the week, as ``recordSchedule`` has them: ``Mon-Fri 08:00-18:00``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

from polycast.config.values import InvalidValueError

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MINUTES_PER_DAY: Final = 24 * 60
_MINUTES_PER_WEEK: Final = 7 * MINUTES_PER_DAY
_DAY = rf"(?:{'|'.join(DAYS)})"
_PERIOD = re.compile(rf"((?:{_DAY}(?:-{_DAY})? +)*)(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII | re.IGNORECASE)


class WeeklyPeriod(NamedTuple):
    """The same period on some days of the week."""

    days: frozenset[int]
    """Those on which it begins; 0 is Monday."""
    start: int
    """In minutes from midnight."""
    duration: int
    """In minutes."""

    def contains(self, minute: int) -> bool:
        """Return whether a minute of the week, counted from Monday 00:00, is in it."""
        return any(
            (minute - day * MINUTES_PER_DAY - self.start) % _MINUTES_PER_WEEK < self.duration for day in self.days
        )


def parse_period(text: str) -> WeeklyPeriod:
    """Return a period such as ``Mon-Fri 08:00-18:00``, ``Sat Sun 10:00-12:00`` or ``22:00-06:00``, on every day.

    One that ends before it begins, or when it begins, ends on the next day. Raises InvalidValueError.
    """
    match = _PERIOD.fullmatch(text.strip())
    if match is None:
        raise InvalidValueError(f"'{text}' is not a period such as 'Mon-Fri 08:00-18:00' or '22:00-06:00'")
    start, end = (int(match[hours]) * 60 + int(match[hours + 1]) for hours in (2, 4))
    if max(start, end) > MINUTES_PER_DAY or start == MINUTES_PER_DAY or int(match[3]) > 59 or int(match[5]) > 59:
        raise InvalidValueError(f"'{text}' has a time that does not exist")
    days = frozenset(_days(match[1])) if match[1] else frozenset(range(7))
    return WeeklyPeriod(days, start, (end - start - 1) % MINUTES_PER_DAY + 1)


def _days(text: str) -> Iterable[int]:
    for part in text.split():
        first, _, last = part.partition("-")
        begin = DAYS.index(first.capitalize())
        yield begin
        if last:
            for step in range((DAYS.index(last.capitalize()) - begin) % 7):
                yield (begin + step + 1) % 7


def is_scheduled(schedule: Iterable[str], now: datetime) -> bool:
    """Return whether a local time is in one of the periods; in an empty schedule, every time is."""
    minute = now.weekday() * MINUTES_PER_DAY + now.hour * 60 + now.minute
    periods = tuple(schedule)
    return not periods or any(parse_period(period).contains(minute) for period in periods)
