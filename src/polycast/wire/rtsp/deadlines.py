"""Timeouts of an RTSP server for clients that send nothing, or never complete a message."""

from __future__ import annotations

from typing import Final

from polycast.wire.rtsp.server_session import Endpoint

IDLE_TIMEOUT: Final = 60.0
"""Seconds that a connection may stay open without a session after the first request: long enough to type a
password."""


class Deadlines:
    """The timeouts of one connection."""

    def __init__(self, endpoint: Endpoint, now: float) -> None:
        self.has_spoken = False
        """Whether the client has sent a request."""
        self.last_received = now
        """When bytes were received last, apart from those that are media of a session as a whole."""
        self.incomplete_since: float | None = None
        """When the incomplete request or frame started; further parts of it do not change this."""
        self._endpoint = endpoint
        self._opened_at = now

    def on_worked(self, now: float, *, is_incomplete: bool) -> None:
        """All received bytes were processed. Completing a request or frame sets ``incomplete_since`` to None."""
        if not is_incomplete:
            self.incomplete_since = None
        elif self.incomplete_since is None:
            self.incomplete_since = now

    def next_timeout(self, *, has_session: bool) -> float | None:
        """When `check` will return a reason, in the time of ``now``; None: never."""
        if not self.has_spoken:
            return self._opened_at + self._endpoint.timeout
        times: list[float] = []
        if self.incomplete_since is not None:
            times.append(self.incomplete_since + self._endpoint.timeout)
        if not has_session:
            times.append(self.last_received + IDLE_TIMEOUT)
        return min(times, default=None)

    def check(self, now: float, *, has_session: bool) -> str:
        """Return the reason for a timeout; empty if there is none."""
        timeout = self._endpoint.timeout
        if not self.has_spoken:
            return "no request received in time" if now >= self._opened_at + timeout else ""
        if self.incomplete_since is not None and now >= self.incomplete_since + timeout:
            return "a request was not completed in time"
        if not has_session and now >= self.last_received + IDLE_TIMEOUT:
            return "idle for too long"
        return ""
