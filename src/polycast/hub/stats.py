"""Counters of sessions and paths, and the names of publishers and readers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

# Samples of which the longest delay is known: one a second or so, for about a minute.
_PEAKS: Final = 60


@dataclass(slots=True)
class Counters:
    """Traffic of a session or a path since it started. All counters only grow.

    No `Struct`: setting an attribute of one takes twice as long, and these are set for each delivery.
    """

    bytes_received: int = 0
    bytes_sent: int = 0
    packets_received: int = 0
    packets_sent: int = 0
    packets_lost: int = 0
    """Packets from the publisher that never arrived, or that a reader reported as lost."""
    packets_dropped: int = 0
    """Packets not sent because the reader was too slow."""
    packets_invalid: int = 0
    """Packets from the publisher that were ignored: invalid, or of a kind that cannot be forwarded."""
    reports_received: int = 0
    """Compound RTCP packets."""
    reports_sent: int = 0
    jitter: float = 0.0
    """Interarrival jitter in seconds, as measured or as last reported (RFC 3550 section 6.4.1)."""
    round_trip: float | None = None
    """In seconds, from the last receiver report; None while unknown."""


class Reference(Struct, frozen=True, omit_defaults=True):
    """The name of a publisher, source or reader in the API: a type and, if there are several, an id."""

    type: str
    id: str = ""


class RateMeter:
    """Bits per second over the last whole seconds, from a growing byte counter sampled once a second or so."""

    __slots__ = ("_bytes", "_time", "bit_rate", "since")

    def __init__(self, now: float) -> None:
        self.since = now
        """Start of the measurement (monotonic seconds)."""
        self._bytes = 0
        self._time = now
        self.bit_rate = 0.0
        """Smoothed, bit/s."""

    def sample(self, total_bytes: int, now: float) -> None:
        """Process the counter's value at ``now`` (monotonic seconds)."""
        elapsed = now - self._time
        if elapsed <= 0:
            return
        current = (total_bytes - self._bytes) * 8 / elapsed
        self.bit_rate = current if self.bit_rate == 0 else (self.bit_rate + current) / 2
        self._bytes = total_bytes
        self._time = now


class CipherMeter:
    """Counts what the encryption of media costs."""

    __slots__ = ("packets", "seconds")

    def __init__(self) -> None:
        self.packets = 0
        self.seconds = 0.0

    def add(self, packets: int, seconds: float) -> None:
        """Count packets, and how long it took to encrypt them."""
        self.packets += packets
        self.seconds += seconds


class StreamMeter(RateMeter):
    """Measures a stream: its bit rate, and how long its media took through the server."""

    __slots__ = ("_peak", "_peaks", "began", "deliveries", "delivery_seconds")

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self.began = 0.0
        """When the first media was received that has not been sent yet; monotonic seconds; 0 if there is none."""
        self.deliveries = 0
        """Batches that all readers got."""
        self.delivery_seconds = 0.0
        """How long they took in all, from the read of their first byte until the last reader had them."""
        self._peak = 0.0
        self._peaks: deque[float] = deque(maxlen=_PEAKS)

    def on_delivered(self, now: float) -> None:
        """The last reader got a batch."""
        if not self.began:  # only descriptions of tracks
            return
        delay = now - self.began
        self.began = 0.0
        self.deliveries += 1
        self.delivery_seconds += delay
        if delay > self._peak:
            self._peak = delay

    @property
    def longest_delivery(self) -> float:
        """The longest delay of the last minute or so, in seconds."""
        return max(self._peak, *self._peaks, 0.0)

    def sample(self, total_bytes: int, now: float) -> None:
        super().sample(total_bytes, now)
        self._peaks.append(self._peak)
        self._peak = 0.0
