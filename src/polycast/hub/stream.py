"""A live stream: its tracks, its readers, and the fan-out.

Everything here runs on the event loop, and nothing here awaits: a publisher writes, and at the end of its read the
batch goes to every reader in a plain loop of direct calls.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from polycast.codecs.registry import reorders
from polycast.hub.batch import FrameBatch, FramedRun, MixedBatch, PacketBatch, PacketRun
from polycast.hub.live_track import LiveTrack
from polycast.hub.splice import can_follow
from polycast.hub.stats import Counters, RateMeter, Reference
from polycast.hub.warnings import RepeatedWarning
from polycast.log import Log
from polycast.media.codec import Kind
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
from polycast.media.track import Track
from polycast.rtp.payload.base import MAXIMUM_FRAMES_SIZE, MINIMUM_FRAME_LIMIT
from polycast.rtp.payload.registry import rtp_format_for
from polycast.rtp.reports import SenderReportSource
from polycast.rtp.rtcp import SenderReport
from polycast.rtp.timeline import Timeline

# A batch that ends within a frame waits at most so long for the rest, and holds at most so much.
FRAME_WAIT_SECONDS = 0.002
FRAME_WAIT_BYTES = 64 * 1024

# First dynamic payload type (RFC 3551 section 6).
FIRST_DYNAMIC_PAYLOAD_TYPE = 96


# Seconds by which the clock of a publisher may differ from what its packets said before; more is a clock being set.
MAXIMUM_CLOCK_STEP_SECONDS = 10

# Seconds that the first packet may be away from the moment that RTP-Info tells; more is a header that is made up.
MAXIMUM_MOMENT_DISTANCE_SECONDS = 10

# Nanoseconds by which a publisher's report has to move a track before readers are told at once: what a viewer notices
# is several times that (ITU-R BT.1359).
REPORT_CHANGE_NANOSECONDS = 5_000_000

# Foreign payload types that are named in the log; the packets of all are counted.
MAXIMUM_FOREIGN_TYPES_LOGGED = 4

# Seconds by which a track may lag behind the newest one and still count as flowing.
MAXIMUM_TRACK_LAG_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Position:
    """Where in a track a new reader begins."""

    track_index: int
    sequence: int
    """Sequence number of the next packet."""
    timestamp: int
    """RTP timestamp of the moment at which the reader begins."""


class Reader(ABC):
    """Whoever reads a stream. Subclasses are `PacketReader` or `FrameReader`."""

    key_frame_interval: float | None = None
    """Seconds after which the reader needs a key frame again, as one that cuts segments does; None when the first one
    is enough. Publishers that make key frames only when asked are asked so often."""
    counters: Counters | None = None
    """What went through the reader's session; None for readers that count nothing."""

    @abstractmethod
    def close_reader(self, reason: str) -> None:
        """End the reader: its stream is over, or it failed. Must not raise."""

    @abstractmethod
    def reference(self) -> Reference:
        """Return how the API names it."""


class PacketReader(Reader):
    """A reader of the packet lane."""

    def pass_on(self, data: bytes, track_index: int, channel: int, count: int) -> bool:
        """Send packets of one track as they came: ``data`` is nothing but ``count`` of them, each behind a frame header
        with the number of ``channel`` (see `FramedRun`). Called like `deliver`, for trains that go out at once
        (`LiveTrack.take_train`).

        False where the reader needs another form, or not all of them: then it gets them with `deliver`.
        """
        return False

    def on_sender_report(self, track_index: int, report: SenderReport, now: float) -> None:
        """Take a sender report of the publisher, with its times as readers are told them.

        For readers that publish the stream again; others get reports from `LiveTrack.reports`.
        """
        return

    @abstractmethod
    def deliver(self, batch: PacketBatch) -> None:
        """Send a batch. Called in the fan-out loop: no waiting, no heavy work."""


class FrameReader(Reader):
    """A reader of the frame lane."""

    @abstractmethod
    def deliver_frames(self, batch: FrameBatch) -> None:
        """Take frames, and changed track descriptions in their place between them."""


class Stream:
    """What is published on a path, from its start to its end.

    ``publishes_packets`` says which lane the publisher feeds: RTP packets (True) or frames.
    """

    def __init__(
        self, tracks: Sequence[Track], *, publishes_packets: bool, loop: asyncio.AbstractEventLoop, log: Log
    ) -> None:
        self._loop = loop
        self._log = log
        self.publishes_packets = publishes_packets
        rates = [track.clock_rate for track in map(_with_rtp_format, tracks)]
        self._continuity = Continuity(rates, _maximum_step(publishes_packets))
        self.tracks = tuple(
            LiveTrack(self, _with_rtp_format(track), continuity)
            for track, continuity in zip(tracks, self._continuity.tracks, strict=True)
        )
        self.key_track = next((track.index for track in self.tracks if track.track.codec.kind is Kind.VIDEO), 0)
        """The track whose key frames are where a reader can begin: the first video track."""
        self._timeline = Timeline(rates, continuity=self._continuity)
        self.packet_readers: tuple[PacketReader, ...] = ()
        """Those that get the batches."""
        self._frame_readers: tuple[FrameReader, ...] = ()
        self.packet_reader_count = 0
        self.frame_reader_count = 0
        self.batch: MixedBatch | None = None
        """Packets collected since the last flush; filled by `LiveTrack`."""
        self.run: PacketRun | None = None
        self._frames: list[tuple[int, Frame | Track]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._clock_offset: int | None = None
        """Nanoseconds from the clock of an RTP publisher to the one that its readers are told."""
        self._wall_origin: int | None = None
        """Wall-clock time of time 0 of a publisher of frames, in nanoseconds."""
        self._moment: Mapping[int, int] = {}
        """RTP timestamps of one moment, by track, until the first packet."""
        self.report_version = 0
        """Counts how often sender reports of the publisher moved a track: what readers were told holds no longer."""
        self._foreign_types: set[int] = set()
        """Payload types of packets that were dropped, as far as they were logged."""
        self._closed = False
        self._leaps = RepeatedWarning(log)
        self._unreadable = RepeatedWarning(log)
        self._opened = loop.time()
        self.rate = RateMeter(self._opened)

    @property
    def frame_limit(self) -> int:
        """Bytes of a frame of one track: the tracks share what a stream may keep of frames in progress."""
        return max(MINIMUM_FRAME_LIMIT, MAXIMUM_FRAMES_SIZE // len(self.tracks))

    @property
    def bytes_received(self) -> int:
        """Bytes of all tracks since the stream began."""
        return sum(track.bytes_received for track in self.tracks)

    @property
    def descriptions(self) -> tuple[Track, ...]:
        """The tracks as they are described now."""
        return tuple(track.track for track in self.tracks)

    @property
    def readers(self) -> tuple[Reader, ...]:
        """All readers."""
        return (*self.packet_readers, *self._frame_readers)

    # Publisher's side.

    def end_of_read(self, *, is_gathered: bool = False) -> None:
        """Say that what one read brought has been written: send it out, or wait shortly for the end of the frame.

        ``is_gathered``: reads come late enough for packets to gather (`net.coalescing`), so nothing waits any more.
        """
        batch = self.batch
        if batch is None and not self._frames:
            return
        if batch is not None and not is_gathered:
            for track in self.tracks:
                if track.frame_open and batch.size < FRAME_WAIT_BYTES:
                    if self._timer is None:
                        self._timer = self._loop.call_later(FRAME_WAIT_SECONDS, self._on_timer)
                    return
        self.flush()

    def flush(self) -> None:
        """Send out everything that was collected."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch = self.batch
        if batch is not None:
            self.batch = self.run = None
            runs = batch.runs
            self._deliver(runs[0] if len(runs) == 1 and isinstance(runs[0], FramedRun) else batch)
        if self._frames:
            frames = FrameBatch(self._frames)
            self._frames = []
            for frame_reader in self._frame_readers:
                try:
                    frame_reader.deliver_frames(frames)
                except Exception:
                    self.on_reader_failed(frame_reader)

    def _deliver(self, batch: PacketBatch) -> None:
        now = self._loop.time()
        for run in batch.runs:
            self._note_run(run, now)
        for reader in self.packet_readers:
            try:
                reader.deliver(batch)
            except Exception:
                self.on_reader_failed(reader)

    def on_sender_report(self, track_index: int, report: SenderReport, now: float) -> None:
        """Take a sender report of the publisher: it ties the track's timestamps to the wall clock."""
        track = self.tracks[track_index]
        timestamp = track.outgoing_timestamp(report.rtp_timestamp)
        # A report with NTP time 0 comes from a publisher without a clock (RFC 3550 section 6.4.1).
        if timestamp is not None and report.ntp:
            self.tie_to_clock(track)
            before = track.reports.wall_time_of(timestamp)
            ntp = self._to_our_clock(track.reports, report.ntp, timestamp)
            track.reports.on_publisher_report(ntp, timestamp, now)
            if before is not None and abs(ntp_to_wall_time(ntp) - before) > REPORT_CHANGE_NANOSECONDS:
                self.report_version += 1
            self._timeline.on_sender_report(track_index, report.ntp, timestamp)
            told = replace(report, ntp=ntp, rtp_timestamp=timestamp)
            for reader in self.packet_readers:
                reader.on_sender_report(track_index, told, now)

    def share_clock(self, other: Stream, now: float) -> None:
        """Tell a stream that will get this one's packets what is known of the moments that timestamps mean."""
        other.begin_together(self._moment)
        for track in self.tracks:
            self.tie_to_clock(track)
            wall = track.reports.wall_time_of(track.last_timestamp) if track.next_sequence is not None else None
            if wall is not None:
                report = SenderReport(track.ssrc or 0, wall_time_to_ntp(wall), track.last_timestamp, 0, 0)
                other.on_sender_report(track.index, report, now)

    def begin_together(self, timestamps: Mapping[int, int]) -> None:
        """Take the RTP timestamps that tracks have at one moment, by index, as RTP-Info tells (RFC 2326 12.33).

        It puts them in sync until the publisher's sender reports do. Only before the first packet.
        """
        if all(track.next_sequence is None for track in self.tracks):
            self._moment = dict(timestamps)
            self._timeline.note_moment(timestamps)

    def resume(self, tracks: Sequence[Track], *, publishes_packets: bool) -> bool:
        """Go on with another publisher's tracks; False when they do not fit the readers that are there."""
        tracks = tuple(map(_with_rtp_format, tracks))
        if not can_follow(self.descriptions, tracks):
            return False
        self.flush()
        # Packets after packets are given timestamps that go on.
        if not (publishes_packets and self.publishes_packets):
            self._continuity.restart()
            self._continuity.maximum_step = _maximum_step(publishes_packets)
        self.publishes_packets = publishes_packets
        for track, new in zip(self.tracks, tracks, strict=True):
            track.resume(new, publishes_packets=publishes_packets)
        return True

    def close(self) -> None:
        """End the stream: nothing is sent any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.batch = self.run = None
        self._frames = []
        self.packet_readers = ()
        self._frame_readers = ()
        self.packet_reader_count = self.frame_reader_count = 0

    # Readers' side.

    def add_reader(self, reader: Reader) -> None:
        """Begin to send to a reader, from the next batch on."""
        self.flush()  # so that the reader's first packet is the next one that arrives
        if self._closed:
            return
        if isinstance(reader, PacketReader):
            if reader not in self.packet_readers:
                self.packet_readers = (*self.packet_readers, reader)
                self.packet_reader_count += 1
        elif isinstance(reader, FrameReader) and reader not in self._frame_readers:
            self._frame_readers = (*self._frame_readers, reader)
            self.frame_reader_count += 1
            if self.publishes_packets:
                for track in self.tracks:
                    track.open_frame_lane()

    def remove_reader(self, reader: Reader) -> None:
        """Stop sending to a reader; unknown readers are ignored."""
        if reader in self.packet_readers:
            self.packet_readers = tuple(other for other in self.packet_readers if other is not reader)
            self.packet_reader_count -= 1
        elif reader in self._frame_readers:
            self._frame_readers = tuple(other for other in self._frame_readers if other is not reader)
            self.frame_reader_count -= 1
            if not self._frame_readers:
                for track in self.tracks:
                    track.close_frame_lane()

    def fit_datagrams(self) -> None:
        """Say that there are readers over UDP; see `LiveTrack.fit_datagrams`."""
        for track in self.tracks:
            track.fit_datagrams()

    def is_beginning(self, track_indexes: Iterable[int], now: float, patience: float) -> bool:
        """Whether a reader should wait until all tracks have begun: not after ``patience`` seconds.

        So it is while a track has had no packet, and where pictures are reordered, as the first one is left out then.
        """
        if now - self._opened > patience:
            return False
        tracks = [self.tracks[index] for index in track_indexes]
        return any(track.next_sequence is None or reorders(track.track.codec) for track in tracks)

    def positions(
        self, track_indexes: Sequence[int], lead: float, starts: Mapping[int, tuple[int, int]] | None = None
    ) -> list[Position]:
        """Return where a reader begins: one moment, ``lead`` seconds before the first packets that it gets.

        These are the next ones of each track, or those in ``starts``: (sequence number, timestamp) by track. Tracks
        without a packet yet are left out.
        """
        self.flush()
        walls: dict[int, WallTime] = {}
        first: dict[int, tuple[int, int]] = {}
        for index in track_indexes:
            track = self.tracks[index]
            if track.next_sequence is None:
                continue
            self.tie_to_clock(track)
            first[index] = (starts or {}).get(index) or (track.next_sequence, track.last_timestamp)
            wall = track.reports.wall_time_of(first[index][1])
            if wall is not None:
                walls[index] = wall
        if not walls:
            return []
        # A track that has been silent for long must not pull the moment into the past.
        newest = max(walls.values())
        moment = min(wall for wall in walls.values() if newest - wall < MAXIMUM_TRACK_LAG_SECONDS * NANOSECONDS)
        moment = WallTime(moment - round(lead * NANOSECONDS))
        positions: list[Position] = []
        for index, wall in walls.items():
            sequence, timestamp = first[index]
            ticks = rescale_nearest(moment - wall, NANOSECONDS, self.tracks[index].track.clock_rate)
            positions.append(Position(index, sequence, (timestamp + ticks) & 0xFFFFFFFF))
        return positions

    # Tracks' side.

    def begin_run(self, track_index: int, channel: int) -> PacketRun:
        """Return a new run of packets in the batch that is being collected."""
        run = PacketRun(track_index, channel)
        self.add_run(run)
        self.run = run
        return run

    def add_run(self, run: PacketRun | FramedRun) -> None:
        """Add a whole run of packets to the batch that is being collected."""
        batch = self.batch
        if batch is None:
            batch = self.batch = MixedBatch()
        self.run = None
        batch.runs.append(run)

    def on_foreign_packet(self, track: Track, payload_type: int) -> None:
        """Say once that packets of a payload type are dropped."""
        types = self._foreign_types
        if payload_type not in types and len(types) < MAXIMUM_FOREIGN_TYPES_LOGGED and track.rtp is not None:
            types.add(payload_type)
            self._log.warning(
                "packets with payload type %d are dropped: that of track %d (%s) is %d",
                payload_type,
                track.index + 1,
                track.codec_name,
                track.rtp.payload_type,
            )

    def collect_frame(self, track_index: int, frame: Frame) -> None:
        """Add a frame to what goes to frame readers at the next flush."""
        self._frames.append((track_index, frame))

    def on_track_changed(self, track: Track) -> None:
        """Tell frame readers, in the place between frames where it happened, that a description changed."""
        if self.frame_reader_count:
            self._frames.append((track.index, track))

    def presentation_time(
        self, track_index: int, timestamp: int, now: float, *, key: bool = False, floor: int | None = None
    ) -> int:
        """Return an RTP timestamp as time on the stream's own time line, in the track's ticks.

        ``key`` and ``floor``: see `TrackContinuity.place`.
        """
        return self._timeline.extend(track_index, timestamp, now, key=key, floor=floor)

    def on_leap(self, track: Track, seconds: float, now: float) -> None:
        """Warn that the clock of the publisher leapt."""
        self._leaps.tell(
            now,
            "the time of track %d (%s) leapt by %+.1f s; the stream goes on with a new part of the time line",
            track.index + 1,
            track.codec_name,
            seconds,
        )

    def on_unreadable(self, track: Track, reason: str, now: float) -> None:
        """Warn that frames cannot be made of a packet."""
        self._unreadable.tell(
            now, "a packet of track %d (%s) cannot be read: %s", track.index + 1, track.codec_name, reason
        )

    def _to_our_clock(self, reports: SenderReportSource, ntp: int, timestamp: int) -> int:
        """Return the NTP time of a publisher's report on the clock that readers have been told so far.

        A publisher's clock may be hours off. Readers that were told ours before its first report, or that saw it being
        set, must not see their time line jump; the tracks' places relative to each other are the publisher's.
        """
        theirs = ntp_to_wall_time(ntp)
        ours = reports.wall_time_of(timestamp)
        offset = self._clock_offset
        if ours is not None and (
            offset is None or abs(theirs + offset - ours) > MAXIMUM_CLOCK_STEP_SECONDS * NANOSECONDS
        ):
            offset = ours - theirs
        self._clock_offset = offset = offset or 0
        return wall_time_to_ntp(WallTime(theirs + offset))

    def capture_time(self, track_index: int, pts: int) -> WallTime | None:
        """Return when a frame of an RTP publisher was captured; None when it sends no sender reports."""
        return self._timeline.wall_time(track_index, pts)

    def wall_time_of(self, frame: Frame, clock_rate: int) -> WallTime:
        """Return when a frame of the publisher was captured: as it says, else by the stream's common time line.

        That time line is tied to the clock at its first frame, once for all tracks, so they stay in sync.
        """
        if frame.wall_time is not None:
            return frame.wall_time
        elapsed = rescale_nearest(frame.pts, clock_rate, NANOSECONDS)
        if self._wall_origin is None:
            self._wall_origin = time.time_ns() - elapsed
        return WallTime(self._wall_origin + elapsed)

    def _note_run(self, run: PacketRun | FramedRun, now: float) -> None:
        track = self.tracks[run.track_index]
        track.packets_received += run.count
        track.bytes_received += run.size
        track.last_timestamp = run.timestamp
        track.last_time = now
        if now >= track.reports.next_packet_time:
            self.compare_with_clock(track, run.timestamp, now)

    def compare_with_clock(self, track: LiveTrack, timestamp: int, now: float) -> None:
        """Tie a packet that has just come to the clock, unless it is tied already."""
        wall_time = WallTime(time.time_ns())
        if self._moment:
            self._tie_to_moment(track, timestamp, wall_time)
        track.reports.on_packet(timestamp, now, wall_time)

    def tie_to_clock(self, track: LiveTrack) -> None:
        """Compare the last packet with the clock where that has been left out: it may come after a jump."""
        if self.publishes_packets and track.last_time is not None:
            elapsed = max(0.0, self._loop.time() - track.last_time)
            wall_time = WallTime(time.time_ns() - round(elapsed * NANOSECONDS))
            track.reports.on_packet(track.last_timestamp, track.last_time, wall_time)

    def _tie_to_moment(self, track: LiveTrack, timestamp: int, wall_time: WallTime) -> None:
        """Tie all tracks to the clock at the first packet of one of them."""
        moment, self._moment = self._moment, {}
        if track.index not in moment:
            return
        ticks = timestamp_difference(timestamp - moment[track.index])
        since = rescale_nearest(ticks, track.track.clock_rate, NANOSECONDS)
        if abs(since) <= MAXIMUM_MOMENT_DISTANCE_SECONDS * NANOSECONDS:
            for index, at_moment in moment.items():
                self.tracks[index].reports.on_moment(at_moment, WallTime(wall_time - since))

    def _on_timer(self) -> None:
        self._timer = None
        self.flush()

    def on_reader_failed(self, reader: Reader) -> None:
        """End a reader that raised the exception which is being handled."""
        self._log.exception("a reader failed; it is closed, the others go on")
        self.remove_reader(reader)
        reader.close_reader("internal error")


def _maximum_step(publishes_packets: bool) -> float:
    return MAXIMUM_STEP if publishes_packets else MAXIMUM_STEP_OF_FRAMES


def _with_rtp_format(track: Track) -> Track:
    if track.rtp is not None:
        return track
    rtp_format = rtp_format_for(track.codec, FIRST_DYNAMIC_PAYLOAD_TYPE + track.index)
    return track if rtp_format is None else Track(track.index, track.codec, rtp_format, track.language, track.title)
