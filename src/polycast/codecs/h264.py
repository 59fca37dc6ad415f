"""H.264: NAL units, key frames, parameter sets, decoding times, the avcC record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import IntEnum

from polycast.codecs.bits import BitReader
from polycast.codecs.bitstream import Bitstream
from polycast.codecs.h264_parameter_sets import (
    MAXIMUM_PARAMETER_SET_SIZE,
    SequenceParameterSet,
    SliceHeader,
    parse_slice_header,
    parse_slice_type,
    parse_sps,
)
from polycast.codecs.nal import join_annexb, remove_emulation_prevention, split_annexb
from polycast.codecs.reorder import DepthObserver, ReorderQueue
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import H264
from polycast.media.timebase import TimestampExtender

__all__ = [
    "BITSTREAM",
    "DtsExtractor",
    "NalType",
    "SequenceParameterSet",
    "SliceHeader",
    "build_configuration_record",
    "codec_string",
    "is_key",
    "parse_configuration_record",
    "parse_slice_header",
    "parse_sps",
    "reorders",
    "resolution",
    "updated",
    "with_parameter_sets",
    "without_delimiters",
]

MAXIMUM_EXTRA_PARAMETER_SETS = 64
"""Parameter sets besides the first SPS and PPS. Streams with one PPS per picture type have about 4."""

_FALLBACK_FRAME_RATE = 30.0
_RECOVERY_POINT = 6
"""SEI payload type of the recovery point message (Rec. ITU-T H.264 section D.1.8)."""
_SLICE_TYPE_I = 2
_PROFILES_WITHOUT_EXTENSION = (66, 77, 88)  # baseline, main, extended: the record ends after the PPS


class NalType(IntEnum):
    """NAL unit types (Rec. ITU-T H.264 table 7-1; 24 to 29 are those of RFC 6184 section 5.2)."""

    NON_IDR = 1
    DATA_PARTITION_A = 2
    DATA_PARTITION_B = 3
    DATA_PARTITION_C = 4
    IDR = 5
    SEI = 6
    SPS = 7
    PPS = 8
    ACCESS_UNIT_DELIMITER = 9
    END_OF_SEQUENCE = 10
    END_OF_STREAM = 11
    FILLER_DATA = 12
    SPS_EXTENSION = 13
    PREFIX = 14
    SUBSET_SPS = 15
    STAP_A = 24
    STAP_B = 25
    MTAP_16 = 26
    MTAP_24 = 27
    FU_A = 28
    FU_B = 29


_PICTURE_KINDS = frozenset({NalType.NON_IDR, NalType.IDR, NalType.DATA_PARTITION_A})
_PARAMETER_SET_KINDS = frozenset({NalType.SPS, NalType.PPS, NalType.SPS_EXTENSION})
# Plain numbers are compared much faster than members of an enumeration.
_IDR, _SEI, _SPS = int(NalType.IDR), int(NalType.SEI), int(NalType.SPS)
_SLICE_KINDS = (int(NalType.NON_IDR), _IDR)
_OTHER_KINDS = (int(NalType.NON_IDR), int(NalType.DATA_PARTITION_A))


def is_key(units: Sequence[bytes]) -> bool:
    """Return whether decoding can start at this access unit.

    It can at an IDR picture. Also at an I picture that comes with an SPS or with a recovery point of 0 frames: that is
    how x264 marks the start of an open group of pictures, and how some cameras mark every one of theirs.
    Streams with gradual refresh only (a recovery point of several frames) have no key frame after their first.
    """
    marked = False
    for unit in units:
        if not unit:
            continue
        kind = unit[0] & 0x1F
        if kind == _IDR:
            return True
        if kind in _OTHER_KINDS:
            return marked and _is_intra(units)
        if kind == _SPS or (kind == _SEI and _has_immediate_recovery_point(unit)):
            marked = True
    return False


def _is_intra(units: Sequence[bytes]) -> bool:
    try:
        return all(
            parse_slice_type(unit) == _SLICE_TYPE_I
            for unit in units
            if unit and unit[0] & 0x1F in (NalType.NON_IDR, NalType.DATA_PARTITION_A)
        )
    except RemoteProtocolError:
        return False


def _has_immediate_recovery_point(unit: bytes) -> bool:
    position = 1
    end = len(unit) - 1  # the last byte is rbsp_trailing_bits
    while position < end:
        kind, position = _read_sei_number(unit, position)
        size, position = _read_sei_number(unit, position)
        if kind == _RECOVERY_POINT:
            return position < len(unit) and unit[position] & 0x80 != 0  # recovery_frame_cnt is ue(v): "1" is 0
        position += size
    return False


def _read_sei_number(unit: bytes, position: int) -> tuple[int, int]:
    value = 0
    end = len(unit)
    while position < end:
        byte = unit[position]
        position += 1
        value += byte
        if byte != 0xFF:
            break
    return value, position


def with_parameter_sets(codec: H264, units: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the units of an access unit, with the codec's parameter sets in front of a key frame that lacks them."""
    if not codec.sps or not codec.pps or not is_key(units):
        return tuple(units)
    kinds = {unit[0] & 0x1F for unit in units if unit}
    if NalType.SPS in kinds and NalType.PPS in kinds:
        return tuple(units)
    return (*parameter_sets(codec), *(unit for unit in units if unit and unit[0] & 0x1F not in _PARAMETER_SET_KINDS))


def parameter_sets(codec: H264) -> tuple[bytes, ...]:
    """Return all parameter sets of a codec, those of sequences first."""
    extra = codec.extra_parameter_sets
    sets = (
        codec.sps,
        *(unit for unit in extra if unit[0] & 0x1F != NalType.PPS),
        codec.pps,
        *(unit for unit in extra if unit[0] & 0x1F == NalType.PPS),
    )
    return tuple(unit for unit in sets if unit)


def updated(codec: H264, units: Sequence[bytes]) -> H264:
    """Return the codec with the parameter sets of this access unit; the same object if it is unchanged.

    A new SPS replaces all parameter sets by those of the access unit; a PPS alone replaces the one with its number.
    Parameter sets that cannot be parsed are ignored.
    """
    found: list[bytes] | None = None
    for unit in units:
        if not unit:
            continue
        kind = unit[0] & 0x1F
        if kind in _SLICE_KINDS:
            break
        if kind in _PARAMETER_SET_KINDS and unit != codec.sps and unit != codec.pps:
            if unit not in codec.extra_parameter_sets:
                found = found or []
            if found is not None:
                found.append(unit)
    if found is None:
        return codec
    return _merged(codec, [unit for unit in units if unit and unit[0] & 0x1F in _PARAMETER_SET_KINDS])


def _merged(codec: H264, units: list[bytes]) -> H264:
    sequence_sets: list[bytes] = []
    extensions: list[bytes] = []
    picture_sets: dict[int, bytes] = {}
    for unit in units:
        kind = unit[0] & 0x1F
        if kind == NalType.SPS and _is_valid_sps(unit):
            sequence_sets.append(unit)
        elif kind == NalType.SPS_EXTENSION and len(unit) <= MAXIMUM_PARAMETER_SET_SIZE:
            extensions.append(unit)
        elif kind == NalType.PPS and (number := _picture_parameter_set_number(unit)) is not None:
            picture_sets[number] = unit
    old_pictures = [unit for unit in (codec.pps, *codec.extra_parameter_sets) if unit and unit[0] & 0x1F == NalType.PPS]
    if not sequence_sets:
        sequence_sets = [
            unit for unit in (codec.sps, *codec.extra_parameter_sets) if unit and unit[0] & 0x1F == NalType.SPS
        ]
        old_numbers = {_picture_parameter_set_number(unit): unit for unit in old_pictures}
        picture_sets = {number: unit for number, unit in (old_numbers | picture_sets).items() if number is not None}
    pictures = list(picture_sets.values()) or old_pictures
    extra = (*sequence_sets[1:], *extensions, *pictures[1:])[:MAXIMUM_EXTRA_PARAMETER_SETS]
    merged = replace(
        codec,
        sps=sequence_sets[0] if sequence_sets else b"",
        pps=pictures[0] if pictures else b"",
        extra_parameter_sets=extra,
    )
    return merged if merged != codec else codec


def _is_valid_sps(unit: bytes) -> bool:
    try:
        parse_sps(unit)
    except RemoteProtocolError:
        return False
    return True


def _picture_parameter_set_number(unit: bytes) -> int | None:
    if len(unit) > MAXIMUM_PARAMETER_SET_SIZE:
        return None
    try:
        number = BitReader(remove_emulation_prevention(unit[1:8])).read_ue()
    except RemoteProtocolError:
        return None
    return number if number <= 255 else None


def parse_configuration_record(data: bytes) -> tuple[H264, int]:
    """Parse an AVCDecoderConfigurationRecord (avcC, ISO/IEC 14496-15 section 5.3.3.1).

    Returns the codec and the size of a sample's length prefixes in bytes. Raises `RemoteProtocolError`.
    """
    if len(data) < 7 or data[0] != 1:
        raise RemoteProtocolError("not an AVC decoder configuration record")
    length_size = (data[4] & 3) + 1
    if length_size == 3:
        raise RemoteProtocolError("a length prefix of 3 bytes is not valid")
    sequence_sets, position = _read_parameter_sets(data, 6, data[5] & 0x1F, NalType.SPS)
    if position >= len(data):
        raise RemoteProtocolError("an AVC decoder configuration record ends too early")
    picture_sets, position = _read_parameter_sets(data, position + 1, data[position], NalType.PPS)
    extensions: list[bytes] = []
    if len(data) >= position + 4 and data[1] not in _PROFILES_WITHOUT_EXTENSION:
        extensions, position = _read_parameter_sets(data, position + 4, data[position + 3], NalType.SPS_EXTENSION)
    codec = H264(
        sps=sequence_sets[0] if sequence_sets else b"",
        pps=picture_sets[0] if picture_sets else b"",
        extra_parameter_sets=(*sequence_sets[1:], *extensions, *picture_sets[1:])[:MAXIMUM_EXTRA_PARAMETER_SETS],
    )
    return codec, length_size


def _read_parameter_sets(data: bytes, position: int, count: int, kind: NalType) -> tuple[list[bytes], int]:
    units: list[bytes] = []
    for _ in range(count):
        start = position + 2
        position = start + int.from_bytes(data[position:start], "big")
        if start > len(data) or position > len(data):
            raise RemoteProtocolError("an AVC decoder configuration record ends too early")
        unit = data[start:position]
        if len(unit) > MAXIMUM_PARAMETER_SET_SIZE:
            raise RemoteProtocolError(f"a parameter set of {len(unit)} bytes is too large")
        if unit and unit[0] & 0x1F == kind:
            units.append(unit)
    return units, position


def build_configuration_record(codec: H264) -> bytes:
    """Return the AVCDecoderConfigurationRecord (avcC) of a codec, for samples with 4-byte length prefixes.

    Raises `LocalProtocolError` if the codec has no parameter sets yet, `RemoteProtocolError` if its SPS is invalid.
    """
    if len(codec.sps) < 4 or not codec.pps:
        raise LocalProtocolError("the H264 parameter sets are not known yet")
    sets: dict[int, list[bytes]] = {NalType.SPS: [], NalType.PPS: [], NalType.SPS_EXTENSION: []}
    for unit in parameter_sets(codec):
        if unit[0] & 0x1F in sets:
            sets[unit[0] & 0x1F].append(unit)
    sequence_sets = sets[NalType.SPS][:31]
    picture_sets = sets[NalType.PPS][:255]
    parts = [bytes((1, *codec.sps[1:4], 0xFF, 0xE0 | len(sequence_sets))), *map(_length_prefixed, sequence_sets)]
    parts += [bytes((len(picture_sets),)), *map(_length_prefixed, picture_sets)]
    if codec.sps[1] not in _PROFILES_WITHOUT_EXTENSION:
        sps = parse_sps(codec.sps)
        extensions = sets[NalType.SPS_EXTENSION]
        depths = (0xF8 | sps.bit_depth_luma - 8, 0xF8 | sps.bit_depth_chroma - 8)
        parts += [bytes((0xFC | sps.chroma_format, *depths, len(extensions))), *map(_length_prefixed, extensions)]
    return b"".join(parts)


def _length_prefixed(unit: bytes) -> bytes:
    if len(unit) > MAXIMUM_PARAMETER_SET_SIZE:
        raise RemoteProtocolError(f"a parameter set of {len(unit)} bytes is too large")
    return len(unit).to_bytes(2, "big") + unit


def codec_string(codec: H264) -> str:
    """Return the codec string, such as ``avc1.42c028`` (RFC 6381 section 3.3); ``avc1`` while unknown."""
    return f"avc1.{codec.sps[1:4].hex()}" if len(codec.sps) >= 4 else "avc1"


def resolution(codec: H264) -> tuple[int, int] | None:
    """Return width and height in pixels; None if the SPS is unknown or invalid."""
    try:
        sps = parse_sps(codec.sps)
    except RemoteProtocolError:
        return None
    return sps.width, sps.height


class DtsExtractor:
    """Computes decoding times, which RTP does not carry. Feed it every access unit in decoding order.

    The SPS is taken from the access units, or from ``codec`` until one comes. If it contains the reorder depth (x264,
    most hardware encoders) the result is that of the encoder. Where it does not, the depth is learned: a gap in the
    picture order count says that pictures shown earlier are still to come. Without reordering, dts equals pts.

    Times are in ticks of ``clock_rate``. The first decoding times may lie before the first presentation time, so they
    may be negative.
    """

    __slots__ = ("_clock_rate", "_extender", "_last_sps", "_observer", "_queue", "_sps", "_started", "_trusted")

    def __init__(self, codec: H264 | None = None, clock_rate: int = 90_000) -> None:
        self._clock_rate = clock_rate
        self._queue = ReorderQueue()
        self._observer = DepthObserver()
        self._sps: SequenceParameterSet | None = None
        self._last_sps = codec.sps if codec is not None else b""
        self._extender = TimestampExtender()
        """Of the picture order count, whose lower bits slices carry."""
        self._trusted = True
        """Whether the SPS has the correct reorder depth, as far as is known."""
        self._started = False

    def extract(self, units: Sequence[bytes], pts: int) -> int | None:
        """Return the decoding time of an access unit shown at ``pts``.

        It never decreases and never is after ``pts``. None until the first key frame, and for a picture that comes so
        late that no time is left for it: such an access unit is to be dropped. Never raises.
        """
        picture = b""
        sequence_set = self._last_sps
        for unit in units:
            if not unit:
                continue
            kind = unit[0] & 0x1F
            if kind in _PICTURE_KINDS:
                picture = unit
                break
            if kind == _SPS:
                sequence_set = unit
        if not self._started:
            if not is_key(units):
                return None
            self._started = True
            self._set_sps(sequence_set, pts)
        elif sequence_set != self._last_sps:
            self._set_sps(sequence_set, pts)
        sps = self._sps
        if sps is None or sps.reorder_depth is None or not self._trusted:
            self._observe(picture, sps, pts)
        dts = self._queue.push(pts)
        if dts is None:
            self._trusted = False
        return dts

    def _set_sps(self, unit: bytes, pts: int) -> None:
        self._last_sps = unit
        try:
            self._sps = sps = parse_sps(unit)
        except RemoteProtocolError:
            return
        self._trusted = True
        self._observer = DepthObserver()
        self._extender = TimestampExtender(sps.poc_bits or 32)
        if sps.reorder_depth is not None:
            self._queue.set_depth(sps.reorder_depth, pts, self._interval())

    def _interval(self) -> int:
        rate = self._sps.frame_rate if self._sps is not None else None
        return round(self._clock_rate / (rate or _FALLBACK_FRAME_RATE))

    def _observe(self, picture: bytes, sps: SequenceParameterSet | None, pts: int) -> None:
        starts_sequence = bool(picture) and picture[0] & 0x1F == NalType.IDR
        depth = self._observer.observe(pts, self._picture_order_count(picture, sps, starts_sequence), starts_sequence)
        if sps is not None and sps.reorder_depth is not None:
            depth = max(depth, sps.reorder_depth)
        if depth != self._queue.depth:
            self._queue.set_depth(depth, pts, self._interval())

    def _picture_order_count(
        self, picture: bytes, sps: SequenceParameterSet | None, starts_sequence: bool
    ) -> int | None:
        if not picture or sps is None:
            return None
        try:
            lower_bits = parse_slice_header(picture, sps).poc_lsb
        except RemoteProtocolError:
            return None
        if lower_bits is None:
            return None
        if starts_sequence:
            self._extender = TimestampExtender(sps.poc_bits)
        return self._extender.extend(lower_bits)


_DELIMITER = int(NalType.ACCESS_UNIT_DELIMITER)


def without_delimiters(units: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the units of an access unit that belong into a frame."""
    # A list is faster than a generator; the hot path of RTMP.
    return tuple([unit for unit in units if unit[0] & 0x1F != _DELIMITER])


def reorders(codec: H264) -> bool:
    """Return whether the SPS says that the decoding order differs from the presentation order."""
    try:
        return bool(codec.sps and parse_sps(codec.sps).reorder_depth)
    except RemoteProtocolError:
        return False


BITSTREAM = Bitstream(
    H264,
    is_key=is_key,
    split=lambda data: without_delimiters(split_annexb(data)),
    join=join_annexb,
    updated=updated,
    with_parameters=with_parameter_sets,
    reorders=reorders,
    resolution=resolution,
    codec_string=codec_string,
)
