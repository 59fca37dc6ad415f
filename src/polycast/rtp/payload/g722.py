"""G.722 in RTP (RFC 3551 section 4.5.2)."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.media.codec import G722
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.payload.base import WholeFramePacketizer
from polycast.rtp.payload.pcm import SampleDepacketizer
from polycast.rtp.payload.rtp_payload import Part, RtpPayload, SdpMedia, split_blocks


class G722Payload(RtpPayload[G722]):
    """See `RtpPayload`. One byte is two samples at 16 kHz, and one tick of the clock."""

    codec_type = G722
    encodings = ("G722",)
    static_type = 9
    packetizer_type = WholeFramePacketizer

    def from_sdp(self, media: SdpMedia) -> G722:
        return G722(channels=media.channels or 1)

    def depacketizer(self, codec: G722, track: Track) -> SampleDepacketizer:
        return SampleDepacketizer(codec.channels)

    def split(self, codec: G722, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        return split_blocks(packet, room, codec.channels, ticks=1)


PAYLOAD = G722Payload()
