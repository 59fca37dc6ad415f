"""Any other payload format: passed through."""

from __future__ import annotations

from polycast.media.codec import Generic
from polycast.rtp.payload.rtp_payload import RtpPayload, SdpEncoding


class GenericPayload(RtpPayload[Generic]):
    """See `RtpPayload`. Announced as its publisher did; nothing else can produce it."""

    codec_type = Generic
    encodings = ()

    def to_sdp(self, codec: Generic) -> SdpEncoding | None:
        return None


PAYLOAD = GenericPayload()
