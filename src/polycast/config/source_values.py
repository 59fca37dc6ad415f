"""Values of the settings of sources."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from polycast.config.kinds import INTEGER, TEXT, TEXTS, Kind, choice_kind, parse_each
from polycast.config.values import Duration, InvalidValueError
from polycast.errors import ConfigurationError

_CLOCK: Final = re.compile(r"(\d{8}T\d{6})(\.\d{1,9})?Z", re.ASCII)
"""``utc-time`` of RFC 2326 section 3.7."""
_SCALE: Final = re.compile(r"-?\d{1,9}(\.\d{0,9})?", re.ASCII)
"""RFC 2326 section 12.34."""
_SMPTE_HOURS: Final = 100
"""The hours of a SMPTE time have two digits (RFC 2326 section 3.5)."""
_LAST_PORT: Final = 65_535


class RangeType(StrEnum):
    """How the beginning of a recorded stream is given (RFC 2326 section 12.29)."""

    NONE = ""
    CLOCK = "clock"
    NPT = "npt"
    SMPTE = "smpte"


RANGE_TYPE: Final = choice_kind(RangeType, "invalid rtsp range type: '%s'")


def _scale(value: Any) -> str:
    text = str(TEXT.parse(value))
    if text and not _SCALE.fullmatch(text):
        raise InvalidValueError(f"'{text}' is not a number, such as 2, 0.5 or -1")
    return text


def _items(value: Any) -> Sequence[Any]:
    """Return the items of a list, or of a text with commas."""
    return value if isinstance(value, list | tuple) else list(TEXTS.parse(value))


def _port_range(value: Any) -> tuple[int, int]:
    ports = parse_each(INTEGER.parse, _items(value))
    if len(ports) != 2:
        raise InvalidValueError("two ports are needed, the first and the last, such as [32768, 60999]")
    first, last = ports
    if not 1 <= first <= last <= _LAST_PORT:
        raise InvalidValueError(f"{first} to {last} is not a range of ports between 1 and {_LAST_PORT}")
    if first + first % 2 + 1 > last:
        raise InvalidValueError(f"there is no even port with the next one from {first} to {last}")
    return first, last


SCALE: Final = Kind(TEXT.label, _scale, str, TEXT.schema)
PORT_RANGE: Final = Kind("two ports", _port_range, list, {"type": "array", "items": {"type": "integer"}})


def range_header(kind: RangeType, start: str) -> str:
    """Return the Range header that asks for a stream from ``start`` on; empty without a kind.

    ``start``: for 'clock' a time as in the header, for the others a duration. Raises ConfigurationError.
    """
    if kind is RangeType.NONE:
        return ""
    if kind is RangeType.CLOCK:
        match = _CLOCK.fullmatch(start)
        try:
            datetime.strptime(match[1] if match else "", "%Y%m%dT%H%M%S")
        except ValueError:
            raise ConfigurationError(f"'{start}' is not a time (write it in UTC, such as 20260131T235959Z)") from None
        return f"clock={start}-"
    seconds = float(Duration.parse(start))
    if kind is RangeType.NPT:
        return f"npt={seconds:.9f}".rstrip("0").rstrip(".") + "-"
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= _SMPTE_HOURS:
        raise ConfigurationError(f"'{start}' is too long for SMPTE, which has two digits for the hours")
    return f"smpte={hours:02d}:{minute:02d}:{second:02d}-"


def range_errors(kind: RangeType, start: str) -> Iterator[ConfigurationError]:
    """Yield the error about a beginning of a stream that cannot be asked for."""
    try:
        range_header(kind, start)
    except ConfigurationError as error:
        yield ConfigurationError(str(error), ("rtspRangeStart",), ("rtspRangeType",))
