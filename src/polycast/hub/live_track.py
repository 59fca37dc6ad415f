"""One track of a live stream: its packet lane, its frame lane, and the conversion between them.

A publisher feeds one lane. The other one exists only while a reader needs it and is computed once for all of them.
"""

from __future__ import annotations

import dataclasses
import secrets
import struct
from typing import TYPE_CHECKING

from polycast.codecs.registry import updated_codec
from polycast.errors import RemoteProtocolError
from polycast.hub.batch import FRAME_HEADER_SIZE, FramedRun
from polycast.hub.splice import PacketSplice, retimed
from polycast.media.codec import Codec, Kind
from polycast.media.continuity import TrackContinuity
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.timebase import seconds_to_ticks, wall_time_to_ntp
from polycast.media.track import Track
from polycast.rtp.header import HEADER_SIZE, TARGET_PACKET_SIZE, parse_packet, payload_type_of
from polycast.rtp.payload.base import KEY, PARAMETERS, Depacketizer, Packetizer
from polycast.rtp.payload.registry import make_depacketizer, make_packetizer, payload_of
from polycast.rtp.reports import SenderReportSource
from polycast.rtp.scan import PLAIN, Noticed, scan_plain

if TYPE_CHECKING:
    from polycast.hub.stream import Stream

Train = tuple[int, int, int, int]
"""Packets of one size, the last one perhaps smaller, each behind a frame header, in a buffer of their own; their first
bytes are all the same. (channel, bytes from one packet to the next, number of packets, place of the last one's frame
header). The engine of a protocol finds them and has the same name for them."""

# Of a packet behind a frame header: sequence number, timestamp, first bytes of the payload; the byte that holds the
# marker bit and the same three.
_unpack_first = struct.Struct("!6xHI4xI").unpack_from
_unpack_last = struct.Struct("!5xBHI4xI").unpack_from
_MARKER = 0x80
_MARKER_PLACE = FRAME_HEADER_SIZE + 1
_PAYLOAD = FRAME_HEADER_SIZE + HEADER_SIZE

# Bytes of a packet with its frame header: at least, so that its payload shows whether it is a continuation; at most.
_SHORTEST_TELLING = _PAYLOAD + 4

# Seconds by which sound may begin before the end of the sound before it: rounding, and clocks that are corrected.
MAXIMUM_OVERLAP_SECONDS = 0.1

# Seconds of media between two ties of the RTP timestamps of a publisher of frames to its time line.
REPORT_INTERVAL_SECONDS = 10


class LiveTrack:
    """A track while it is being published."""

    __slots__ = (
        "_awaits_key",
        "_continuation",
        "_continuity",
        "_depacketizer",
        "_expected_sequence",
        "_is_cut",
        "_is_second",
        "_is_video",
        "_is_without_packets",
        "_next_report_time",
        "_no_key_mask",
        "_no_key_pattern",
        "_packetizer",
        "_passes_unchanged",
        "_payload_type",
        "_payload_types",
        "_peek",
        "_piece_start",
        "_pieces",
        "_rtp_origin",
        "_splice",
        "_stream",
        "_waits_for_marker",
        "bytes_received",
        "frame_open",
        "index",
        "last_dts",
        "last_time",
        "last_timestamp",
        "maximum_packet_size",
        "packets_foreign",
        "packets_lost",
        "packets_received",
        "reports",
        "ssrc",
        "track",
    )

    def __init__(self, stream: Stream, track: Track, continuity: TrackContinuity) -> None:
        self._stream = stream
        self._continuity = continuity
        self._pieces = 0
        """Pieces of the time line that readers were told of."""
        self._piece_start: int | None = None
        """Where a new piece of the time line begins, until the first frame of it."""
        self._is_video = track.codec.kind is Kind.VIDEO
        self.track = track
        self.index = track.index
        self._set_payload_type(track)
        payload_format = payload_of(track)
        self._peek = payload_format.peek_for(track.codec)
        hints = payload_format.hints
        self._continuation = hints.continuation
        self._no_key_mask = hints.no_key.mask
        self._no_key_pattern = hints.no_key.pattern
        self._waits_for_marker = payload_format.marker_ends_frame
        self._depacketizer: Depacketizer | None = None
        self._packetizer: Packetizer | None = None
        self._is_without_packets = False
        """Whether frames of this codec cannot be carried in RTP."""
        self._rtp_origin = 0
        """RTP timestamp of the frames' time 0."""
        self._is_second = False
        """Whether the packets come from a second publisher and may have to be renumbered or to wait for a key frame."""
        self._splice: PacketSplice | None = None
        """There after a second publisher joined, where the first one's packets are to be continued."""
        self._awaits_key = False
        """Whether nothing goes out before a key frame, as a second publisher has joined."""
        self._expected_sequence = -1
        self._next_report_time = -(1 << 62)
        self.frame_open = False
        """Whether the packets given so far end in the middle of a frame."""
        self.maximum_packet_size = payload_format.maximum_packet_size
        """Bytes of a packet of the publisher that may pass as it is; larger ones are cut before they come here."""
        self._is_cut = False
        """Whether the publisher's packets have to be cut before they come here."""
        self._passes_unchanged = True
        """Whether packets can pass as they came, many at once."""
        self.packets_received = 0
        self.bytes_received = 0
        self.packets_lost = 0
        self.packets_foreign = 0
        """Packets of other payload types, which were dropped."""
        self.last_timestamp = 0
        """RTP timestamp of the last packet."""
        self.last_time: float | None = None
        """When the last packet went out to the readers (monotonic seconds), the sign of life of publishers whose trains
        come here; None before the first."""
        self.last_dts: int | None = None
        """Decoding time of the last frame, in ticks; None before the first, or where there was no reader of frames."""
        self.ssrc: int | None = None
        """The SSRC that all readers of this track see; the publisher's own where it sends RTP."""
        self.reports = SenderReportSource(track.clock_rate)

    @property
    def discontinuities(self) -> int:
        """How often the publisher's time line began anew, as far as frames were made."""
        return self._pieces

    @property
    def next_sequence(self) -> int | None:
        """Sequence number that the next packet will have; None before the first packet."""
        return self._expected_sequence if self._expected_sequence >= 0 else None

    def _set_payload_type(self, track: Track) -> None:
        self._payload_type = track.rtp.payload_type if track.rtp is not None else 0
        self._payload_types = bytes((self._payload_type, self._payload_type | _MARKER))
        """What the second byte of a packet of this track may be, with and without the marker bit."""

    def is_own(self, packet: RtpPacket) -> bool:
        """Whether a packet has the payload type of the track.

        Others are counted, and not to be added: RTCP among the media, or the private packets of a camera. They have
        sequence numbers and timestamps of their own, so nothing may be concluded from these.
        """
        payload_type = payload_type_of(packet)
        if payload_type == self._payload_type:
            return True
        self.packets_foreign += 1
        self._stream.on_foreign_packet(self.track, payload_type)
        return False

    def write_packet(self, data: bytes, start: int, end: int, now: float, channel: int = -1) -> None:
        """Take one RTP packet ``data[start:end]``; see `PacketRun` for ``channel``. ``now``: when it was read, in
        monotonic seconds, here and below.

        Raises RemoteProtocolError when the bytes are not RTP.
        """
        self.add_packet(parse_packet(data, start, end), now, channel)

    def add_packet(self, packet: RtpPacket, now: float, channel: int = -1) -> None:
        """Take one parsed RTP packet that is nobody else's. The hot path of the server."""
        if self._is_second:
            self._add_spliced(packet, now)
            return
        flags = self._peek(packet.data, packet.payload, packet.end)
        if flags:
            if flags & PARAMETERS:
                self._look_at_parameters(packet.data, packet.payload, packet.end)
            if flags & KEY:
                packet.key = True
        sequence = packet.sequence
        if sequence != self._expected_sequence:
            self._on_gap(packet.data, packet.start, sequence)
        self._expected_sequence = (sequence + 1) & 0xFFFF
        if self._waits_for_marker:
            self.frame_open = not packet.marker
        stream = self._stream
        run = stream.run
        if run is None or run.track_index != self.index or run.channel != channel:
            run = stream.begin_run(self.index, channel)
        run.packets.append(packet)
        run.size += packet.end - packet.start
        if packet.key and self.index == stream.key_track:
            run.has_key = True
        if self._depacketizer is not None:
            self._depacketize(packet, now)

    def add_packets(self, data: bytes, start: int, sizes: list[int], channel: int) -> bool:
        """Take packets that stand in ``data`` one after another, each behind a frame header (see `FramedRun`), all at
        once: the first at ``start``, each of its size.

        False where it is not that simple, and nothing has been taken: then they are to be added one by one.
        """
        if not self._passes_unchanged:
            return False
        scan = scan_plain(
            data,
            start,
            sizes,
            FRAME_HEADER_SIZE,
            self._payload_type,
            self.maximum_packet_size,
            self._peek,
            self._continuation,
        )
        if scan is None:
            return False
        sequence, timestamp, marker, noticed = scan
        if sequence != self._expected_sequence:
            self._on_gap(data, start, sequence)
        self._expected_sequence = (sequence + len(sizes)) & 0xFFFF
        if self._waits_for_marker:
            self.frame_open = not marker
        begin = start - FRAME_HEADER_SIZE
        end = begin + sum(sizes) + FRAME_HEADER_SIZE * len(sizes)
        run = FramedRun(self.index, channel, data, begin, end, len(sizes), timestamp)
        if noticed:
            self._on_noticed(run, noticed)
        self._stream.add_run(run)
        return True

    def take_train(self, data: bytes, train: Train, now: float, is_gathered: bool) -> bool:
        """Take what one read brought, where it is nothing but a `Train`. A frame that is complete goes out at once, the
        part of one, too, where ``is_gathered`` (see `Stream.end_of_read`).

        The shortest way for what most publishers send most of the time, and therefore in one piece: with hundreds of
        streams each call on it can be seen in the server's load. False where it is not that simple, and nothing has
        been taken.
        """
        channel, stride, count, last = train
        size = len(data)
        if data[FRAME_HEADER_SIZE] != PLAIN or not self._passes_unchanged:
            return False
        if size - last < _SHORTEST_TELLING or stride - FRAME_HEADER_SIZE > self.maximum_packet_size:
            return False
        if data[_MARKER_PLACE::stride].translate(None, self._payload_types):
            return False
        first_sequence, first_timestamp, payload = _unpack_first(data)
        second, sequence, timestamp, last_payload = _unpack_last(data, last)
        if sequence - first_sequence + 1 & 0xFFFF != count:
            return False
        mask = self._no_key_mask
        pattern = self._no_key_pattern
        flags = 0
        if (
            payload & mask != pattern
            or last_payload & mask != pattern
            or timestamp != first_timestamp
            or (last and data[_MARKER_PLACE] & _MARKER)  # another picture follows, whatever its timestamp says
        ):
            for place, fitting in self._continuation.columns:
                if data[_PAYLOAD + place + stride :: stride].translate(None, fitting):
                    return False
            flags = self._peek(data, _PAYLOAD, stride)
        if first_sequence != self._expected_sequence:
            self._on_gap(data, FRAME_HEADER_SIZE, first_sequence)
        self._expected_sequence = sequence + 1 & 0xFFFF
        stream = self._stream
        run: FramedRun | None = None
        if flags:
            run = FramedRun(self.index, channel, data, 0, size, count, timestamp)
            self._on_noticed(run, [(flags, FRAME_HEADER_SIZE, stride)])
        self.frame_open = is_open = self._waits_for_marker and second < _MARKER
        if (is_open and not is_gathered) or stream.batch is not None:
            stream.add_run(run or FramedRun(self.index, channel, data, 0, size, count, timestamp))
            stream.end_of_read(is_gathered=is_gathered)
            return True
        # What `Stream` does in a flush, for one run.
        self.packets_received += count
        self.bytes_received += size - FRAME_HEADER_SIZE * count
        self.last_timestamp = timestamp
        self.last_time = now
        if now >= self.reports.next_packet_time:
            stream.compare_with_clock(self, timestamp, now)
        for reader in stream.packet_readers:
            try:
                if not reader.pass_on(data, self.index, channel, count):
                    if run is None:
                        run = FramedRun(self.index, channel, data, 0, size, count, timestamp)
                    reader.deliver(run)
            except Exception:
                stream.on_reader_failed(reader)
        return True

    def write_frame(self, frame: Frame, now: float) -> None:
        """Take one frame of a publisher that has frames."""
        stream = self._stream
        if self._awaits_key:
            if not frame.key:
                return
            self._awaits_key = False
        position = self._continuity.place(frame.dts, now, key=frame.key and self._is_video)
        self._look_at_piece(position, now)
        placed = self._in_order(frame, position - frame.dts)
        if placed is None:
            return
        frame = placed
        if frame.key:
            self._refresh_parameters(frame)
        if stream.frame_reader_count:
            stream.collect_frame(self.index, frame)
        if stream.packet_reader_count:
            self._packetize(frame, now)
        else:
            self._note_position(frame, now)
            self.packets_received += 1
            self.bytes_received += frame.size

    def set_codec(self, codec: Codec) -> None:
        """Replace the track's description for those who ask from now on: parameter sets changed."""
        if codec != self.track.codec:
            if self._packetizer is not None:
                self._packetizer.codec = codec
            self.track = dataclasses.replace(self.track, codec=codec)
            self._stream.on_track_changed(self.track)

    def open_frame_lane(self) -> None:
        """Begin to make frames out of packets: the first reader of frames has come."""
        if self._depacketizer is None:
            depacketizer = self._depacketizer = make_depacketizer(self.track)
            if depacketizer is not None:
                depacketizer.limit_frame_size(self._stream.frame_limit)
            self._choose_way()

    def close_frame_lane(self) -> None:
        """Stop making frames: the last reader of frames has gone."""
        self._depacketizer = None
        self._choose_way()

    def fit_datagrams(self) -> None:
        """Say that there are readers over UDP: packets have to fit what lies on the way."""
        self.maximum_packet_size = TARGET_PACKET_SIZE

    def cut(self) -> None:
        """Say that from now on the publisher's packets are cut before they come here."""
        self._is_cut = True
        self._choose_way()

    def resume(self, track: Track, *, publishes_packets: bool) -> None:
        """Go on with the track of another publisher; `splice.can_follow` has said that it fits."""
        parameters = payload_of(track).parameter_sets(track.codec) if track.codec != self.track.codec else ()
        self.set_codec(track.codec)
        self._set_payload_type(track)
        self._awaits_key = track.index == self._stream.key_track
        self._is_second = True
        self._is_cut = False
        self._next_report_time = -(1 << 62)
        self.frame_open = False
        self._splice = None
        self._depacketizer = None
        self._piece_start = self.last_dts
        if publishes_packets:
            self._packetizer = None
            rtp = self.track.rtp
            if self.ssrc is not None and self._expected_sequence >= 0 and rtp is not None:
                self._splice = PacketSplice(
                    ssrc=self.ssrc,
                    payload_type=rtp.payload_type,
                    sequence=self._expected_sequence,
                    parameters=parameters,
                )
            if self._stream.frame_reader_count:
                self.open_frame_lane()
        self._choose_way()

    def _choose_way(self) -> None:
        """Say again whether packets pass unchanged: one of the reasons why not came or went."""
        self._passes_unchanged = not (self._is_second or self._is_cut or self._depacketizer is not None)

    def outgoing_timestamp(self, timestamp: int) -> int | None:
        """Return an RTP timestamp of the publisher as readers see it; None while that is not known."""
        if self._splice is None:
            return timestamp
        offset = self._splice.offset
        return None if offset is None else (timestamp + offset) & 0xFFFFFFFF

    def _next_timestamp(self, now: float) -> int:
        """The RTP timestamp of this moment, seen from the last packet."""
        if self.last_time is None:
            return self.last_timestamp
        elapsed = max(0.0, now - self.last_time)
        # Never the same again: that would look like one more packet of the last frame.
        return self.last_timestamp + max(1, seconds_to_ticks(elapsed, self.track.clock_rate))

    def _add_spliced(self, packet: RtpPacket, now: float) -> None:
        if self._awaits_key:
            if not self._peek(packet.data, packet.payload, packet.end) & KEY:
                return
            self._awaits_key = False
        splice = self._splice
        if splice is None:
            packets = [packet]
        elif splice.offset is None:
            packets = splice.begin(packet, self._next_timestamp(now) & 0xFFFFFFFF)
        else:
            packets = [splice.renumber(packet)]
        self._is_second = False
        try:
            for renumbered in packets:
                self.add_packet(renumbered, now)
        finally:
            self._is_second = splice is not None
            self._choose_way()

    def _on_noticed(self, run: FramedRun, noticed: list[Noticed]) -> None:
        """Take what the peek has seen in packets of the run: (flags, start, end)."""
        for flags, start, end in noticed:
            if flags & PARAMETERS:
                self._look_at_parameters(run.data, start + HEADER_SIZE, end)
        run.key_starts = [start for flags, start, _ in noticed if flags & KEY]
        run.has_key = bool(run.key_starts) and self.index == self._stream.key_track

    def _look_at_parameters(self, data: bytes, payload: int, end: int) -> None:
        try:
            codec = payload_of(self.track).parameters_from_packet(self.track.codec, data, payload, end)
        except RemoteProtocolError:
            return  # a broken parameter set is the decoder's business; the packet passes as it is
        if codec is not self.track.codec:
            self.set_codec(codec)

    def _refresh_parameters(self, frame: Frame) -> None:
        try:
            codec = updated_codec(self.track.codec, frame)
        except RemoteProtocolError:
            return
        if codec is not self.track.codec:
            self.set_codec(codec)

    def _on_gap(self, data: bytes, start: int, sequence: int) -> None:
        if self._expected_sequence < 0:
            self.ssrc = int.from_bytes(data[start + 8 : start + 12], "big")
            return
        missing = (sequence - self._expected_sequence) & 0xFFFF
        if missing < 0x8000:
            self.packets_lost += missing

    def _depacketize(self, packet: RtpPacket, now: float) -> None:
        depacketizer = self._depacketizer
        if depacketizer is None:
            return
        stream = self._stream
        is_video = self._is_video
        pts = stream.presentation_time(
            self.index,
            packet.timestamp,
            now,
            key=packet.key and is_video,
            floor=self.last_dts if is_video else None,
        )
        self._look_at_piece(pts, now)
        errors = depacketizer.errors
        frames = depacketizer.push(packet, pts)
        if depacketizer.errors != errors:
            stream.on_unreadable(self.track, depacketizer.last_error, now)
        for frame in frames:
            if frame.key:
                self._refresh_parameters(frame)
            placed = self._in_order(frame)
            if placed is not None:
                # The frame is nobody else's yet: what the publisher's clock says of it is part of its making.
                placed.wall_time = stream.capture_time(self.index, placed.pts)
                stream.collect_frame(self.index, placed)

    def _look_at_piece(self, position: int, now: float) -> None:
        """Take note where a new piece of the time line begins with what was placed at ``position``."""
        continuity = self._continuity
        if continuity.pieces != self._pieces:
            self._pieces = continuity.pieces
            self._piece_start = position
            if continuity.leap:
                self._stream.on_leap(self.track, continuity.leap, now)

    def _in_order(self, frame: Frame, shift: int = 0) -> Frame | None:
        """Return a frame, ``shift`` ticks later, as readers may get it; None for sound over which others were heard."""
        dts = frame.dts + shift
        last = self.last_dts
        if last is not None and dts < last:
            if not self._is_video and last - dts > MAXIMUM_OVERLAP_SECONDS * self.track.clock_rate:
                return None
            dts = last
        pts = max(frame.pts + shift, dts)
        begins = self._piece_start is not None and pts >= self._piece_start
        if begins:
            self._piece_start = None
        self.last_dts = dts
        if pts != frame.pts or dts != frame.dts or begins:
            return retimed(frame, pts, dts, discontinuity=begins or frame.discontinuity)
        return frame

    def _packetize(self, frame: Frame, now: float) -> None:
        packetizer = self._packetizer or self._open_packetizer(frame, now)
        if packetizer is None:
            return
        packets = packetizer.packetize(frame)
        if not packets:
            return
        if frame.pts >= self._next_report_time:
            self._tie_to_clock(frame, now)
        run = self._stream.run
        if run is None or run.track_index != self.index:
            run = self._stream.begin_run(self.index, -1)
        for packet in packets:
            run.packets.append(packet)
            run.size += packet.end - packet.start
        self._expected_sequence = (packets[-1].sequence + 1) & 0xFFFF
        run.has_key |= frame.key and self.index == self._stream.key_track

    def _note_position(self, frame: Frame, now: float) -> None:
        """Follow the frames that nobody reads as packets, so that the first reader can be told where it begins."""
        if self._packetizer is None and self._open_packetizer(frame, now) is None:
            return
        self.last_timestamp = (frame.dts + self._rtp_origin) & 0xFFFFFFFF
        self.last_time = now
        if frame.pts >= self._next_report_time:
            self._tie_to_clock(frame, now)

    def _open_packetizer(self, frame: Frame, now: float) -> Packetizer | None:
        if self._is_without_packets:
            return None
        sequence, origin = secrets.randbits(16), secrets.randbits(32)
        if self.ssrc is None:
            self.ssrc = secrets.randbits(32)
        elif self._expected_sequence >= 0:  # a publisher of packets came before
            sequence, origin = self._expected_sequence, self._next_timestamp(now) - frame.pts
        packetizer = self._packetizer = make_packetizer(
            self.track, ssrc=self.ssrc, initial_sequence=sequence, initial_timestamp=origin & 0xFFFFFFFF
        )
        if packetizer is None:
            self._is_without_packets = True
        else:
            self._rtp_origin = origin
            self._expected_sequence = sequence
        return packetizer

    def _tie_to_clock(self, frame: Frame, now: float) -> None:
        """Say which moment the RTP timestamp of a frame means, by the time line that all tracks share."""
        self._next_report_time = frame.pts + REPORT_INTERVAL_SECONDS * self.track.clock_rate
        ntp = wall_time_to_ntp(self._stream.wall_time_of(frame, self.track.clock_rate))
        self.reports.on_publisher_report(ntp, (frame.pts + self._rtp_origin) & 0xFFFFFFFF, now)
