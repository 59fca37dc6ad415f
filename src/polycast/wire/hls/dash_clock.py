"""When the periods of a DASH manifest begin: fixed once it was said, since players remember it."""

from __future__ import annotations

from polycast.media.timebase import NANOSECONDS, WallTime, rescale
from polycast.wire.hls.rendition import Rendition
from polycast.wire.hls.segment import Segment, Span


class DashClock:
    """Maps the times of segments to the wall clock, for each period."""

    def __init__(self) -> None:
        self._begin: WallTime | None = None
        self._starts: dict[int, float] = {}

    def begin(self, main: Rendition) -> WallTime:
        """Return the time to which the starts of periods refer."""
        if self._begin is None:
            _, segment, span = main.segments_with_periods()[0]
            self._begin = _zero(segment, span, main.rate)
        return self._begin

    def starts(self, main: Rendition) -> dict[int, float]:
        """Return the start of each listed period in seconds: where time 0 of its segments is."""
        begin = self.begin(main)
        listed: dict[int, float] = {}
        for period, segment, span in main.segments_with_periods():
            if period not in listed:
                start = (_zero(segment, span, main.rate) - begin) / NANOSECONDS
                listed[period] = self._starts.get(period, max(start, 0.0))
        self._starts = listed
        return listed


def _zero(segment: Segment, span: Span, rate: int) -> WallTime:
    """Return the wall-clock time of time 0."""
    return WallTime(segment.program_date_time - rescale(span.time, rate, NANOSECONDS))
