"""Collects packets that are received one by one, for those of one read to be published together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from polycast.hub.batch import PacketRun
from polycast.hub.stream import Stream
from polycast.media.packet import RtpPacket

MAXIMUM_PACKETS: Final = 256
"""Packets after which those of one read are published, although there are more."""


class PacketCollector:
    """Publishes packets to a stream in runs, in the order in which they were added: publishing a run of packets costs
    half as much as publishing each of them.

    Call `publish` before anything else is told to the stream.
    """

    __slots__ = ("_packets", "_time", "_track_index", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._packets: list[RtpPacket] = []
        """Packets of one track that are not published yet."""
        self._track_index = 0
        self._time = 0.0
        """When the last one of them was received."""

    def add(self, track_index: int, packets: Sequence[RtpPacket], now: float) -> None:
        """Add packets of a track, in order, received at ``now`` in monotonic seconds."""
        if track_index != self._track_index or len(self._packets) >= MAXIMUM_PACKETS:
            self.publish()
            self._track_index = track_index
        self._packets += packets
        self._time = now

    def publish(self) -> None:
        """Publish the packets that were added."""
        packets = self._packets
        if packets:
            self._packets = []
            self.stream.publish(PacketRun(self._track_index, packets), self._time)

    def end_of_read(self, *, coalesced: bool = False) -> None:
        """One read has been processed completely; see `Stream.end_of_read`."""
        self.publish()
        self.stream.end_of_read(coalesced=coalesced)
