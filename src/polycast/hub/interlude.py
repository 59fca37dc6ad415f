"""The time between two publishers of a stream, for which its readers stay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from polycast.hub.slate import SlatePlayer
from polycast.hub.stream import Stream
from polycast.log import Log


class Interlude:
    """Lets the readers of a path wait for another publisher, or shows them a slate meanwhile."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        *,
        grace: Callable[[], float],
        on_over: Callable[[str], None],
    ) -> None:
        """``grace`` returns how long readers wait, in seconds; ``on_over`` is called, with the reason of the interlude,
        when that has passed."""
        self._loop = loop
        self._log = log
        self._grace = grace
        self._on_over = on_over
        self._timer: asyncio.TimerHandle | None = None
        self.slate: SlatePlayer | None = None
        """What readers see; None if they wait."""

    @property
    def is_possible(self) -> bool:
        """Whether readers stay when the publisher goes."""
        return self.slate is not None or self._grace() > 0

    def begin(self, stream: Stream, reason: str) -> None:
        """The publisher has gone for this reason."""
        if self.slate is not None:
            self.slate.begin(stream)
        elif self._timer is None:
            grace = self._grace()
            self._log.info("the publisher left (%s); readers wait up to %g s for another one", reason, grace)
            self._timer = self._loop.call_later(grace, self._on_timer, reason)

    def end(self) -> None:
        """Another publisher has come, or the stream has ended."""
        if self.slate is not None:
            self.slate.end()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self, reason: str) -> None:
        self._timer = None
        self._on_over(reason)
