"""H.264 in RTP (RFC 6184): single NAL unit packets, STAP-A and FU-A, packetization modes 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.codecs import h264
from polycast.codecs.nal import MAXIMUM_NAL_UNITS_PER_FRAME, split_annexb
from polycast.errors import RemoteProtocolError
from polycast.media.codec import H264
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.payload.base import KEY, PARAMETERS, BasePacketizer, PayloadPattern, Peek
from polycast.rtp.payload.format_parameters import decode_base64_list, encode_base64_list
from polycast.rtp.payload.nal_unit_assembler import NalUnitDepacketizer, UnitRole, packetize_units
from polycast.rtp.payload.rtp_payload import Part, RtpPayload, SdpMedia
from polycast.rtp.refragment import Refragmenter, UnitRefragmenter

SLICE = 1
IDR_SLICE = 5
SEI = 6
SEQUENCE_PARAMETER_SET = 7
PICTURE_PARAMETER_SET = 8
ACCESS_UNIT_DELIMITER = 9

_START_CODE = b"\x00\x00\x01"

STAP_A = 24
FU_A = 28

_START_BIT = 0x80
_END_BIT = 0x40

# The flags of a packet with (the start of) a NAL unit, by its type.
_TYPE_FLAGS = [0] * 32
_TYPE_FLAGS[IDR_SLICE] = KEY
_TYPE_FLAGS[SEQUENCE_PARAMETER_SET] = KEY | PARAMETERS
_TYPE_FLAGS[PICTURE_PARAMETER_SET] = PARAMETERS

# The same by FU header, in which only a start bit (RFC 6184 section 5.8) counts.
_FRAGMENT_FLAGS = [_TYPE_FLAGS[header & 0x1F] if header & _START_BIT else 0 for header in range(256)]

_ROLES = [UnitRole.OTHER] * 32
_ROLES[SLICE : IDR_SLICE + 1] = [UnitRole.PICTURE] * IDR_SLICE
_ROLES[ACCESS_UNIT_DELIMITER] = UnitRole.DELIMITER

# A fragment without start bit.
CONTINUATION = PayloadPattern(0x1F << 24 | _START_BIT << 16, FU_A << 24)


def peek(data: bytes, payload: int, end: int) -> int:
    """Return KEY and PARAMETERS flags of the payload ``data[payload:end]``; optimized for the hot path."""
    if end - payload < 2:
        return 0
    kind = data[payload] & 0x1F
    if kind == FU_A:
        flags = _FRAGMENT_FLAGS[data[payload + 1]]
        if flags == KEY and end - payload > 2 and data[payload + 2] < 0x80:
            # first_mb_in_slice is not 0: not the first slice of the picture (Rec. ITU-T H.264 section 7.3.3).
            return 0
        return flags
    if kind == SLICE:
        return 0
    if kind == STAP_A or kind == 0:
        flags = 0
        try:
            for unit in units_of(data, payload, end):
                flags |= _unit_flags(unit)
        except RemoteProtocolError:
            return 0
        return flags
    if kind == SEI:
        return KEY if _is_immediate_recovery_point(data, payload, end) else 0
    flags = _TYPE_FLAGS[kind]
    if flags == KEY and data[payload + 1] < 0x80:
        return 0
    return flags


def _unit_flags(unit: bytes) -> int:
    kind = unit[0] & 0x1F
    if kind == SEI:
        return KEY if _is_immediate_recovery_point(unit, 0, len(unit)) else 0
    flags = _TYPE_FLAGS[kind]
    return 0 if flags == KEY and len(unit) > 1 and unit[1] < 0x80 else flags


def _is_immediate_recovery_point(data: bytes, start: int, end: int) -> bool:
    # Rec. ITU-T H.264 section D.1.8: payload type 6, whose recovery_frame_cnt is 0 when its first bit is set.
    # Encoders that open a group of pictures without an IDR picture send it first.
    return end - start > 3 and data[start + 1] == 6 and data[start + 3] >= 0x80


def units_of(data: bytes, payload: int, end: int) -> list[bytes]:
    """Return the whole NAL units in a payload; none for fragments. Raises `RemoteProtocolError`."""
    if payload >= end:
        return []
    kind = data[payload] & 0x1F
    if kind == STAP_A:
        return _split_aggregate(data, payload + 1, end)
    if kind == 0:
        return _split_wrapped(data[payload:end])
    if kind > 23:
        return []
    unit = data[payload:end]
    if SEI <= kind <= ACCESS_UNIT_DELIMITER and _START_CODE in unit:
        return split_annexb(_START_CODE + unit)
    return [unit]


def _split_wrapped(data: bytes) -> list[bytes]:
    """Return the NAL units of a payload in Annex B form, as sent by some cameras; none without a start code."""
    return split_annexb(data) if data.startswith((b"\x00\x00\x01", b"\x00\x00\x00\x01")) else []


def _split_aggregate(data: bytes, position: int, end: int) -> list[bytes]:
    units: list[bytes] = []
    while position < end:
        if end - position < 2:
            break  # Trailing padding of some senders.
        size = data[position] << 8 | data[position + 1]
        position += 2
        if size == 0:
            break  # The same, as zeros.
        if position + size > end:
            raise RemoteProtocolError("STAP-A packet is cut off")
        if len(units) == MAXIMUM_NAL_UNITS_PER_FRAME:
            raise RemoteProtocolError("STAP-A packet has too many NAL units")
        units.append(data[position : position + size])
        position += size
    return units


class H264Depacketizer(NalUnitDepacketizer):
    """See `Depacketizer`."""

    fragment_header_size = 2

    def __init__(self, codec: H264, clock_rate: int = 90_000) -> None:
        super().__init__()
        self.codec = codec
        """With the parameter sets received so far."""
        self._dts = h264.DtsExtractor(codec, clock_rate)

    def fragmented_header(self, data: bytes, payload: int) -> bytes | None:
        if data[payload] & 0x1F != FU_A:
            return None
        return bytes((data[payload] & 0xE0 | data[payload + 1] & 0x1F,))

    def unpack(self, data: bytes, payload: int, end: int) -> None:
        if payload >= end:
            return
        kind = data[payload] & 0x1F
        if kind == FU_A:
            self._unpack_fragment(data, payload, end)
            return
        self.fragment_started()
        if kind == STAP_A:
            for unit in _split_aggregate(data, payload + 1, end):
                self.add_unit(unit)
        elif kind < STAP_A:
            self.add_unit(data[payload:end])
        else:
            # STAP-B, MTAP and FU-B belong to the interleaved mode, which is never negotiated.
            raise RemoteProtocolError(f"unsupported H264 packet type: {kind}")

    def _unpack_fragment(self, data: bytes, payload: int, end: int) -> None:
        if end - payload < 2:
            raise RemoteProtocolError("FU-A packet is too short")
        indicator, header = data[payload], data[payload + 1]
        if header & _START_BIT:
            self.fragment_started()
            self._fragments.append(bytes((indicator & 0xE0 | header & 0x1F,)))
        elif not self._fragments:
            self._damaged = True
            return
        self._fragments.append(data[payload + 2 : end])
        # Start and end both set is forbidden, but sent by some devices (a NAL unit in one fragment).
        if header & _END_BIT:
            self.add_unit(self._fragments.take())

    def role_of(self, unit: bytes) -> UnitRole:
        return _ROLES[unit[0] & 0x1F]

    def begins_frame(self, unit: bytes) -> bool:
        kind = unit[0] & 0x1F
        if kind in (SLICE, IDR_SLICE):
            return len(unit) > 1 and unit[1] >= 0x80  # first_mb_in_slice is 0
        return SEI <= kind <= ACCESS_UNIT_DELIMITER

    def learn(self, units: Sequence[bytes]) -> None:
        self.codec = h264.updated(self.codec, units)

    def finish(self, units: tuple[bytes, ...], pts: int) -> Frame | None:
        self.learn(units)
        key = h264.is_key(units)
        dts = self._dts.extract(h264.with_parameter_sets(self.codec, units) if key else units, pts)
        if dts is None:
            return None
        return Frame(units, pts, dts, key=key)


class H264Packetizer(BasePacketizer):
    """Packetization mode 1. Parameter sets are added before every IDR picture without them."""

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        units: Sequence[bytes] = frame.units
        if frame.key and isinstance(self.codec, H264):
            units = h264.with_parameter_sets(self.codec, units)
        return payloads_of(units, self._maximum_payload)


def payloads_of(units: Sequence[bytes], maximum_payload: int) -> list[bytes]:
    """Return the payloads with the NAL units: small ones aggregated, large ones fragmented."""
    return packetize_units(units, maximum_payload, 1, aggregation_packet, fragments)


def aggregation_packet(units: Sequence[bytes]) -> bytes:
    """Return a STAP-A payload (RFC 6184 section 5.7.1)."""
    importance = max(unit[0] & 0x60 for unit in units)
    forbidden = max(unit[0] & 0x80 for unit in units)
    parts = [bytes((forbidden | importance | STAP_A,))]
    for unit in units:
        parts.append(len(unit).to_bytes(2, "big"))
        parts.append(unit)
    return b"".join(parts)


def fragments(unit: bytes, maximum_payload: int, *, begin: bool = True, finish: bool = True) -> list[bytes]:
    """Return the FU-A payloads of a NAL unit (RFC 6184 section 5.8).

    ``begin`` and ``finish``: whether ``unit`` contains the start and the end of the NAL unit.
    """
    indicator = unit[0] & 0xE0 | FU_A
    kind = unit[0] & 0x1F
    room = maximum_payload - 2
    payloads: list[bytes] = []
    for position in range(1, len(unit), room):
        header = kind
        if begin and position == 1:
            header |= _START_BIT
        if finish and position + room >= len(unit):
            header |= _END_BIT
        payloads.append(bytes((indicator, header)) + unit[position : position + room])
    return payloads


class H264Payload(RtpPayload[H264]):
    """See `RtpPayload`."""

    codec_type = H264
    encodings = ("H264",)
    requires_parameters = True
    continuation = CONTINUATION
    marker_ends_frame = True
    is_self_describing = True
    packetizer_type = H264Packetizer

    def from_sdp(self, media: SdpMedia) -> H264:
        return h264.updated(H264(), decode_base64_list(media.parameters.get("sprop-parameter-sets", "")))

    def live_parameters(self, codec: H264) -> dict[str, str]:
        values: dict[str, str] = {}
        units = [unit for unit in (codec.sps, codec.pps, *codec.extra_parameter_sets) if unit]
        if units:
            values["sprop-parameter-sets"] = encode_base64_list(units)
        if len(codec.sps) >= 4:
            values["profile-level-id"] = codec.sps[1:4].hex().upper()
        return values

    def parameters(self, codec: H264) -> dict[str, str]:
        return {"packetization-mode": "1"} | self.live_parameters(codec)

    def peek_for(self, codec: H264) -> Peek:
        return peek

    def parameters_from_packet(self, codec: H264, data: bytes, payload: int, end: int) -> H264:
        return h264.updated(codec, units_of(data, payload, end))

    def depacketizer(self, codec: H264, track: Track) -> H264Depacketizer:
        return H264Depacketizer(codec, track.clock_rate)

    def split(self, codec: H264, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        data, payload, end = packet.data, packet.payload, packet.end
        if data[payload] & 0x1F == FU_A:
            header = data[payload + 1]
            unit = bytes((data[payload] & 0xE0 | header & 0x1F,)) + data[payload + 2 : end]
            begin, finish = header & _START_BIT != 0, header & _END_BIT != 0
            parts = fragments(unit, room, begin=begin, finish=finish)
        else:
            parts = payloads_of(units_of(data, payload, end), room)
        return [(part, 0) for part in parts]

    def refragmenter(self, codec: H264, room: int) -> Refragmenter:
        return UnitRefragmenter(room, 2, lambda data, payload: data[payload] & 0x1F == FU_A)

    def parameter_sets(self, codec: H264) -> tuple[bytes, ...]:
        return h264.parameter_sets(codec)


PAYLOAD = H264Payload()
