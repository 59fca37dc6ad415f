"""How long an RTSP server waits for a client that says nothing, or never the end of something."""

from __future__ import annotations

from typing import Final

from polycast.wire.rtsp.server_session import Endpoint

IDLE_TIMEOUT: Final = 60.0
"""Seconds a client may keep a connection open without a session, once it has sent a request: long enough for a person
who types a password."""


class Deadlines:
    """Of one connection."""

    def __init__(self, endpoint: Endpoint, now: float) -> None:
        self.has_spoken = False
        """Whether the client has sent a request."""
        self._endpoint = endpoint
        self._opened_at = now
        self._last_received = now
        self._incomplete_since: float | None = None
        """Since when a request or frame lacks its end, however often a bit of it came."""

    def on_received(self, now: float) -> None:
        """Bytes have come."""
        self._last_received = now

    def on_worked(self, now: float, *, has_progressed: bool, is_incomplete: bool) -> None:
        """All that has come was looked at. ``has_progressed``: a request or frame was complete."""
        if not is_incomplete:
            self._incomplete_since = None
        elif has_progressed or self._incomplete_since is None:
            self._incomplete_since = now

    def next_timeout(self, *, has_session: bool) -> float | None:
        """When `check` has a reason, in the time of ``now``; None when never."""
        if not self.has_spoken:
            return self._opened_at + self._endpoint.timeout
        times: list[float] = []
        if self._incomplete_since is not None:
            times.append(self._incomplete_since + self._endpoint.timeout)
        if not has_session:
            times.append(self._last_received + IDLE_TIMEOUT)
        return min(times, default=None)

    def check(self, now: float, *, has_session: bool) -> str:
        """Return why the client is given up; empty when it is not."""
        timeout = self._endpoint.timeout
        if not self.has_spoken:
            return "no request received in time" if now >= self._opened_at + timeout else ""
        if self._incomplete_since is not None and now >= self._incomplete_since + timeout:
            return "a request was not completed in time"
        if not has_session and now >= self._last_received + IDLE_TIMEOUT:
            return "idle for too long"
        return ""
