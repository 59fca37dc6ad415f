"""MPEG-1 and MPEG-2 video in RTP (RFC 2250 section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.errors import RemoteProtocolError
from polycast.media.codec import MPEG2Video
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.payload.base import KEY, BasePacketizer, MarkedPictureDepacketizer, Peek, split_evenly
from polycast.rtp.payload.rtp_payload import Part, RtpPayload

_HEADER_SIZE = 4
_EXTENSION_SIZE = 4
_START_CODE = b"\x00\x00\x01"
_PICTURE = 0x00
_SEQUENCE_HEADER = 0xB3
_GROUP_OF_PICTURES = 0xB8
_INTRA = 1

_HAS_EXTENSION = 0x04
_SEQUENCE_HEADER_PRESENT = 0x20
_BEGINNING_OF_SLICE = 0x10
_END_OF_SLICE = 0x08


def peek(data: bytes, payload: int, end: int) -> int:
    """Return KEY at the start of an intra picture or of the headers before it."""
    if end - payload < _HEADER_SIZE + 4:
        return 0
    if data[payload + 2] & _SEQUENCE_HEADER_PRESENT:
        return KEY
    if data[payload + 2] & 7 != _INTRA:
        return 0
    start = payload + _HEADER_SIZE + (_EXTENSION_SIZE if data[payload] & _HAS_EXTENSION else 0)
    begins = data[start : start + 3] == _START_CODE and start + 3 < end
    return KEY if begins and data[start + 3] in (_PICTURE, _GROUP_OF_PICTURES) else 0


def picture_header(frame: bytes) -> tuple[int, int, int]:
    """Return the position of the picture start code, the temporal reference and the picture coding type.

    ISO/IEC 13818-2 section 6.2.3. Raises `RemoteProtocolError` if the frame has no picture header.
    """
    position = frame.find(b"\x00\x00\x01\x00")
    if position < 0 or position + 6 > len(frame):
        raise RemoteProtocolError("MPEG video frame has no picture header")
    fields = frame[position + 4] << 8 | frame[position + 5]
    return position, fields >> 6, fields >> 3 & 7


class MPEG2VideoDepacketizer(MarkedPictureDepacketizer):
    """See `Depacketizer`. Streams with B pictures get decoding times as if they had none."""

    def fragment(self, packet: RtpPacket, first: bool) -> tuple[bytes, bool]:
        data, start = packet.data, packet.payload + _HEADER_SIZE
        if start > packet.end:
            raise RemoteProtocolError("MPEG video packet is too short")
        if data[packet.payload] & _HAS_EXTENSION:
            start += _EXTENSION_SIZE
        part = data[start : packet.end]
        begins = part.startswith(_START_CODE) and len(part) > 3
        return part, begins and part[3] in (_PICTURE, _SEQUENCE_HEADER, _GROUP_OF_PICTURES)

    def is_key(self, data: bytes) -> bool:
        return picture_header(data)[2] == _INTRA


class MPEG2VideoPacketizer(BasePacketizer):
    """Packets start with a header or a slice where possible; a slice that is too large takes several packets."""

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        data = frame.units[0]
        position, temporal_reference, picture_type = picture_header(data)
        vectors = _motion_vector_fields(data, position, picture_type)
        room = self._maximum_payload - _HEADER_SIZE
        payloads: list[bytes] = []
        for part, begins, ends in _cut(data, room):
            second = picture_type
            if part.startswith(b"\x00\x00\x01\xb3"):
                second |= _SEQUENCE_HEADER_PRESENT
            second |= (_BEGINNING_OF_SLICE if begins else 0) | (_END_OF_SLICE if ends else 0)
            payloads.append(temporal_reference.to_bytes(2, "big") + bytes((second, vectors)) + part)
        return payloads


def _motion_vector_fields(data: bytes, position: int, picture_type: int) -> int:
    """Return FBV, BFC, FFV and FFC of the picture header as RFC 2250 section 3.4 packs them; all 0 for I pictures."""
    if picture_type == _INTRA or position + 9 > len(data):
        return 0
    # After start code (32 bits), temporal reference (10), type (3) and vbv_delay (16): 3 fields of 1 + 3 bits each.
    value = int.from_bytes(data[position + 4 : position + 10], "big")
    bits = 8 * len(data[position + 4 : position + 10])
    forward = value >> (bits - 33) & 0x0F
    backward = value >> (bits - 37) & 0x0F if picture_type == 3 else 0
    return backward << 4 | forward


def _is_slice(data: bytes, position: int) -> bool:
    return data.startswith(_START_CODE, position) and position + 3 < len(data) and 1 <= data[position + 3] <= 0xAF


def _cut(data: bytes, room: int) -> list[tuple[bytes, bool, bool]]:
    """Return parts of at most ``room`` bytes, with whether each starts (after headers) and ends at a slice."""
    parts: list[tuple[bytes, bool, bool]] = []
    start = 0
    begins = True
    while start < len(data):
        end = min(len(data), start + room)
        ends = end == len(data)
        if not ends:
            boundary = _last_slice_start(data, start + 1, end)
            if boundary > start:
                end, ends = boundary, True
        parts.append((data[start:end], begins, ends))
        begins = ends
        start = end
    return parts


def _last_slice_start(data: bytes, start: int, end: int) -> int:
    """Return the last slice start code in a range that follows another slice; -1 if there is none."""
    position = data.rfind(_START_CODE, start, end)
    while position >= start:
        if _is_slice(data, position):
            # Headers stay together with the first slice after them (RFC 2250 section 3.1).
            before = data.rfind(_START_CODE, 0, position)
            if before >= 0 and _is_slice(data, before):
                return position
        position = data.rfind(_START_CODE, start, position)
    return -1


class MPEG2VideoPayload(RtpPayload[MPEG2Video]):
    """See `RtpPayload`."""

    codec_type = MPEG2Video
    encodings = ("MPV",)
    static_type = 32
    marker_ends_frame = True
    is_self_describing = True
    depacketizer_type = MPEG2VideoDepacketizer
    packetizer_type = MPEG2VideoPacketizer

    def peek_for(self, codec: MPEG2Video) -> Peek:
        return peek

    def split(self, codec: MPEG2Video, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        data, payload, end = packet.data, packet.payload, packet.end
        start = payload + _HEADER_SIZE + (_EXTENSION_SIZE if data[payload] & _HAS_EXTENSION else 0)
        chunks = list(split_evenly(data[start:end], room - (start - payload)))
        parts: list[Part] = []
        for index, chunk in enumerate(chunks):
            header = bytearray(data[payload:start])
            if index:
                header[2] &= ~(_SEQUENCE_HEADER_PRESENT | _BEGINNING_OF_SLICE)
            if index < len(chunks) - 1:
                header[2] &= ~_END_OF_SLICE
            parts.append((bytes(header) + chunk, 0))
        return parts


PAYLOAD = MPEG2VideoPayload()
