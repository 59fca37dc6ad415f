"""Which requests keep a session alive (RFC 2326 sections 10.8 and 12.37), depending on the server's answers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from polycast.wire.rtsp.message import Method

INTERVAL: Final = 30.0
"""Seconds between keep-alives if the server gives no session timeout; RFC 2326 section 12.37: 60 by default."""

PART: Final = 0.8
"""Fraction of the timeout, if it does."""

SHORTEST_INTERVAL: Final = 1.0
"""Seconds."""

_FIRST_ERROR: Final = 400


def interval_of(timeout: int | None) -> float:
    """Return the seconds between keep-alives for the server's session timeout in seconds."""
    return max(SHORTEST_INTERVAL, min(INTERVAL, timeout * PART)) if timeout else INTERVAL


class KeepAlive:
    """The keep-alive requests of one session.

    OPTIONS always, since some cameras accept nothing else, and GET_PARAMETER if it is announced, since others accept
    only that. A method that is refused or not answered is omitted as long as the other one is answered: Xiaomi and
    Thingino cameras announce GET_PARAMETER and answer it with 454 although they keep streaming.
    """

    def __init__(self, public: Collection[str]) -> None:
        """``public``: the methods that the server announced, in upper case."""
        both = (Method.GET_PARAMETER, Method.OPTIONS)
        self._methods: tuple[Method, ...] = both if Method.GET_PARAMETER in public else (Method.OPTIONS,)
        self._refused: set[Method] = set()
        self._silent: set[Method] = set()
        """Methods that were not answered the last time."""

    def due(self) -> tuple[Method, ...]:
        """Return the methods to send now."""
        return tuple(method for method in self._methods if method not in self._refused) or self._methods

    def on_answer(self, method: Method, status: int | None) -> bool:
        """Process the status of an answer, None if there was none. Return whether the method is omitted from now on.

        One answer may be late or lost; only the second consecutive missing one counts.
        """
        was_silent = method in self._silent
        (self._silent.add if status is None else self._silent.discard)(method)
        if status is not None and status < _FIRST_ERROR:
            self._refused.discard(method)
            return False
        is_new = method not in self._refused and (status is not None or was_silent)
        if is_new:
            self._refused.add(method)
        return is_new
