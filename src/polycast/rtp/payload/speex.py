"""Speex in RTP (RFC 5574)."""

from __future__ import annotations

from polycast.media.codec import Speex
from polycast.rtp.payload.base import WholeFramePacketizer
from polycast.rtp.payload.pcm import WholePacketDepacketizer
from polycast.rtp.payload.rtp_payload import RtpPayload, SdpMedia


class SpeexPayload(RtpPayload[Speex]):
    """See `RtpPayload`."""

    codec_type = Speex
    encodings = ("speex",)
    depacketizer_type = WholePacketDepacketizer
    packetizer_type = WholeFramePacketizer

    def from_sdp(self, media: SdpMedia) -> Speex:
        return Speex(sample_rate=media.clock_rate)


PAYLOAD = SpeexPayload()
