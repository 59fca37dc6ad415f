"""Reception of one RTP stream: order, loss, and its RTCP reports (RFC 3550)."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.media.packet import RtpPacket
from polycast.rtp.reorder import Reorderer
from polycast.rtp.reports import ReceiverStatistics
from polycast.rtp.rtcp import ReportBlock, SenderReport


class RtpReception:
    """Receives the packets of one stream from a network that may lose and reorder them.

    Call `receive` with every packet, and `flush` periodically, ideally at `next_timeout`.
    """

    def __init__(self, clock_rate: int, reorderer: Reorderer | None = None, ssrc: int | None = None) -> None:
        """``reorderer`` determines how long to wait for a missing packet."""
        self.ssrc = ssrc
        """Of the sender; None if unknown."""
        self._reorderer = reorderer if reorderer is not None else Reorderer()
        self._statistics = ReceiverStatistics(clock_rate)

    @property
    def has_started(self) -> bool:
        """Whether a packet was received."""
        return self._reorderer.has_started

    @property
    def lost(self) -> int:
        """Packets that were given up."""
        return self._reorderer.lost

    @property
    def jitter_seconds(self) -> float:
        """Interarrival jitter in seconds."""
        return self._statistics.jitter_seconds

    def receive(self, packet: RtpPacket, now: float, *, is_resent: bool = False) -> Sequence[RtpPacket]:
        """Process a packet; return those that are next in order.

        ``is_resent``: it was retransmitted, so that its arrival time says nothing about the network.
        """
        if not is_resent:
            self._statistics.update(packet.sequence, packet.timestamp, now)
        return self._reorderer.push(packet, now)

    def next_timeout(self) -> float | None:
        """Return when `flush` is due; None if no packet waits for a missing one."""
        return self._reorderer.next_timeout()

    def flush(self, now: float) -> Sequence[RtpPacket]:
        """Give up packets that timed out; return those that follow."""
        return self._reorderer.flush(now)

    def on_sender_report(self, report: SenderReport, now: float) -> None:
        """Process a sender report."""
        self.ssrc = report.ssrc
        self._statistics.on_sender_report(report.ntp, now)

    def report_block(self, now: float) -> ReportBlock | None:
        """Return the report block of the stream; None before the first packet, or without an SSRC."""
        return None if self.ssrc is None else self._statistics.report_block(self.ssrc, now)
