"""Reception of one RTP stream: order, loss, and what RTCP says of it (RFC 3550)."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.media.packet import RtpPacket
from polycast.rtp.reorder import Reorderer
from polycast.rtp.reports import ReceiverStatistics
from polycast.rtp.rtcp import ReportBlock, SenderReport


class RtpReception:
    """Receives the packets of one stream from a network that may lose and reorder them.

    Give it every packet by `receive`, and call `flush` now and then, at `next_timeout` at best.
    """

    def __init__(self, clock_rate: int, reorderer: Reorderer | None = None, ssrc: int | None = None) -> None:
        """``reorderer`` tells for how long a missing packet is waited for."""
        self.ssrc = ssrc
        """Of the sender; None while it is not known."""
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
        """Take a packet; return those whose turn has come, in order.

        ``is_resent``: it was sent again on request, so when it comes says nothing about the network.
        """
        if not is_resent:
            self._statistics.update(packet.sequence, packet.timestamp, now)
        return self._reorderer.push(packet, now)

    def next_timeout(self) -> float | None:
        """Return when `flush` is due; None while no packet waits for a missing one."""
        return self._reorderer.next_timeout()

    def flush(self, now: float) -> Sequence[RtpPacket]:
        """Give up the packets that were waited for long enough; return those that can go on."""
        return self._reorderer.flush(now)

    def on_sender_report(self, report: SenderReport, now: float) -> None:
        """Take note of a sender report."""
        self.ssrc = report.ssrc
        self._statistics.on_sender_report(report.ntp, now)

    def report_block(self, now: float) -> ReportBlock | None:
        """Return what a receiver report says of the stream; None before the first packet, or without an SSRC."""
        return None if self.ssrc is None else self._statistics.report_block(self.ssrc, now)
