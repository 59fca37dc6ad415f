"""MPEG-4 audio in LATM (RFC 6416 section 6; ISO/IEC 14496-3 section 1.7.3): MP4A-LATM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polycast.codecs import aac
from polycast.codecs.nal import BitReader
from polycast.errors import RemoteProtocolError
from polycast.media.codec import MPEG4Audio
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.timebase import rescale
from polycast.media.track import Track
from polycast.rtp.payload.base import NO_FRAMES, BaseDepacketizer, BasePacketizer
from polycast.rtp.payload.format_parameters import decode_hexadecimal, parse_parameters
from polycast.rtp.payload.mpeg4_audio import codec_of
from polycast.rtp.payload.rtp_payload import RtpPayload, SdpMedia

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


class LatmDepacketizer(BaseDepacketizer):
    """See `Depacketizer`. ``configuration`` is None if it is in-band (``cpresent=1``)."""

    def __init__(self, codec: MPEG4Audio, clock_rate: int, configuration: StreamMuxConfig | None) -> None:
        super().__init__()
        self._in_band = configuration is None
        self._configuration = configuration
        self._duration = rescale(aac.samples_per_frame(codec), codec.sample_rate, clock_rate)
        self._timestamp = -1
        self._damaged = False

    def on_loss(self) -> None:
        # Without a payload header, a lost packet may be the start of the current element; only if the previous packet
        # ended an element is it likely that whole elements were lost.
        if self._fragments:
            self._damaged = True

    def reset(self) -> None:
        self._fragments.clear()

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        if packet.timestamp != self._timestamp:
            if self._fragments or self._damaged:
                self._fragments.clear()
                self.lost_frames += 1
            self._damaged = False
            self._timestamp = packet.timestamp
        if not self._damaged:
            self._fragments.append(packet.payload_bytes())
            if self._fragments.size > MAXIMUM_ELEMENT_SIZE:
                raise RemoteProtocolError("LATM element is too large")
        if not packet.marker:
            return NO_FRAMES
        if self._damaged:
            self._damaged = False
            self._fragments.clear()
            self.lost_frames += 1
            return NO_FRAMES
        return self._parse_element(self._fragments.take(), pts)

    def _parse_element(self, data: bytes, pts: int) -> Sequence[Frame]:
        offset = 0
        if self._in_band and data:
            offset = 1
            if not data[0] & 0x80:  # useSameStreamMux
                shifted = _shift_left(data, 1)
                self._configuration = parse_stream_mux_config(shifted)
                offset += self._configuration.size
        configuration = self._configuration
        if configuration is None:
            return NO_FRAMES
        data = _shift_left(data[offset // 8 :], offset % 8)
        frames: list[Frame] = []
        position = 0
        for index in range(configuration.sub_frames):
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
            if size:
                time = pts + index * self._duration
                unit = data[position : position + size]
                frames.append(Frame((unit,), time, time, key=True, duration=self._duration))
            position += size
        return frames


def _shift_left(data: bytes, bits: int) -> bytes:
    if not bits:
        return data
    value = int.from_bytes(data, "big") << bits & (1 << len(data) * 8) - 1
    return value.to_bytes(len(data), "big")


class LatmPacketizer(BasePacketizer):
    """One access unit per AudioMuxElement, configuration out of band (``cpresent=0``)."""

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        unit = frame.units[0]
        element = b"\xff" * (len(unit) // 255) + bytes((len(unit) % 255,)) + unit
        room = self._maximum_payload
        return [element[position : position + room] for position in range(0, len(element), room)]


class LatmPayload(RtpPayload[MPEG4Audio]):
    """See `RtpPayload`. The second format of MPEG-4 audio: read, and kept where a publisher announced it."""

    codec_type = MPEG4Audio
    encodings = ("MP4A-LATM",)
    packetizer_type = LatmPacketizer

    def from_sdp(self, media: SdpMedia) -> MPEG4Audio:
        try:
            configuration = parse_stream_mux_config(decode_hexadecimal(media.parameters.get("config", "")))
        except RemoteProtocolError:
            return codec_of(b"", media)
        return codec_of(configuration.audio_specific_config, media)

    def depacketizer(self, codec: MPEG4Audio, track: Track) -> LatmDepacketizer:
        parameters = parse_parameters(track.rtp.parameters) if track.rtp is not None else {}
        configuration = None
        # RFC 6416 section 7.3: cpresent is 1 by default.
        if parameters.get("cpresent", "1") == "0":
            try:
                configuration = parse_stream_mux_config(decode_hexadecimal(parameters.get("config", "")))
            except RemoteProtocolError:
                configuration = StreamMuxConfig(1, codec.configuration, 0)
        return LatmDepacketizer(codec, track.clock_rate, configuration)


PAYLOAD = LatmPayload()
