"""The contents of RTCP reports: reception statistics, sender reports, round-trip time (RFC 3550 section 6.4)."""

from __future__ import annotations

from polycast.media.continuity import MAXIMUM_LATENESS, MAXIMUM_STEP
from polycast.media.timebase import (
    NANOSECONDS,
    WallTime,
    ntp_to_wall_time,
    rescale_nearest,
    seconds_to_ticks,
    timestamp_difference,
    wall_time_to_ntp,
)
from polycast.rtp.reorder import MAXIMUM_DROPOUT, MAXIMUM_MISORDER
from polycast.rtp.rtcp import ReportBlock, SenderReport
from polycast.rtp.timeline import MAXIMUM_SYNC_POINT_OFFSET

MAXIMUM_ANCHOR_DRIFT = 0.2
"""Maximum seconds between RTP timestamps and the clock before they are mapped again. Clock drift reaches it in about an
hour; pauses and jumps of a publisher are detected at the next compared packet."""
ANCHOR_CHECK_INTERVAL = 1.0
"""Seconds between two packets that are compared with the clock."""
MAXIMUM_JITTER_JUMP = 10.0
"""Seconds of transit time change that count as jitter; more is a jump of the publisher's clock."""
MAXIMUM_REMEMBERED_REPORTS = 32
"""Reports whose send time is kept. There is one about every ten seconds, and one per second while readers join;
receivers answer within a few seconds (RFC 3550 section 6.2)."""
_SHORT_NTP_UNIT = 1 / 65_536


class ReceiverStatistics:
    """Reception of one source: loss and jitter (RFC 3550 appendices A.1, A.3 and A.8)."""

    __slots__ = (
        "_bad_sequence",
        "_base",
        "_clock_rate",
        "_cycles",
        "_expected_before",
        "_highest",
        "_jitter",
        "_last_report_arrival",
        "_last_report_ntp",
        "_last_timestamp",
        "_received",
        "_received_before",
        "_transit",
    )

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._base = -1
        self._bad_sequence = -1
        self._cycles = 0
        self._highest = 0
        self._received = 0
        self._expected_before = 0
        self._received_before = 0
        self._jitter = 0.0
        self._transit: float | None = None
        self._last_timestamp = -1
        self._last_report_ntp = 0
        self._last_report_arrival = 0.0

    def update(self, sequence: int, timestamp: int, now: float) -> None:
        """Process a packet, in order of arrival."""
        ahead = (sequence - self._highest) & 0xFFFF
        if ahead == 1 and self._base >= 0:
            self._highest = sequence
            if sequence == 0:
                self._cycles += 0x10000
        elif not self._accept(sequence, ahead):
            return
        self._received += 1
        # Packets of one frame share their timestamp; only the first one is used for the jitter.
        if timestamp != self._last_timestamp:
            self._last_timestamp = timestamp
            self._update_jitter(timestamp, now)

    def on_sender_report(self, ntp: int, now: float) -> None:
        """Process a sender report of the source, for the last-report fields."""
        self._last_report_ntp = ntp >> 16 & 0xFFFFFFFF
        self._last_report_arrival = now

    @property
    def highest_sequence(self) -> int:
        """Extended highest sequence number received."""
        return self._cycles + self._highest

    @property
    def cumulative_lost(self) -> int:
        """Packets expected minus packets received since the start."""
        return self._expected() - self._received

    @property
    def jitter_seconds(self) -> float:
        """Interarrival jitter in seconds."""
        return self._jitter / self._clock_rate

    def report_block(self, ssrc: int, now: float) -> ReportBlock | None:
        """Return the report block of the source ``ssrc``; None before the first packet.

        The fraction lost is relative to the previous report.
        """
        if self._base < 0:
            return None
        expected = self._expected()
        expected_interval = expected - self._expected_before
        lost_interval = expected_interval - (self._received - self._received_before)
        self._expected_before = expected
        self._received_before = self._received
        fraction = 0
        if expected_interval > 0 and lost_interval > 0:
            fraction = min(255, (lost_interval << 8) // expected_interval)
        delay = 0
        if self._last_report_ntp:
            delay = min(0xFFFFFFFF, max(0, int((now - self._last_report_arrival) / _SHORT_NTP_UNIT)))
        return ReportBlock(
            ssrc=ssrc,
            fraction_lost=fraction,
            cumulative_lost=max(-0x800000, min(0x7FFFFF, expected - self._received)),
            highest_sequence=self.highest_sequence & 0xFFFFFFFF,
            jitter=min(0xFFFFFFFF, int(self._jitter)),
            last_sender_report=self._last_report_ntp,
            delay_since_last_sender_report=delay,
        )

    def _expected(self) -> int:
        return self._cycles + self._highest - self._base + 1 if self._base >= 0 else 0

    def _accept(self, sequence: int, ahead: int) -> bool:
        if self._base < 0:
            self._restart(sequence)
        elif ahead < MAXIMUM_DROPOUT:
            if sequence < self._highest:
                self._cycles += 0x10000
            self._highest = sequence
        elif ahead <= 0x10000 - MAXIMUM_MISORDER:
            # A very large jump is a restart only if the next packet follows it (RFC 3550 appendix A.1).
            if sequence != self._bad_sequence:
                self._bad_sequence = (sequence + 1) & 0xFFFF
                return False
            self._restart(sequence)
        return True

    def _restart(self, sequence: int) -> None:
        self._base = self._highest = sequence
        self._bad_sequence = -1
        self._cycles = 0
        self._received = 0
        self._expected_before = 0
        self._received_before = 0
        self._transit = None

    def _update_jitter(self, timestamp: int, now: float) -> None:
        rate = self._clock_rate
        transit = (now * rate - timestamp) % 4_294_967_296.0
        last = self._transit
        self._transit = transit
        if last is not None:
            difference = abs(transit - last)
            if difference > 2_147_483_648.0:
                difference = 4_294_967_296.0 - difference
            if difference < rate * MAXIMUM_JITTER_JUMP:
                self._jitter += (difference - self._jitter) / 16.0


class SenderReportSource:
    """Creates the sender reports of one track for its readers.

    RTP timestamps are mapped to the wall clock by the publisher's own sender reports if there are any, so that audio
    and video keep the publisher's synchronisation. Otherwise the first packet is mapped to its arrival time, and later
    timestamps count from there, so that the reports contain no jitter.
    """

    __slots__ = (
        "_anchor_timestamp",
        "_anchor_wall",
        "_clock_rate",
        "_from_publisher",
        "_last_now",
        "_last_timestamp",
        "_lead",
        "_sent",
        "_tolerance",
        "next_packet_time",
    )

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._anchor_timestamp = 0
        self._anchor_wall: WallTime | None = None
        self._from_publisher = False
        self._tolerance = MAXIMUM_ANCHOR_DRIFT
        self._last_timestamp: int | None = None
        self._last_now = 0.0
        self._lead: int | None = None
        """Nanoseconds from arrival to the time by the publisher's reports, for the packets with the least delay."""
        self._sent: dict[int, tuple[int, float]] = {}
        """NTP time and monotonic time of the last reports, by the value that receivers return."""
        self.next_packet_time = 0.0
        """When the next packet is needed; earlier ones may be skipped (monotonic seconds)."""

    def on_packet(self, timestamp: int, now: float, wall_time: WallTime) -> None:
        """Process a packet; the last one of a batch is enough."""
        if self._from_publisher and self._last_timestamp is not None:
            self._follow_jump(timestamp, self._last_timestamp, now, wall_time)
        self._last_timestamp = timestamp
        self._last_now = now
        self.next_packet_time = now + ANCHOR_CHECK_INTERVAL
        if self._from_publisher:
            return
        anchor = self._anchor_wall
        if anchor is not None:
            tied = WallTime(anchor + self._nanoseconds_since_anchor(timestamp))
            if abs(wall_time - tied) <= self._tolerance * NANOSECONDS:
                # Move the reference, so that the 32-bit difference never becomes ambiguous.
                if (timestamp - self._anchor_timestamp) & 0xFFFFFFFF < 0x40000000:
                    return
                wall_time = tied
            else:
                self._tolerance = MAXIMUM_ANCHOR_DRIFT
        self._anchor_timestamp = timestamp
        self._anchor_wall = wall_time

    def skip_packet(self, now: float) -> None:
        """Process a packet before the publisher's first report if only that may map timestamps to the wall clock."""
        self.next_packet_time = now + ANCHOR_CHECK_INTERVAL

    @property
    def has_publisher_report(self) -> bool:
        """Whether the publisher has sent a report."""
        return self._from_publisher

    def _follow_jump(self, timestamp: int, last: int, now: float, wall_time: WallTime) -> None:
        """Map timestamps that jumped since the publisher's last report to the current time by that report.

        Delayed packets that arrive in a burst are not a jump: they only make up for their delay.
        """
        told = self.wall_time_of(timestamp)
        if told is None:
            return
        lead = told - wall_time
        highest = self._lead if self._lead is not None else lead
        went_back = timestamp_difference(timestamp - last) < -MAXIMUM_LATENESS * self._clock_rate
        if went_back or lead > highest + MAXIMUM_STEP * NANOSECONDS:
            elapsed = seconds_to_ticks(now - self._last_now, self._clock_rate)
            self._anchor_wall = self.wall_time_of(last + elapsed)
            self._anchor_timestamp = timestamp
        else:
            self._lead = max(highest, lead)

    def on_sync_point(self, timestamp: int, wall_time: WallTime) -> None:
        """Set the RTP timestamp of a sync point that other tracks share; before the first packet.

        A packet at a very different time invalidates it.
        """
        if self._anchor_wall is None:
            self._tolerance = MAXIMUM_SYNC_POINT_OFFSET
            self._anchor_timestamp = timestamp
            self._anchor_wall = wall_time

    def on_publisher_report(self, ntp: int, rtp_timestamp: int, now: float) -> None:
        """Process a sender report of the publisher. One without a clock (NTP time 0) is ignored."""
        if ntp == 0:
            return
        self._from_publisher = True
        self._anchor_wall = ntp_to_wall_time(ntp)
        self._anchor_timestamp = rtp_timestamp
        if self._last_timestamp is None:
            self._last_timestamp = rtp_timestamp
            self._last_now = now

    def report(
        self, ssrc: int, now: float, wall_time: WallTime, packet_count: int, octet_count: int
    ) -> SenderReport | None:
        """Return the current sender report; None before the first packet.

        Without sender reports of the publisher its NTP time is ``wall_time``, else the publisher's clock.
        """
        if self._last_timestamp is None:
            return None
        timestamp = self._last_timestamp + seconds_to_ticks(now - self._last_now, self._clock_rate)
        wall = self.wall_time_of(timestamp & 0xFFFFFFFF)
        ntp = wall_time_to_ntp(wall_time if wall is None else wall)
        self._remember(ntp, now)
        return SenderReport(
            ssrc=ssrc,
            ntp=ntp,
            rtp_timestamp=timestamp & 0xFFFFFFFF,
            packet_count=packet_count & 0xFFFFFFFF,
            octet_count=octet_count & 0xFFFFFFFF,
        )

    def _remember(self, ntp: int, now: float) -> None:
        sent = self._sent
        sent[ntp >> 16 & 0xFFFFFFFF] = ntp, now
        if len(sent) > MAXIMUM_REMEMBERED_REPORTS:
            del sent[next(iter(sent))]

    def round_trip(self, block: ReportBlock, now: float) -> float | None:
        """Return the round-trip time in seconds from a report block; None if it does not refer to one of our reports.

        The clock of the reports may be the publisher's, so the time in between is measured by ours.
        """
        sent = self._sent.get(block.last_sender_report)
        if sent is None:
            return None
        ntp, then = sent
        ntp_now = ntp + round((now - then) * (1 << 32))
        return round_trip(block.last_sender_report, block.delay_since_last_sender_report, ntp_now)

    def wall_time_of(self, timestamp: int) -> WallTime | None:
        """Return the wall-clock time of a 32-bit RTP timestamp; None before the first packet or report."""
        if self._anchor_wall is None:
            return None
        return WallTime(self._anchor_wall + self._nanoseconds_since_anchor(timestamp))

    def timestamp_at(self, wall_time: WallTime) -> int | None:
        """Return the RTP timestamp of a wall-clock time, which may exceed 32 bits; None before the first packet or
        report."""
        if self._anchor_wall is None:
            return None
        return self._anchor_timestamp + rescale_nearest(wall_time - self._anchor_wall, NANOSECONDS, self._clock_rate)

    def _nanoseconds_since_anchor(self, timestamp: int) -> int:
        difference = timestamp_difference(timestamp - self._anchor_timestamp)
        return rescale_nearest(difference, self._clock_rate, NANOSECONDS)


def round_trip(last_sender_report: int, delay_since_last_sender_report: int, ntp_now: int) -> float:
    """Return the round-trip time in seconds from a report block (RFC 3550 section 6.4.1); 0.0 if it has none.

    The first two arguments are fields of the block; ``ntp_now`` is the 64-bit NTP time of its arrival, on the clock
    that wrote the sender report.
    """
    if last_sender_report == 0:
        return 0.0
    elapsed = ((ntp_now >> 16) - last_sender_report - delay_since_last_sender_report) & 0xFFFFFFFF
    # A fast clock of the receiver makes it slightly negative.
    return elapsed * _SHORT_NTP_UNIT if elapsed < 0x80000000 else 0.0
