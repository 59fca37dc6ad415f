"""VP8 in RTP (RFC 7741)."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.codecs import vp8
from polycast.errors import RemoteProtocolError
from polycast.media.codec import VP8
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.payload.base import (
    KEY,
    BasePacketizer,
    MarkedPictureDepacketizer,
    PayloadPattern,
    Peek,
    split_evenly,
)
from polycast.rtp.payload.rtp_payload import Part, RtpPayload

_EXTENDED = 0x80
_START_OF_PARTITION = 0x10
_PICTURE_ID = 0x80
_TL0_PICTURE_INDEX = 0x40
_TEMPORAL_LAYER = 0x20
_KEY_INDEX = 0x10

CONTINUATION = PayloadPattern(_START_OF_PARTITION << 24, 0)


def descriptor_size(data: bytes, payload: int, end: int) -> int:
    """Return the size of the payload descriptor (RFC 7741 section 4.2) in bytes. Raises `RemoteProtocolError`."""
    size = 1
    if end > payload and data[payload] & _EXTENDED:
        size = 2
        if payload + 2 >= end:
            raise RemoteProtocolError("VP8 packet is too short")
        extension = data[payload + 1]
        if extension & _PICTURE_ID:
            size += 2 if data[payload + 2] & 0x80 else 1
        if extension & _TL0_PICTURE_INDEX:
            size += 1
        if extension & (_TEMPORAL_LAYER | _KEY_INDEX):
            size += 1
    if payload + size >= end:
        raise RemoteProtocolError("VP8 packet is too short")
    return size


def peek(data: bytes, payload: int, end: int) -> int:
    """Return KEY at the first packet of a key frame."""
    # The first partition starts: S is 1 and the partition index is 0.
    if payload >= end or data[payload] & 0x17 != _START_OF_PARTITION:
        return 0
    try:
        header = payload + descriptor_size(data, payload, end)
    except RemoteProtocolError:
        return 0
    # RFC 6386 section 9.1: the first bit is 0 in key frames.
    return 0 if data[header] & 1 else KEY


class VP8Depacketizer(MarkedPictureDepacketizer):
    """See `Depacketizer`."""

    def fragment(self, packet: RtpPacket, first: bool) -> tuple[bytes, bool]:
        data, payload = packet.data, packet.payload
        size = descriptor_size(data, payload, packet.end)
        return data[payload + size : packet.end], data[payload] & 0x17 == _START_OF_PARTITION

    def is_key(self, data: bytes) -> bool:
        return vp8.is_key(data)


class VP8Packetizer(BasePacketizer):
    """The smallest descriptor: one byte, without picture identifiers."""

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        payloads: list[bytes] = []
        for part in split_evenly(frame.units[0], self._maximum_payload - 1):
            payloads.append((b"\x00" if payloads else b"\x10") + part)
        return payloads


class VP8Payload(RtpPayload[VP8]):
    """See `RtpPayload`."""

    codec_type = VP8
    encodings = ("VP8",)
    continuation = CONTINUATION
    marker_ends_frame = True
    is_self_describing = True
    depacketizer_type = VP8Depacketizer
    packetizer_type = VP8Packetizer

    def peek_for(self, codec: VP8) -> Peek:
        return peek

    def split(self, codec: VP8, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        data, payload, end = packet.data, packet.payload, packet.end
        size = descriptor_size(data, payload, end)
        first = data[payload : payload + size]
        following = bytes((first[0] & ~_START_OF_PARTITION,)) + first[1:]
        chunks = split_evenly(data[payload + size : end], room - size)
        return [((following if index else first) + chunk, 0) for index, chunk in enumerate(chunks)]


PAYLOAD = VP8Payload()
