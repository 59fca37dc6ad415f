"""Receives from a WebRTC publisher: RTP packets in order, with loss recovery, and the RTCP to send back."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.media.packet import RtpPacket
from polycast.rtp.header import HEADER_SIZE, build_header, parse_packet
from polycast.rtp.header_extensions import find_extension
from polycast.rtp.loss_recovery import LossRecovery
from polycast.rtp.reception import RtpReception
from polycast.rtp.reorder import Reorderer
from polycast.rtp.retransmission import original_of
from polycast.rtp.rtcp import (
    GenericNack,
    PictureLossIndication,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    parse_compound,
    serialize_compound,
)
from polycast.rtp.transport_feedback import FEEDBACK_INTERVAL, ArrivalRecorder
from polycast.wire.webrtc.description import Format

REPORT_INTERVAL: Final = 1.0
"""Seconds between two receiver reports."""
KEY_FRAME_INTERVAL: Final = 0.5
"""Minimum seconds between two key frame requests: each costs the publisher a large picture."""
REORDER_SIZE: Final = 512
"""Packets that are held while one is missing: those of a large key frame."""
REORDER_SECONDS: Final = 0.3
"""Seconds to wait for a missing packet: time for a few requests over a long distance."""


@dataclass(slots=True)
class InboundTrack:
    """One medium that the publisher sends."""

    index: int
    """Index of the track in the stream."""
    kind: str
    mid: str
    format: Format
    ssrcs: Sequence[int]
    """SSRCs announced by the publisher; empty if there are none."""


class _Receiver(RtpReception):
    """Reception of one track."""

    def __init__(self, track: InboundTrack) -> None:
        super().__init__(track.format.clock_rate, Reorderer(REORDER_SIZE, REORDER_SECONDS))
        self.track = track
        self.recovery = LossRecovery() if track.kind == "video" and "nack" in track.format.feedback else None
        self._left_out = 0
        """Number of empty packets so far: browsers send them as padding, and later packets are renumbered."""

    def receive(self, packet: RtpPacket, now: float, *, is_resent: bool = False) -> list[RtpPacket]:
        if self.recovery is not None:
            self.recovery.receive(packet.sequence, now)
        return self._clean(super().receive(packet, now, is_resent=is_resent))

    def flush(self, now: float) -> list[RtpPacket]:
        return self._clean(super().flush(now))

    def _clean(self, ordered: Sequence[RtpPacket]) -> list[RtpPacket]:
        """Remove header extensions and CSRCs, and omit empty packets."""
        cleaned: list[RtpPacket] = []
        for packet in ordered:
            if packet.end == packet.payload:
                self._left_out += 1
                continue
            sequence = packet.sequence - self._left_out & 0xFFFF
            payload_type = packet.data[packet.start + 1] & 0x7F
            header = build_header(payload_type, sequence, packet.timestamp, self.ssrc or 0, marker=packet.marker)
            data = header + packet.data[packet.payload : packet.end]
            cleaned.append(
                RtpPacket(data, 0, HEADER_SIZE, len(data), sequence, packet.timestamp, packet.marker, packet.key)
            )
        return cleaned


class InboundMedia:
    """All media of one publisher.

    Pass received packets to `receive_rtp` and `receive_rtcp`; call `handle_timeout` when `next_timeout` is due, send
    the RTCP packets that it returns, and process the packets in `released`, which no longer wait for missing ones.
    """

    def __init__(
        self,
        tracks: Sequence[InboundTrack],
        now: float,
        *,
        mid_extension: int | None = None,
        transport_sequence_extension: int | None = None,
    ) -> None:
        """The extensions are the negotiated identifiers; None if they were not negotiated."""
        self._receivers = [_Receiver(track) for track in tracks]
        self._by_ssrc: dict[int, _Receiver] = {}
        self._by_mid = {receiver.track.mid.encode(): receiver for receiver in self._receivers}
        self._by_payload_type: dict[int, _Receiver] = {}
        self._resent_payload_types: dict[int, _Receiver] = {}
        for receiver in self._receivers:
            form = receiver.track.format
            self._by_payload_type[form.payload_type] = receiver
            if form.retransmission is not None:
                self._resent_payload_types[form.retransmission] = receiver
            for ssrc in receiver.track.ssrcs[:1]:
                receiver.ssrc = ssrc
                self._by_ssrc[ssrc] = receiver
        self._mid_extension = mid_extension
        self._transport_sequence_extension = transport_sequence_extension
        self._arrivals = ArrivalRecorder()
        self._ssrc = secrets.randbits(32)
        self._next_feedback = now + FEEDBACK_INTERVAL
        self._next_report = now + REPORT_INTERVAL
        self.last_key_request = now - KEY_FRAME_INTERVAL
        """When a key frame was requested last; before that, long enough ago for the next one."""
        self._wants_key_frame = True
        self.released: list[tuple[int, RtpPacket]] = []
        """Packets that have waited for missing ones, by track index; cleared by the caller."""

    @property
    def started(self) -> set[int]:
        """Indexes of the tracks whose packets were received."""
        return {receiver.track.index for receiver in self._receivers if receiver.has_started}

    @property
    def packets_lost(self) -> int:
        """Number of packets that never arrived, of all tracks."""
        return sum(receiver.lost for receiver in self._receivers)

    @property
    def jitter(self) -> float:
        """Interarrival jitter of the worst track, in seconds."""
        return max((receiver.jitter_seconds for receiver in self._receivers), default=0.0)

    def receive_rtp(self, data: bytes, now: float) -> tuple[int, list[RtpPacket]]:
        """Process an RTP packet; return the index of its track, and the packets of it that are in order now.

        (-1, []) for a packet without a track.
        """
        try:
            packet = parse_packet(data, 0, len(data))
        except RemoteProtocolError:
            return -1, []
        if self._transport_sequence_extension is not None:
            sequence = find_extension(data, self._transport_sequence_extension)
            if sequence is not None and len(sequence) >= 2:
                self._arrivals.receive(int.from_bytes(sequence[:2], "big"), now)
        payload_type = data[1] & 0x7F
        receiver = self._resent_payload_types.get(payload_type)
        if receiver is not None:
            return self._receive_resent(receiver, packet, now)
        receiver = self._find(data, payload_type)
        if receiver is None or payload_type != receiver.track.format.payload_type:
            return -1, []
        return receiver.track.index, receiver.receive(packet, now)

    def receive_rtcp(self, data: bytes, now: float) -> list[tuple[int, SenderReport]]:
        """Process a compound RTCP packet; return the sender reports in it, with the indexes of their tracks."""
        reports: list[tuple[int, SenderReport]] = []
        try:
            packets = parse_compound(data)
        except RemoteProtocolError:
            return reports
        for packet in packets:
            receiver = self._by_ssrc.get(packet.ssrc) if isinstance(packet, SenderReport) else None
            if receiver is not None and isinstance(packet, SenderReport):
                receiver.on_sender_report(packet, now)
                reports.append((receiver.track.index, packet))
        return reports

    def request_key_frame(self) -> None:
        """Request a key frame as soon as that may be: `next_timeout` may be earlier now."""
        self._wants_key_frame = True

    def next_timeout(self) -> float:
        """Return when to call `handle_timeout`."""
        times = [self._next_feedback, self._next_report]
        for receiver in self._receivers:
            waiting = receiver.next_timeout()
            missing = receiver.recovery.next_timeout() if receiver.recovery is not None else None
            times += [time for time in (waiting, missing) if time is not None]
        if self._wants_key_frame and self._videos():
            times.append(self.last_key_request + KEY_FRAME_INTERVAL)
        return min(times)

    def handle_timeout(self, now: float) -> list[bytes]:
        """Return the RTCP packets to send now; packets that have waited too long are in `released`."""
        outgoing: list[RtcpPacket] = []
        for receiver in self._receivers:
            self.released += [(receiver.track.index, packet) for packet in receiver.flush(now)]
            recovery = receiver.recovery
            if recovery is not None and receiver.ssrc is not None:
                missing = recovery.requests(now)
                if missing:
                    outgoing.append(GenericNack(self._ssrc, receiver.ssrc, tuple(missing)))
                self._wants_key_frame |= recovery.needs_key_frame
                recovery.needs_key_frame = False
        outgoing += self._key_frame_request(now)
        if now >= self._next_feedback:
            self._next_feedback = now + FEEDBACK_INTERVAL
            media = next((receiver.ssrc for receiver in self._receivers if receiver.ssrc is not None), 0)
            feedback = self._arrivals.feedback(self._ssrc, media)
            if feedback is not None:
                outgoing.append(feedback)
        blocks: tuple[ReportBlock, ...] = ()
        if now >= self._next_report:
            self._next_report = now + REPORT_INTERVAL
            found = [receiver.report_block(now) for receiver in self._receivers]
            blocks = tuple(block for block in found if block is not None)
        if not outgoing and not blocks:
            return []
        return [serialize_compound([ReceiverReport(self._ssrc, blocks), *outgoing])]

    def _key_frame_request(self, now: float) -> list[RtcpPacket]:
        if not self._wants_key_frame or now < self.last_key_request + KEY_FRAME_INTERVAL:
            return []
        requests: list[RtcpPacket] = [PictureLossIndication(self._ssrc, ssrc) for ssrc in self._videos()]
        if requests:
            self._wants_key_frame = False
            self.last_key_request = now
        return requests

    def _videos(self) -> list[int]:
        """Return the SSRCs of the video tracks, as far as they are known."""
        receivers = self._receivers
        return [each.ssrc for each in receivers if each.track.kind == "video" and each.ssrc is not None]

    def _find(self, data: bytes, payload_type: int) -> _Receiver | None:
        """Return the track of a packet (RFC 8843 section 9.2): by SSRC, MID or payload type, in this order."""
        ssrc = int.from_bytes(data[8:12], "big")
        receiver = self._by_ssrc.get(ssrc)
        if receiver is not None:
            return receiver
        mid = find_extension(data, self._mid_extension) if self._mid_extension is not None else None
        receiver = self._by_mid.get(mid) if mid is not None else self._by_payload_type.get(payload_type)
        if receiver is None or receiver.ssrc is not None:
            return None
        receiver.ssrc = ssrc
        self._by_ssrc[ssrc] = receiver
        return receiver

    def _receive_resent(self, receiver: _Receiver, packet: RtpPacket, now: float) -> tuple[int, list[RtpPacket]]:
        index = receiver.track.index
        if receiver.ssrc is None:
            return index, []
        size = packet.payload - packet.start
        data = packet.data[packet.start : packet.end]
        original = original_of(data, size, receiver.ssrc, receiver.track.format.payload_type)
        if original is None:
            return index, []
        return index, receiver.receive(parse_packet(original, 0, len(original)), now, is_resent=True)
