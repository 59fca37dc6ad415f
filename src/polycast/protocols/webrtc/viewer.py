"""A viewer: receives a stream's packets encrypted with its own key, and lost ones again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.hub.batch import FrameBatch
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import FrameReader
from polycast.media.timebase import WallTime, wall_time_to_ntp
from polycast.net.outbox import Outbox
from polycast.protocols.webrtc.media_socket import MediaSocket
from polycast.protocols.webrtc.outgoing import CipherPlan, OutgoingPackets, OutgoingTrack, PacketForm
from polycast.protocols.webrtc.peer import Peer
from polycast.rtp.header import build_header
from polycast.rtp.reports import round_trip
from polycast.rtp.retransmission import ResendBudget, retransmission_payload
from polycast.rtp.rtcp import (
    FullIntraRequest,
    GenericNack,
    PictureLossIndication,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    SourceDescription,
    parse_compound,
    serialize_compound,
)
from polycast.wire.webrtc.description import Format

REPORT_INTERVAL: Final = 2.0
"""Seconds between two sender reports, which keep audio and video in sync."""
MAXIMUM_GAP: Final = 1 << 14
"""Packets that may be dropped in a row: half of the jump in sequence numbers that SRTP follows (RFC 3711 section
3.3.1)."""
MAXIMUM_NACKS: Final = 512
"""Sequence numbers of one RTCP packet that are processed."""


class ViewerTrack:
    """One track of a viewer."""

    __slots__ = ("dropped_from", "format", "index_offset", "octets", "outgoing", "packets", "retransmission_index")

    def __init__(self, outgoing: OutgoingTrack, chosen: Format) -> None:
        self.outgoing = outgoing
        self.format = chosen
        self.index_offset = 0
        """Offset of the packet indexes: a viewer starts counting at the first packet that it receives."""
        self.retransmission_index = 0
        self.packets = 0
        self.octets = 0
        """Payload bytes sent (RFC 3550 section 6.4.1)."""
        self.dropped_from: int | None = None
        """Index of the first dropped packet; None if the last packet was sent."""


class Viewer(FrameReader):
    """Sends the tracks of a stream to one peer, from a key frame on."""

    def __init__(
        self,
        peer: Peer,
        tracks: Sequence[ViewerTrack],
        counters: Counters,
        *,
        close: Callable[[str], None],
        reference: Callable[[], Reference],
        request_key_frame: Callable[[], None],
        cname: str,
        now: float,
    ) -> None:
        self._peer = peer
        self._tracks = tuple(tracks)
        self._by_ssrc = {track.outgoing.ssrc: track for track in tracks}
        self.counters: Counters = counters
        self._close = close
        self._reference = reference
        self._request_key_frame = request_key_frame
        self._cname = cname
        self._budget = ResendBudget(now)
        self._key_track = next((track for track in tracks if track.outgoing.track.kind == "video"), None)
        self._next_report = now
        self._waits_for_key = True
        """Whether it starts, or continues after a drop, with the next key frame."""

    @property
    def is_flowing(self) -> bool:
        """Whether it has started, which it does at the first key frame."""
        return any(track.packets for track in self._tracks)

    # FrameReader

    def close_reader(self, reason: str) -> None:
        self._close(reason)

    def reference(self) -> Reference:
        return self._reference()

    def deliver_frames(self, batch: FrameBatch) -> None:
        sender, socket = self._peer.sender, self._peer.socket
        if sender is None:
            return
        outbox = socket.outbox if socket is not None else None
        starts = self._waits_for_key or socket is None or (outbox is not None and not outbox.ready)
        if starts and not self._can_start(batch, socket):
            return
        tag_size, is_framed = sender.profile.tag_size, outbox is not None
        for track in self._tracks:
            outgoing = track.outgoing.packets_of(batch)
            if outgoing is None:
                continue
            form = PacketForm(track.format.payload_type, tag_size, is_framed)
            if starts or not track.packets or track.dropped_from is not None:
                self._start(track, outgoing, form)
                continue
            plan = track.outgoing.plan(batch, form, track.index_offset)
            if plan is not None:
                self._send(track, plan, outgoing.payload_size)

    def _can_start(self, batch: FrameBatch, socket: MediaSocket | None) -> bool:
        """Whether to send from the key frame in this batch on; otherwise it is dropped."""
        self._waits_for_key = True
        outbox = socket.outbox if socket is not None else None
        if socket is None or (outbox is not None and not (outbox.ready or outbox.has_drained())):
            self._drop(batch, outbox)
            return False
        key_track = self._key_track
        if key_track is not None:
            outgoing = key_track.outgoing.packets_of(batch)
            if outgoing is None or outgoing.key < 0:
                if self.is_flowing:
                    self._drop(batch, outbox)
                    self._request_key_frame()
                return False
        if outbox is not None:
            outbox.ready = True
        self._waits_for_key = False
        return True

    def _drop(self, batch: FrameBatch, outbox: Outbox | None) -> None:
        """Drop a batch: the connection is too slow for it, or lost."""
        for track in self._tracks:
            outgoing = track.outgoing.packets_of(batch)
            if outgoing is None or not track.packets:
                continue
            if track.dropped_from is None:
                track.dropped_from = outgoing.first_index
            count = len(outgoing.packets)
            self.counters.packets_dropped += count
            if outbox is not None:
                outbox.dropped += count

    def _start(self, track: ViewerTrack, outgoing: OutgoingPackets, form: PacketForm) -> None:
        """Send the first packets of a track, those from the key frame on, at the beginning or after a drop."""
        skipped = max(0, outgoing.key) if track is self._key_track else 0
        index = outgoing.first_index + skipped
        if not track.packets:
            track.index_offset = index & ~0xFFFF
        dropped_from, track.dropped_from = track.dropped_from, None
        if dropped_from is not None and index - dropped_from > MAXIMUM_GAP:
            self._close("the viewer was too slow for too long")
            return
        packets = outgoing.packets[skipped:]
        plan = CipherPlan(packets, form, track.outgoing.ssrc, index - track.index_offset)
        self._send_report()
        self._send(track, plan, sum(packet.end - packet.payload for packet in packets))

    def _send(self, track: ViewerTrack, plan: CipherPlan, payload_size: int) -> None:
        peer = self._peer
        sender, socket = peer.sender, peer.socket
        if sender is None or socket is None:
            return
        began = time.perf_counter()
        sender.protect_all(plan.sealings)
        peer.cipher_meter.add(len(plan.sealings), time.perf_counter() - began)
        size = 0
        for data, segment_size in plan.calls:
            socket.send_segments(data, segment_size, peer.address)
            size += len(data)
        count = len(plan.sealings)
        track.packets += count
        track.octets += payload_size
        counters = self.counters
        counters.packets_sent += count
        counters.bytes_sent += size

    # RTCP

    def tick(self, now: float) -> None:
        """Called about once a second: sender reports."""
        if now >= self._next_report and self.is_flowing:
            self._next_report = now + REPORT_INTERVAL
            self._send_report()

    def _send_report(self) -> None:
        wall_time = WallTime(time.time_ns())
        packets: list[SenderReport | SourceDescription] = [
            SenderReport(
                track.outgoing.ssrc,
                wall_time_to_ntp(wall_time),
                track.outgoing.timestamp_at(wall_time),
                track.packets & 0xFFFFFFFF,
                track.octets & 0xFFFFFFFF,
            )
            for track in self._tracks
            if track.outgoing.has_started
        ]
        if packets:
            packets.append(SourceDescription(tuple((track.outgoing.ssrc, self._cname) for track in self._tracks)))
            self._peer.send_control(serialize_compound(packets))
            self.counters.reports_sent += 1

    def receive_rtcp(self, data: bytes, now: float) -> None:
        """Take a compound RTCP packet of the viewer."""
        if not self._budget.allows_report(now):
            return
        try:
            packets = parse_compound(data)
        except RemoteProtocolError:
            return
        wants_key_frame = False
        for packet in packets:
            match packet:
                case ReceiverReport() | SenderReport():
                    for block in packet.blocks:
                        self._take_block(block)
                case GenericNack():
                    self._resend(packet, now)
                case PictureLossIndication() | FullIntraRequest():
                    wants_key_frame = True
                case _:
                    pass
        if wants_key_frame:
            self._request_key_frame()

    def _take_block(self, block: ReportBlock) -> None:
        track = self._by_ssrc.get(block.ssrc)
        if track is None:
            return
        counters = self.counters
        if track is self._key_track or self._key_track is None:
            counters.packets_lost = max(0, block.cumulative_lost)
            counters.jitter = block.jitter / track.outgoing.track.clock_rate
        if block.last_sender_report:
            ntp = wall_time_to_ntp(WallTime(time.time_ns()))
            counters.round_trip = round_trip(block.last_sender_report, block.delay_since_last_sender_report, ntp)

    def _resend(self, nack: GenericNack, now: float) -> None:
        socket = self._peer.socket
        if socket is None or socket.outbox is not None:
            return  # over TCP, only packets that were dropped are missing
        track = self._by_ssrc.get(nack.media_ssrc)
        if track is None or not track.packets:
            return
        for sequence in nack.lost[:MAXIMUM_NACKS]:
            packet = track.outgoing.history.find(sequence)
            if packet is None:
                continue
            if not self._budget.allows(sequence, now):
                if self._budget.is_used_up:
                    break
                continue
            retransmission = track.format.retransmission
            outgoing = track.outgoing
            if retransmission is not None:
                index = track.retransmission_index
                track.retransmission_index += 1
                header = build_header(
                    retransmission, index, packet.timestamp, outgoing.retransmission_ssrc, marker=packet.marker
                )
                self._peer.send_packet(header, retransmission_payload(packet), outgoing.retransmission_ssrc, index)
            else:
                number = track.format.payload_type
                header = build_header(number, sequence, packet.timestamp, outgoing.ssrc, marker=packet.marker)
                payload = packet.data[packet.payload : packet.end]
                index = outgoing.index_of(sequence) - track.index_offset
                self._peer.send_packet(header, payload, outgoing.ssrc, index)
