"""VP9 in RTP (RFC 9628)."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.codecs import vp9
from polycast.errors import RemoteProtocolError
from polycast.media.codec import VP9
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.payload.base import (
    KEY,
    PARAMETERS,
    BasePacketizer,
    MarkedPictureDepacketizer,
    PayloadPattern,
    Peek,
    split_evenly,
)
from polycast.rtp.payload.format_parameters import decode_integer
from polycast.rtp.payload.rtp_payload import Part, RtpPayload, SdpMedia

_PICTURE_ID = 0x80
_INTER_PREDICTED = 0x40
_LAYERS = 0x20
_FLEXIBLE = 0x10
_BEGIN = 0x08
_END = 0x04
_SCALABILITY = 0x02

CONTINUATION = PayloadPattern(_BEGIN << 24, 0)

MAXIMUM_REFERENCES = 3
"""Reference indices in one descriptor (RFC 9628 section 4.2)."""


def descriptor_size(data: bytes, payload: int, end: int) -> int:
    """Return the size of the payload descriptor (RFC 9628 section 4.2) in bytes. Raises `RemoteProtocolError`."""
    if payload >= end:
        raise RemoteProtocolError("VP9 packet is too short")
    try:
        size = _descriptor_end(data, payload) - payload
    except IndexError:
        size = end - payload
    if payload + size >= end:
        raise RemoteProtocolError("VP9 packet is too short")
    return size


def _descriptor_end(data: bytes, payload: int) -> int:
    first = data[payload]
    position = payload + 1
    if first & _PICTURE_ID:
        position += 2 if data[position] & 0x80 else 1
    if first & _LAYERS:
        position += 1 if first & _FLEXIBLE else 2  # TL0PICIDX follows in non-flexible mode only
    if first & _FLEXIBLE and first & _INTER_PREDICTED:
        for _ in range(MAXIMUM_REFERENCES):
            position += 1
            if not data[position - 1] & 1:
                break
    if first & _SCALABILITY:
        position = _scalability_end(data, position)
    return position


def _scalability_end(data: bytes, position: int) -> int:
    header = data[position]
    position += 1
    if header & 0x10:  # Y: resolutions
        position += 4 * ((header >> 5) + 1)
    if header & 0x08:  # G: description of the group of pictures
        count = data[position]
        position += 1
        for _ in range(count):
            position += 1 + (data[position] >> 2 & 3)
    return position


def peek(data: bytes, payload: int, end: int) -> int:
    """Return KEY and PARAMETERS at the first packet of a key frame."""
    # No inter-picture prediction, and the packet starts a frame.
    if payload >= end or data[payload] & (_INTER_PREDICTED | _BEGIN) != _BEGIN:
        return 0
    first = data[payload]
    try:
        header = data[payload + descriptor_size(data, payload, end)]
    except RemoteProtocolError:
        return 0
    if first & _LAYERS:
        layers = payload + 1
        if first & _PICTURE_ID:
            layers += 2 if data[layers] & 0x80 else 1
        if data[layers] & 0x0E:
            return 0  # A higher spatial layer of the same picture.
    # FFmpeg marks no frame as predicted, so the frame header decides: neither show_existing_frame
    # nor frame_type is set (VP9 specification section 6.2). Profile 3 has one more bit in front of them.
    flags = 0x06 if header & 0x30 == 0x30 else 0x0C
    return 0 if header & flags else KEY | PARAMETERS


class VP9Depacketizer(MarkedPictureDepacketizer):
    """See `Depacketizer`. One frame is all layer frames of one picture."""

    def fragment(self, packet: RtpPacket, first: bool) -> tuple[bytes, bool]:
        data, payload = packet.data, packet.payload
        size = descriptor_size(data, payload, packet.end)
        return data[payload + size : packet.end], data[payload] & _BEGIN != 0

    def is_key(self, data: bytes) -> bool:
        return vp9.is_key(data)


class VP9Packetizer(BasePacketizer):
    """Without layers, in non-flexible mode, with a 15-bit picture identifier."""

    _picture_id = 0

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        picture = (0x8000 | self._picture_id).to_bytes(2, "big")
        self._picture_id = (self._picture_id + 1) & 0x7FFF
        flags = _PICTURE_ID | (0 if frame.key else _INTER_PREDICTED)
        parts = list(split_evenly(frame.units[0], self._maximum_payload - 3))
        payloads: list[bytes] = []
        for index, part in enumerate(parts):
            first = flags | (_BEGIN if index == 0 else 0) | (_END if index == len(parts) - 1 else 0)
            payloads.append(bytes((first,)) + picture + part)
        return payloads


class VP9Payload(RtpPayload[VP9]):
    """See `RtpPayload`."""

    codec_type = VP9
    encodings = ("VP9",)
    continuation = CONTINUATION
    marker_ends_frame = True
    is_self_describing = True
    depacketizer_type = VP9Depacketizer
    packetizer_type = VP9Packetizer

    def from_sdp(self, media: SdpMedia) -> VP9:
        profile = decode_integer(media.parameters.get("profile-id"), 0)
        return VP9(profile=profile if profile <= 3 else 0)

    def live_parameters(self, codec: VP9) -> dict[str, str]:
        return {"profile-id": str(codec.profile)}

    def peek_for(self, codec: VP9) -> Peek:
        return peek

    def parameters_from_packet(self, codec: VP9, data: bytes, payload: int, end: int) -> VP9:
        """The parameters are those of the key frame that starts in the packet."""
        if not peek(data, payload, end):
            return codec
        frame = data[payload + descriptor_size(data, payload, end) : end]
        return vp9.updated(codec, frame) if vp9.is_key(frame) else codec

    def split(self, codec: VP9, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        data, payload, end = packet.data, packet.payload, packet.end
        size = descriptor_size(data, payload, end)
        descriptor = data[payload : payload + size]
        chunks = list(split_evenly(data[payload + size : end], room - size))
        parts: list[Part] = []
        for index, chunk in enumerate(chunks):
            first = descriptor[0]
            if index:
                first &= ~_BEGIN
            if index < len(chunks) - 1:
                first &= ~_END
            parts.append((bytes((first,)) + descriptor[1:] + chunk, 0))
        return parts


PAYLOAD = VP9Payload()
