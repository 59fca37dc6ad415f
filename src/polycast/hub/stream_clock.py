"""Maps the times of a stream's tracks to their common timeline and to the wall clock."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from polycast.hub.successor import RtpPosition
from polycast.media.continuity import MAXIMUM_STEP, MAXIMUM_STEP_OF_FRAMES, Continuity
from polycast.media.frame import Frame
from polycast.media.timebase import (
    NANOSECONDS,
    WallTime,
    ntp_to_wall_time,
    rescale_nearest,
    timestamp_difference,
    wall_time_to_ntp,
)
from polycast.rtp.reports import SenderReportSource
from polycast.rtp.rtcp import SenderReport
from polycast.rtp.timeline import Timeline

# Seconds by which the clock of a publisher may deviate from earlier packets; more means that the clock was set.
MAXIMUM_CLOCK_STEP_SECONDS = 10

# Maximum seconds between the first packet and the sync point in RTP-Info; more means that the header is invalid.
MAXIMUM_SYNC_POINT_DISTANCE_SECONDS = 10

# Seconds by which the wall-clock times of a publisher of frames may be wrong when it continues the stream of another.
MAXIMUM_WALL_ERROR_SECONDS = 1

# Nanoseconds by which a publisher's report must shift a track before readers get new reports immediately; viewers only
# notice several times as much (ITU-R BT.1359).
REPORT_CHANGE_NANOSECONDS = 5_000_000


class StreamClock:
    """The clock of one stream. ``now`` is monotonic seconds."""

    def __init__(self, clock_rates: Sequence[int], *, publishes_packets: bool, is_absolute: bool = False) -> None:
        """``is_absolute``: the wall clock is that of the publisher, as its sender reports tell it."""
        self._is_absolute = is_absolute
        self._rates = tuple(clock_rates)
        self.continuity = Continuity(clock_rates)
        self.publishes_packets = publishes_packets
        self.timeline = Timeline(clock_rates, continuity=self.continuity)
        self.reports = tuple(map(SenderReportSource, clock_rates))
        """The reports for readers over RTP, by track."""
        self.report_version = 0
        """How often sender reports of the publisher shifted a track, which outdates the reports sent to readers."""
        self._offset: int | None = None
        """Nanoseconds from the clock of an RTP publisher to the clock in the readers' reports."""
        self._wall_origin: int | None = None
        """Wall-clock time of time 0 of a publisher of frames, in nanoseconds."""
        self._is_restarted = False
        """Whether another publisher continues, none of whose frames was mapped to the wall clock yet."""
        self.sync_point: Mapping[int, int] = {}
        """RTP timestamps of the sync point, by track, until the first packet."""

    def set_sync_point(self, timestamps: Mapping[int, int]) -> None:
        """Set the RTP timestamps of the tracks at one sync point; before the first packet."""
        self.sync_point = dict(timestamps)
        self.timeline.set_sync_point(timestamps)

    @property
    def publishes_packets(self) -> bool:
        """Whether the publisher's times are RTP timestamps."""
        return self._publishes_packets

    @publishes_packets.setter
    def publishes_packets(self, value: bool) -> None:
        self._publishes_packets = value
        self.continuity.maximum_step = MAXIMUM_STEP if value else MAXIMUM_STEP_OF_FRAMES

    def close(self) -> None:
        """Forget the tracks, which refer to what they share."""
        self.continuity.tracks = ()
        self.timeline.tracks = ()

    def restart(self) -> None:
        """Continue with a successor whose times are unrelated to the previous ones."""
        self.continuity.restart()
        self.timeline.align_again()
        self._is_restarted = True

    def on_packet(self, index: int, timestamp: int, now: float) -> None:
        """Compare a packet that was just received with the wall clock; not needed before `next_packet_time` of the
        track's reports."""
        if self._is_absolute and not self.reports[index].has_publisher_report:
            self.reports[index].skip_packet(now)
            return
        wall_time = WallTime(time.time_ns())
        if self.sync_point:
            self._anchor_sync_point(index, timestamp, wall_time)
        self.reports[index].on_packet(timestamp, now, wall_time)

    def catch_up(self, index: int, position: RtpPosition, now: float) -> None:
        """Compare the last packet with the wall clock if that was skipped: it may follow a jump."""
        if position.time is not None and (not self._is_absolute or self.reports[index].has_publisher_report):
            elapsed = max(0.0, now - position.time)
            wall_time = WallTime(time.time_ns() - round(elapsed * NANOSECONDS))
            self.reports[index].on_packet(position.timestamp, position.time, wall_time)

    def on_sender_report(self, index: int, report: SenderReport, timestamp: int, now: float) -> SenderReport:
        """Process a sender report of the publisher, and its RTP timestamp as readers see it; return the report for
        readers. It maps the track's timestamps to the wall clock."""
        reports = self.reports[index]
        before = reports.wall_time_of(timestamp)
        ntp = self._to_our_clock(reports, report.ntp, timestamp)
        reports.on_publisher_report(ntp, timestamp, now)
        if before is not None and abs(ntp_to_wall_time(ntp) - before) > REPORT_CHANGE_NANOSECONDS:
            self.report_version += 1
        self.timeline.on_sender_report(index, report.ntp, timestamp)
        return replace(report, ntp=ntp, rtp_timestamp=timestamp)

    def wall_time_of(self, frame: Frame, clock_rate: int) -> WallTime:
        """Return when a frame of the publisher was captured: as given by the publisher, else by the common timeline.

        That timeline is mapped to the wall clock at its first frame, once for all tracks, so they stay in sync.
        """
        if frame.wall_time is not None:
            return frame.wall_time
        elapsed = rescale_nearest(frame.pts, clock_rate, NANOSECONDS)
        if self._wall_origin is None:
            self._wall_origin = time.time_ns() - elapsed
        elif self._is_restarted:
            # Each publisher may have sent a little ahead of time, and the next one continues there.
            ahead = self._wall_origin + elapsed - time.time_ns()
            if abs(ahead) > MAXIMUM_WALL_ERROR_SECONDS * NANOSECONDS:
                self._wall_origin -= ahead
        self._is_restarted = False
        return WallTime(self._wall_origin + elapsed)

    def _to_our_clock(self, reports: SenderReportSource, ntp: int, timestamp: int) -> int:
        """Return the NTP time of a publisher's report on the clock of the readers' reports.

        A publisher's clock may be hours off. Readers that got reports by our clock before, or while the clock was set,
        must not see their timeline jump; the offsets between the tracks are the publisher's.
        """
        if self._is_absolute:
            return ntp
        theirs = ntp_to_wall_time(ntp)
        ours = reports.wall_time_of(timestamp)
        offset = self._offset
        if ours is not None and (
            offset is None or abs(theirs + offset - ours) > MAXIMUM_CLOCK_STEP_SECONDS * NANOSECONDS
        ):
            offset = ours - theirs
        self._offset = offset = offset or 0
        return wall_time_to_ntp(WallTime(theirs + offset))

    def _anchor_sync_point(self, index: int, timestamp: int, wall_time: WallTime) -> None:
        """Map all tracks to the wall clock at the first packet of one of them."""
        sync_point, self.sync_point = self.sync_point, {}
        if index not in sync_point:
            return
        ticks = timestamp_difference(timestamp - sync_point[index])
        since = rescale_nearest(ticks, self._rates[index], NANOSECONDS)
        if abs(since) <= MAXIMUM_SYNC_POINT_DISTANCE_SECONDS * NANOSECONDS:
            for other, its_timestamp in sync_point.items():
                self.reports[other].on_sync_point(its_timestamp, WallTime(wall_time - since))
