"""Segments and parts as playlists list them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from polycast.media.timebase import NANOSECONDS, WallTime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MOMENT = 253_402_300_799 * NANOSECONDS
"""The end of the year 9999: publishers with a wrong clock send later ones."""


def format_time(time: WallTime) -> str:
    """Return ISO 8601 with milliseconds, in UTC. Times outside the years 1970 to 9999 are clamped."""
    moment = _EPOCH + timedelta(microseconds=min(max(time, 0), _LAST_MOMENT) // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def format_seconds(duration: float) -> str:
    """Return seconds with up to 5 decimals."""
    return f"{duration:.5f}".rstrip("0").rstrip(".")


class Span(NamedTuple):
    """The place of a segment on the timeline, in ticks of the leading track."""

    time: int
    """Decoding time of the first frame of this track."""
    duration: int


class Part:
    """A partial segment (draft-pantos-hls-rfc8216bis section 4.4.4.9)."""

    __slots__ = ("duration", "independent", "line", "name", "size")

    def __init__(self, name: str, duration: float, independent: bool, size: int) -> None:
        self.name = name
        self.duration = duration
        """Seconds."""
        self.independent = independent
        """Whether it contains a key frame."""
        self.size = size
        """Bytes."""
        tail = ",INDEPENDENT=YES" if independent else ""
        self.line = f'#EXT-X-PART:DURATION={format_seconds(duration)},URI="{name}"{tail}'
        """Its tag."""


class Segment:
    """A media segment; duration, size and parts are set when it is complete."""

    __slots__ = (
        "after_pause",
        "date",
        "discontinuity",
        "duration",
        "gap",
        "independent",
        "initialization",
        "name",
        "parts",
        "program_date_time",
        "sequence",
        "size",
    )

    def __init__(
        self,
        name: str,
        sequence: int,
        program_date_time: WallTime,
        *,
        initialization: str | None = None,
        discontinuity: bool = False,
        independent: bool = True,
        gap: bool = False,
    ) -> None:
        self.name = name
        self.sequence = sequence
        """Media sequence number."""
        self.program_date_time = program_date_time
        """Wall-clock time of its first frame."""
        self.date = format_time(program_date_time)
        """The same as text."""
        self.initialization = initialization
        """Name of its init segment; None for MPEG-TS."""
        self.discontinuity = discontinuity
        """Whether it does not continue the previous segment."""
        self.independent = independent
        """Whether it starts with a key frame."""
        self.gap = gap
        """Whether the file does not exist (EXT-X-GAP)."""
        self.after_pause = False
        """Whether the publisher paused between the previous segment and this one."""
        self.duration = 0.0
        """Seconds."""
        self.size = 0
        """Bytes."""
        self.parts: tuple[Part, ...] = ()
        """Empty if there are none, or if they were removed."""
