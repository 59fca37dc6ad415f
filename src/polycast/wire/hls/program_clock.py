"""The wall-clock time of the output time line, for EXT-X-PROGRAM-DATE-TIME."""

from __future__ import annotations

from polycast.media.timebase import NANOSECONDS, WallTime, rescale

MAXIMUM_DELAY = 10 * NANOSECONDS
"""How far a publisher's capture time may lie before the arrival of the frame; else its clock is taken as wrong."""
MAXIMUM_LEAD = NANOSECONDS
"""How far it may lie after."""
MAXIMUM_DEVIATION = 2 * NANOSECONDS
"""How far the clock may be off before it is set anew instead of slowly corrected."""
MAXIMUM_JITTER = NANOSECONDS // 4
"""The same behind a discontinuity."""
_CORRECTION = 16
"""A sixteenth of each deviation is corrected: network jitter is smoothed, clock drift is followed."""


def capture_time(captured: WallTime | None, arrived: WallTime) -> WallTime:
    """Return the time that a frame was captured where the publisher tells a credible one, else when it arrived."""
    if captured is not None and -MAXIMUM_LEAD <= arrived - captured <= MAXIMUM_DELAY:
        return captured
    return arrived


class ProgramClock:
    """Maps media time to wall-clock time; shared by all renditions of a muxer, so that their dates agree."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset: int | None = None

    def date(self, time: int, rate: int, wall_time: WallTime, *, discontinuity: bool = False) -> WallTime:
        """Return the date of ``time`` (ticks of ``rate``), whose frame was captured at ``wall_time``.

        Behind a discontinuity only what may be jitter is smoothed: a pause of the publisher shows in full.
        """
        media_time = rescale(time, rate, NANOSECONDS)
        offset = wall_time - media_time
        known = self._offset
        limit = MAXIMUM_JITTER if discontinuity else MAXIMUM_DEVIATION
        if known is not None and abs(offset - known) <= limit:
            offset = known + (offset - known) // _CORRECTION
        self._offset = offset
        return WallTime(media_time + offset)
