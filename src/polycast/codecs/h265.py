"""H.265: NAL units, key frames, parameter sets, decoding times, the hvcC record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import IntEnum

from polycast.codecs.bitstream import Bitstream
from polycast.codecs.h265_parameter_sets import (
    MAXIMUM_PARAMETER_SET_SIZE,
    ProfileTierLevel,
    SequenceParameterSet,
    parse_sps,
)
from polycast.codecs.nal import join_annexb, split_annexb
from polycast.codecs.reorder import DepthObserver, ReorderQueue
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import H265

__all__ = [
    "BITSTREAM",
    "DtsExtractor",
    "NalType",
    "ProfileTierLevel",
    "SequenceParameterSet",
    "build_configuration_record",
    "codec_string",
    "is_key",
    "nal_type",
    "parse_configuration_record",
    "parse_sps",
    "reorders",
    "resolution",
    "updated",
    "with_parameter_sets",
    "without_delimiters",
]

_FALLBACK_FRAME_RATE = 30.0
_RECORD_HEADER_SIZE = 23


class NalType(IntEnum):
    """NAL unit types (Rec. ITU-T H.265 table 7-1; 48 to 50 are those of RFC 7798 section 4.4)."""

    TRAIL_N = 0
    TRAIL_R = 1
    RADL_N = 6
    RADL_R = 7
    RASL_N = 8
    RASL_R = 9
    BLA_W_LP = 16
    BLA_W_RADL = 17
    BLA_N_LP = 18
    IDR_W_RADL = 19
    IDR_N_LP = 20
    CRA = 21
    VPS = 32
    SPS = 33
    PPS = 34
    ACCESS_UNIT_DELIMITER = 35
    END_OF_SEQUENCE = 36
    END_OF_BITSTREAM = 37
    FILLER_DATA = 38
    PREFIX_SEI = 39
    SUFFIX_SEI = 40
    AGGREGATION_PACKET = 48
    FRAGMENTATION_UNIT = 49
    PACI = 50


_PARAMETER_SET_KINDS = (NalType.VPS, NalType.SPS, NalType.PPS)


def nal_type(unit: bytes) -> int:
    """Return the type of a NAL unit that has at least one byte."""
    return unit[0] >> 1 & 0x3F


def is_key(units: Sequence[bytes]) -> bool:
    """Return whether decoding can start at this access unit: an intra random access point (IDR, BLA, CRA)."""
    for unit in units:
        if unit:
            kind = unit[0] >> 1 & 0x3F
            if kind < 32:
                return 16 <= kind <= 23
    return False


def with_parameter_sets(codec: H265, units: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the units of an access unit, with the codec's parameter sets in front of a key frame that lacks them."""
    if not codec.vps or not codec.sps or not codec.pps or not is_key(units):
        return tuple(units)
    kinds = {nal_type(unit) for unit in units if unit}
    if kinds.issuperset(_PARAMETER_SET_KINDS):
        return tuple(units)
    others = (unit for unit in units if unit and nal_type(unit) not in _PARAMETER_SET_KINDS)
    return (codec.vps, codec.sps, codec.pps, *others)


def updated(codec: H265, units: Sequence[bytes]) -> H265:
    """Return the codec with the parameter sets of this access unit; the same object if it is unchanged.

    The first one of each kind counts. An SPS that cannot be parsed is left out, as are oversized units.
    """
    vps = sps = pps = b""
    for unit in units:
        if not unit:
            continue
        kind = unit[0] >> 1 & 0x3F
        if kind < 32:
            break
        if kind == NalType.VPS:
            vps = vps or unit
        elif kind == NalType.SPS:
            sps = sps or unit
        elif kind == NalType.PPS:
            pps = pps or unit
    vps = vps if 0 < len(vps) <= MAXIMUM_PARAMETER_SET_SIZE else codec.vps
    pps = pps if 0 < len(pps) <= MAXIMUM_PARAMETER_SET_SIZE else codec.pps
    sps = sps or codec.sps
    if (vps, sps, pps) == (codec.vps, codec.sps, codec.pps):
        return codec
    if sps != codec.sps:
        try:
            parse_sps(sps)
        except RemoteProtocolError:
            sps = codec.sps
            if (vps, pps) == (codec.vps, codec.pps):
                return codec
    return replace(codec, vps=vps, sps=sps, pps=pps)


def parse_configuration_record(data: bytes) -> tuple[H265, int]:
    """Parse an HEVCDecoderConfigurationRecord (hvcC, ISO/IEC 14496-15 section 8.3.3.1).

    Returns the codec and the size of a sample's length prefixes in bytes. Raises `RemoteProtocolError`.
    """
    if len(data) < _RECORD_HEADER_SIZE or data[0] > 1:  # early drafts, still written by some encoders, have version 0
        raise RemoteProtocolError("not an HEVC decoder configuration record")
    length_size = (data[21] & 3) + 1
    if length_size == 3:
        raise RemoteProtocolError("a length prefix of 3 bytes is not valid")
    found: dict[int, bytes] = {}
    position = _RECORD_HEADER_SIZE
    for _ in range(data[22]):
        count = int.from_bytes(data[position + 1 : position + 3], "big")
        position += 3
        for _ in range(count):
            start = position + 2
            position = start + int.from_bytes(data[position:start], "big")
            if start > len(data) or position > len(data):
                raise RemoteProtocolError("an HEVC decoder configuration record ends too early")
            unit = data[start:position]
            if len(unit) > MAXIMUM_PARAMETER_SET_SIZE:
                raise RemoteProtocolError(f"a parameter set of {len(unit)} bytes is too large")
            if unit:
                found.setdefault(nal_type(unit), unit)
        if position > len(data):
            raise RemoteProtocolError("an HEVC decoder configuration record ends too early")
    codec = H265(vps=found.get(NalType.VPS, b""), sps=found.get(NalType.SPS, b""), pps=found.get(NalType.PPS, b""))
    return codec, length_size


def build_configuration_record(codec: H265) -> bytes:
    """Return the HEVCDecoderConfigurationRecord (hvcC) of a codec, for samples with 4-byte length prefixes.

    Raises `LocalProtocolError` if the codec has no parameter sets yet, `RemoteProtocolError` if its SPS is invalid.
    """
    if not codec.vps or not codec.sps or not codec.pps:
        raise LocalProtocolError("the H265 parameter sets are not known yet")
    sps = parse_sps(codec.sps)
    general = sps.profile_tier_level
    parts = [
        bytes((1, general.profile_space << 6 | general.tier << 5 | general.profile)),
        general.compatibility.to_bytes(4, "big"),
        general.constraints,
        bytes((general.level, 0xF0, 0x00, 0xFC)),  # segmentation and parallelism: not known
        bytes((0xFC | sps.chroma_format, 0xF8 | sps.bit_depth_luma - 8, 0xF8 | sps.bit_depth_chroma - 8)),
        bytes((0, 0, sps.temporal_layers << 3 | sps.temporal_nesting << 2 | 3, 3)),  # average frame rate: not known
    ]
    for kind, unit in zip(_PARAMETER_SET_KINDS, (codec.vps, codec.sps, codec.pps), strict=True):
        if len(unit) > MAXIMUM_PARAMETER_SET_SIZE:
            raise RemoteProtocolError(f"a parameter set of {len(unit)} bytes is too large")
        parts.append(bytes((0x80 | kind, 0, 1)) + len(unit).to_bytes(2, "big") + unit)  # 0x80: array_completeness
    return b"".join(parts)


def codec_string(codec: H265) -> str:
    """Return the codec string, such as ``hvc1.1.6.L93.B0`` (ISO/IEC 14496-15 annex E).

    ``hvc1`` when the SPS is unknown or invalid.
    """
    try:
        general = parse_sps(codec.sps).profile_tier_level
    except RemoteProtocolError:
        return "hvc1"
    space = ("", "A", "B", "C")[general.profile_space]
    compatibility = int(f"{general.compatibility:032b}"[::-1], 2)
    constraints = "".join(f".{byte:X}" for byte in general.constraints.rstrip(b"\x00"))
    return f"hvc1.{space}{general.profile}.{compatibility:X}.{'LH'[general.tier]}{general.level}{constraints}"


def resolution(codec: H265) -> tuple[int, int] | None:
    """Return width and height in pixels; None if the SPS is unknown or invalid."""
    try:
        sps = parse_sps(codec.sps)
    except RemoteProtocolError:
        return None
    return sps.width, sps.height


class DtsExtractor:
    """Computes decoding times, which RTP does not carry. Feed it every access unit in decoding order.

    The SPS is taken from the access units, or from ``codec`` until one comes. It tells the reorder depth, with which
    the result is that of the encoder; where presentation times show it to be wrong, the depth is learned from them.
    Without reordering, dts equals pts.

    Times are in ticks of ``clock_rate``. The first decoding times may lie before the first presentation time, so they
    may be negative.
    """

    __slots__ = ("_clock_rate", "_declared_depth", "_observer", "_queue", "_sps", "_started", "_trusted")

    def __init__(self, codec: H265 | None = None, clock_rate: int = 90_000) -> None:
        self._clock_rate = clock_rate
        self._queue = ReorderQueue()
        self._observer = DepthObserver()
        self._sps = codec.sps if codec is not None else b""
        self._declared_depth = 0
        self._trusted = False
        """Whether the SPS has the correct reorder depth, as far as is known."""
        self._started = False

    def extract(self, units: Sequence[bytes], pts: int) -> int | None:
        """Return the decoding time of an access unit shown at ``pts``.

        It never decreases and never is after ``pts``. None until the first key frame, and for a picture that comes so
        late that no time is left for it: such an access unit is to be dropped. Never raises.
        """
        sequence_set = self._sps
        kind = NalType.TRAIL_R.value
        for unit in units:
            if not unit:
                continue
            kind = unit[0] >> 1 & 0x3F
            if kind < 32:
                break
            if kind == NalType.SPS:
                sequence_set = unit
        if not self._started:
            if not is_key(units):
                return None
            self._started = True
            self._set_sps(sequence_set, pts)
        elif sequence_set != self._sps:
            self._set_sps(sequence_set, pts)
        if not self._trusted:
            depth = max(self._declared_depth, self._observer.observe(pts, None, 16 <= kind <= 20))
            if depth != self._queue.depth:
                self._queue.set_depth(depth, pts, round(self._clock_rate / _FALLBACK_FRAME_RATE))
        dts = self._queue.push(pts)
        if dts is None:
            self._trusted = False
        return dts

    def _set_sps(self, unit: bytes, pts: int) -> None:
        self._sps = unit
        try:
            sps = parse_sps(unit)
        except RemoteProtocolError:
            return
        self._trusted = True
        self._observer = DepthObserver()
        self._declared_depth = sps.reorder_depth
        interval = round(self._clock_rate / (sps.frame_rate or _FALLBACK_FRAME_RATE))
        self._queue.set_depth(sps.reorder_depth, pts, interval)


_DELIMITER = int(NalType.ACCESS_UNIT_DELIMITER)


def without_delimiters(units: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the units of an access unit that belong into a frame; those without a whole header do not."""
    # A list is faster than a generator; the hot path of RTMP.
    return tuple([unit for unit in units if len(unit) > 1 and unit[0] >> 1 & 0x3F != _DELIMITER])


def reorders(codec: H265) -> bool:
    """Return whether the SPS says that the decoding order differs from the presentation order."""
    try:
        return bool(codec.sps and parse_sps(codec.sps).reorder_depth)
    except RemoteProtocolError:
        return False


BITSTREAM = Bitstream(
    H265,
    is_key=is_key,
    split=lambda data: without_delimiters(split_annexb(data)),
    join=join_annexb,
    updated=updated,
    with_parameters=with_parameter_sets,
    reorders=reorders,
    resolution=resolution,
    codec_string=codec_string,
)
