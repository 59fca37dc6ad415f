"""Linear PCM in RTP: L16 (RFC 3551 section 4.5.11), L8 and L24 (RFC 3551 section 4.5.10, RFC 3190 section 4)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from polycast.media.codec import LPCM
from polycast.media.packet import RtpPacket
from polycast.media.track import RtpFormat, Track
from polycast.rtp.payload.pcm import SampleDepacketizer, SamplePacketizer
from polycast.rtp.payload.rtp_payload import Numbering, Part, RtpPayload, SdpEncoding, SdpMedia, split_blocks

_STATIC_TYPES = {1: 11, 2: 10}
"""By number of channels, for 16 bits at 44.1 kHz (RFC 3551 table 4)."""


def _block_size(codec: LPCM) -> int:
    return codec.channels * codec.bit_depth // 8


class LPCMPayload(RtpPayload[LPCM]):
    """See `RtpPayload`."""

    codec_type = LPCM
    encodings = ("L16", "L8", "L24")

    def from_sdp(self, media: SdpMedia) -> LPCM:
        return LPCM(bit_depth=int(media.encoding[1:]), sample_rate=media.clock_rate, channels=media.channels or 1)

    def to_sdp(self, codec: LPCM) -> SdpEncoding | None:
        if codec.bit_depth not in (8, 16, 24):
            return None
        has_static_type = codec.bit_depth == 16 and codec.sample_rate == 44_100
        static_type = _STATIC_TYPES.get(codec.channels) if has_static_type else None
        return SdpEncoding(f"L{codec.bit_depth}", codec.channels, static_type)

    def form_key(self, form: RtpFormat) -> Hashable:
        return ()

    def depacketizer(self, codec: LPCM, track: Track) -> SampleDepacketizer:
        return SampleDepacketizer(_block_size(codec))

    def packetizer(self, codec: LPCM, numbering: Numbering) -> SamplePacketizer:
        return SamplePacketizer(*numbering, block_size=_block_size(codec))

    def split(self, codec: LPCM, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        return split_blocks(packet, room, _block_size(codec), ticks=1)


PAYLOAD = LPCMPayload()
