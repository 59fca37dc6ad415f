"""The Range header (RFC 2326 sections 3.5 to 3.7 and 12.29)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from polycast.errors import RemoteProtocolError

Unit = Literal["npt", "clock", "smpte", "smpte-25", "smpte-30-drop"]

_UNITS: Final[dict[str, Unit]] = {
    "npt": "npt",
    "clock": "clock",
    "smpte": "smpte",
    "smpte-25": "smpte-25",
    "smpte-30-drop": "smpte-30-drop",
}
# Frames per second of each SMPTE time code. Drop frames are ignored: nobody seeks that exactly.
_FRAME_RATES: Final[dict[str, int]] = {"smpte": 30, "smpte-25": 25, "smpte-30-drop": 30}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS: Final = re.compile(r"\d{1,12}(\.\d{0,9})?", re.ASCII)
_CLOCK_TIME: Final = re.compile(r"(\d{1,9}):(\d{1,2}):(\d{1,2})(\.\d{0,9})?", re.ASCII)
_SMPTE_TIME: Final = re.compile(r"(\d{1,9}):(\d{1,2}):(\d{1,2})(?::(\d{1,2})(\.\d{0,9})?)?", re.ASCII)
_UTC_TIME: Final = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\.\d{0,9})?Z?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Range:
    """A range of a presentation; both ends in seconds.

    Normal play time and SMPTE count from the start, ``clock`` from 1970-01-01 UTC. None leaves an end open.
    """

    unit: Unit = "npt"
    start: float | None = None
    end: float | None = None
    now: bool = False
    """The start is the live edge (``npt=now-``)."""

    @classmethod
    def parse(cls, value: str) -> Range:
        """Parse the header; the ``time`` parameter is ignored. Raises RemoteProtocolError (457) if it is invalid."""
        unit_text, _, times = value.partition(";")[0].partition("=")
        unit = _UNITS.get(unit_text.strip().lower())
        start_text, dash, end_text = times.partition("-")
        start_text = start_text.strip().lower()
        end_text = end_text.strip()
        if unit is None or not (dash or start_text):
            raise RemoteProtocolError(f"invalid range: {value[:100]!r}", 457)
        now = unit == "npt" and start_text == "now"
        try:
            start = _parse_time(unit, start_text) if start_text and not now else None
            end = _parse_time(unit, end_text) if end_text else None
        except ValueError:
            raise RemoteProtocolError(f"invalid range: {value[:100]!r}", 457) from None
        return cls(unit, start, end, now)

    def serialize(self) -> str:
        """Return the header's text."""
        start = "now" if self.now else "" if self.start is None else _format_time(self.unit, self.start)
        end = "" if self.end is None else _format_time(self.unit, self.end)
        return f"{self.unit}={start}-{end}"


def _parse_time(unit: Unit, text: str) -> float:
    """Return seconds; ValueError if ``text`` is not a time of this unit."""
    match unit:
        case "npt":
            if _SECONDS.fullmatch(text):
                return float(text)
            found = _CLOCK_TIME.fullmatch(text)
            if found:
                hours, minutes, seconds, fraction = found.groups()
                return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + _fraction(fraction)
        case "clock":
            found = _UTC_TIME.fullmatch(text)
            if found and found[1] != "9999":
                year, month, day, hour, minute, second = map(int, found.groups()[:6])
                moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
                return (moment - _EPOCH).total_seconds() + _fraction(found[7])
        case _:
            found = _SMPTE_TIME.fullmatch(text)
            if found:
                frames = int(found[4] or 0) + _fraction(found[5])
                return int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3]) + frames / _FRAME_RATES[unit]
    raise ValueError(text)


def _fraction(text: str | None) -> float:
    return float(text) if text and text != "." else 0.0


def _decimal(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _format_time(unit: Unit, seconds: float) -> str:
    if unit == "npt":
        return _decimal(seconds)
    if unit == "clock":
        moment = _EPOCH + timedelta(seconds=seconds)
        fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
        # strftime does not pad the year everywhere.
        return f"{moment.year:04d}" + moment.strftime("%m%dT%H%M%S") + fraction + "Z"
    rate = _FRAME_RATES[unit]
    hundredths = round(seconds * rate * 100)
    whole, hundredths = divmod(hundredths, 100 * rate)
    frames, hundredths = divmod(hundredths, 100)
    text = f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    if frames or hundredths:
        text += f":{frames:02d}"
    return text + (f".{hundredths:02d}" if hundredths else "")
