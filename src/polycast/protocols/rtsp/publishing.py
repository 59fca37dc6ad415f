"""The way of a publisher's packets into the stream: order, size, statistics, RTCP."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping

from polycast.errors import RemoteProtocolError
from polycast.hub.live_track import LiveTrack
from polycast.hub.stats import Counters
from polycast.hub.stream import Stream
from polycast.media.packet import RtpPacket
from polycast.rtp.header import HEADER_SIZE, parse_packet
from polycast.rtp.reorder import Reorderer
from polycast.rtp.repacketize import Oversized
from polycast.rtp.reports import ReceiverStatistics
from polycast.rtp.rtcp import ReceiverReport, SenderReport, parse_compound, serialize_compound
from polycast.wire.rtsp.parser import frame_bounds


class TrackInput:
    """Takes the RTP and RTCP packets of one published track."""

    __slots__ = (
        "_counted",
        "_counters",
        "_oversized",
        "_remote_ssrc",
        "_reorderer",
        "_ssrc",
        "_statistics",
        "_stream",
        "_track",
        "has_sender_report",
    )

    def __init__(self, stream: Stream, track: LiveTrack, counters: Counters, *, reorders: bool) -> None:
        self._stream = stream
        self._track = track
        self._counters = counters
        self._reorderer = Reorderer() if reorders else None
        self._oversized: Oversized | None = None
        self._statistics = ReceiverStatistics(track.track.clock_rate) if reorders else None
        self._ssrc = secrets.randbits(32)
        self._remote_ssrc = 0
        self.has_sender_report = False
        self._counted = track.packets_received, track.bytes_received
        """What the track had counted when its figures were taken last."""

    def push(self, data: bytes, start: int, end: int, channel: int, now: float) -> None:
        """Take the packet ``data[start:end]``; one of another payload type is dropped.

        Raises RemoteProtocolError when it is not RTP or cannot be passed on.
        """
        packet = parse_packet(data, start, end)
        if not self._track.is_own(packet):
            return
        if self._reorderer is None:
            if end - start > self._track.maximum_packet_size or self._oversized is not None:
                self._push_oversized(packet, now)
            elif packet.data is data and packet.end == end:
                self._track.add_packet(packet, now, channel)
            else:  # padding was taken off: the frame header before the packet no longer fits it
                self._track.add_packet(packet, now)
            return
        counters = self._counters
        counters.packets_received += 1
        counters.bytes_received += end - start
        if self._statistics is not None:
            self._statistics.update(packet.sequence, packet.timestamp, now)
        for ordered in self._reorderer.push(packet, now):
            self._add(ordered, now)

    def push_group(
        self,
        data: bytes,
        start: int,
        sizes: list[int],
        channel: int,
        now: float,
        on_bad_packet: Callable[[RemoteProtocolError], None],
        *,
        ignores_short: bool = False,
    ) -> None:
        """Take the packets of a group of an `InterleavedRun`; those that cannot be passed on go to ``on_bad_packet``.

        ``ignores_short``: leave out what is too short for RTP, as servers send it to open a NAT, without a word.
        """
        if len(sizes) > 1 and self._track.add_packets(data, start, sizes, channel):
            return
        for begin, end in frame_bounds(start, sizes):
            if ignores_short and end - begin < HEADER_SIZE:
                continue
            try:
                self.push(data, begin, end, channel, now)
            except RemoteProtocolError as error:
                on_bad_packet(error)

    def push_rtcp(self, data: bytes, now: float) -> None:
        """Take an RTCP packet of the publisher. Raises RemoteProtocolError when it is not RTCP."""
        for report in parse_compound(data):
            if isinstance(report, SenderReport):
                self.has_sender_report = True
                self._remote_ssrc = report.ssrc
                if self._statistics is not None:
                    self._statistics.on_sender_report(report.ntp, now)
                self._stream.on_sender_report(self._track.index, report, now)

    def receiver_report(self, now: float) -> bytes:
        """Return a receiver report about the track."""
        block = self._statistics.report_block(self._remote_ssrc, now) if self._statistics is not None else None
        return serialize_compound([ReceiverReport(self._ssrc, () if block is None else (block,))])

    def count(self) -> None:
        """Bring the counters up to date where the track alone counts packets: over TCP.

        It counts those that go out to readers. Packets that came before the key frame of a second publisher are not
        among them, and one that was cut is several.
        """
        if self._reorderer is None:
            track = self._track
            packets, size = self._counted
            self._counters.packets_received += track.packets_received - packets
            self._counters.bytes_received += track.bytes_received - size
            self._counted = track.packets_received, track.bytes_received

    def tick(self, now: float) -> None:
        """Give up on packets that have been missing for too long, and refresh the statistics."""
        reorderer = self._reorderer
        if reorderer is not None:
            for packet in reorderer.flush(now):
                self._add(packet, now)
        self._counters.packets_lost = self._track.packets_lost
        if self._statistics is not None:
            self._counters.jitter = self._statistics.jitter_seconds

    def _add(self, packet: RtpPacket, now: float) -> None:
        if len(packet) > self._track.maximum_packet_size or self._oversized is not None:
            self._push_oversized(packet, now)
        else:
            self._track.add_packet(packet, now)

    def _push_oversized(self, packet: RtpPacket, now: float) -> None:
        oversized = self._oversized
        if oversized is None:
            oversized = self._oversized = Oversized(self._track.track, refuses=self._reorderer is None)
            self._track.cut()
        for smaller in oversized.push(packet):
            self._track.add_packet(smaller, now)


def last_sign_of_life(otherwise: float, tracks: Mapping[int, LiveTrack]) -> float:
    """Return when a packet went out last on one of the tracks, or ``otherwise`` where that is later."""
    return max([otherwise, *(track.last_time for track in tracks.values() if track.last_time is not None)])


def receiver_report(data: bytes, stream: Stream, counters: Counters, now: float) -> None:
    """Take what a reader reports about its reception into its session's counters."""
    with contextlib.suppress(RemoteProtocolError):
        for report in parse_compound(data):
            if not isinstance(report, ReceiverReport | SenderReport):
                continue
            for block in report.blocks:
                track = next((track for track in stream.tracks if track.ssrc == block.ssrc), None)
                if track is None:
                    continue
                counters.packets_lost = max(0, block.cumulative_lost)
                counters.jitter = block.jitter / track.track.clock_rate
                round_trip = track.reports.round_trip(block, now)
                if round_trip is not None:
                    counters.round_trip = round_trip
