"""The timer that ends the analysis of a publisher's tracks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from polycast.wire.rtmp.demuxer import Demuxer


class AnalysisTimer:
    """Calls back when the analysis of a demuxer is due to end; the housekeeping would be up to a second late.

    It only holds the callback while it waits, so that the connection is freed as soon as it is closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0

    def watch(self, demuxer: Demuxer | None, now: float, callback: Callable[[], None]) -> None:
        """Reset the timer; call this whenever the demuxer has received data and its tracks are not known yet."""
        deadline = demuxer.next_timeout() if demuxer is not None else None
        self.cancel()
        if deadline is not None:
            self._deadline = deadline
            self._timer = self._loop.call_later(max(deadline - now, 0), self._on_timer, callback)

    def _on_timer(self, callback: Callable[[], None]) -> None:
        # Loops round times to milliseconds, so this may be a little early.
        rest = self._deadline - self._clock()
        self._timer = self._loop.call_later(rest, self._on_timer, callback) if rest > 0 else None
        if self._timer is None:
            callback()

    def cancel(self) -> None:
        """Cancel the callback."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
