"""RTP and RTCP over the connection itself, and the receiver reports of readers."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from polycast.errors import RemoteProtocolError
from polycast.hub.stats import Counters
from polycast.hub.stream import Stream
from polycast.protocols.rtp_receiver import MediaReceiver, TrackReceiver
from polycast.rtp.rtcp import ReceiverReport, SenderReport, parse_compound
from polycast.wire.rtsp.interleaved import InterleavedRun


class InterleavedInput:
    """Passes the interleaved frames of a publisher to the receivers of its tracks."""

    __slots__ = ("_rtcp", "_rtp")

    def __init__(self, receiver: MediaReceiver, channels: Mapping[int, tuple[int, int]]) -> None:
        """``channels``: those of RTP and RTCP, by index of the track."""
        tracks = receiver.tracks
        self._rtp: dict[int, TrackReceiver] = {rtp: tracks[index] for index, (rtp, _) in channels.items()}
        self._rtcp: dict[int, TrackReceiver] = {rtcp: tracks[index] for index, (_, rtcp) in channels.items()}

    def receive(self, run: InterleavedRun, now: float) -> None:
        """Process the frames of a channel from one read; unused channels are ignored. ``now``: monotonic seconds."""
        track = self._rtp.get(run.channel)
        if track is not None:
            track.receive_buffer(run, now)
            return
        track = self._rtcp.get(run.channel)
        if track is not None:
            for start, end in run.bounds():
                track.receive_rtcp(run.data[start:end], now)


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
