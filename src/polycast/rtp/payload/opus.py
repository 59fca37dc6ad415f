"""Opus in RTP (RFC 7587): one Opus packet per RTP packet, no payload header."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.codecs import opus
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.rtp.payload.base import NO_FRAMES, BaseDepacketizer, BasePacketizer


class OpusDepacketizer(BaseDepacketizer):
    """See `Depacketizer`. Also for multiopus, whose packets begin like those of Opus."""

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        if packet.payload == packet.end:
            return NO_FRAMES
        unit = packet.payload_bytes()
        return (Frame((unit,), pts, pts, key=True, duration=opus.packet_duration(unit)),)


class WholeFramePacketizer(BasePacketizer):
    """One RTP packet per frame, as it is; for Opus, G.722, G.726 and Speex."""

    # RFC 3551 section 4.1: in audio, the marker is for the first packet after silence.
    marks_last = False

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        return frame.units
