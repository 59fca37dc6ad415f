"""One track of a live stream: its packets, its frames, and the conversion between them.

A publisher supplies packets or frames. The other form exists only while a reader needs it, and is computed once for all
readers. A track does not know its stream: it accepts packets or frames, and returns runs and frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from polycast.codecs.registry import updated_codec
from polycast.errors import RemoteProtocolError
from polycast.hub.batch import FramedRun, PacketRun, Run
from polycast.hub.conversion import FrameLane, PacketMaker
from polycast.hub.stream_clock import StreamClock
from polycast.hub.successor import Renumbering, RtpPosition, Succession
from polycast.hub.warnings import StreamWarnings
from polycast.media.codec import Codec
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.header import HEADER_SIZE, PacketSizes, ssrc_at
from polycast.rtp.payload.base import KEY, PARAMETERS
from polycast.rtp.payload.registry import payload_of
from polycast.rtp.scan import FlaggedPacket, PacketScanner, Summary


class TrackCounters:
    """Counters of what was received of one track."""

    __slots__ = ("_key_time", "_key_timestamp", "bytes", "foreign", "frames", "key_interval", "lost", "packets")

    def __init__(self) -> None:
        self.frames = 0
        """Frames; those of one read that could be processed as a whole count as one."""
        self.key_interval = 0.0
        """Seconds between the last two key frames, as they arrived; 0 until there were two."""
        self._key_time = 0.0
        self._key_timestamp = -1
        self.packets = 0
        self.bytes = 0
        self.lost = 0
        self.foreign = 0
        """Packets of other payload types, which were dropped."""

    def on_key_frame(self, timestamp: int, now: float) -> None:
        """Process a part of a key frame, which may have several; ``timestamp`` is that of the frame."""
        if timestamp != self._key_timestamp:
            if self._key_timestamp >= 0:
                self.key_interval = now - self._key_time
            self._key_timestamp = timestamp
            self._key_time = now


class LiveTrack:
    """A track while it is being published. ``now`` is the time of reception in monotonic seconds."""

    __slots__ = (
        "_is_key_track",
        "_lane",
        "_packet_maker",
        "_scanner",
        "_succession",
        "_waits_for_marker",
        "counters",
        "entries",
        "frame_open",
        "position",
        "reports",
        "track",
    )

    def __init__(
        self, track: Track, clock: StreamClock, warnings: StreamWarnings, sizes: PacketSizes, *, is_key_track: bool
    ) -> None:
        """``is_key_track``: see `Stream.key_track`."""
        payload_format = payload_of(track)
        self.track = track
        self._is_key_track = is_key_track
        self._scanner = PacketScanner(
            track.rtp.payload_type if track.rtp is not None else 0,
            min(payload_format.maximum_packet_size, sizes.maximum),
            payload_format.peek_for(track.codec),
            payload_format.continuation,
        )
        self._waits_for_marker = payload_format.marker_ends_frame
        self._lane = FrameLane(track, clock, warnings)
        self._succession: Succession | None = None
        self.position = RtpPosition()
        self.reports = clock.reports[track.index]
        """The sender reports for readers over RTP."""
        self._packet_maker = PacketMaker(self.position, self.reports, clock.wall_time_of, sizes)
        self.counters = TrackCounters()
        self.frame_open = False
        """Whether the packets so far end in the middle of a frame."""
        self.entries: list[Frame | Track] = []
        """Frames made from packets, and changed descriptions between them; emptied by the stream."""

    @property
    def index(self) -> int:
        """Its index among the tracks of the stream."""
        return self.track.index

    @property
    def ssrc(self) -> int | None:
        """The SSRC that all readers of this track see; None before the first packet."""
        return self.position.ssrc

    @property
    def next_sequence(self) -> int | None:
        """Sequence number that the next packet will have; None before the first packet."""
        return self.position.next_sequence if self.position.next_sequence >= 0 else None

    @property
    def last_timestamp(self) -> int:
        """RTP timestamp of the last packet."""
        return self.position.timestamp

    @property
    def last_dts(self) -> int | None:
        """Decoding time of the last frame, in ticks; None before the first, or without readers of frames."""
        return self._lane.order.last_dts

    @property
    def discontinuities(self) -> int:
        """How often the publisher's timeline restarted, as far as frames were made."""
        return self._lane.order.discontinuities

    @property
    def maximum_packet_size(self) -> int:
        """Maximum size of a packet that is forwarded unchanged; larger ones must be repacketized before."""
        return self._scanner.maximum_size

    @property
    def packet_sizes(self) -> PacketSizes:
        """Limits for its packets."""
        return self._packet_maker.sizes

    @property
    def payload_type(self) -> int:
        """Payload type of the publisher's packets."""
        return self._scanner.payload_type

    # Packets

    def receive(self, run: Run, now: float) -> Run | None:
        """Process packets of the publisher; return them as readers receive them, perhaps as another or an empty run.

        None for a `FramedRun` that cannot be processed as a whole; nothing has been processed then. Its packets must be
        parsed, useless ones dropped, and the rest passed as a `PacketRun`.
        """
        if type(run) is not FramedRun:
            return self._receive_packets(run, now)
        buffer = run.buffer
        summary = self._scanner.scan(buffer)
        if summary is None:
            return None
        if self._succession is not None:
            return self._receive_packets(run, now)
        sequence, timestamp, marker, flagged = summary
        position = self.position
        count = buffer.count
        if sequence != position.next_sequence:
            self._on_gap(buffer.data, buffer.start + buffer.framing.header_size, sequence)
        position.next_sequence = sequence + count & 0xFFFF
        counters = self.counters
        if timestamp != position.timestamp:
            counters.frames += 1
        position.timestamp = timestamp
        position.time = now
        self.frame_open = not marker and self._waits_for_marker
        counters.packets += count
        counters.bytes += run.size
        if flagged:
            run.key_starts = [start for flags, start, _ in flagged if flags & KEY]
            if self._is_key_track and run.key_starts:
                run.has_key = True
                counters.on_key_frame(timestamp, now)
            if not self._lane.is_open:
                self._update_parameters(buffer.data, flagged)
        if self._lane.is_open:
            self._make_frames_of(run, summary, now)
        return run

    def _receive_packets(self, run: Run, now: float) -> Run:
        """Process packets one by one."""
        packets = list(run.packets)
        framing = run.framing
        if self._succession is not None:
            packets = self._adapt(packets, self._succession, now)
            framing = None
        received = PacketRun(run.track_index, packets, framing)
        if not packets:
            return received
        inspect = self._scanner.inspect
        position = self.position
        timestamp = position.timestamp
        counters = self.counters
        for packet in packets:
            flags = inspect(packet.data, packet.payload, packet.end)
            if flags & PARAMETERS:
                self._update_parameters(packet.data, (FlaggedPacket(flags, packet.start, packet.end),), packet.payload)
            if flags & KEY:
                packet.key = True
            if packet.sequence != position.next_sequence:
                self._on_gap(packet.data, packet.start, packet.sequence)
            position.next_sequence = (packet.sequence + 1) & 0xFFFF
            if packet.key and self._is_key_track:
                received.has_key = True
                counters.on_key_frame(packet.timestamp, now)
            if packet.timestamp != timestamp:
                timestamp = packet.timestamp
                counters.frames += 1
            if self._lane.is_open:
                self._make_frames(packet, now)
        last = packets[-1]
        position.timestamp = last.timestamp
        position.time = now
        counters.packets += received.count
        counters.bytes += received.size
        self.frame_open = not last.marker and self._waits_for_marker
        return received

    def _adapt(self, packets: Sequence[RtpPacket], succession: Succession, now: float) -> list[RtpPacket]:
        """Return the packets of a successor as they continue those of the previous publisher."""
        inspect = self._scanner.inspect
        renumbered: list[RtpPacket] = []
        for packet in packets:
            if succession.admits(key=bool(inspect(packet.data, packet.payload, packet.end) & KEY)):
                renumbered += succession.renumber(packet, self.position, now, self.track.clock_rate)
        if succession.is_over:
            self._succession = None
        return renumbered

    def _on_gap(self, data: bytes, start: int, sequence: int) -> None:
        """Process a packet, ``data[start:]``, whose sequence number is not the expected one."""
        position = self.position
        if position.next_sequence < 0:
            position.ssrc = ssrc_at(data, start)
            return
        missing = (sequence - position.next_sequence) & 0xFFFF
        if missing < 0x8000:
            self.counters.lost += missing

    def _update_parameters(self, data: bytes, flagged: Sequence[FlaggedPacket], payload: int | None = None) -> None:
        """Process the parameter sets of packets; ``payload``: offset of the payload of a single one, if unusual."""
        for flags, start, end in flagged:
            if flags & PARAMETERS:
                try:
                    codec = payload_of(self.track).parameters_from_packet(
                        self.track.codec, data, start + HEADER_SIZE if payload is None else payload, end
                    )
                except RemoteProtocolError:
                    continue  # invalid parameter sets are left to the decoder; the packet is forwarded unchanged
                self.set_codec(codec)

    def outgoing_timestamp(self, timestamp: int) -> int | None:
        """Return an RTP timestamp of the publisher as readers see it; None if unknown."""
        return timestamp if self._succession is None else self._succession.outgoing_timestamp(timestamp)

    # Frames made from packets

    def open_frame_lane(self, frame_limit: int) -> None:
        """Start making frames from packets, of at most ``frame_limit`` bytes."""
        self._lane.open(self.track, frame_limit, is_start=not self.counters.packets)

    def close_frame_lane(self) -> None:
        """Stop making frames: there are no more readers of frames."""
        self._lane.close()

    def _make_frames_of(self, run: FramedRun, summary: Summary, now: float) -> None:
        sequence, _, _, flagged = summary
        parameters = {each.start: each for each in flagged if each.flags & PARAMETERS}
        if not self._lane.joins_fragments:
            self._make_frames_each(run, parameters, now)
            return
        for group in run.buffer.groups():
            key = group.start + group.framing.header_size in run.key_starts
            frames = self._lane.push_all(group, sequence, now, key=key)
            if frames is None:
                part = run
                if group is not run.buffer:
                    part = FramedRun(run.track_index, group)
                    part.key_starts = run.key_starts
                self._make_frames_each(part, parameters, now)
            elif frames:
                self._finish(frames)
            sequence = sequence + group.count & 0xFFFF

    def _make_frames_each(self, run: FramedRun, parameters: Mapping[int, FlaggedPacket], now: float) -> None:
        """``parameters``: the packets with parameter sets, by their start."""
        for packet in run.packets:
            if packet.start in parameters:
                self._update_parameters(packet.data, (parameters[packet.start],))
            self._make_frames(packet, now)

    def _make_frames(self, packet: RtpPacket, now: float) -> None:
        frames = self._lane.push(packet, now)
        if frames:
            self._finish(frames)

    def _finish(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            self._refresh_codec(frame)
            placed = self._lane.finish(frame)
            if placed is not None:
                self.entries.append(placed)

    # Frames of the publisher

    def place(self, frame: Frame, now: float) -> Frame | None:
        """Process a frame of the publisher; return it as readers receive it, None if it is dropped."""
        succession = self._succession
        if succession is not None:
            if not succession.admits(key=frame.key):
                return None
            self._succession = None
        placed = self._lane.order.place(frame, now)
        if placed is not None:
            self.counters.frames += 1
            if placed.key and self._is_key_track:
                self.counters.on_key_frame(placed.pts & 0xFFFFFFFF, now)
            self._refresh_codec(placed)
        return placed

    def packetize(self, frame: Frame, now: float) -> PacketRun | None:
        """Return a placed frame as packets; None if there are none."""
        packets = self._packet_maker.make(self.track, frame, now)
        if not packets:
            return None
        run = PacketRun(self.index, packets, has_key=frame.key and self._is_key_track)
        self.counters.packets += len(packets)
        self.counters.bytes += run.size
        return run

    def count(self, frame: Frame, now: float) -> None:
        """Process a placed frame that no reader needs as packets."""
        self._packet_maker.skip(self.track, frame, now)
        self.counters.packets += 1
        self.counters.bytes += frame.size

    # The description

    def set_codec(self, codec: Codec) -> None:
        """Replace the track's description for new readers: parameter sets changed."""
        if codec is not self.track.codec and codec != self.track.codec:
            self._packet_maker.set_codec(codec)
            self.track = dataclasses.replace(self.track, codec=codec)
            self.entries.append(self.track)

    def _refresh_codec(self, frame: Frame) -> None:
        """Process the parameter sets of a key frame."""
        if frame.key:
            try:
                codec = updated_codec(self.track.codec, frame)
            except RemoteProtocolError:
                return
            self.set_codec(codec)

    def fit_datagrams(self) -> None:
        """There are readers over UDP: from now on packets must fit into datagrams."""
        self._scanner.maximum_size = min(self._scanner.maximum_size, self.packet_sizes.target)

    def resume(self, track: Track, *, publishes_packets: bool, keeps_numbers: bool) -> None:
        """Continue with the track of a successor, which `successor.is_compatible` has accepted.

        The conversion to frames is closed. Without ``keeps_numbers``, the packets of the successor may have numbers of
        their own: nobody has read packets of the track, which were made of frames.
        """
        parameters = payload_of(track).parameter_sets(track.codec) if track.codec != self.track.codec else ()
        self.set_codec(track.codec)
        if track.rtp is not None:
            self._scanner.set_payload_type(track.rtp.payload_type)
        self.frame_open = False
        self._lane.close()
        self._lane.order.begin_again()
        self._packet_maker.restart(continues=not publishes_packets)
        position, rtp = self.position, self.track.rtp
        has_same_type = track.rtp is not None and rtp is not None and track.rtp.payload_type == rtp.payload_type
        if publishes_packets and has_same_type and not keeps_numbers:
            position.forget()
        renumbering: Renumbering | None = None
        if publishes_packets and position.ssrc is not None and position.next_sequence >= 0 and rtp is not None:
            renumbering = Renumbering(
                ssrc=position.ssrc,
                payload_type=rtp.payload_type,
                sequence=position.next_sequence,
                parameters=parameters,
            )
        succession = Succession(awaits_key=self._is_key_track, renumbering=renumbering)
        self._succession = None if succession.is_over else succession
