"""Opus in RTP (RFC 7587): one Opus packet per RTP packet, no payload header."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from polycast.codecs import opus
from polycast.media.codec import Opus
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import RtpFormat
from polycast.rtp.payload.base import NO_FRAMES, BaseDepacketizer, WholeFramePacketizer
from polycast.rtp.payload.rtp_payload import RtpPayload, SdpEncoding, SdpMedia


class OpusDepacketizer(BaseDepacketizer):
    """See `Depacketizer`. Also for multiopus, whose packets start like those of Opus."""

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        if packet.payload == packet.end:
            return NO_FRAMES
        unit = packet.payload_bytes()
        return (Frame((unit,), pts, pts, key=True, duration=opus.packet_duration(unit)),)


class OpusPayload(RtpPayload[Opus]):
    """See `RtpPayload`."""

    codec_type = Opus
    encodings = ("opus", "multiopus")
    depacketizer_type = OpusDepacketizer
    packetizer_type = WholeFramePacketizer

    def from_sdp(self, media: SdpMedia) -> Opus:
        return Opus(channels=media.channels or 2)

    def to_sdp(self, codec: Opus) -> SdpEncoding:
        # RFC 7587 section 7: the rtpmap of Opus always says two channels.
        return SdpEncoding("opus", 2) if codec.channels <= 2 else SdpEncoding("multiopus", codec.channels)

    def parameters(self, codec: Opus) -> dict[str, str]:
        if codec.channels in opus.SURROUND_LAYOUTS:
            return opus.multichannel_parameters(codec.channels)
        return {"sprop-stereo": "1"} if codec.channels == 2 else {}

    def is_compatible(self, old: Opus, new: Opus) -> bool:
        # Each packet says whether it is mono or stereo, and decoders follow (RFC 6716 section 3.1).
        return old == new or (old.channels <= 2 and new.channels <= 2)

    def form_key(self, form: RtpFormat) -> Hashable:
        # The parameters of Opus are wishes of receivers and hints (RFC 7587 section 6.1); those of multiopus are not.
        return () if form.encoding.upper() == "OPUS" else super().form_key(form)


PAYLOAD = OpusPayload()
