"""What a connection counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class DirectionCounters:
    """Data packets of one direction. Bytes are those of payloads."""

    packets: int = 0
    """All, retransmissions included."""
    bytes: int = 0
    unique_packets: int = 0
    """Without retransmissions and duplicates."""
    unique_bytes: int = 0
    lost_packets: int = 0
    """Found to be missing, or reported as such; most arrive later."""
    lost_bytes: int = 0
    """Estimated."""
    retransmitted_packets: int = 0
    retransmitted_bytes: int = 0
    dropped_packets: int = 0
    """Too late: never sent, or never delivered."""
    dropped_bytes: int = 0
    acks: int = 0
    """ACK packets sent by the receiver, or received by the sender."""
    naks: int = 0
    key_messages: int = 0

    def count_unique(self, packets: int, size: int) -> None:
        """Count packets that are not retransmissions."""
        self.packets += packets
        self.bytes += size
        self.unique_packets += packets
        self.unique_bytes += size


@dataclass(slots=True)
class ReceptionCounters(DirectionCounters):
    """What only a receiver counts."""

    belated_packets: int = 0
    """Arrived after they were given up."""
    belated_bytes: int = 0
    belated_time: float = 0.0
    """Average seconds that they came too late."""
    undecryptable_packets: int = 0
    undecryptable_bytes: int = 0
    invalid_packets: int = 0
    """Packets that could not be parsed."""


class PacketRate:
    """Packets and bytes per second, measured over whole seconds."""

    __slots__ = ("_bytes", "_packets", "_since", "bytes", "packets")

    def __init__(self, now: float) -> None:
        self._since = now
        self._packets = 0
        self._bytes = 0
        self.packets = 0.0
        """Per second."""
        self.bytes = 0.0
        """Per second."""

    def sample(self, packets: int, size: int, now: float) -> None:
        """Take the counters (packets and bytes since the start)."""
        elapsed = now - self._since
        if elapsed < 1.0:
            return
        self.packets = (packets - self._packets) / elapsed
        self.bytes = (size - self._bytes) / elapsed
        self._since, self._packets, self._bytes = now, packets, size
