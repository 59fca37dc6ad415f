"""A live stream: its tracks, its readers, and the fan-out.

Everything here runs on the event loop, and nothing awaits: a publisher writes, and at the end of its read the batch is
sent to every reader in a plain loop of direct calls.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from polycast.codecs.registry import reorders
from polycast.hub.batch import FrameBatch, FramedRun, MixedBatch, PacketBatch, PacketRun, Run
from polycast.hub.live_track import LiveTrack
from polycast.hub.stats import Counters, Reference, StreamMeter
from polycast.hub.stream_clock import StreamClock
from polycast.hub.successor import incompatibility
from polycast.hub.warnings import StreamWarnings
from polycast.log import Log
from polycast.media.codec import Codec, Kind
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime, rescale_nearest, wall_time_to_ntp
from polycast.media.track import Track
from polycast.rtp.header import PacketSizes
from polycast.rtp.payload.base import MAXIMUM_FRAMES_SIZE, MINIMUM_FRAME_LIMIT
from polycast.rtp.payload.registry import rtp_format_for
from polycast.rtp.repacketize import DEFAULT_SIZES
from polycast.rtp.rtcp import SenderReport

# A batch that ends within a frame waits at most this long for the rest, up to this size.
FRAME_WAIT_SECONDS = 0.002
FRAME_WAIT_BYTES = 64 * 1024

# First dynamic payload type (RFC 3551 section 6).
FIRST_DYNAMIC_PAYLOAD_TYPE = 96

# Seconds by which a track may lag behind the newest one and still count as active.
MAXIMUM_TRACK_LAG_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Position:
    """Where a new reader starts in a track."""

    track_index: int
    sequence: int
    """Sequence number of the next packet."""
    timestamp: int
    """RTP timestamp at which the reader starts."""


class Reader(ABC):
    """A reader of a stream. Subclasses are `PacketReader` and `FrameReader`."""

    key_frame_interval: float | None = None
    """Interval in seconds at which the reader needs key frames, for example to start segments; None if the first one is
    enough. Publishers that send key frames only on request are asked at this interval."""
    counters: Counters | None = None
    """The counters of the reader's session; None for readers without counters."""
    query: str = ""
    """The query of the URL that the client used, without ``?``; for commands."""
    is_passive: bool = False
    """Whether it only reads what is there: an on-demand source is stopped although it reads."""

    @abstractmethod
    def close_reader(self, reason: str) -> None:
        """End the reader: its stream has ended, or it failed. Must not raise."""

    @abstractmethod
    def reference(self) -> Reference:
        """Return its name in the API."""

    def clients(self) -> Sequence[Reference]:
        """Return the names of the clients that read through it: only itself, none if it is internal (without an id)."""
        reference = self.reference()
        return (reference,) if reference.id else ()


class PacketReader(Reader):
    """A reader of packets."""

    def on_sender_report(self, track_index: int, report: SenderReport, now: float) -> None:
        """Process a sender report of the publisher, with its times as readers see them.

        For readers that republish the stream; others get reports from `LiveTrack.reports`.
        """
        return

    @abstractmethod
    def deliver(self, batch: PacketBatch) -> None:
        """Send a batch. Called in the fan-out loop: no waiting, no heavy work."""


class FrameReader(Reader):
    """A reader of frames."""

    @abstractmethod
    def deliver_frames(self, batch: FrameBatch) -> None:
        """Process frames, and changed track descriptions between them."""


class _FrameWait:
    """The timer of a batch that waits for the end of its frame."""

    __slots__ = ("_loop", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.timer: asyncio.TimerHandle | None = None
        """None if nothing waits."""

    def begin(self, on_over: Callable[[], None]) -> None:
        """Start the timer, unless it is running."""
        if self.timer is None:
            self.timer = self._loop.call_later(FRAME_WAIT_SECONDS, self._on_timer, on_over)

    def end(self) -> None:
        """Stop the timer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _on_timer(self, on_over: Callable[[], None]) -> None:
        self.timer = None
        on_over()


class Stream:
    """The media published on a path, from start to end.

    Publishers give it packets by `publish` or frames by `publish_frame`, with the time at which they were received
    (``now``, monotonic seconds), and call `end_of_read` after each processed read.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        *,
        publishes_packets: bool,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        now: float,
        packet_sizes: PacketSizes = DEFAULT_SIZES,
        has_absolute_time: bool = False,
    ) -> None:
        """``publishes_packets``: whether the publisher supplies RTP packets (True) or frames.

        ``packet_sizes``: limits for its packets. ``has_absolute_time``: see `StreamClock`.
        """
        tracks = tuple(map(_with_rtp_format, tracks))
        self._warnings = StreamWarnings(log)
        rates = [track.clock_rate for track in tracks]
        self.clock = StreamClock(rates, publishes_packets=publishes_packets, is_absolute=has_absolute_time)
        self.key_track = next((track.index for track in tracks if track.codec.kind is Kind.VIDEO), 0)
        """The track at whose key frames a reader can start: the first video track."""
        self.tracks = tuple(
            LiveTrack(track, self.clock, self._warnings, packet_sizes, is_key_track=track.index == self.key_track)
            for track in tracks
        )
        self.packet_readers: tuple[PacketReader, ...] = ()
        """The readers of packets."""
        self._frame_readers: tuple[FrameReader, ...] = ()
        self._runs: list[Run] = []
        """Packets since the last flush."""
        self._size = 0
        """Their size in bytes."""
        self._frames: list[tuple[int, Frame | Track]] = []
        """Frames, and changed descriptions, since the last flush."""
        self._wait = _FrameWait(loop)
        self._closed = False
        self.meter = StreamMeter(now)

    @property
    def publishes_packets(self) -> bool:
        """Whether the publisher supplies RTP packets (True) or frames."""
        return self.clock.publishes_packets

    @property
    def frame_limit(self) -> int:
        """Maximum bytes of a frame of one track: the tracks share the limit of a stream for frames in progress."""
        return max(MINIMUM_FRAME_LIMIT, MAXIMUM_FRAMES_SIZE // len(self.tracks))

    @property
    def bytes_received(self) -> int:
        """Bytes of all tracks since the stream started."""
        return sum(track.counters.bytes for track in self.tracks)

    @property
    def descriptions(self) -> tuple[Track, ...]:
        """The current descriptions of the tracks."""
        return tuple(track.track for track in self.tracks)

    @property
    def readers(self) -> tuple[Reader, ...]:
        """All readers."""
        return (*self.packet_readers, *self._frame_readers)

    # Publisher's side.

    def publish(self, run: Run, now: float) -> bool:
        """Publish packets of one track from one read. The hot path of the server.

        False if a `FramedRun` cannot be processed as a whole; see `LiveTrack.receive`.
        """
        track = self.tracks[run.track_index]
        received = track.receive(run, now)
        if received is None:
            return False
        if track.entries:
            self._collect_entries(track)
        meter = self.meter
        if not meter.began:
            meter.began = now
        if type(received) is FramedRun:
            if now >= track.reports.next_packet_time:
                self.clock.on_packet(run.track_index, track.position.timestamp, now)
            self._size += received.size
            self._runs.append(received)
        elif received.count:
            self._collect(track, received, now)
        return True

    def publish_frame(self, track_index: int, frame: Frame, now: float) -> None:
        """Publish a frame of a publisher that supplies frames."""
        track = self.tracks[track_index]
        placed = track.place(frame, now)
        if placed is None:
            return
        if not self.meter.began:
            self.meter.began = now
        if track.entries:
            self._collect_entries(track)
        if self._frame_readers:
            self._frames.append((track_index, placed))
        if not self.packet_readers:
            track.count(placed, now)
            return
        run = track.packetize(placed, now)
        if run is not None:
            self._collect(track, run, now)

    def set_codec(self, track_index: int, codec: Codec) -> None:
        """Replace a track's description: parameter sets changed."""
        track = self.tracks[track_index]
        track.set_codec(codec)
        self._collect_entries(track)

    def end_of_read(self, *, coalesced: bool = False) -> None:
        """One read has been published completely: send it, or wait briefly for the end of the frame.

        ``coalesced``: the read was delayed until more had arrived, so that waiting once more would save nothing.
        """
        if self._runs:
            if not coalesced and self._size < FRAME_WAIT_BYTES:
                for track in self.tracks:
                    if track.frame_open:
                        self._wait.begin(self.flush)
                        return
        elif not self._frames:
            return
        self.flush()

    def flush(self) -> None:
        """Send everything that was collected: the only fan-out."""
        if self._wait.timer is not None:
            self._wait.end()
        runs = self._runs
        if runs:
            self._runs = []
            self._size = 0
            batch = runs[0] if len(runs) == 1 else MixedBatch(runs)
            for reader in self.packet_readers:
                try:
                    reader.deliver(batch)
                except Exception:
                    self.on_reader_failed(reader)
        if self._frames:
            frames = FrameBatch(self._frames)
            self._frames = []
            for frame_reader in self._frame_readers:
                try:
                    frame_reader.deliver_frames(frames)
                except Exception:
                    self.on_reader_failed(frame_reader)
            self.meter.on_delivered(time.monotonic())
        elif runs and self.packet_readers:
            self.meter.on_delivered(time.monotonic())
        else:
            self.meter.began = 0.0

    def _collect(self, track: LiveTrack, run: Run, now: float) -> None:
        """Add packets to the next flush."""
        if now >= track.reports.next_packet_time:
            self.clock.on_packet(track.index, track.position.timestamp, now)
        self._size += run.size
        runs = self._runs
        if runs and type(run) is PacketRun and run.framing is None:
            last = runs[-1]
            if type(last) is PacketRun and last.track_index == run.track_index and last.framing is None:
                last.extend(run)
                return
        runs.append(run)

    def _collect_entries(self, track: LiveTrack) -> None:
        """Add frames and changed descriptions to the next flush for readers of frames."""
        if self._frame_readers:
            index = track.index
            self._frames += [(index, entry) for entry in track.entries]
        track.entries.clear()

    def on_foreign_packet(self, track_index: int, payload_type: int) -> None:
        """Count a packet that is not published, as its payload type is not the track's.

        It may be RTCP on the channel of the media, or a private packet of a camera. Such packets have their own
        sequence numbers and timestamps, which must be ignored.
        """
        track = self.tracks[track_index]
        track.counters.foreign += 1
        self._warnings.on_foreign_packet(track.track, payload_type)

    def on_unannounced_type(self, track_index: int, payload_type: int) -> None:
        """Log that packets are accepted although their payload type is not the one announced for the track."""
        self._warnings.on_unannounced_type(self.tracks[track_index].track, payload_type)

    def on_sender_report(self, track_index: int, report: SenderReport, now: float) -> None:
        """Process a sender report of the publisher: it maps the track's timestamps to the wall clock."""
        if self._closed:  # the connection of a source ends shortly after its stream
            return
        track = self.tracks[track_index]
        timestamp = track.outgoing_timestamp(report.rtp_timestamp)
        # A report with NTP time 0 comes from a publisher without a clock (RFC 3550 section 6.4.1).
        if timestamp is not None and report.ntp:
            self.update_clock(track, now)
            told = self.clock.on_sender_report(track_index, report, timestamp, now)
            for reader in self.packet_readers:
                reader.on_sender_report(track_index, told, now)

    def clock_reports(self, now: float) -> list[tuple[int, SenderReport]]:
        """Return sender reports that map timestamps to times as they are now, for those who republish the stream."""
        reports: list[tuple[int, SenderReport]] = []
        for track in self.tracks:
            self.update_clock(track, now)
            wall = track.reports.wall_time_of(track.last_timestamp) if track.next_sequence is not None else None
            if wall is not None:
                report = SenderReport(track.ssrc or 0, wall_time_to_ntp(wall), track.last_timestamp, 0, 0)
                reports.append((track.index, report))
        return reports

    def share_clock(self, other: Stream, now: float) -> None:
        """Copy the mapping of timestamps to times to a stream that will get this one's packets."""
        other.set_sync_point(self.clock.sync_point)
        for index, report in self.clock_reports(now):
            other.on_sender_report(index, report, now)

    def set_sync_point(self, timestamps: Mapping[int, int]) -> None:
        """Set the RTP timestamps of the tracks at one sync point, by index, from RTP-Info (RFC 2326 12.33).

        It synchronizes them until the publisher's sender reports do. Only before the first packet.
        """
        if all(track.next_sequence is None for track in self.tracks):
            self.clock.set_sync_point(timestamps)

    def update_clock(self, track: LiveTrack, now: float) -> None:
        """Compare the last packet of a track with the wall clock, which otherwise happens about once a second."""
        if self.publishes_packets:
            self.clock.catch_up(track.index, track.position, now)

    def incompatibility(self, tracks: Sequence[Track]) -> str:
        """Return why the current readers cannot continue with a successor's tracks; empty if they can."""
        return incompatibility(self.descriptions, tuple(map(_with_rtp_format, tracks)))

    def resume(self, tracks: Sequence[Track], *, publishes_packets: bool) -> bool:
        """Continue with a successor's tracks; False if they do not suit the current readers."""
        if self.incompatibility(tracks):
            return False
        tracks = tuple(map(_with_rtp_format, tracks))
        self.flush()
        # Packets that follow packets get continuous timestamps.
        if not (publishes_packets and self.publishes_packets):
            self.clock.restart()
        keeps_numbers = bool(self.packet_readers) or self.publishes_packets
        self.clock.publishes_packets = publishes_packets
        for track, new in zip(self.tracks, tracks, strict=True):
            track.resume(new, publishes_packets=publishes_packets, keeps_numbers=keeps_numbers)
            self._collect_entries(track)
            if publishes_packets and self._frame_readers:
                track.open_frame_lane(self.frame_limit)
        return True

    def close(self) -> None:
        """End the stream: nothing more is sent."""
        self._closed = True
        self._wait.end()
        self.clock.close()
        self._runs = []
        self._size = 0
        self._frames = []
        self.packet_readers = ()
        self._frame_readers = ()

    # Readers' side.

    def add_reader(self, reader: Reader) -> None:
        """Start sending to a reader, from the next batch on."""
        self.flush()  # so that the reader's first packet is the next one that arrives
        if self._closed:
            return
        if isinstance(reader, PacketReader):
            if reader not in self.packet_readers:
                self.packet_readers = (*self.packet_readers, reader)
        elif isinstance(reader, FrameReader) and reader not in self._frame_readers:
            self._frame_readers = (*self._frame_readers, reader)
            if self.publishes_packets:
                for track in self.tracks:
                    track.open_frame_lane(self.frame_limit)

    def remove_reader(self, reader: Reader) -> None:
        """Stop sending to a reader; unknown readers are ignored."""
        if reader in self.packet_readers:
            self.packet_readers = tuple(other for other in self.packet_readers if other is not reader)
        elif reader in self._frame_readers:
            self._frame_readers = tuple(other for other in self._frame_readers if other is not reader)
            if not self._frame_readers:
                for track in self.tracks:
                    track.close_frame_lane()

    def fit_datagrams(self) -> None:
        """There are readers over UDP; see `LiveTrack.fit_datagrams`."""
        for track in self.tracks:
            track.fit_datagrams()

    def is_beginning(self, track_indexes: Iterable[int], now: float, patience: float) -> bool:
        """Whether a reader should wait until all tracks have started: at most ``patience`` seconds.

        True while a track has no packet, and if pictures are reordered, as the first one is then dropped.
        """
        if now - self.meter.since > patience:
            return False
        tracks = [self.tracks[index] for index in track_indexes]
        return any(track.next_sequence is None or reorders(track.track.codec) for track in tracks)

    def positions(
        self,
        track_indexes: Sequence[int],
        lead: float,
        now: float,
        starts: Mapping[int, tuple[int, int]] | None = None,
    ) -> list[Position]:
        """Return where a reader starts: one sync point, ``lead`` seconds before the first packets that it receives.

        These are the next ones of each track, or those in ``starts``: (sequence number, timestamp) by track. Tracks
        without a packet yet are omitted.
        """
        self.flush()
        walls: dict[int, WallTime] = {}
        first: dict[int, tuple[int, int]] = {}
        for index in track_indexes:
            track = self.tracks[index]
            if track.next_sequence is None:
                continue
            self.update_clock(track, now)
            first[index] = (starts or {}).get(index) or (track.next_sequence, track.last_timestamp)
            wall = track.reports.wall_time_of(first[index][1])
            if wall is not None:
                walls[index] = wall
        if not walls:
            return []
        # A track that has been silent for long must not move the sync point into the past.
        newest = max(walls.values())
        moment = min(wall for wall in walls.values() if newest - wall < MAXIMUM_TRACK_LAG_SECONDS * NANOSECONDS)
        moment = WallTime(moment - round(lead * NANOSECONDS))
        positions: list[Position] = []
        for index, wall in walls.items():
            sequence, timestamp = first[index]
            ticks = rescale_nearest(moment - wall, NANOSECONDS, self.tracks[index].track.clock_rate)
            positions.append(Position(index, sequence, (timestamp + ticks) & 0xFFFFFFFF))
        return positions

    def on_reader_failed(self, reader: Reader) -> None:
        """End a reader that raised the current exception."""
        self._warnings.log.exception("a reader failed; it is closed, the others go on")
        self.remove_reader(reader)
        reader.close_reader("internal error")


def _with_rtp_format(track: Track) -> Track:
    if track.rtp is not None:
        return track
    rtp_format = rtp_format_for(track.codec, FIRST_DYNAMIC_PAYLOAD_TYPE + track.index)
    return track if rtp_format is None else Track(track.index, track.codec, rtp_format, track.language, track.title)
