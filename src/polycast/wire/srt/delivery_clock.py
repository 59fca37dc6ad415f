"""When received packets are delivered: at the pace of their sender, after a constant delay.

Timestamp-based packet delivery (TSBPD), draft-sharabayko-srt-01 section 4.5.
"""

from __future__ import annotations

from typing import Final

from polycast.wire.srt.packet import extend_time

MICROSECOND: Final = 1e-6

_DRIFT_SAMPLES: Final = 1000
"""Samples whose average is the drift of the sender's clock (section 4.7); they come every 10 ms."""


class DeliveryClock:
    """Maps the timestamps of a sender to the time at which packets are delivered."""

    __slots__ = ("_base", "_first_round_trip", "_newest", "_samples", "_sum", "delay", "drift")

    def __init__(self, arrival: float, timestamp: int, delay: float) -> None:
        """``timestamp`` (microseconds) is that of the handshake, which came at ``arrival``; ``delay`` in seconds."""
        self._base = arrival - timestamp * MICROSECOND
        self._newest = timestamp
        self.delay = delay
        self.drift = 0.0
        """Seconds by which the clock was corrected so far."""
        self._first_round_trip: float | None = None
        self._sum = 0.0
        self._samples = 0

    def due(self, timestamp: int) -> float:
        """Return when a packet with this 32-bit timestamp is delivered. Its timestamp is the newest one of its kind,
        or older by at most half an hour."""
        newest = self._newest
        if timestamp - newest >> 31:  # not the next 36 minutes: earlier, or it has wrapped
            timestamp = extend_time(timestamp, newest)
        if timestamp > newest:
            self._newest = timestamp
        return self._base + timestamp * MICROSECOND + self.delay

    def sample(self, timestamp: int, now: float, round_trip: float) -> None:
        """Take the timestamp of a control packet that came without delay by retransmission."""
        if self._first_round_trip is None:
            self._first_round_trip = round_trip
        late = now - self._base - extend_time(timestamp, self._newest) * MICROSECOND
        # a path that became longer is no drift
        self._sum += late - (round_trip - self._first_round_trip) / 2
        self._samples += 1
        if self._samples >= _DRIFT_SAMPLES:
            correction = self._sum / self._samples
            self._base += correction
            self.drift += correction
            self._sum = 0.0
            self._samples = 0
