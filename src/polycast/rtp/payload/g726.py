"""G.726 in RTP (RFC 3551 section 4.5.4), in both packing orders."""

from __future__ import annotations

from polycast.media.codec import G726
from polycast.media.track import Track
from polycast.rtp.payload.base import WholeFramePacketizer
from polycast.rtp.payload.pcm import SampleDepacketizer
from polycast.rtp.payload.rtp_payload import RtpPayload, SdpEncoding, SdpMedia

_BIT_RATES = (32, 16, 24, 40)
"""In kbit/s."""


class G726Payload(RtpPayload[G726]):
    """See `RtpPayload`."""

    codec_type = G726
    encodings = tuple(f"{order}G726-{rate}" for order in ("", "AAL2-") for rate in _BIT_RATES)
    packetizer_type = WholeFramePacketizer

    def from_sdp(self, media: SdpMedia) -> G726:
        return G726(bit_rate=int(media.encoding[-2:]), big_endian=media.encoding.upper().startswith("AAL2"))

    def to_sdp(self, codec: G726) -> SdpEncoding:
        return SdpEncoding(f"{'AAL2-' if codec.big_endian else ''}G726-{codec.bit_rate}")

    def depacketizer(self, codec: G726, track: Track) -> SampleDepacketizer:
        return SampleDepacketizer(1, bits=codec.bit_rate // 8)


PAYLOAD = G726Payload()
