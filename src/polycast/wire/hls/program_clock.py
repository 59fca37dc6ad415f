"""The wall-clock time of the output timeline, for EXT-X-PROGRAM-DATE-TIME."""

from __future__ import annotations

from polycast.media.timebase import NANOSECONDS, WallTime, rescale

MAXIMUM_DELAY = 10 * NANOSECONDS
"""How long before the arrival of a frame its capture time may be; otherwise the publisher's clock is ignored."""
MAXIMUM_LEAD = NANOSECONDS
"""How long after the arrival it may be."""
MAXIMUM_DEVIATION = 2 * NANOSECONDS
"""How far off the clock may be before it is set instead of being slowly corrected."""
MAXIMUM_JITTER = NANOSECONDS // 4
"""The same after a discontinuity."""
_CORRECTION = 16
"""One sixteenth of each deviation is corrected: this smooths network jitter and follows clock drift."""


def capture_time(captured: WallTime | None, arrived: WallTime, *, is_trusted: bool = False) -> WallTime:
    """Return the capture time of a frame if the publisher sends a plausible one, otherwise the time of arrival.

    ``is_trusted``: however far the publisher's clock is off.
    """
    if captured is not None and is_trusted:
        return captured
    if captured is not None and -MAXIMUM_LEAD <= arrived - captured <= MAXIMUM_DELAY:
        return captured
    return arrived


class ProgramClock:
    """Maps media time to wall-clock time; shared by all renditions of a muxer, so that their dates agree."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset: int | None = None

    def date(self, time: int, rate: int, wall_time: WallTime, *, discontinuity: bool = False) -> WallTime:
        """Return the date of ``time`` (ticks of ``rate``), whose frame was captured at ``wall_time``."""
        media_time = rescale(time, rate, NANOSECONDS)
        return WallTime(media_time + self.follow(media_time, wall_time, discontinuity=discontinuity))

    def follow(self, media_time: int, wall_time: WallTime, *, discontinuity: bool = False) -> int:
        """Take a frame that was captured at ``wall_time``; return the nanoseconds to add to media times for the date.

        After a discontinuity, only possible jitter is smoothed: a pause of the publisher remains visible in full.
        """
        offset = wall_time - media_time
        known = self._offset
        if known is not None and abs(offset - known) <= (MAXIMUM_JITTER if discontinuity else MAXIMUM_DEVIATION):
            offset = known + (offset - known) // _CORRECTION
        self._offset = offset
        return offset
