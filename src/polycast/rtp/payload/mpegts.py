"""An MPEG transport stream in RTP (RFC 2250 section 2): passed through."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.media.codec import MPEGTS
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.payload.rtp_payload import Part, RtpPayload, split_blocks

_TRANSPORT_PACKET_SIZE = 188


class MPEGTSPayload(RtpPayload[MPEGTS]):
    """See `RtpPayload`."""

    codec_type = MPEGTS
    encodings = ("MP2T",)
    static_type = 33

    def split(self, codec: MPEGTS, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        return split_blocks(packet, room, _TRANSPORT_PACKET_SIZE, ticks=0)


PAYLOAD = MPEGTSPayload()
