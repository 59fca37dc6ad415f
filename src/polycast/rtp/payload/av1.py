"""AV1 in RTP (AOMedia "RTP Payload Format For AV1", version 1.0)."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.codecs import av1
from polycast.codecs.av1 import ObuType
from polycast.errors import RemoteProtocolError
from polycast.media.codec import AV1
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.payload.base import (
    KEY,
    PARAMETERS,
    BaseDepacketizer,
    BasePacketizer,
    PayloadPattern,
    Peek,
)
from polycast.rtp.payload.rtp_payload import Part, RtpPayload

_CONTINUES = 0x80
_CONTINUED = 0x40
_NEW_SEQUENCE = 0x08

CONTINUATION = PayloadPattern(_CONTINUES << 24, _CONTINUES << 24)

_NOT_IN_FRAMES = (ObuType.TEMPORAL_DELIMITER, ObuType.TILE_LIST, ObuType.PADDING)
_FIRST_IN_FRAME = (ObuType.TEMPORAL_DELIMITER, ObuType.SEQUENCE_HEADER, ObuType.FRAME, ObuType.FRAME_HEADER)


def _kind(unit: bytes) -> int:
    return unit[0] >> 3 & 0x0F


def elements_of(data: bytes, payload: int, end: int) -> list[bytes]:
    """Return the OBU elements of a packet (section 4.3). Raises `RemoteProtocolError`."""
    if end - payload < 2:
        raise RemoteProtocolError("AV1 packet is too short")
    count = data[payload] >> 4 & 3
    position = payload + 1
    elements: list[bytes] = []
    while position < end:
        if count and len(elements) == count - 1:
            # The last of a known number of elements has no length.
            elements.append(data[position:end])
            return elements
        if len(elements) == av1.MAXIMUM_OBUS_PER_TEMPORAL_UNIT:
            raise RemoteProtocolError("too many OBUs in an AV1 packet")
        size, position = av1.read_leb128(data, position)
        if position + size > end:
            raise RemoteProtocolError("AV1 OBU element is cut off")
        elements.append(data[position : position + size])
        position += size
    if count and len(elements) != count:
        raise RemoteProtocolError("AV1 packet has fewer OBU elements than it says")
    return elements


def peek(data: bytes, payload: int, end: int) -> int:
    """Return KEY and PARAMETERS at the start of a coded video sequence."""
    if end - payload < 2:
        return 0
    first = data[payload]
    if first & _CONTINUES:
        return 0
    # N is set on the first packet of a coded video sequence (section 4.4). Where a sender leaves it out, the sequence
    # header shows: its length takes one byte, or none in a packet of one element (W is 1).
    if not first & _NEW_SEQUENCE:
        position = payload + (1 if first & 0x30 == 0x10 else 2)
        if position >= end or data[position] >> 3 & 0x0F != ObuType.SEQUENCE_HEADER:
            return 0
    return KEY | PARAMETERS


def without_size(unit: bytes) -> bytes:
    """Return an OBU without its size field, which should not be there in RTP (section 4.4)."""
    if not unit[0] & 0x02:
        return unit
    units = av1.split_obus(unit)
    return units[0] if units else b""


class AV1Depacketizer(BaseDepacketizer):
    """See `Depacketizer`. One frame is one temporal unit."""

    def __init__(self) -> None:
        super().__init__()
        self._units: list[bytes] = []
        self._size = 0
        self._timestamp = -1
        self._pts = 0
        self._damaged = False
        # A reader that joins in mid-stream has no earlier data.
        self._loss = True
        self._started = False

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        frames: list[Frame] = []
        if packet.timestamp != self._timestamp:
            if self._timestamp >= 0:
                self._end_frame(frames)
            self._timestamp = packet.timestamp
            self._pts = pts
        try:
            self._unpack(packet)
        except RemoteProtocolError as error:
            self.fail(error)
            self.reset()
        if packet.marker:
            self._end_frame(frames)
            self._timestamp = -1
            self._loss = False
        return frames

    def on_loss(self) -> None:
        self._loss = True
        if self._timestamp >= 0:
            self._damaged = True
        self._fragments.clear()

    def reset(self) -> None:
        self._fragments.clear()
        self._damaged = True

    def _unpack(self, packet: RtpPacket) -> None:
        data, payload = packet.data, packet.payload
        elements = elements_of(data, payload, packet.end)
        last = len(elements) - 1
        for index, element in enumerate(elements):
            if index == 0 and data[payload] & _CONTINUES:
                if not self._fragments:
                    self._damaged = True
                    continue
            elif self._fragments:
                self._fragments.clear()
                self._damaged = True
            if index == last and data[payload] & _CONTINUED:
                self._fragments.append(element)
            elif self._fragments:
                self._fragments.append(element)
                self._add(self._fragments.take())
            else:
                self._add(element)

    def _add(self, element: bytes) -> None:
        unit = without_size(element) if element else element
        if not unit:
            return
        kind = _kind(unit)
        if self._loss:
            # Only these can be the first OBU of a temporal unit; before another one, something may be missing.
            if not self._units and kind not in _FIRST_IN_FRAME:
                self._damaged = True
            self._loss = False
        if kind in _NOT_IN_FRAMES:
            return
        self._size += len(unit)
        if len(self._units) == av1.MAXIMUM_OBUS_PER_TEMPORAL_UNIT or self._size > self._fragments.limit:
            self._forget_frame()
            raise RemoteProtocolError("AV1 temporal unit is too large")
        self._units.append(unit)

    def _end_frame(self, frames: list[Frame]) -> None:
        if self._fragments:
            self._fragments.clear()
            self._damaged = True
        units = tuple(self._units)
        self._forget_frame()
        if self._damaged:
            self._damaged = False
            self.lost_frames += 1
            return
        if not units:
            return
        key = av1.is_key(units)
        self._started = self._started or key
        if self._started:
            frames.append(Frame(units, self._pts, self._pts, key=key))

    def _forget_frame(self) -> None:
        self._units.clear()
        self._size = 0


class AV1Packetizer(BasePacketizer):
    """OBU elements with a length each (W is 0), fragmented at the packet size."""

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        units: Sequence[bytes] = frame.units
        if frame.key and isinstance(self.codec, AV1):
            units = av1.with_sequence_header(self.codec, units)
        return aggregate(units, self._maximum_payload, _NEW_SEQUENCE if frame.key else 0)


def aggregate(elements: Sequence[bytes], maximum: int, flags: int) -> list[bytes]:
    """Return payloads of at most ``maximum`` bytes with these OBU elements.

    ``flags``: what the first byte of one payload with all of them would say.
    """
    payloads: list[bytes] = []
    parts: list[bytes] = []
    room = maximum - 1
    first = flags & (_CONTINUES | _NEW_SEQUENCE)

    def close(continued: int) -> None:
        nonlocal parts, room, first
        payloads.append(bytes((first | continued,)) + b"".join(parts))
        parts = []
        room = maximum - 1
        first = _CONTINUES if continued else 0

    for element in elements:
        position = 0
        while position < len(element):
            # Two bytes of length allow up to 16383 bytes, more than the size of a packet.
            if room < 3:
                close(_CONTINUED if position > 0 else 0)
            size = min(len(element) - position, room - 2)
            parts.append(av1.write_leb128(size) + element[position : position + size])
            room -= len(parts[-1])
            position += size
    if parts:
        close(flags & _CONTINUED)
    return payloads


class AV1Payload(RtpPayload[AV1]):
    """See `RtpPayload`."""

    codec_type = AV1
    encodings = ("AV1",)
    continuation = CONTINUATION
    marker_ends_frame = True
    is_self_describing = True
    depacketizer_type = AV1Depacketizer
    packetizer_type = AV1Packetizer

    def live_parameters(self, codec: AV1) -> dict[str, str]:
        if not codec.sequence_header:
            return {}
        try:
            header = av1.parse_sequence_header(codec.sequence_header)
        except RemoteProtocolError:
            return {}
        # AV1 RTP specification section 7.2.1.
        return {"profile": str(header.profile), "level-idx": str(header.level), "tier": str(header.tier)}

    def peek_for(self, codec: AV1) -> Peek:
        return peek

    def split(self, codec: AV1, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        elements = elements_of(packet.data, packet.payload, packet.end)
        if not all(elements):
            return ()
        return [(payload, 0) for payload in aggregate(elements, room, packet.data[packet.payload])]

    def parameters_from_packet(self, codec: AV1, data: bytes, payload: int, end: int) -> AV1:
        elements = elements_of(data, payload, end)
        if data[payload] & _CONTINUED:
            elements = elements[:-1]
        return av1.updated(codec, [without_size(element) for element in elements if element])


PAYLOAD = AV1Payload()
