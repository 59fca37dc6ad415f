"""Parsed playlists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from polycast.media.timebase import WallTime


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a file."""

    start: int
    length: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Key:
    """How segments are encrypted (EXT-X-KEY)."""

    method: str
    uri: str | None
    initialization_vector: str | None
    key_format: str


@dataclass(frozen=True, slots=True)
class Initialization:
    """An init segment (EXT-X-MAP)."""

    uri: str
    byte_range: ByteRange | None
    key: Key | None


@dataclass(frozen=True, slots=True)
class ParsedPart:
    """A partial segment (EXT-X-PART)."""

    uri: str
    duration: float
    """Seconds."""
    independent: bool
    gap: bool
    byte_range: ByteRange | None


@dataclass(frozen=True, slots=True)
class ParsedSegment:
    """A media segment with its tags."""

    uri: str
    sequence: int
    """Media sequence number."""
    duration: float
    """Seconds."""
    title: str
    byte_range: ByteRange | None
    discontinuity: bool
    discontinuity_sequence: int
    gap: bool
    date: WallTime | None
    """The date given for this segment; None without one."""
    initialization: Initialization | None
    key: Key | None
    parts: tuple[ParsedPart, ...]


@dataclass(frozen=True, slots=True)
class PreloadHint:
    """A resource that will be needed next (EXT-X-PRELOAD-HINT)."""

    kind: str
    """``PART`` or ``MAP``."""
    uri: str
    start: int
    length: int | None


@dataclass(frozen=True, slots=True)
class ParsedReport:
    """The position of another rendition (EXT-X-RENDITION-REPORT)."""

    uri: str
    last_sequence: int
    last_part: int | None


@dataclass(frozen=True, slots=True)
class ServerControl:
    """Capabilities of the server (EXT-X-SERVER-CONTROL); times in seconds."""

    can_block_reload: bool = False
    can_skip_until: float | None = None
    hold_back: float | None = None
    part_hold_back: float | None = None


@dataclass(frozen=True, slots=True)
class ParsedMediaPlaylist:
    """A media playlist."""

    version: int
    target_duration: int
    """Seconds."""
    media_sequence: int
    discontinuity_sequence: int
    segments: tuple[ParsedSegment, ...]
    """Without the skipped ones of a delta update."""
    ended: bool
    playlist_type: str | None
    part_target: float | None
    """Seconds."""
    control: ServerControl
    skipped_segments: int
    open_parts: tuple[ParsedPart, ...]
    """Parts after the last segment."""
    hints: tuple[PreloadHint, ...]
    reports: tuple[ParsedReport, ...]


@dataclass(frozen=True, slots=True)
class ParsedVariant:
    """A variant stream (EXT-X-STREAM-INF)."""

    uri: str
    bandwidth: int
    """Bits per second."""
    average_bandwidth: int | None
    codecs: tuple[str, ...]
    resolution: tuple[int, int] | None
    frame_rate: float | None
    audio_group: str | None


@dataclass(frozen=True, slots=True)
class ParsedRendition:
    """An alternative rendition (EXT-X-MEDIA)."""

    kind: str
    """``AUDIO``, ``VIDEO``, ``SUBTITLES`` or ``CLOSED-CAPTIONS``."""
    group: str
    name: str
    uri: str | None
    """None if it is part of the variant."""
    language: str | None
    default: bool
    autoselect: bool


@dataclass(frozen=True, slots=True)
class ParsedMultivariantPlaylist:
    """A multivariant playlist."""

    variants: tuple[ParsedVariant, ...]
    renditions: tuple[ParsedRendition, ...] = ()
    independent_segments: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    """What the media playlists may import (EXT-X-DEFINE)."""
