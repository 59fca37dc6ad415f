"""RTP and RTCP over the connection itself, and the receiver reports of readers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from polycast.errors import RemoteProtocolError
from polycast.hub.stats import Counters
from polycast.hub.stream import Stream
from polycast.media.packet_buffer import PacketBuffer
from polycast.protocols.rtp_receiver import MediaReceiver
from polycast.rtp.rtcp import ReceiverReport, SenderReport, parse_compound

ChannelHandlers = Mapping[int, Callable[[PacketBuffer, float], None]]
"""What processes the interleaved frames of one read, by channel, with the time in monotonic seconds."""


def channel_handlers(receiver: MediaReceiver, channels: Mapping[int, tuple[int, int]]) -> ChannelHandlers:
    """Return the handlers of a publisher's channels. ``channels``: those of RTP and RTCP, by index of the track."""
    tracks = receiver.tracks
    handlers = {rtcp: tracks[index].receive_reports for index, (_, rtcp) in channels.items()}
    return handlers | {rtp: tracks[index].receive_buffer for index, (rtp, _) in channels.items()}


def receiver_report(data: bytes, stream: Stream, counters: Counters, now: float) -> None:
    """Add a reader's reception statistics to its session's counters."""
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
