"""H.265 in RTP (RFC 7798): single NAL unit packets, aggregation packets and fragmentation units."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.codecs import h265
from polycast.codecs.nal import MAXIMUM_NAL_UNITS_PER_FRAME
from polycast.errors import RemoteProtocolError
from polycast.media.codec import H265
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.payload.base import KEY, PARAMETERS, BasePacketizer, PayloadPattern, Peek
from polycast.rtp.payload.format_parameters import decode_base64_list, decode_integer, encode_base64_list
from polycast.rtp.payload.nal_unit_assembler import NalUnitDepacketizer, UnitRole, packetize_units
from polycast.rtp.payload.rtp_payload import Part, RtpPayload, SdpMedia
from polycast.rtp.refragment import Refragmenter, UnitRefragmenter

VIDEO_PARAMETER_SET = 32
SEQUENCE_PARAMETER_SET = 33
PICTURE_PARAMETER_SET = 34
ACCESS_UNIT_DELIMITER = 35
PREFIX_SEI = 39

AGGREGATION_PACKET = 48
FRAGMENTATION_UNIT = 49

_HEADER_SIZE = 2
_START_BIT = 0x80
_END_BIT = 0x40

_TYPE_FLAGS = [0] * 64
for _irap in range(16, 24):
    _TYPE_FLAGS[_irap] = KEY
_TYPE_FLAGS[VIDEO_PARAMETER_SET] = KEY | PARAMETERS
_TYPE_FLAGS[SEQUENCE_PARAMETER_SET] = KEY | PARAMETERS
_TYPE_FLAGS[PICTURE_PARAMETER_SET] = PARAMETERS

_FRAGMENT_FLAGS = [_TYPE_FLAGS[header & 0x3F] if header & _START_BIT else 0 for header in range(256)]

# A fragment without start bit; the type is in the middle of the first byte, the start bit in the third one.
CONTINUATION = PayloadPattern(0x7E << 24 | _START_BIT << 8, FRAGMENTATION_UNIT << 25)


def make_peek(codec: H265) -> Peek:
    """Return the peek function of a track (see `RtpPayload.peek_for`)."""
    donl = 2 if codec.maximum_don_difference else 0

    def peek(data: bytes, payload: int, end: int) -> int:
        if end - payload < 3:
            return 0
        kind = data[payload] >> 1 & 0x3F
        if kind == FRAGMENTATION_UNIT:
            flags = _FRAGMENT_FLAGS[data[payload + 2]]
            slice_header = payload + 3 + donl
        elif kind == AGGREGATION_PACKET:
            try:
                units = _split_aggregate(data, payload + 2, end, donl)
            except RemoteProtocolError:
                return 0
            flags = 0
            for unit in units:
                unit_flags = _TYPE_FLAGS[unit[0] >> 1 & 0x3F]
                if unit_flags != KEY or len(unit) < 3 or unit[2] >= 0x80:
                    flags |= unit_flags
            return flags
        else:
            flags = _TYPE_FLAGS[kind]
            slice_header = payload + 2 + donl
        if flags == KEY and slice_header < end and data[slice_header] < 0x80:
            # first_slice_segment_in_pic_flag is 0 (Rec. ITU-T H.265 section 7.3.6.1).
            return 0
        return flags

    return peek


def units_of(codec: H265, data: bytes, payload: int, end: int) -> list[bytes]:
    """Return the whole NAL units in a payload; none for fragments. Raises `RemoteProtocolError`."""
    if end - payload < _HEADER_SIZE:
        return []
    donl = 2 if codec.maximum_don_difference else 0
    kind = data[payload] >> 1 & 0x3F
    if kind == AGGREGATION_PACKET:
        return _split_aggregate(data, payload + _HEADER_SIZE, end, donl)
    if kind > AGGREGATION_PACKET:
        return []
    return [_without_order_number(data, payload, end, donl)]


def _without_order_number(data: bytes, payload: int, end: int, donl: int) -> bytes:
    if not donl:
        return data[payload:end]
    # RFC 7798 section 4.4.1: the decoding order number follows the payload header.
    return data[payload : payload + _HEADER_SIZE] + data[payload + _HEADER_SIZE + donl : end]


def _split_aggregate(data: bytes, position: int, end: int, donl: int) -> list[bytes]:
    units: list[bytes] = []
    # RFC 7798 section 4.4.2: the first unit has a DONL of 2 bytes, the others a DOND of 1 byte.
    order_number_size = donl
    while end - position > order_number_size + 2:
        position += order_number_size
        size = data[position] << 8 | data[position + 1]
        position += 2
        if size == 0:
            break
        if position + size > end:
            raise RemoteProtocolError("aggregation packet is cut off")
        if len(units) == MAXIMUM_NAL_UNITS_PER_FRAME:
            raise RemoteProtocolError("aggregation packet has too many NAL units")
        if size >= _HEADER_SIZE:
            units.append(data[position : position + size])
        position += size
        order_number_size = 1 if donl else 0
    return units


def _unit_header(data: bytes, payload: int) -> bytes:
    """Return the header of a NAL unit of which a fragment is given: F, LayerId and TID are those of the payload header
    (RFC 7798 section 4.4.3)."""
    return bytes((data[payload] & 0x81 | (data[payload + 2] & 0x3F) << 1, data[payload + 1]))


class H265Depacketizer(NalUnitDepacketizer):
    """See `Depacketizer`. Decoding order numbers are ignored: transmission order is used as decoding order."""

    minimum_unit_size = _HEADER_SIZE
    fragment_header_size = _HEADER_SIZE + 1

    def __init__(self, codec: H265, clock_rate: int = 90_000) -> None:
        super().__init__()
        self.codec = codec
        """With the parameter sets received so far."""
        self._donl = 2 if codec.maximum_don_difference else 0
        self._dts = h265.DtsExtractor(codec, clock_rate)

    def fragmented_header(self, data: bytes, payload: int) -> bytes | None:
        if data[payload] >> 1 & 0x3F != FRAGMENTATION_UNIT or self._donl:
            return None
        return _unit_header(data, payload)

    def unpack(self, data: bytes, payload: int, end: int) -> None:
        if payload >= end:
            return
        if end - payload < _HEADER_SIZE:
            raise RemoteProtocolError("H265 packet is too short")
        kind = data[payload] >> 1 & 0x3F
        if kind == FRAGMENTATION_UNIT:
            self._unpack_fragment(data, payload, end)
            return
        self.fragment_started()
        if kind == AGGREGATION_PACKET:
            for unit in _split_aggregate(data, payload + _HEADER_SIZE, end, self._donl):
                self.add_unit(unit)
        elif kind < AGGREGATION_PACKET:
            # An Annex B byte stream in RTP has no order numbers; its start code reads as type 0.
            in_annexb = data.startswith((b"\x00\x00\x01", b"\x00\x00\x00\x01"), payload, end)
            self.add_unit(_without_order_number(data, payload, end, 0 if in_annexb else self._donl))
        else:
            raise RemoteProtocolError(f"unsupported H265 packet type: {kind}")

    def _unpack_fragment(self, data: bytes, payload: int, end: int) -> None:
        if end - payload < 3 + self._donl:
            raise RemoteProtocolError("fragmentation unit is too short")
        header = data[payload + 2]
        if header & _START_BIT:
            self.fragment_started()
            self._fragments.append(_unit_header(data, payload))
        elif not self._fragments:
            self._damaged = True
            return
        # The order number is in the first fragment only.
        self._fragments.append(data[payload + 3 + (self._donl if header & _START_BIT else 0) : end])
        if header & _END_BIT:
            self.add_unit(self._fragments.take())

    def role_of(self, unit: bytes) -> UnitRole:
        kind = unit[0] >> 1 & 0x3F
        if kind < VIDEO_PARAMETER_SET:
            # Type 0 with a first byte of zero and a second of zero is a start code, not a slice.
            return UnitRole.PICTURE if unit[1] else UnitRole.OTHER
        return UnitRole.DELIMITER if kind == ACCESS_UNIT_DELIMITER else UnitRole.OTHER

    def begins_frame(self, unit: bytes) -> bool:
        kind = unit[0] >> 1 & 0x3F
        if kind < VIDEO_PARAMETER_SET:
            return len(unit) > 2 and unit[2] >= 0x80  # first_slice_segment_in_pic_flag
        return kind <= ACCESS_UNIT_DELIMITER or kind == PREFIX_SEI

    def learn(self, units: Sequence[bytes]) -> None:
        self.codec = h265.updated(self.codec, units)

    def finish(self, units: tuple[bytes, ...], pts: int) -> Frame | None:
        self.learn(units)
        dts = self._dts.extract(h265.with_parameter_sets(self.codec, units), pts)
        if dts is None:
            return None
        return Frame(units, pts, dts, key=h265.is_key(units))


class H265Packetizer(BasePacketizer):
    """Without decoding order numbers. Parameter sets are added before every key frame without them."""

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        units: Sequence[bytes] = frame.units
        if frame.key and isinstance(self.codec, H265):
            units = h265.with_parameter_sets(self.codec, units)
        return payloads_of(units, self._maximum_payload)


def payloads_of(units: Sequence[bytes], maximum_payload: int) -> list[bytes]:
    """Return the payloads with the NAL units: small ones aggregated, large ones fragmented."""
    return packetize_units(units, maximum_payload, _HEADER_SIZE, aggregation_packet, fragments)


def aggregation_packet(units: Sequence[bytes]) -> bytes:
    """Return an aggregation packet's payload (RFC 7798 section 4.4.2); F, LayerId and TID as required there."""
    layer = min((unit[0] & 1) << 5 | unit[1] >> 3 for unit in units)
    temporal = min(unit[1] & 7 for unit in units)
    forbidden = max(unit[0] & 0x80 for unit in units)
    parts = [bytes((forbidden | AGGREGATION_PACKET << 1 | layer >> 5, (layer & 0x1F) << 3 | temporal))]
    for unit in units:
        parts.append(len(unit).to_bytes(2, "big"))
        parts.append(unit)
    return b"".join(parts)


def fragments(unit: bytes, maximum_payload: int, *, begin: bool = True, finish: bool = True) -> list[bytes]:
    """Return the fragmentation units of a NAL unit (RFC 7798 section 4.4.3).

    ``begin`` and ``finish``: whether ``unit`` contains the start and the end of the NAL unit.
    """
    header = bytes((unit[0] & 0x81 | FRAGMENTATION_UNIT << 1, unit[1]))
    kind = unit[0] >> 1 & 0x3F
    room = maximum_payload - 3
    payloads: list[bytes] = []
    for position in range(_HEADER_SIZE, len(unit), room):
        flags = kind
        if begin and position == _HEADER_SIZE:
            flags |= _START_BIT
        if finish and position + room >= len(unit):
            flags |= _END_BIT
        payloads.append(header + bytes((flags,)) + unit[position : position + room])
    return payloads


class H265Payload(RtpPayload[H265]):
    """See `RtpPayload`."""

    codec_type = H265
    encodings = ("H265", "HEVC")
    requires_parameters = True
    continuation = CONTINUATION
    marker_ends_frame = True
    is_self_describing = True
    packetizer_type = H265Packetizer

    def from_sdp(self, media: SdpMedia) -> H265:
        units: list[bytes] = []
        for name in ("sprop-vps", "sprop-sps", "sprop-pps"):
            units += decode_base64_list(media.parameters.get(name, ""))
        difference = decode_integer(media.parameters.get("sprop-max-don-diff"), 0)
        return h265.updated(H265(maximum_don_difference=difference), units)

    def live_parameters(self, codec: H265) -> dict[str, str]:
        sets = {"sprop-vps": codec.vps, "sprop-sps": codec.sps, "sprop-pps": codec.pps}
        return {name: encode_base64_list([unit]) for name, unit in sets.items() if unit}

    def peek_for(self, codec: H265) -> Peek:
        return make_peek(codec)

    def parameters_from_packet(self, codec: H265, data: bytes, payload: int, end: int) -> H265:
        return h265.updated(codec, units_of(codec, data, payload, end))

    def depacketizer(self, codec: H265, track: Track) -> H265Depacketizer:
        return H265Depacketizer(codec, track.clock_rate)

    def split(self, codec: H265, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        if codec.maximum_don_difference:
            return ()  # The parts would need decoding order numbers of their own.
        data, payload, end = packet.data, packet.payload, packet.end
        if data[payload] >> 1 & 0x3F == FRAGMENTATION_UNIT:
            header = data[payload + 2]
            unit = bytes((data[payload] & 0x81 | (header & 0x3F) << 1, data[payload + 1])) + data[payload + 3 : end]
            begin, finish = header & _START_BIT != 0, header & _END_BIT != 0
            parts = fragments(unit, room, begin=begin, finish=finish)
        else:
            parts = payloads_of(units_of(codec, data, payload, end), room)
        return [(part, 0) for part in parts]

    def refragmenter(self, codec: H265, room: int) -> Refragmenter | None:
        if codec.maximum_don_difference:
            return None
        return UnitRefragmenter(room, 3, lambda data, payload: data[payload] >> 1 & 0x3F == FRAGMENTATION_UNIT)

    def is_compatible(self, old: H265, new: H265) -> bool:
        return old.maximum_don_difference == new.maximum_don_difference

    def parameter_sets(self, codec: H265) -> tuple[bytes, ...]:
        if codec.maximum_don_difference:
            return ()  # They would need decoding order numbers of their own.
        return tuple(unit for unit in (codec.vps, codec.sps, codec.pps) if unit)


PAYLOAD = H265Payload()
