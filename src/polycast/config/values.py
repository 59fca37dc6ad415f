"""The value types of the configuration: durations, sizes and the named choices."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from polycast.errors import ConfigurationError

NANOSECONDS_PER_UNIT: Final = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # micro sign
    "\u03bcs": 1_000,  # Greek letter mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
MAXIMUM_NANOSECONDS: Final = 2**63 - 1  # the maximum of rtsp-simple-server's 64-bit durations, about 292 years
SECONDS_PER_DAY: Final = 86_400
MAXIMUM_DAYS: Final = MAXIMUM_NANOSECONDS // 1_000_000_000 // SECONDS_PER_DAY
BYTES_PER_UNIT: Final = {unit: 1024**power for power, unit in enumerate("BKMGTPE")}
MAXIMUM_SIZE: Final = 2**63 - 1  # bytes

_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([a-z\u00b5\u03bc]+)", re.ASCII)
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([BKMGTPE])(?:B|IB)?", re.ASCII)


class InvalidValueError(ConfigurationError):
    """A value is not valid for its key. The text does not name the key; the caller prefixes it."""


class Duration(float):
    """A length of time in seconds, written as ``10s``, ``200ms`` or ``1m30s``.

    A float, so it can be passed to timers. Its text form is the one of Go's ``time.Duration``.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Parse Go's duration text; raises InvalidValueError."""
        if text == "0":
            return cls(0)
        nanoseconds = 0
        position = 0
        while position < len(text):
            part = _DURATION_PART.match(text, position)
            factor = NANOSECONDS_PER_UNIT.get(part[2]) if part else None
            if part is None or factor is None or len(part[1]) > 40:
                raise _not_a_duration(text)
            whole, _, fraction = part[1].partition(".")
            nanoseconds += int(whole or 0) * factor + int(fraction or 0) * factor // 10 ** len(fraction)
            position = part.end()
        if not text or nanoseconds > MAXIMUM_NANOSECONDS:
            raise _not_a_duration(text)
        return cls(nanoseconds / 1_000_000_000)

    @classmethod
    def parse_with_days(cls, text: str) -> Duration:
        """Parse Go's duration text with a number of days in front of it, as in ``1d12h``; raises InvalidValueError."""
        days, letter, rest = text.partition("d")
        if not letter:
            return cls.parse(text)
        if not (days.isascii() and days.isdigit()) or len(days) > len(str(MAXIMUM_DAYS)):
            raise _not_a_duration(text)
        try:
            seconds = int(days) * SECONDS_PER_DAY + (cls.parse(rest) if rest else 0)
        except InvalidValueError:
            raise _not_a_duration(text) from None
        if seconds * 1_000_000_000 > MAXIMUM_NANOSECONDS:
            raise _not_a_duration(text)
        return cls(seconds)

    def text_with_days(self) -> str:
        """Return the text with days, as in ``1d12h0m0s``."""
        days = int(self // SECONDS_PER_DAY)
        if days < 1:
            return str(self)
        rest = Duration(self - days * SECONDS_PER_DAY)
        return f"{days}d{rest or ''}"

    def __str__(self) -> str:
        nanoseconds = round(self * 1_000_000_000)
        if nanoseconds < 0:
            return "-" + str(Duration(-self))
        if nanoseconds == 0:
            return "0s"
        for unit, limit in (("ns", 1_000), ("\u00b5s", 1_000_000), ("ms", 1_000_000_000)):
            if nanoseconds < limit:
                return _decimal(nanoseconds, limit // 1_000) + unit
        seconds = _decimal(nanoseconds % 60_000_000_000, 1_000_000_000) + "s"
        minutes, hours = nanoseconds // 60_000_000_000 % 60, nanoseconds // 3_600_000_000_000
        if hours:
            return f"{hours}h{minutes}m{seconds}"
        return f"{minutes}m{seconds}" if minutes else seconds

    def __repr__(self) -> str:
        return f"Duration({float(self)!r})"


class Size(int):
    """A number of bytes, written with a unit: ``512K``, ``50M``, ``1.5G``. All units are multiples of 1024."""

    @classmethod
    def parse(cls, text: str) -> Size:
        """Parse a number with a unit (B, K, KB, KiB, M, ... E); raises InvalidValueError."""
        match = _SIZE.fullmatch(text.strip().upper())
        if match is None or len(match[1]) > 40:
            raise _not_a_size(text)
        size = int(float(match[1]) * BYTES_PER_UNIT[match[2]])
        if size > MAXIMUM_SIZE:
            raise _not_a_size(text)
        return cls(size)

    def __str__(self) -> str:
        # The largest unit that gives the exact number with at most one decimal, so that parsing returns the same value.
        for unit, factor in reversed(BYTES_PER_UNIT.items()):
            if self >= factor and self * 2 % factor == 0:
                return f"{self // factor}.5{unit}" if self % factor else f"{self // factor}{unit}"
        return f"{int(self)}B"

    def __repr__(self) -> str:
        return f"Size({int(self)})"


class LogLevel(StrEnum):
    ERROR = "error"
    WARN = "warn"
    INFO = "info"
    DEBUG = "debug"


class LogDestination(StrEnum):
    STDOUT = "stdout"
    FILE = "file"
    SYSLOG = "syslog"


class SourceProtocol(StrEnum):
    """The transport with which an RTSP source is pulled."""

    AUTOMATIC = "automatic"
    UDP = "udp"
    MULTICAST = "multicast"
    TCP = "tcp"


class RecordFormat(StrEnum):
    """The format of recorded files."""

    FMP4 = "fmp4"
    MPEGTS = "mpegts"


class Encryption(StrEnum):
    """Whether a server uses TLS: not at all, on a second listener, or only."""

    NO = "no"
    OPTIONAL = "optional"
    STRICT = "strict"


def _decimal(value: int, unit: int) -> str:
    digits = len(str(unit)) - 1
    return f"{value // unit}.{value % unit:0{digits}d}".rstrip("0").rstrip(".") if value % unit else str(value // unit)


def _not_a_duration(text: str) -> InvalidValueError:
    return InvalidValueError(f"'{text}' is not a duration (write a number with a unit, such as 10s, 200ms or 1m30s)")


def _not_a_size(text: str) -> InvalidValueError:
    return InvalidValueError(f"'{text}' is not a size (write a number with a unit, such as 512K, 50M or 1G)")
