"""Receives a publisher's RTP: from its packets, over any transport, to runs in a stream.

Used for clients and sources of RTSP; WebRTC has `webrtc/incoming.py`. A `MediaReceiver` is for one publisher, its
`TrackReceiver` for one track: order, loss, size limits, invalid packets, counters, and RTCP in both directions.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from polycast.errors import RemoteProtocolError
from polycast.hub.batch import FramedRun, PacketRun
from polycast.hub.live_track import LiveTrack
from polycast.hub.packet_collector import PacketCollector
from polycast.hub.stats import Counters
from polycast.hub.stream import FIRST_DYNAMIC_PAYLOAD_TYPE, Stream
from polycast.hub.warnings import LossWarning
from polycast.log import Log
from polycast.media.packet import RtpPacket
from polycast.media.packet_buffer import PacketBuffer
from polycast.rtp.header import HEADER_SIZE, parse_packet
from polycast.rtp.reception import RtpReception
from polycast.rtp.repacketize import Repacketizer
from polycast.rtp.rtcp import ReceiverReport, SenderReport, parse_compound, serialize_compound


class MediaReceiver:
    """Receives the media of one publisher. ``now`` is monotonic seconds."""

    def __init__(
        self, stream: Stream, counters: Counters, log: Log, now: float, *, reorders: bool, ignores_short: bool = False
    ) -> None:
        """``reorders``: restore the order of packets from a network that may change it; not needed over TCP.
        ``ignores_short``: silently ignore packets that are too short for RTP, as servers send them to open a NAT."""
        self.stream = stream
        self.counters = counters
        self._log = log
        self._loss = LossWarning(log)
        self._bad_packets = 0
        self.ignores_short = ignores_short
        self._began = now
        self.last_activity: float | None = None
        """When anything was last received; None before that."""
        self.collector = PacketCollector(stream)
        """For packets over UDP."""
        self.tracks: tuple[TrackReceiver, ...] = tuple(
            TrackReceiver(self, track, reorders=reorders) for track in stream.tracks
        )

    @property
    def idle_since(self) -> float:
        """When anything was last received; initially, when the receiver was created."""
        return self._began if self.last_activity is None else self.last_activity

    def on_bad_packet(self, error: RemoteProtocolError) -> None:
        """Count a packet that is invalid or cannot be forwarded; the first one is logged."""
        if not self._bad_packets:
            self._log.warning("invalid packet received, ignored: %s", error)
        self._bad_packets += 1
        self.counters.packets_invalid += 1

    def end_of_read(self, *, coalesced: bool = False) -> None:
        """One read has been processed completely; see `Stream.end_of_read`."""
        self.collector.end_of_read(coalesced=coalesced)

    def close(self) -> None:
        """End it: nothing is received any more. Its tracks refer to it, and it to the stream."""
        self.tracks = ()

    def give_up_missing(self, now: float) -> None:
        """Give up packets that have been missing for too long."""
        for track in self.tracks:
            track.give_up_missing(now)

    def tick(self, now: float) -> None:
        """Called about once a second: missing packets, statistics and log messages."""
        self.give_up_missing(now)
        self.end_of_read()
        lost = self.counters.packets_lost = sum(track.lost for track in self.tracks)
        self._loss.update(lost, now)
        self.counters.jitter = max((track.jitter_seconds for track in self.tracks), default=0.0)
        if self._bad_packets > 1:
            self._log.warning("%d more invalid packets ignored", self._bad_packets - 1)
            self._bad_packets = 1


class TrackReceiver:
    """Receives one track of a publisher."""

    __slots__ = (
        "_actual_type",
        "_index",
        "_is_plain",
        "_is_undecided",
        "_media",
        "_own_ssrc",
        "_packets_before",
        "_reception",
        "_repacketizer",
        "_track",
        "has_sender_report",
    )

    def __init__(self, media: MediaReceiver, track: LiveTrack, *, reorders: bool) -> None:
        self._media = media
        self._track = track
        self._index = track.index
        self._reception = RtpReception(track.track.clock_rate) if reorders else None
        self._is_plain = True
        """Whether packets may be published as they are."""
        self._actual_type: int | None = None
        """The payload type that the publisher sends instead of the announced one."""
        self._is_undecided = True
        """Whether no packet of the announced type has been seen; runs that are published as they are do not count."""
        self._packets_before = track.counters.packets
        self._repacketizer: Repacketizer | None = None
        """Created for the first oversized packet."""
        self._own_ssrc = secrets.randbits(32)
        self.has_sender_report = False

    @property
    def lost(self) -> int:
        """Packets that never arrived."""
        return self._track.counters.lost

    @property
    def jitter_seconds(self) -> float:
        """Interarrival jitter in seconds; 0.0 over TCP."""
        return 0.0 if self._reception is None else self._reception.jitter_seconds

    def receive_buffer(self, buffer: PacketBuffer, now: float) -> None:
        """Process the packets of one read over TCP. The hot path of the server."""
        media = self._media
        media.last_activity = now
        run = FramedRun(self._index, buffer)
        if self._is_plain and media.stream.publish(run, now):
            counters = media.counters
            counters.packets_received += run.count
            counters.bytes_received += run.size
            return
        self._receive_each(buffer, now)

    def receive_datagram(self, data: bytes, start: int, end: int, now: float) -> None:
        """Process the packet ``data[start:end]`` of a datagram; one that is too short only opens a NAT."""
        if end - start < HEADER_SIZE:
            return
        self._media.last_activity = now
        try:
            packet = parse_packet(data, start, end)
        except RemoteProtocolError as error:
            self._media.on_bad_packet(error)
            return
        payload_type = data[start + 1] & 0x7F
        if payload_type != self._track.payload_type or self._is_undecided:
            if not self._is_accepted(payload_type):
                return
            packet = self._with_announced_type(packet)
        counters = self._media.counters
        counters.packets_received += 1
        counters.bytes_received += end - start
        self._publish((packet,) if self._reception is None else self._reception.receive(packet, now), now)

    def receive_reports(self, buffer: PacketBuffer, now: float) -> None:
        """Process the RTCP packets of one read over TCP."""
        for start, end in buffer.bounds():
            self.receive_rtcp(buffer.data[start:end], now)

    def receive_rtcp(self, data: bytes, now: float) -> None:
        """Process a compound RTCP packet of the publisher."""
        self._media.counters.reports_received += 1
        self._media.last_activity = now
        try:
            reports = parse_compound(data)
        except RemoteProtocolError as error:
            self._media.on_bad_packet(error)
            return
        for report in reports:
            if isinstance(report, SenderReport):
                self.has_sender_report = True
                self._media.collector.publish()
                if self._reception is not None:
                    self._reception.on_sender_report(report, now)
                self._media.stream.on_sender_report(self._index, report, now)

    def receiver_report(self, now: float) -> bytes:
        """Return a receiver report about the track."""
        block = None if self._reception is None else self._reception.report_block(now)
        return serialize_compound([ReceiverReport(self._own_ssrc, () if block is None else (block,))])

    def give_up_missing(self, now: float) -> None:
        """Give up packets that have been missing for too long."""
        if self._reception is not None:
            self._publish(self._reception.flush(now), now)

    def _is_accepted(self, payload_type: int) -> bool:
        """Whether packets with this payload type belong to the track, whatever was announced or has been used so far.

        Some publishers announce one dynamic type and send another. Theirs is used as long as the announced one does not
        appear; types that the description assigns to other tracks never are.
        """
        track = self._track
        announced = track.payload_type
        if payload_type == announced:
            self._is_undecided = False
            if self._actual_type is not None:  # what came before was foreign; its numbers may be unrelated
                self._actual_type = None
                self._is_plain = self._repacketizer is None
                self._reception = self._reception and RtpReception(track.track.clock_rate)
            return True
        if payload_type == self._actual_type:
            return True
        stream = self._media.stream
        is_first = self._is_undecided and self._actual_type is None and track.counters.packets == self._packets_before
        is_dynamic = min(payload_type, announced) >= FIRST_DYNAMIC_PAYLOAD_TYPE
        if is_first and is_dynamic and all(other.payload_type != payload_type for other in stream.tracks):
            self._actual_type = payload_type
            self._is_plain = False
            stream.on_unannounced_type(self._index, payload_type)
            return True
        stream.on_foreign_packet(self._index, payload_type)
        return False

    def _with_announced_type(self, packet: RtpPacket) -> RtpPacket:
        """Return a packet with the announced payload type, which readers rely on."""
        data, start = packet.data, packet.start
        payload_type = self._track.payload_type
        if data[start + 1] & 0x7F == payload_type:
            return packet
        header = bytes((data[start], data[start + 1] & 0x80 | payload_type))
        return parse_packet(header + data[start + 2 : packet.end], 0, len(packet))

    def _receive_each(self, buffer: PacketBuffer, now: float) -> None:
        """Process the packets of a buffer one by one, if they cannot be processed as a run."""
        media = self._media
        track = self._track
        payload_type = track.payload_type
        maximum_size = track.maximum_packet_size
        data = buffer.data
        packets: list[RtpPacket] = []
        is_unchanged = True
        count = size = 0
        for start, end in buffer.bounds():
            if media.ignores_short and end - start < HEADER_SIZE:
                continue
            try:
                packet = parse_packet(data, start, end)
                if data[start + 1] & 0x7F != payload_type or self._is_undecided:
                    if not self._is_accepted(data[start + 1] & 0x7F):
                        continue
                    packet = self._with_announced_type(packet)
                count += 1
                size += end - start
                if packet.data is not data:  # padding was removed: the header before it no longer matches
                    is_unchanged = False
                if end - start > maximum_size or self._repacketizer is not None:
                    packets += self._fit(packet)
                    is_unchanged = False
                else:
                    packets.append(packet)
            except RemoteProtocolError as error:
                media.on_bad_packet(error)
        media.counters.packets_received += count
        media.counters.bytes_received += size
        if packets:
            media.stream.publish(PacketRun(self._index, packets, buffer.framing if is_unchanged else None), now)

    def _publish(self, packets: Sequence[RtpPacket], now: float) -> None:
        """Publish packets, in order: those that came over UDP together with others of the same read."""
        media = self._media
        maximum_size = self._track.maximum_packet_size
        fitting: list[RtpPacket] = []
        for packet in packets:
            if packet.end - packet.start <= maximum_size and self._repacketizer is None:
                fitting.append(packet)
                continue
            try:
                fitting += self._fit(packet)
            except RemoteProtocolError as error:
                media.on_bad_packet(error)
        if not fitting:
            return
        if self._reception is not None:
            media.collector.add(self._index, fitting, now)
        else:
            media.stream.publish(PacketRun(self._index, fitting), now)

    def _fit(self, packet: RtpPacket) -> Sequence[RtpPacket]:
        """Return a packet, or the packets that replace it because it, or an earlier one, is too large.

        Raises RemoteProtocolError if it cannot be repacketized.
        """
        if self._repacketizer is None:
            if len(packet) <= self._track.maximum_packet_size:
                return (packet,)
            sizes = self._track.packet_sizes
            self._repacketizer = Repacketizer(self._track.track, sizes, refuses=self._reception is None)
            self._is_plain = False
        return self._repacketizer.push(packet)
