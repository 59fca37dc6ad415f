"""G.711 in RTP (RFC 3551 section 4.5.14): PCMU and PCMA."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from polycast.media.codec import G711
from polycast.media.packet import RtpPacket
from polycast.media.track import RtpFormat, Track
from polycast.rtp.payload.pcm import SampleDepacketizer, SamplePacketizer
from polycast.rtp.payload.rtp_payload import Numbering, Part, RtpPayload, SdpEncoding, SdpMedia, split_blocks


class G711Payload(RtpPayload[G711]):
    """See `RtpPayload`."""

    codec_type = G711
    encodings = ("PCMU", "PCMA")

    def from_sdp(self, media: SdpMedia) -> G711:
        mu_law = media.encoding.upper() == "PCMU"
        return G711(mu_law=mu_law, sample_rate=media.clock_rate, channels=media.channels or 1)

    def to_sdp(self, codec: G711) -> SdpEncoding:
        has_static_type = codec.sample_rate == 8_000 and codec.channels == 1
        channels = codec.channels if codec.channels > 1 else None
        if codec.mu_law:
            return SdpEncoding("PCMU", channels, 0 if has_static_type else None)
        return SdpEncoding("PCMA", channels, 8 if has_static_type else None)

    def form_key(self, form: RtpFormat) -> Hashable:
        return ()

    def depacketizer(self, codec: G711, track: Track) -> SampleDepacketizer:
        return SampleDepacketizer(codec.channels)

    def packetizer(self, codec: G711, numbering: Numbering) -> SamplePacketizer:
        return SamplePacketizer(*numbering, block_size=codec.channels)

    def split(self, codec: G711, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        return split_blocks(packet, room, codec.channels, ticks=1)


PAYLOAD = G711Payload()
