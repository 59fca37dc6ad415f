"""Vorbis in RTP (RFC 5215): passed through."""

from __future__ import annotations

import base64

from polycast.media.codec import Vorbis
from polycast.rtp.payload.format_parameters import decode_base64
from polycast.rtp.payload.rtp_payload import RtpPayload, SdpEncoding, SdpMedia


class VorbisPayload(RtpPayload[Vorbis]):
    """See `RtpPayload`. Only packets from RTP can be sent as RTP, since they are not parsed."""

    codec_type = Vorbis
    encodings = ("vorbis",)

    def from_sdp(self, media: SdpMedia) -> Vorbis:
        configuration = decode_base64(media.parameters.get("configuration", ""))
        return Vorbis(sample_rate=media.clock_rate, channels=media.channels or 1, configuration=configuration)

    def to_sdp(self, codec: Vorbis) -> SdpEncoding | None:
        return None

    def live_parameters(self, codec: Vorbis) -> dict[str, str]:
        if not codec.configuration:
            return {}
        return {"configuration": base64.b64encode(codec.configuration).decode()}


PAYLOAD = VorbisPayload()
