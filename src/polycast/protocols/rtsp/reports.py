"""RTCP sender reports for the readers: one per track, with the same bytes for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from polycast.hub.stream import Stream
from polycast.media.timebase import WallTime
from polycast.protocols.rtsp.readers import MulticastGroup, MulticastReader, SessionReader
from polycast.rtp.rtcp import SourceDescription, serialize_compound

# Seconds between RTCP reports of both kinds, as in rtsp-simple-server (RFC 3550 section 6.2 allows 5 and more). Servers
# that are pulled also use them as keep-alives.
REPORT_INTERVAL = 10.0

_CANONICAL_NAME = "polycast"


class ReportSender:
    """Schedules the reports for the readers of each stream."""

    def __init__(self, group_of: Callable[[Stream], MulticastGroup | None], clock: Callable[[], float]) -> None:
        """``group_of`` returns the multicast group of a stream, ``clock`` monotonic seconds."""
        self._group_of = group_of
        self._clock = clock
        self._times: dict[Stream, tuple[float, int]] = {}
        """When the next reports are due, and the version of the last ones."""

    def send(self, reading: Iterable[tuple[Stream, SessionReader]], now: float) -> None:
        """Send due reports to the readers of all streams. Called about once a second."""
        streams: dict[Stream, list[SessionReader]] = {}
        for stream, reader in reading:
            streams.setdefault(stream, []).append(reader)
        times = self._times
        self._times = {}
        for stream, readers in streams.items():
            due, version = times.get(stream, (now, 0))
            self._times[stream] = due, version
            if now >= due or version != stream.clock.report_version:
                self._times[stream] = now + REPORT_INTERVAL, stream.clock.report_version
                self._report_on(stream, readers, now)
            elif newcomers := [reader for reader in readers if len(reader.reported) < len(stream.tracks)]:
                # Players synchronize audio and video by the reports, so new readers, and readers of a track that has
                # just started, do not wait for the next interval.
                self._report_on(stream, newcomers, now, only_first=True)

    def send_first(self, stream: Stream, reader: SessionReader) -> None:
        """Send the available sender reports to a new reader: they synchronize audio and video."""
        self._report_on(stream, [reader], self._clock(), only_first=True)

    def _report_on(
        self, stream: Stream, readers: Sequence[SessionReader], now: float, *, only_first: bool = False
    ) -> None:
        """``only_first``: only to readers without a report of that track so far."""
        group = self._group_of(stream)
        wall_time = WallTime(time.time_ns())
        for track in stream.tracks:
            targets = [reader for reader in readers if not (only_first and track.index in reader.reported)]
            if track.ssrc is None or not targets:
                continue
            stream.update_clock(track, now)
            report = track.reports.report(track.ssrc, now, wall_time, track.counters.packets, track.counters.bytes)
            if report is None:
                continue
            names = SourceDescription(((track.ssrc, _CANONICAL_NAME),))
            data = serialize_compound([report, names])
            for reader in targets:
                reader.send_report(track.index, data)
                reader.reported.add(track.index)
            if group is not None and any(isinstance(reader, MulticastReader) for reader in targets):
                group.send_report(track.index, data)
