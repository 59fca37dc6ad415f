"""SMPTE 336M metadata in RTP (RFC 6597): KLV units, split into packets; the marker ends a unit."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.media.codec import KLV
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.payload.base import BasePacketizer, MarkedFrameDepacketizer, split_evenly
from polycast.rtp.payload.rtp_payload import Part, RtpPayload


class KLVDepacketizer(MarkedFrameDepacketizer):
    """See `Depacketizer`."""

    def fragment(self, packet: RtpPacket, first: bool) -> tuple[bytes, bool]:
        # There is no payload header: after a loss, only a universal label (SMPTE 298M) identifies the start of a unit.
        part = packet.payload_bytes()
        return part, part.startswith(b"\x06\x0e\x2b\x34")

    def finish(self, data: bytes, pts: int) -> Frame | None:
        return Frame((data,), pts, pts, key=True)


class KLVPacketizer(BasePacketizer):
    """Splits units at the packet size."""

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        return list(split_evenly(frame.units[0], self._maximum_payload))


class KLVPayload(RtpPayload[KLV]):
    """See `RtpPayload`."""

    codec_type = KLV
    encodings = ("SMPTE336M",)
    depacketizer_type = KLVDepacketizer
    packetizer_type = KLVPacketizer

    def split(self, codec: KLV, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        return [(part, 0) for part in split_evenly(packet.payload_bytes(), room)]


PAYLOAD = KLVPayload()
