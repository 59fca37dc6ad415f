"""Counters, and the snapshots of sessions and paths that the API and the metrics show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(slots=True)
class Counters:
    """What went through a session or a path since it began. All grow only."""

    bytes_received: int = 0
    bytes_sent: int = 0
    packets_received: int = 0
    packets_sent: int = 0
    packets_lost: int = 0
    """Packets that the publisher sent and we did not get, or that a reader reported as lost."""
    packets_dropped: int = 0
    """Packets not sent because the reader was too slow."""
    jitter: float = 0.0
    """Interarrival jitter in seconds, as measured or as last reported (RFC 3550 section 6.4.1)."""
    round_trip: float | None = None
    """In seconds, from the last receiver report; None while unknown."""


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """One session as the API and the metrics show it."""

    id: str
    created: datetime
    remote_address: str
    """``ip:port`` of the client."""
    state: str
    """``idle``, ``read`` or ``publish``."""
    path: str = ""
    user: str = ""
    transport: str = ""
    counters: Counters = field(default_factory=Counters)


def rfc3339(moment: datetime) -> str:
    """Return a time as the API writes it (RFC 3339), in local time."""
    return moment.astimezone().isoformat().replace("+00:00", "Z")


def describe_counters(counters: Counters) -> dict[str, object]:
    """Return the counters as the API shows them; jitter and round trip in seconds."""
    return {
        "bytesReceived": counters.bytes_received,
        "bytesSent": counters.bytes_sent,
        "packetsReceived": counters.packets_received,
        "packetsSent": counters.packets_sent,
        "packetsLost": counters.packets_lost,
        "packetsDropped": counters.packets_dropped,
        "jitter": counters.jitter,
        "roundTrip": counters.round_trip,
    }


def describe_session(snapshot: SessionSnapshot) -> dict[str, object]:
    """Return a session as the API shows it."""
    return {
        "created": rfc3339(snapshot.created),
        "remoteAddr": snapshot.remote_address,
        "state": snapshot.state,
        "path": snapshot.path,
        "user": snapshot.user,
        "transport": snapshot.transport,
        "uptime": round(max(0.0, (datetime.now(UTC) - snapshot.created).total_seconds()), 3),
        **describe_counters(snapshot.counters),
    }


_COUNTER_NAMES = ("bytesReceived", "bytesSent", "packetsReceived", "packetsSent", "packetsLost", "packetsDropped")

COUNTERS_SCHEMA: dict[str, object] = {
    **{name: {"type": "integer", "minimum": 0} for name in _COUNTER_NAMES},
    "jitter": {"type": "number", "description": "Seconds."},
    "roundTrip": {"type": ["number", "null"], "description": "Seconds; null while unknown."},
}
"""Properties of `describe_counters`, as a JSON schema."""

SESSION_SCHEMA: dict[str, object] = {
    "created": {"type": "string", "format": "date-time"},
    "remoteAddr": {"type": "string", "description": "ip:port of the client."},
    "state": {"enum": ["idle", "read", "publish"]},
    "path": {"type": "string"},
    "user": {"type": "string"},
    "transport": {"type": "string"},
    "uptime": {"type": "number", "description": "Seconds since the session began."},
    **COUNTERS_SCHEMA,
}
"""Properties of `describe_session`, as a JSON schema."""

SESSION_STATES = ("idle", "read", "publish")


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of a metric family."""

    labels: dict[str, str]
    value: float


def count_by_state(snapshots: Iterable[SessionSnapshot]) -> list[Sample]:
    """Return how many sessions there are in each state."""
    counts = dict.fromkeys(SESSION_STATES, 0)
    for snapshot in snapshots:
        counts[snapshot.state] = counts.get(snapshot.state, 0) + 1
    return [Sample({"state": state}, count) for state, count in counts.items()]


@dataclass(frozen=True, slots=True)
class Reference:
    """How the API names a publisher, source or reader: a type and, where there are several, an id."""

    type: str
    id: str = ""


class RateMeter:
    """Bits per second over the last whole seconds, from a growing byte counter sampled once a second or so."""

    __slots__ = ("_bytes", "_time", "bit_rate")

    def __init__(self, now: float) -> None:
        self._bytes = 0
        self._time = now
        self.bit_rate = 0.0
        """Smoothed, bit/s."""

    def sample(self, total_bytes: int, now: float) -> None:
        """Take the counter's value at ``now`` (monotonic seconds)."""
        elapsed = now - self._time
        if elapsed <= 0:
            return
        current = (total_bytes - self._bytes) * 8 / elapsed
        self.bit_rate = current if self.bit_rate == 0 else (self.bit_rate + current) / 2
        self._bytes = total_bytes
        self._time = now
