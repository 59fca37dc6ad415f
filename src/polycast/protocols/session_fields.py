"""The fields of a session in the API that all protocols fill in the same way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypedDict

from polycast.hub.stats import Counters


class SessionFields(TypedDict):
    """Arguments of `SessionItem` and its subclasses, for ``**``. Typed, so that mypy finds a field that is missing."""

    created: datetime
    uptime: float
    bytes_received: int
    bytes_sent: int
    packets_received: int
    packets_sent: int
    packets_lost: int
    packets_dropped: int
    jitter: float
    round_trip: float | None


def session_fields(created: datetime, counters: Counters) -> SessionFields:
    """Return when a session began, in local time, how long ago (seconds), and its traffic."""
    uptime = (datetime.now(UTC) - created).total_seconds()
    return SessionFields(
        created=created.astimezone(),
        uptime=round(max(0.0, uptime), 3),
        bytes_received=counters.bytes_received,
        bytes_sent=counters.bytes_sent,
        packets_received=counters.packets_received,
        packets_sent=counters.packets_sent,
        packets_lost=counters.packets_lost,
        packets_dropped=counters.packets_dropped,
        jitter=counters.jitter,
        round_trip=counters.round_trip,
    )
