"""Conversion of a track: RTP packets to frames, frames to RTP packets."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from polycast.hub.frame_order import FrameOrder
from polycast.hub.stream_clock import StreamClock
from polycast.hub.successor import RtpPosition
from polycast.hub.warnings import StreamWarnings
from polycast.media.codec import Codec, Kind
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.packet_buffer import PacketBuffer
from polycast.media.timebase import WallTime, timestamp_difference, wall_time_to_ntp
from polycast.media.track import Track
from polycast.rtp.header import HEADER_SIZE, PacketSizes, timestamp_at
from polycast.rtp.payload.base import Depacketizer, Packetizer
from polycast.rtp.payload.registry import make_depacketizer, make_packetizer
from polycast.rtp.reports import SenderReportSource

# Seconds of media between two mappings of RTP timestamps to the wall clock, for a publisher of frames.
REPORT_INTERVAL_SECONDS = 10

# Seconds by which a publisher's packets may come before or after the time that its reports give them; more means that
# the reports are wrong.
MAXIMUM_LEAD_SECONDS = 2

WallClock = Callable[[Frame, int], WallTime]
"""Returns when a frame of a track with a clock rate was captured, on one clock for all tracks."""


class FrameLane:
    """The frames of one track: from its publisher, or made from its packets while it is open."""

    __slots__ = ("_clock", "_depacketizer", "_now", "_pts", "_timestamp", "_track", "_warnings", "is_open", "order")

    def __init__(self, track: Track, clock: StreamClock, warnings: StreamWarnings) -> None:
        self._track = track
        self._clock = clock.timeline.tracks[track.index]
        self._depacketizer: Depacketizer | None = None
        self.is_open = False
        """Whether frames are made from packets."""
        self._timestamp = -1
        """RTP timestamp of the last packet, which came at ``_now``."""
        self._now = 0.0
        self._pts = 0
        """The same on the timeline of the stream."""
        self._warnings = warnings
        self.order = FrameOrder(track, clock.continuity.tracks[track.index], warnings)

    @property
    def joins_fragments(self) -> bool:
        """Whether `push_all` may process anything."""
        return self._depacketizer is not None and self._depacketizer.splits_fragments

    def open(self, track: Track, frame_limit: int, *, is_start: bool) -> None:
        """Start making frames from the packets of a track by its current description, of at most ``frame_limit`` bytes.

        ``is_start``: it has had no packets. If its codec is not supported, there are none.
        """
        if self._depacketizer is None:
            self._timestamp = -1
            depacketizer = self._depacketizer = make_depacketizer(track)
            self.is_open = depacketizer is not None
            if depacketizer is not None:
                depacketizer.limit_frame_size(frame_limit)
                if is_start:
                    depacketizer.begin_stream()

    def close(self) -> None:
        """Stop making frames."""
        self._depacketizer = None
        self.is_open = False

    def push(self, packet: RtpPacket, now: float) -> Sequence[Frame]:
        """Process a packet; return the frames that it completes. They are not in order yet: see `finish`."""
        depacketizer = self._depacketizer
        if depacketizer is None:
            return ()
        if packet.timestamp != self._timestamp or now != self._now:
            self._place(packet.timestamp, now, key=packet.key)
        errors = depacketizer.errors
        frames = depacketizer.push(packet, self._pts)
        if depacketizer.errors != errors:
            self._warnings.on_unreadable(self._track, depacketizer.last_error, now)
        return frames

    def push_all(self, buffer: PacketBuffer, sequence: int, now: float, *, key: bool) -> Sequence[Frame] | None:
        """Process packets that were scanned, as `push` does, if they are consecutive fragments of one unit.

        None if they are not: nothing has been processed then. ``sequence``: number of the first packet. ``key``:
        whether decoding can start there.
        """
        depacketizer = self._depacketizer
        if depacketizer is None:
            return ()
        parts = depacketizer.split(buffer)
        if parts is None:
            return None
        timestamp = timestamp_at(buffer.data, buffer.start + buffer.framing.header_size)
        if timestamp != self._timestamp or now != self._now:
            self._place(timestamp, now, key=key)
        errors = depacketizer.errors
        frames = depacketizer.push_fragments(buffer, parts, sequence, timestamp, self._pts)
        if depacketizer.errors != errors:
            self._warnings.on_unreadable(self._track, depacketizer.last_error, now)
        return frames

    def _place(self, timestamp: int, now: float, *, key: bool) -> None:
        """Find the time of a packet on the timeline of the stream."""
        order = self.order
        is_video = order.is_video
        self._timestamp, self._now = timestamp, now
        self._pts = self._clock.extend(timestamp, now, key=key and is_video, floor=order.last_dts if is_video else None)
        order.follow(self._pts, now)

    def finish(self, frame: Frame) -> Frame | None:
        """Return a frame as readers receive it; None if it is dropped."""
        placed = self.order.put(frame)
        if placed is not None:
            # The frame is not shared yet, so it can still be modified.
            placed.wall_time = self._clock.wall_time(placed.pts)
        return placed


class PacketMaker:
    """Makes the packets of one track from its frames."""

    __slots__ = (
        "_clock",
        "_floor",
        "_next_report_time",
        "_origin",
        "_packetizer",
        "_position",
        "_reports",
        "is_possible",
        "sizes",
    )

    def __init__(
        self, position: RtpPosition, reports: SenderReportSource, clock: WallClock, sizes: PacketSizes
    ) -> None:
        self._position = position
        self._reports = reports
        self._clock = clock
        self.sizes = sizes
        """Limits for the packets."""
        self._packetizer: Packetizer | None = None
        self._origin = 0
        """RTP timestamp of the frames' time 0."""
        self._next_report_time = -(1 << 62)
        self._floor: int | None = None
        """After a publisher of packets: the last timestamp that it has used, until a frame is later."""
        self.is_possible = True
        """Whether frames of this codec can be sent as RTP, as far as it was tried."""

    def set_codec(self, codec: Codec) -> None:
        """Process changed parameter sets."""
        if self._packetizer is not None:
            self._packetizer.codec = codec

    def restart(self, *, continues: bool) -> None:
        """Another publisher continues; ``continues``: it also supplies frames."""
        self._next_report_time = -(1 << 62)
        self._floor = None
        if not continues:
            self._packetizer = None

    def make(self, track: Track, frame: Frame, now: float) -> list[RtpPacket]:
        """Return the packets of a frame."""
        packetizer = self._packetizer or self._open(track, frame, now)
        if self._floor is not None and self._overlaps(frame):
            return []
        packets = packetizer.packetize(frame) if packetizer is not None else []
        if packets:
            if frame.pts >= self._next_report_time:
                self._report(track, frame, now)
            last = packets[-1]
            position = self._position
            position.next_sequence = (last.sequence + 1) & 0xFFFF
            position.timestamp = last.timestamp
            position.time = now
        return packets

    def skip(self, track: Track, frame: Frame, now: float) -> None:
        """Track the frames that nobody reads as packets, so that the first reader's start position is known."""
        if self._packetizer is None and self._open(track, frame, now) is None:
            return
        if self._floor is not None and self._overlaps(frame):
            return
        position = self._position
        position.timestamp = (frame.dts + self._origin) & 0xFFFFFFFF
        position.time = now
        if frame.pts >= self._next_report_time:
            self._report(track, frame, now)

    def _open(self, track: Track, frame: Frame, now: float) -> Packetizer | None:
        if not self.is_possible:
            return None
        position = self._position
        sequence, origin = secrets.randbits(16), secrets.randbits(32)
        if position.ssrc is None:
            position.ssrc = secrets.randbits(32)
        elif position.next_sequence >= 0:  # after a publisher of packets
            sequence, origin = position.next_sequence, self._continued(track, frame, now) - frame.pts
        packetizer = self._packetizer = make_packetizer(
            track,
            ssrc=position.ssrc,
            initial_sequence=sequence,
            initial_timestamp=origin & 0xFFFFFFFF,
            maximum_payload=self.sizes.target - HEADER_SIZE,
        )
        if packetizer is None:
            self.is_possible = False
        else:
            self._origin = origin
            position.next_sequence = sequence
        return packetizer

    def _continued(self, track: Track, frame: Frame, now: float) -> int:
        """Return the RTP timestamp of the first frame after a publisher of packets.

        Its reports stay valid, so that the tracks stay in sync for receivers. Sound that it has sent ahead of time is
        not sent again.
        """
        due = self._position.timestamp_at(now, track.clock_rate)
        mapped = self._reports.timestamp_at(self._clock(frame, track.clock_rate))
        early = 0 if mapped is None else timestamp_difference(mapped - due)
        if abs(early) > MAXIMUM_LEAD_SECONDS * track.clock_rate:
            early = 0
        if track.codec.kind is Kind.AUDIO:
            self._floor = self._position.timestamp
        else:
            early = max(early, timestamp_difference(self._position.timestamp + 1 - due))
        return due + early

    def _overlaps(self, frame: Frame) -> bool:
        """Whether something else was already sent for the time of a frame."""
        floor = self._floor
        if floor is None or timestamp_difference(frame.pts + self._origin - floor) > 0:
            self._floor = None
            return False
        return True

    def _report(self, track: Track, frame: Frame, now: float) -> None:
        """Map the RTP timestamp of a frame to the wall clock, by the common timeline of all tracks."""
        self._next_report_time = frame.pts + REPORT_INTERVAL_SECONDS * track.clock_rate
        ntp = wall_time_to_ntp(self._clock(frame, track.clock_rate))
        self._reports.on_publisher_report(ntp, (frame.pts + self._origin) & 0xFFFFFFFF, now)
