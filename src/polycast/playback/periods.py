"""Times and durations, as requests and answers write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from math import isfinite
from typing import Final, NamedTuple

from polycast.media.timebase import NANOSECONDS

MAXIMUM: Final = 1 << 62
"""Nanoseconds: the longest duration, more than a century."""

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,30}))?(?:(Z)|([+\- ])(\d\d):(\d\d))", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS: Final = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": NANOSECONDS, "m": 60 * NANOSECONDS,
    "h": 3600 * NANOSECONDS,
}  # fmt: skip
_MAXIMUM_TEXT: Final = 100


class OffsetDateTime(NamedTuple):
    """A point in time, with the offset in which it is written."""

    time: int
    """Nanoseconds since 1970."""
    zone: timezone | None = None
    """None: the local time of the server."""

    def __str__(self) -> str:
        """Return the time in the form of RFC 3339, with as many digits of the second as needed."""
        seconds, nanoseconds = divmod(self.time, NANOSECONDS)
        date = (_EPOCH + timedelta(seconds=seconds)).astimezone(self.zone)
        fraction = f".{nanoseconds:09}".rstrip("0") if nanoseconds else ""
        minutes = (date.utcoffset() or timedelta()) // timedelta(minutes=1)
        offset = "{}{:02}:{:02}".format("-" if minutes < 0 else "+", *divmod(abs(minutes), 60)) if minutes else "Z"
        return f"{date:%Y-%m-%dT%H:%M:%S}{fraction}{offset}"


def parse_date_time(text: str) -> OffsetDateTime:
    """Return the time that a text in the form of RFC 3339 stands for. Raises ValueError.

    A space instead of the plus sign of the offset is accepted: it is what a plus sign in a query means.
    """
    match = _TIME.fullmatch(text[:_MAXIMUM_TEXT])
    if match is None:
        raise ValueError(f"'{text[:_MAXIMUM_TEXT]}' is not a time such as 2024-01-14T16:33:17+01:00 (RFC 3339)")
    zone = UTC
    if not match[8]:
        offset = timedelta(hours=int(match[10]), minutes=int(match[11]))
        if int(match[10]) > 23 or int(match[11]) > 59:
            raise ValueError(f"'{text}' has no valid offset")
        zone = timezone(-offset if match[9] == "-" else offset)
    try:
        date = datetime(*(int(match[index]) for index in range(1, 7)), tzinfo=zone)  # type: ignore[arg-type, misc]
        seconds = (date.astimezone(UTC) - _EPOCH) // timedelta(seconds=1)  # in UTC, its year may be another one
    except (ValueError, OverflowError) as error:
        raise ValueError(f"'{text}' is no valid time: {error}") from None
    fraction = (match[7] or "")[:9].ljust(9, "0")
    return OffsetDateTime(seconds * NANOSECONDS + int(fraction), zone)


def parse_duration(text: str) -> int:
    """Return a duration in nanoseconds: seconds, or a text such as ``1h30m``. Raises ValueError."""
    text = text[:_MAXIMUM_TEXT]
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if not isfinite(seconds) or "_" in text:
            raise ValueError(f"'{text}' is not a duration")
        return round(max(min(seconds * NANOSECONDS, MAXIMUM), -MAXIMUM))
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    parts = _PART.findall(rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        raise ValueError(f"'{text}' is neither a number of seconds nor a duration such as 1h30m")
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return sign * round(min(total, MAXIMUM))


def format_seconds(duration: int) -> str:
    """Return nanoseconds as seconds, with as many digits as needed."""
    seconds, nanoseconds = divmod(duration, NANOSECONDS)
    return f"{seconds}" + (f".{nanoseconds:09}".rstrip("0") if nanoseconds else "")
