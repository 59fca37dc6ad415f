"""Maps the RTP tracks of one publisher to one timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polycast.media.continuity import Continuity, TrackContinuity
from polycast.media.timebase import (
    NANOSECONDS,
    TimestampExtender,
    WallTime,
    ntp_to_wall_time,
    rescale_nearest,
    seconds_to_ticks,
    timestamp_difference,
)

START_TIME = 1.0
"""Start of a stream's timeline in seconds. Not 0, so that decoding times of reordered pictures, and tracks that start
slightly before the first one, do not become negative."""
CORRECTION_THRESHOLD = 0.1
"""Seconds that a track must be off before a late sender report shifts it. Arrival times are accurate to some tens of
milliseconds; viewers hardly notice an error below 100 ms (ITU-R BT.1359: 45 to 125 ms), and a jump of the timeline is
more harmful."""
MAXIMUM_SILENCE = 600.0
"""Seconds between two packets after which the elapsed time is used for the extension of timestamps: far less than half
of the 32-bit range, which is 93 minutes at 384 kHz."""
MAXIMUM_SYNC_POINT_OFFSET = 2.0
"""Maximum seconds between arrival times and RTP-Info. Servers send the tracks some hundreds of milliseconds apart;
cameras fill the header with zeros and outdated values."""
MAXIMUM_PLAUSIBLE_OFFSET = 10.0
"""Maximum seconds between arrival times and sender reports. If it is exceeded, the reports do not share a clock (some
cameras count each track from its own zero), and arrival times are more reliable."""


class TrackClock:
    """The clock of one track. Created by `Timeline`."""

    __slots__ = (
        "_clock_rate",
        "_continuity",
        "_extender",
        "_last",
        "_last_now",
        "_offset",
        "_report_timestamp",
        "_report_wall",
        "_sync_point",
        "_timeline",
        "aligned",
        "has_report",
    )

    def __init__(self, timeline: Timeline, clock_rate: int, continuity: TrackContinuity) -> None:
        self._timeline = timeline
        self._clock_rate = clock_rate
        self._continuity = continuity
        self._extender = TimestampExtender()
        self._last = 0
        """The last extended timestamp."""
        self._last_now = 0.0
        self._offset: int | None = None
        """Ticks to add to extended timestamps; None before the first packet."""
        self._sync_point: int | None = None
        """RTP timestamp of the sync point (`Timeline.set_sync_point`)."""
        self._report_wall: WallTime | None = None
        self._report_timestamp = 0
        self.aligned = False
        """Whether sender reports were applied to the offset."""
        self.has_report = False
        """Whether the track had a sender report since the start of its timeline."""

    @property
    def started(self) -> bool:
        """Whether the track had a packet."""
        return self._offset is not None

    @property
    def awaits_successor(self) -> bool:
        """Whether another publisher continues whose first packet has not come: where it will lie is unknown."""
        return self._continuity.restarts

    def extend(self, timestamp: int, now: float, *, key: bool = False, floor: int | None = None) -> int:
        """Return a 32-bit RTP timestamp as a time on the stream's timeline, in ticks of the track.

        ``now`` (monotonic seconds) places the track on the timeline if no sender report does: at its first packet, and
        when its timestamps jump. ``key`` and ``floor``: see `TrackContinuity.place`.
        """
        if now - self._last_now > MAXIMUM_SILENCE:
            self._pass_silence(now)
        self._last_now = now
        extended = self._last = self._extender.extend(timestamp)
        if self._offset is None:
            self._offset = self._start(extended, now) - extended
            self._timeline.align(starting=self)
        continuity = self._continuity
        pieces, shift, is_successor = continuity.pieces, continuity.shift, continuity.restarts
        position = continuity.place(extended + self._offset, now, key=key, floor=floor)
        if continuity.pieces != pieces:
            self._begin_piece(extended, position - self._offset - shift, is_successor=is_successor)
        return position

    def _begin_piece(self, extended: int, continued: int, *, is_successor: bool) -> None:
        """Continue after a jump of the timestamps, or with another publisher.

        ``continued``: the value without the jump. A successor's reports may come before its first packet, and are right
        then.
        """
        if self._report_wall is not None and not (is_successor and self.has_report):
            # The old report gives the time; the next one is more accurate.
            ticks = timestamp_difference(continued - self._report_timestamp)
            self._report_wall = WallTime(self._report_wall + rescale_nearest(ticks, self._clock_rate, NANOSECONDS))
            self._report_timestamp = extended & 0xFFFFFFFF
        self._sync_point = None
        if not is_successor:  # for which it was done before its reports came
            self._timeline.align_again()

    @property
    def _total_offset(self) -> int | None:
        return None if self._offset is None else self._offset + self._continuity.shift

    def _start(self, extended: int, now: float) -> int:
        """Return the time of the first packet: by the common sync point of all tracks, else by its arrival."""
        arrival = self._timeline.start_of(now, self._clock_rate)
        since = self._since_sync_point(extended)
        sync_point = self._timeline.sync_point()
        if since is None or sync_point is None:
            return arrival
        position = rescale_nearest(sync_point, NANOSECONDS, self._clock_rate) + since
        return position if abs(position - arrival) <= MAXIMUM_SYNC_POINT_OFFSET * self._clock_rate else arrival

    def _since_sync_point(self, extended: int) -> int | None:
        """Return the ticks from the sync point to a time, within the 32-bit range; None without a sync point."""
        return None if self._sync_point is None else timestamp_difference(extended - self._sync_point)

    def set_sync_point(self, timestamp: int) -> None:
        """See `Timeline.set_sync_point`."""
        self._sync_point = timestamp

    def sync_point(self) -> int | None:
        """Return the sync point on the timeline, in nanoseconds; None before the first packet."""
        since = self._since_sync_point(self._last)
        offset = self._total_offset
        if offset is None or since is None:
            return None
        return rescale_nearest(self._last + offset - since, self._clock_rate, NANOSECONDS)

    def _pass_silence(self, now: float) -> None:
        """Extend timestamps across a gap in which they may have wrapped unnoticed."""
        if self._offset is None:
            return
        target = self._last + seconds_to_ticks(now - self._last_now, self._clock_rate)
        while self._last < target:
            self._last = self._extender.extend(min(target, self._last + 0x40000000) & 0xFFFFFFFF)

    def on_sender_report(self, ntp: int, rtp_timestamp: int) -> None:
        """Take a sender report of the publisher. One without a clock (NTP time 0) is ignored."""
        if ntp == 0:
            return
        self._report_wall = ntp_to_wall_time(ntp)
        self._report_timestamp = rtp_timestamp
        self.has_report = True
        if self._offset is not None and not self.aligned:
            self._timeline.align()

    def wall_time(self, pts: int) -> WallTime | None:
        """Return the capture time of ``pts``; None before the first sender report."""
        offset = self._total_offset
        if self._report_wall is None or offset is None:
            return None
        ticks = timestamp_difference(pts - offset - self._report_timestamp)
        return WallTime(self._report_wall + rescale_nearest(ticks, self._clock_rate, NANOSECONDS))

    def origin(self) -> int | None:
        """Return the wall-clock time (nanoseconds) of time 0 by this track's sender reports; None without reports."""
        # Relative to a time near the last packet, as the 32-bit difference to the report must not be ambiguous.
        offset = self._total_offset
        if offset is None:
            return None
        position = self._last + offset + timestamp_difference(self._report_timestamp - self._last)
        wall = self.wall_time(position)
        return None if wall is None else wall - rescale_nearest(position, self._clock_rate, NANOSECONDS)

    def shift(self, nanoseconds: int) -> None:
        """Shift the track on the timeline."""
        if self._offset is not None:
            ticks = rescale_nearest(nanoseconds, NANOSECONDS, self._clock_rate)
            self._offset += ticks
            self._continuity.move(ticks)


class Timeline:
    """The timeline of one stream, shared by its tracks.

    If sender reports arrive before the first packets, or RTP-Info is available, tracks are in sync to a tick. Otherwise
    they are placed by the arrival of their first packets, and a later sender report shifts a track once, if it is far
    off. Tracks are only shifted forward, as times must not decrease. After a jump of timestamps, ``continuity``
    continues the timeline, and the next sender reports are applied like the first ones.
    """

    def __init__(
        self, clock_rates: Sequence[int], start_time: float = START_TIME, continuity: Continuity | None = None
    ) -> None:
        joined = continuity if continuity is not None else Continuity(clock_rates)
        self.tracks: tuple[TrackClock, ...] = tuple(
            TrackClock(self, clock_rate, track) for clock_rate, track in zip(clock_rates, joined.tracks, strict=True)
        )
        self._start_time = start_time
        self._first_arrival: float | None = None
        self._origin: int | None = None
        """Wall-clock time of time 0 by sender reports, in nanoseconds."""

    def on_sender_report(self, track_index: int, ntp: int, rtp_timestamp: int) -> None:
        """See `TrackClock.on_sender_report`."""
        self.tracks[track_index].on_sender_report(ntp, rtp_timestamp)

    def set_sync_point(self, timestamps: Mapping[int, int]) -> None:
        """Set the RTP timestamps of the tracks at one sync point, by index; before their first packets."""
        for index, timestamp in timestamps.items():
            self.tracks[index].set_sync_point(timestamp)

    def sync_point(self) -> int | None:
        """Return the sync point in nanoseconds; None before the first packet of such a track."""
        return next((point for track in self.tracks if (point := track.sync_point()) is not None), None)

    def start_of(self, now: float, clock_rate: int) -> int:
        """Return the start on the timeline of a track whose first packet arrives at ``now``, in its ticks."""
        if self._first_arrival is None:
            self._first_arrival = now
        return seconds_to_ticks(self._start_time + now - self._first_arrival, clock_rate)

    def align_again(self) -> None:
        """Apply the next sender reports of all tracks: the previous ones belong to an earlier timeline."""
        self._origin = None
        for track in self.tracks:
            track.aligned = track.has_report = False

    def align(self, starting: TrackClock | None = None) -> None:
        """Apply the sender reports of started tracks, once per track.

        ``starting`` is a track without output so far, so it can be placed exactly.
        """
        for track in self.tracks:
            if track.aligned or not track.has_report or track.awaits_successor:
                continue
            origin = track.origin()
            if origin is None:
                continue
            track.aligned = True
            if self._origin is None:
                self._origin = origin
                continue
            self._correct(track, origin - self._origin, exactly=track is starting)

    def _correct(self, track: TrackClock, error: int, *, exactly: bool) -> None:
        if abs(error) > MAXIMUM_PLAUSIBLE_OFFSET * NANOSECONDS:
            return
        if exactly or error > CORRECTION_THRESHOLD * NANOSECONDS:
            track.shift(error)
        elif error < -CORRECTION_THRESHOLD * NANOSECONDS and self._origin is not None:
            for other in self.tracks:
                if other is not track:
                    other.shift(-error)
            self._origin += error
