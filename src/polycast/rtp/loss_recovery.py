"""Requests retransmission of missing packets from a publisher (generic NACK, RFC 4585 section 6.2.1)."""

from __future__ import annotations

from typing import Final

FIRST_REQUEST_SECONDS: Final = 0.01
"""Seconds that a packet may be late before it is requested: most are only out of order."""
REPEAT_SECONDS: Final = 0.05
"""Minimum seconds between two requests for the same packet, if the round-trip time is shorter or unknown."""
MAXIMUM_REQUESTS: Final = 10
"""Maximum number of requests for one packet."""
MAXIMUM_MISSING: Final = 512
"""Maximum number of missing packets. If there are more, only a new key frame helps."""
MAXIMUM_SEQUENCES_PER_REQUEST: Final = 256
"""Sequence numbers in one NACK."""


class _Missing:
    __slots__ = ("next_request", "requests")

    def __init__(self, next_request: float) -> None:
        self.next_request = next_request
        self.requests = 0


class LossRecovery:
    """Tracks the sequence numbers of one RTP stream, and decides which packets to request again."""

    __slots__ = ("_highest", "_missing", "given_up", "needs_key_frame", "recovered", "requested", "round_trip")

    def __init__(self) -> None:
        self._highest = -1
        self._missing: dict[int, _Missing] = {}
        self.round_trip = 0.0
        """Seconds; 0 if unknown."""
        self.requested = 0
        """Requests for packets; a packet that is requested twice counts twice."""
        self.recovered = 0
        """Packets that arrived after a request."""
        self.given_up = 0
        """Packets that never arrived."""
        self.needs_key_frame = False
        """Set when packets were given up; the caller resets it after requesting a key frame."""

    def receive(self, sequence: int, now: float) -> None:
        """Process the sequence number of a received packet."""
        if self._highest < 0:
            self._highest = sequence
            return
        ahead = (sequence - self._highest) & 0xFFFF
        if ahead == 0 or ahead >= 0x8000:
            missing = self._missing.pop(sequence, None)
            if missing is not None and missing.requests:
                self.recovered += 1
            return
        if ahead > MAXIMUM_MISSING:
            self._give_up(len(self._missing) + ahead - 1)
            self._missing.clear()
        else:
            for distance in range(1, ahead):
                self._missing[(self._highest + distance) & 0xFFFF] = _Missing(now + FIRST_REQUEST_SECONDS)
            while len(self._missing) > MAXIMUM_MISSING:
                del self._missing[next(iter(self._missing))]
                self._give_up(1)
        self._highest = sequence

    def next_timeout(self) -> float | None:
        """Return when to call `requests`; None if nothing is missing."""
        return min((missing.next_request for missing in self._missing.values()), default=None)

    def requests(self, now: float) -> list[int]:
        """Return the sequence numbers to request now, in order."""
        due: list[int] = []
        for sequence, missing in list(self._missing.items()):
            if now < missing.next_request or len(due) >= MAXIMUM_SEQUENCES_PER_REQUEST:
                continue
            if missing.requests >= MAXIMUM_REQUESTS:
                del self._missing[sequence]
                self._give_up(1)
                continue
            missing.requests += 1
            missing.next_request = now + max(REPEAT_SECONDS, self.round_trip * 1.25)
            due.append(sequence)
        self.requested += len(due)
        return due

    def _give_up(self, count: int) -> None:
        self.given_up += count
        self.needs_key_frame = True
