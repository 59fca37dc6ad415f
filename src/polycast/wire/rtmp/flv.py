"""Parser of FLV tag bodies, the payload of audio and video messages (FLV 10.1 annex E, Enhanced RTMP v1 and v2).

A message has one part with legacy and most enhanced headers, and several with enhanced multitrack headers.
`input_track` interprets the parts.
"""

from __future__ import annotations

from enum import Enum, IntEnum

from polycast.errors import RemoteProtocolError
from polycast.media.codec import Codec
from polycast.wire.rtmp.audio_codecs import AUDIO_MAPPINGS
from polycast.wire.rtmp.identifiers import LEGACY_AUDIO_NAMES, LEGACY_VIDEO_NAMES, SoundFormat
from polycast.wire.rtmp.supported import AUDIO_FOUR_CCS, VIDEO_FOUR_CCS
from polycast.wire.rtmp.video_codecs import VIDEO_MAPPINGS

MAXIMUM_PARTS = 64
"""Tracks in one message. The track number has 8 bits; OBS sends at most six."""

MAXIMUM_MODIFIERS = 16
"""Consecutive ModEx headers; one is defined, the specification sets no limit."""

EXTENDED_VIDEO = 0x80
"""The bit of the first byte of a video message that announces an enhanced header."""


class FrameType(IntEnum):
    """Video frame types (FLV annex E.4.3.1)."""

    KEY = 1
    INTER = 2
    DISPOSABLE_INTER = 3
    GENERATED_KEY = 4
    COMMAND = 5


class VideoPacketType(IntEnum):
    """Enhanced RTMP v2, "Enhanced Video"."""

    SEQUENCE_START = 0
    CODED_FRAMES = 1
    SEQUENCE_END = 2
    CODED_FRAMES_X = 3
    METADATA = 4
    MPEG2TS_SEQUENCE_START = 5
    MULTITRACK = 6
    MOD_EX = 7


class AudioPacketType(IntEnum):
    """Enhanced RTMP v2, "Enhanced Audio"."""

    SEQUENCE_START = 0
    CODED_FRAMES = 1
    SEQUENCE_END = 2
    MULTICHANNEL_CONFIG = 4
    MULTITRACK = 5
    MOD_EX = 7


class MultitrackType(IntEnum):
    """How several tracks share a message."""

    ONE_TRACK = 0
    MANY_TRACKS = 1
    MANY_TRACKS_MANY_CODECS = 2


MOD_EX_TIMESTAMP_OFFSET_NANO = 0


class PartType(Enum):
    """Types of parts of a message."""

    CONFIGURATION = "configuration"
    """The codec's configuration record."""
    FRAME = "frame"
    END = "end"
    """The publisher ended the sequence; the next one begins with a configuration."""
    CHANNELS = "channels"
    """The order of audio channels."""
    METADATA = "metadata"
    """Colour information and the like, as AMF."""
    OTHER = "other"
    """Ignored."""


class Part:
    """One track's piece of a message. Built once per frame on the hot path."""

    __slots__ = (
        "codec",
        "composition_time",
        "identifier",
        "kind",
        "nanoseconds",
        "payload",
        "sound",
        "start",
        "track_id",
        "type",
    )

    def __init__(
        self,
        kind: str,
        part_type: PartType,
        codec: type[Codec] | None,
        identifier: int | bytes,
        payload: bytes,
        composition_time: int = 0,
        sound: int = 0,
        track_id: int = 0,
        nanoseconds: int = 0,
        start: int = 0,
    ) -> None:
        self.kind = kind
        """``video`` or ``audio``."""
        self.type = part_type
        self.codec = codec
        """None if it is unknown or not supported."""
        self.identifier = identifier
        """The legacy codec number or the fourCC, as received."""
        self.payload = payload
        self.start = start
        """Offset of `body` in ``payload``, for use without a copy."""
        self.composition_time = composition_time
        """Presentation minus decoding time in milliseconds."""
        self.sound = sound
        """The first byte of a legacy audio message: format, rate, size, channels."""
        self.track_id = track_id
        self.nanoseconds = nanoseconds
        """To be added to the message's timestamp."""

    @property
    def body(self) -> bytes:
        """The data after the headers."""
        return self.payload[self.start :] if self.start else self.payload

    def __repr__(self) -> str:
        return f"Part({self.kind} {self.track_id}, {self.type.value}, {self.codec_name}, {len(self.body)} bytes)"

    @property
    def codec_name(self) -> str:
        """The codec for texts: its name, or the identifier of an undefined one."""
        if self.codec is not None:
            return self.codec.name
        if isinstance(self.identifier, int):
            names = LEGACY_VIDEO_NAMES if self.kind == "video" else LEGACY_AUDIO_NAMES
            return names.get(self.identifier, f"number {self.identifier}")
        name = self.identifier.decode("ascii", "backslashreplace")
        return name if name.isprintable() else repr(name)


LEGACY_VIDEO: dict[int, type[Codec]] = {
    identifier: mapping.codec_type for mapping in VIDEO_MAPPINGS for identifier in mapping.legacy_identifiers
}
LEGACY_AUDIO: dict[int, type[Codec]] = {
    identifier: mapping.codec_type for mapping in AUDIO_MAPPINGS for identifier in mapping.legacy_identifiers
}
_WITH_COMPOSITION_TIME = frozenset(mapping.codec_type for mapping in VIDEO_MAPPINGS if mapping.has_nal_units)

_LEGACY_PARTS = (PartType.CONFIGURATION, PartType.FRAME, PartType.END)
_VIDEO_PARTS: dict[int, PartType] = {
    VideoPacketType.SEQUENCE_START: PartType.CONFIGURATION,
    VideoPacketType.CODED_FRAMES: PartType.FRAME,
    VideoPacketType.SEQUENCE_END: PartType.END,
    VideoPacketType.CODED_FRAMES_X: PartType.FRAME,
    VideoPacketType.METADATA: PartType.METADATA,
}
_AUDIO_PARTS: dict[int, PartType] = {
    AudioPacketType.SEQUENCE_START: PartType.CONFIGURATION,
    AudioPacketType.CODED_FRAMES: PartType.FRAME,
    AudioPacketType.SEQUENCE_END: PartType.END,
    AudioPacketType.MULTICHANNEL_CONFIG: PartType.CHANNELS,
}


def parse_video(payload: bytes) -> list[Part]:
    """Return the parts of a video message. Raises `RemoteProtocolError` if it is truncated."""
    if not payload:
        return []
    first = payload[0]
    if first & EXTENDED_VIDEO:
        return _parse_extended(payload, "video", first & 0x0F, first >> 4 & 7)
    if first >> 4 == FrameType.COMMAND:
        return []
    identifier = first & 0x0F
    codec = LEGACY_VIDEO.get(identifier)
    if codec is None:
        return [Part("video", PartType.FRAME, None, identifier, payload)]
    # An empty frame without packet type and composition time: some encoders send one while they start.
    if len(payload) < 5:
        return []
    packet_type = payload[1]
    if packet_type >= len(_LEGACY_PARTS):
        return []
    part_type = _LEGACY_PARTS[packet_type]
    composition_time = signed_24(payload, 2) if part_type is PartType.FRAME else 0
    return [Part("video", part_type, codec, identifier, payload, composition_time, start=5)]


def parse_audio(payload: bytes) -> list[Part]:
    """Return the parts of an audio message. Raises `RemoteProtocolError` if it is truncated."""
    if not payload:
        return []
    first = payload[0]
    identifier = first >> 4
    if identifier == SoundFormat.EXTENDED:
        return _parse_extended(payload, "audio", first & 0x0F, 0)
    codec = LEGACY_AUDIO.get(identifier)
    if identifier != SoundFormat.AAC:
        return [Part("audio", PartType.FRAME, codec, identifier, payload[1:], sound=first)] if len(payload) > 1 else []
    if len(payload) < 2:
        return []
    part_type = PartType.FRAME if payload[1] else PartType.CONFIGURATION
    return [Part("audio", part_type, codec, identifier, payload[2:], sound=first)]


def signed_24(data: bytes, position: int) -> int:
    """Return the signed number of 24 bits at ``position``."""
    value = data[position] << 16 | data[position + 1] << 8 | data[position + 2]
    return value - 0x1000000 if value & 0x800000 else value


class _Cursor:
    __slots__ = ("data", "position")

    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position

    def read(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self.data):
            raise RemoteProtocolError("truncated enhanced media header")
        data = self.data[self.position : end]
        self.position = end
        return data

    def number(self, size: int) -> int:
        return int.from_bytes(self.read(size), "big")


def _parse_extended(payload: bytes, kind: str, packet_type: int, frame_type: int) -> list[Part]:
    """Enhanced RTMP v2: ModEx headers, then one track or several, each with its fourCC."""
    cursor = _Cursor(payload, 1)
    nanoseconds = 0
    modifiers = 0
    while packet_type == VideoPacketType.MOD_EX:  # the same number for audio
        modifiers += 1
        if modifiers > MAXIMUM_MODIFIERS:
            raise RemoteProtocolError(f"more than {MAXIMUM_MODIFIERS} ModEx headers in one message")
        size = cursor.number(1) + 1
        if size == 256:
            size = cursor.number(2) + 1
        data = cursor.read(size)
        types = cursor.number(1)
        packet_type = types & 0x0F
        if types >> 4 == MOD_EX_TIMESTAMP_OFFSET_NANO and size >= 3:
            nanoseconds = int.from_bytes(data[:3], "big")
    if kind == "video" and frame_type == FrameType.COMMAND and packet_type != VideoPacketType.METADATA:
        return []
    if packet_type == (VideoPacketType.MULTITRACK if kind == "video" else AudioPacketType.MULTITRACK):
        return _parse_multitrack(cursor, kind, nanoseconds)
    four_cc = cursor.read(4)
    return [_build_part(kind, packet_type, four_cc, payload[cursor.position :], 0, nanoseconds)]


def _parse_multitrack(cursor: _Cursor, kind: str, nanoseconds: int) -> list[Part]:
    types = cursor.number(1)
    multitrack_type, packet_type = types >> 4, types & 0x0F
    if multitrack_type > MultitrackType.MANY_TRACKS_MANY_CODECS:
        raise RemoteProtocolError(f"unknown multitrack type {multitrack_type}")
    one_codec = multitrack_type != MultitrackType.MANY_TRACKS_MANY_CODECS
    four_cc = cursor.read(4) if one_codec else b""
    parts: list[Part] = []
    while cursor.position < len(cursor.data):
        if len(parts) == MAXIMUM_PARTS:
            raise RemoteProtocolError(f"more than {MAXIMUM_PARTS} tracks in one message")
        if not one_codec:
            four_cc = cursor.read(4)
        track_id = cursor.number(1)
        if multitrack_type == MultitrackType.ONE_TRACK:
            body = cursor.read(len(cursor.data) - cursor.position)
        else:
            body = cursor.read(cursor.number(3))
        parts.append(_build_part(kind, packet_type, four_cc, body, track_id, nanoseconds))
    return parts


def _build_part(kind: str, packet_type: int, four_cc: bytes, body: bytes, track_id: int, nanoseconds: int) -> Part:
    if kind == "audio":
        codec = AUDIO_FOUR_CCS.get(four_cc)
        part_type = _AUDIO_PARTS.get(packet_type, PartType.OTHER)
        return Part(kind, part_type, codec, four_cc, body, track_id=track_id, nanoseconds=nanoseconds)
    codec = VIDEO_FOUR_CCS.get(four_cc)
    part_type = _VIDEO_PARTS.get(packet_type, PartType.OTHER)
    composition_time = 0
    # Only codecs with NAL units have the field, and only in this packet type.
    if packet_type == VideoPacketType.CODED_FRAMES and codec in _WITH_COMPOSITION_TIME:
        if len(body) < 3:
            raise RemoteProtocolError("truncated enhanced media header")
        composition_time = signed_24(body, 0)
        body = body[3:]
    return Part(kind, part_type, codec, four_cc, body, composition_time, track_id=track_id, nanoseconds=nanoseconds)
