"""When the search for a publisher's tracks is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from polycast.wire.rtmp.demuxer import Demuxer


class AnalysisTimer:
    """Calls back when a demuxer has looked for tracks long enough; the housekeeping would be up to a second late."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, demuxer: Demuxer | None, now: float) -> None:
        """Set the time anew; call it whenever the demuxer was given something and has not told its tracks."""
        deadline = demuxer.next_timeout() if demuxer is not None else None
        self.cancel()
        if deadline is not None:
            self._timer = self._loop.call_later(max(deadline - now, 0), self._callback)

    def cancel(self) -> None:
        """Do not call back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
