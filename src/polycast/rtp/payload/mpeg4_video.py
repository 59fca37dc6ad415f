"""MPEG-4 Part 2 video in RTP (RFC 6416 section 5): the elementary stream, split into packets."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.codecs import mpeg4_video
from polycast.media.codec import MPEG4Video
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.payload.base import KEY, PARAMETERS, BasePacketizer, MarkedPictureDepacketizer, Peek, split_evenly
from polycast.rtp.payload.format_parameters import decode_hexadecimal, decode_integer
from polycast.rtp.payload.rtp_payload import Part, RtpPayload, SdpMedia

_START_CODE = b"\x00\x00\x01"
_VISUAL_OBJECT_SEQUENCE = 0xB0
_USER_DATA = 0xB2
_GROUP_OF_VOP = 0xB3
_VISUAL_OBJECT = 0xB5
_VOP = 0xB6


def _is_configuration(code: int) -> bool:
    # video_object_start_code and video_object_layer_start_code are 0x00 to 0x2F (ISO/IEC 14496-2 table 6-3).
    return code < 0x30 or code in (_VISUAL_OBJECT_SEQUENCE, _VISUAL_OBJECT, _USER_DATA)


def peek(data: bytes, payload: int, end: int) -> int:
    """Return KEY at the start of a key frame or of the configuration before it, with PARAMETERS for the latter."""
    if end - payload < 5 or data[payload] or data[payload + 1] or data[payload + 2] != 1:
        return 0
    code = data[payload + 3]
    if code == _VOP:
        return 0 if data[payload + 4] & 0xC0 else KEY  # vop_coding_type 0 is intra
    if code == _GROUP_OF_VOP:
        return KEY
    return KEY | PARAMETERS if _is_configuration(code) else 0


class MPEG4VideoDepacketizer(MarkedPictureDepacketizer):
    """See `Depacketizer`. Streams with B pictures get decoding times as if they had none."""

    def fragment(self, packet: RtpPacket, first: bool) -> tuple[bytes, bool]:
        part = packet.payload_bytes()
        return part, part.startswith(_START_CODE)

    def is_key(self, data: bytes) -> bool:
        return mpeg4_video.is_key(data)


class MPEG4VideoPacketizer(BasePacketizer):
    """Splits frames at the packet size."""

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        return list(split_evenly(frame.units[0], self._maximum_payload))


class MPEG4VideoPayload(RtpPayload[MPEG4Video]):
    """See `RtpPayload`."""

    codec_type = MPEG4Video
    encodings = ("MP4V-ES",)
    requires_parameters = True
    marker_ends_frame = True
    depacketizer_type = MPEG4VideoDepacketizer
    packetizer_type = MPEG4VideoPacketizer

    def from_sdp(self, media: SdpMedia) -> MPEG4Video:
        return MPEG4Video(
            configuration=decode_hexadecimal(media.parameters.get("config", "")),
            profile_level=decode_integer(media.parameters.get("profile-level-id"), 1),
        )

    def live_parameters(self, codec: MPEG4Video) -> dict[str, str]:
        values = {"profile-level-id": str(codec.profile_level)}
        return values | {"config": codec.configuration.hex().upper()} if codec.configuration else values

    def peek_for(self, codec: MPEG4Video) -> Peek:
        return peek

    def parameters_from_packet(self, codec: MPEG4Video, data: bytes, payload: int, end: int) -> MPEG4Video:
        return mpeg4_video.updated(codec, data[payload:end])

    def split(self, codec: MPEG4Video, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        return [(part, 0) for part in split_evenly(packet.payload_bytes(), room)]


PAYLOAD = MPEG4VideoPayload()
