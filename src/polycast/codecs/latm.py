"""LATM, a second form of MPEG-4 audio (ISO/IEC 14496-3 section 1.7): in RTP (RFC 6416) and in MPEG-TS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polycast.codecs.bits import BitReader
from polycast.errors import RemoteProtocolError

MAXIMUM_ELEMENT_SIZE = 65_536
"""Bytes of one AudioMuxElement: 64 sub-frames of AAC at 6144 bits per channel and two channels are less."""

_OBJECT_TYPE_SBR = 5
_OBJECT_TYPE_PS = 29
_EXPLICIT_FREQUENCY = 15


@dataclass(frozen=True, slots=True)
class StreamMuxConfig:
    """The supported subset of StreamMuxConfig (ISO/IEC 14496-3 table 1.42): one program with one layer."""

    sub_frames: int
    """Access units per AudioMuxElement."""
    audio_specific_config: bytes
    size: int
    """Size of the configuration in bits."""
    has_other_data: bool = False


def parse_stream_mux_config(data: bytes) -> StreamMuxConfig:
    """Parse a StreamMuxConfig. Raises `RemoteProtocolError`, also for unsupported forms."""
    if len(data) > MAXIMUM_ELEMENT_SIZE:
        raise RemoteProtocolError("LATM configuration is too large")
    reader = BitReader(data)
    if reader.read(1):
        raise RemoteProtocolError("LATM audioMuxVersion 1 is not supported")
    same_time_framing = reader.read(1)
    sub_frames = reader.read(6) + 1
    programs, layers = reader.read(4), reader.read(3)
    if not same_time_framing or programs or layers:
        raise RemoteProtocolError("LATM with several programs or layers is not supported")
    before = reader.remaining
    _skip_audio_specific_config(reader)
    size = before - reader.remaining
    value = int.from_bytes(data, "big") >> reader.remaining & (1 << size) - 1
    padding = -size % 8
    configuration = (value << padding).to_bytes((size + padding) // 8, "big")
    # A configuration in the fmtp line may omit the rest; the defaults are all zero.
    has_other_data = False
    if reader.remaining >= 3:
        if reader.read(3) != 0:
            raise RemoteProtocolError("LATM frameLengthType is not supported")
        if reader.remaining >= 8:
            reader.skip(8)  # latmBufferFullness
        if reader.remaining >= 2:
            has_other_data = _skip_other_data(reader)
    return StreamMuxConfig(sub_frames, configuration, len(data) * 8 - reader.remaining, has_other_data)


def _skip_other_data(reader: BitReader) -> bool:
    present = reader.read(1) == 1
    if present:
        while reader.read(1):
            reader.skip(8)
        reader.skip(8)
    if reader.remaining and reader.read(1):  # crcCheckPresent
        reader.skip(8)
    return present


def _skip_audio_specific_config(reader: BitReader) -> None:
    """Skip an AudioSpecificConfig (ISO/IEC 14496-3 table 1.15), whose size is not given explicitly."""
    object_type = _read_object_type(reader)
    _skip_frequency(reader)
    channels = reader.read(4)
    if object_type in (_OBJECT_TYPE_SBR, _OBJECT_TYPE_PS):
        _skip_frequency(reader)
        object_type = _read_object_type(reader)
    if object_type not in (1, 2, 3, 4):
        raise RemoteProtocolError(f"LATM with audio object type {object_type} is not supported")
    # GASpecificConfig (table 4.1)
    reader.skip(1)
    if reader.read(1):
        reader.skip(14)
    reader.skip(1)
    if channels == 0:
        raise RemoteProtocolError("LATM with a program config element is not supported")


def _read_object_type(reader: BitReader) -> int:
    object_type = reader.read(5)
    return 32 + reader.read(6) if object_type == 31 else object_type


def _skip_frequency(reader: BitReader) -> None:
    if reader.read(4) == _EXPLICIT_FREQUENCY:
        reader.skip(24)


class ElementReader:
    """Reads AudioMuxElements (ISO/IEC 14496-3 table 1.41)."""

    def __init__(self, configuration: StreamMuxConfig | None = None) -> None:
        """``configuration`` is None if it is in the elements (``muxConfigPresent``)."""
        self._is_in_band = configuration is None
        self.configuration = configuration
        """The last one; None if there was none yet."""

    def read(self, data: bytes) -> Sequence[bytes]:
        """Return the access units of one element; none if the configuration is not known. Empty ones may be among them.

        Raises RemoteProtocolError.
        """
        offset = 0
        if self._is_in_band and data:
            offset = 1
            if not data[0] & 0x80:  # useSameStreamMux
                self.configuration = parse_stream_mux_config(_shift_left(data, 1))
                offset += self.configuration.size
        configuration = self.configuration
        if configuration is None:
            return ()
        data = _shift_left(data[offset // 8 :], offset % 8)
        units: list[bytes] = []
        position = 0
        for _ in range(configuration.sub_frames):
            # PayloadLengthInfo: bytes of 255, and one that is less (table 1.45).
            size = 0
            while position < len(data):
                byte = data[position]
                position += 1
                size += byte
                if byte != 255:
                    break
            if position + size > len(data):
                raise RemoteProtocolError("LATM element is cut off")
            units.append(data[position : position + size])
            position += size
        return units


def _shift_left(data: bytes, bits: int) -> bytes:
    if not bits:
        return data
    value = int.from_bytes(data, "big") << bits & (1 << len(data) * 8) - 1
    return value.to_bytes(len(data), "big")
