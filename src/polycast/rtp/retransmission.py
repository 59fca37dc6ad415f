"""The last packets of a track, kept once for all readers, and their retransmission to one reader."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from polycast.media.packet import RtpPacket

HISTORY_SIZE: Final = 1024
"""Packets that are kept per track: about two seconds of 5 Mbit/s. A power of two."""

MAXIMUM_RESENDS_PER_SECOND: Final = 400
"""Maximum number of retransmissions to one reader per second: as many as a stream of 4 Mbit/s has. A reader that loses
more is better served by the next key frame, and repeated requests must not cost more."""

RESEND_INTERVAL: Final = 0.02
"""Seconds in which the same packet is not resent to the same reader: it is still in transit."""


MAXIMUM_REPORTS_PER_SECOND: Final = 500
"""RTCP packets of one reader that are read per second: browsers send about ten, with heavy loss about a hundred."""


class PacketHistory:
    """Finds packets by their sequence number."""

    __slots__ = ("_packets",)

    def __init__(self) -> None:
        self._packets: list[RtpPacket | None] = [None] * HISTORY_SIZE

    def add(self, packets: Iterable[RtpPacket]) -> None:
        """Store packets; each replaces an old one."""
        kept = self._packets
        for packet in packets:
            kept[packet.sequence % HISTORY_SIZE] = packet

    def find(self, sequence: int) -> RtpPacket | None:
        """Return the packet with a sequence number; None if it is no longer stored."""
        packet = self._packets[sequence % HISTORY_SIZE]
        return packet if packet is not None and packet.sequence == sequence else None


class ResendBudget:
    """Decides which RTCP packets of a reader are read, and which of the packets that it requests are sent again."""

    __slots__ = ("_credit", "_credited", "_report_credit", "_reported", "_sent")

    def __init__(self, now: float) -> None:
        self._credit = float(MAXIMUM_RESENDS_PER_SECOND)
        self._credited = now
        self._report_credit = float(MAXIMUM_REPORTS_PER_SECOND)
        self._reported = now
        self._sent: dict[int, float] = {}
        """When packets were last resent, by sequence number."""

    def allows_report(self, now: float) -> bool:
        """Return whether to read an RTCP packet, and record it."""
        earned = (now - self._reported) * MAXIMUM_REPORTS_PER_SECOND
        self._report_credit = min(MAXIMUM_REPORTS_PER_SECOND, self._report_credit + earned)
        self._reported = now
        if self._report_credit < 1:
            return False
        self._report_credit -= 1
        return True

    @property
    def is_used_up(self) -> bool:
        """Whether the budget was exhausted at the last call of `allows`."""
        return self._credit < 1

    def allows(self, sequence: int, now: float) -> bool:
        """Return whether to resend a packet, and record it."""
        self._credit = min(
            MAXIMUM_RESENDS_PER_SECOND, self._credit + (now - self._credited) * MAXIMUM_RESENDS_PER_SECOND
        )
        self._credited = now
        last = self._sent.get(sequence)
        if self._credit < 1 or (last is not None and now - last < RESEND_INTERVAL):
            return False
        if len(self._sent) >= MAXIMUM_RESENDS_PER_SECOND:
            self._sent = {number: sent for number, sent in self._sent.items() if now - sent < RESEND_INTERVAL}
        self._credit -= 1
        self._sent[sequence] = now
        return True


def retransmission_payload(packet: RtpPacket) -> bytes:
    """Return the payload of the RTX packet that retransmits ``packet`` (RFC 4588 section 4)."""
    return packet.sequence.to_bytes(2, "big") + packet.data[packet.payload : packet.end]


def original_of(packet: bytes, payload: int, ssrc: int, payload_type: int) -> bytes | None:
    """Return the RTP packet in an RTX packet, whose payload starts at ``payload``; None if it is empty.

    Empty ones are padding for bandwidth estimation.
    """
    if len(packet) < payload + 3:
        return None
    second = packet[1] & 0x80 | payload_type
    header = bytes((packet[0], second)) + packet[payload : payload + 2] + packet[4:8] + ssrc.to_bytes(4, "big")
    return header + packet[12:payload] + packet[payload + 2 :]
