"""The frame rate of a stream, measured on its first frames."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Final

ENOUGH_FRAMES: Final = 10
"""Intervals between frames after which the rate is known."""
ENOUGH_SECONDS: Final = 1.0
"""Seconds of media after which it is known, if there were fewer."""
TOLERANCE: Final = 0.01
"""Part of the rate by which a measured one may differ from a usual one: RTMP has times in milliseconds."""
HIGHEST: Final = 1000.0
"""Frames per second; more is an error of the times."""


class RateMeter:
    """Measures one stream."""

    def __init__(self) -> None:
        self.known: Future[float] = Future()
        """The rate in frames per second, once it is known."""
        self.known.set_running_or_notify_cancel()  # a task that is cancelled while it waits must not cancel it
        self._first: int | None = None
        self._intervals = 0

    def restart(self) -> None:
        """Another stream begins."""
        self._first = None

    def add(self, dts: int, clock_rate: int, *, discontinuity: bool = False) -> None:
        """Add the decoding time of a frame, in ticks of ``clock_rate``."""
        first = self._first
        if first is None or discontinuity or dts <= first:
            self._first, self._intervals = dts, 0
            return
        self._intervals += 1
        elapsed = (dts - first) / clock_rate
        if self._intervals >= ENOUGH_FRAMES or elapsed >= ENOUGH_SECONDS:
            rate = self._intervals / elapsed
            if rate > HIGHEST:
                self.restart()
            else:
                self.set(usual_rate(rate))

    def set(self, rate: float) -> None:
        """The rate is known."""
        with suppress(InvalidStateError):
            self.known.set_result(rate)

    def end(self, error: Exception) -> None:
        """There will be no more frames."""
        with suppress(InvalidStateError):
            self.known.set_exception(error)


def usual_rate(rate: float) -> float:
    """Return the whole number, or the broadcasting rate (such as 30000/1001), that a measured rate stands for."""
    whole = round(rate)
    choices = [float(whole), whole * 1000 / 1001] if whole in (24, 30, 60, 120) else [float(whole)]
    nearest = min(choices, key=lambda choice: abs(choice - rate))
    return nearest if whole and abs(nearest - rate) <= TOLERANCE * rate else rate
