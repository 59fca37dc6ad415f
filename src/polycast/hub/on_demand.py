"""The state machine of on-demand sources and commands, which run only while there are readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Final


class State(Enum):
    """The state of an on-demand source."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    CLOSING = "closing"


class Input(Enum):
    """The events."""

    WANTED = "wanted"
    """A reader requested the stream."""
    BECAME_READY = "became ready"
    USED = "used"
    """A reader is attached."""
    UNUSED = "unused"
    """The last reader has left."""
    LOST = "lost"
    """The stream ended."""
    TIMED_OUT = "timed out"
    """The timer of the state expired."""


# Rule: the state changes only through this table; a missing pair changes nothing.
TRANSITIONS: Final[dict[tuple[State, Input], State]] = {
    (State.STOPPED, Input.WANTED): State.STARTING,
    (State.STARTING, Input.BECAME_READY): State.CLOSING,  # until a reader attaches
    (State.STARTING, Input.TIMED_OUT): State.STOPPED,
    (State.CLOSING, Input.WANTED): State.CLOSING,
    (State.CLOSING, Input.USED): State.READY,
    (State.CLOSING, Input.TIMED_OUT): State.STOPPED,
    (State.CLOSING, Input.LOST): State.STOPPED,
    (State.READY, Input.UNUSED): State.CLOSING,
    (State.READY, Input.LOST): State.STOPPED,
}


class OnDemand:
    """Starts something for the first reader, and stops it some time after the last one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        start: Callable[[], None],
        stop: Callable[[str], None],
        on_stopped: Callable[[], None],
        start_timeout: float,
        close_after: float,
    ) -> None:
        self._loop = loop
        self._start = start
        self._stop = stop
        self._on_stopped = on_stopped
        self._start_timeout = start_timeout
        self._close_after = close_after
        self._timer: asyncio.TimerHandle | None = None
        self.state = State.STOPPED
        self.query = ""
        """The query of the URL of the reader that started it; for commands."""

    def handle(self, happened: Input) -> None:
        """Apply the table."""
        old = self.state
        new = TRANSITIONS.get((old, happened))
        if new is None:
            return
        self.state = new
        if new is not old or happened is Input.WANTED:
            self._set_timer(new)
        if new is State.STARTING:
            self._start()
        elif new is State.STOPPED:
            self._stop(
                "not in use anymore" if old is State.CLOSING else "timed out" if old is State.STARTING else "lost"
            )
            self._on_stopped()  # or pending requests would wait forever

    def close(self) -> None:
        """Stop without further calls."""
        self.state = State.STOPPED
        self._cancel_timer()

    def _set_timer(self, state: State) -> None:
        self._cancel_timer()
        if state is State.STARTING:
            self._timer = self._loop.call_later(self._start_timeout, self._on_timer)
        elif state is State.CLOSING:
            self._timer = self._loop.call_later(self._close_after, self._on_timer)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        self.handle(Input.TIMED_OUT)
