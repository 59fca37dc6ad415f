"""Parser of playlists (RFC 8216 section 4, draft-pantos-hls-rfc8216bis for Low-Latency): text in, values out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from polycast.errors import RemoteProtocolError
from polycast.media.timebase import WallTime
from polycast.wire.hls.attributes import (
    Attributes,
    parse_attributes,
    parse_date,
    parse_decimal,
    parse_integer,
    parse_resolution,
)
from polycast.wire.hls.parsed import (
    ByteRange,
    Initialization,
    Key,
    ParsedMediaPlaylist,
    ParsedMultivariantPlaylist,
    ParsedPart,
    ParsedRendition,
    ParsedReport,
    ParsedSegment,
    ParsedVariant,
    PreloadHint,
    ServerControl,
)
from polycast.wire.hls.variables import TAG as DEFINE_TAG
from polycast.wire.hls.variables import substitute

MAXIMUM_PLAYLIST_SIZE = 4 * 1024 * 1024
"""Bytes. A day of 2 s segments with dates takes about that; live playlists have a few kilobytes."""
MAXIMUM_SEGMENTS = 50_000
"""Segments of a media playlist, not counting parts."""
MAXIMUM_PARTS = 10_000
"""Parts of a media playlist; servers list those of the last seconds."""
MAXIMUM_VARIANTS = 1_000
"""Variants, renditions and other entries of a multivariant playlist, each."""

MAXIMUM_KEY_FORMATS = 16
"""Key formats at a time; there are about five systems."""

_Value = TypeVar("_Value")

_IDENTITY = "identity"
"""The key format whose keys are files (section 4.3.2.4); the others belong to systems of copy protection."""

_MULTIVARIANT_TAGS = ("#EXT-X-STREAM-INF:", "#EXT-X-MEDIA:", "#EXT-X-I-FRAME-STREAM-INF:")


def parse_playlist(
    data: bytes, url: str = "", imported: Mapping[str, str] | None = None
) -> ParsedMultivariantPlaylist | ParsedMediaPlaylist:
    """Parse a playlist of either kind. Unknown tags and comments are ignored (RFC 8216 section 6.3.1).

    ``url`` is the address of the playlist, ``imported`` has the variables of the multivariant playlist that led to it.

    Raises RemoteProtocolError if it is not a playlist, its syntax is invalid, or a limit is exceeded.
    """
    if len(data) > MAXIMUM_PLAYLIST_SIZE:
        raise RemoteProtocolError(f"a playlist of {len(data)} bytes is too large")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RemoteProtocolError("a playlist is not UTF-8") from None
    # not splitlines(): a playlist's lines end in LF or CRLF only (section 4.1)
    lines = [line.strip("\r\t ") for line in text.split("\n")]
    if lines[0].split(maxsplit=1)[:1] != ["#EXTM3U"]:  # channel lists have attributes there, which are ignored
        raise RemoteProtocolError("a playlist does not start with #EXTM3U")
    variables: dict[str, str] = {}
    if DEFINE_TAG in text:
        lines, variables = substitute(lines, url, imported or {})
    if any(line.startswith(_MULTIVARIANT_TAGS) for line in lines):
        return _parse_multivariant(lines, variables)
    return _MediaParser().parse(lines)


def _split_tag(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value


def _parse_multivariant(lines: list[str], variables: Mapping[str, str]) -> ParsedMultivariantPlaylist:
    variants: list[ParsedVariant] = []
    renditions: list[ParsedRendition] = []
    independent = False
    pending: Attributes | None = None
    for line in lines[1:]:
        if not line:
            continue
        if not line.startswith("#"):
            if pending is not None:
                variants.append(_make_variant(pending, line))
                pending = None
            continue
        name, value = _split_tag(line)
        if name == "#EXT-X-STREAM-INF":
            pending = parse_attributes(value)
        elif name == "#EXT-X-MEDIA":
            renditions.append(_make_rendition(parse_attributes(value)))
        elif name == "#EXT-X-INDEPENDENT-SEGMENTS":
            independent = True
        if len(variants) > MAXIMUM_VARIANTS or len(renditions) > MAXIMUM_VARIANTS:
            raise RemoteProtocolError("a multivariant playlist has too many entries")
    if not variants:
        raise RemoteProtocolError("a multivariant playlist has no variants")
    return ParsedMultivariantPlaylist(tuple(variants), tuple(renditions), independent, variables)


def _make_variant(attributes: Attributes, uri: str) -> ParsedVariant:
    return ParsedVariant(
        uri=uri,
        bandwidth=_hint(attributes, "BANDWIDTH", parse_integer) or 0,
        average_bandwidth=_hint(attributes, "AVERAGE-BANDWIDTH", parse_integer),
        codecs=tuple(name.strip() for name in attributes.get("CODECS", "").split(",") if name.strip()),
        resolution=_hint(attributes, "RESOLUTION", parse_resolution),
        frame_rate=_hint(attributes, "FRAME-RATE", parse_decimal),
        audio_group=attributes.get("AUDIO"),
    )


def _hint(attributes: Attributes, name: str, parse: Callable[[str], _Value]) -> _Value | None:
    """Return an optional attribute; None also if it is not valid, which should not make the playlist unusable."""
    try:
        return parse(attributes[name])
    except (KeyError, RemoteProtocolError):
        return None


def _make_rendition(attributes: Attributes) -> ParsedRendition:
    return ParsedRendition(
        kind=attributes.get("TYPE", ""),
        group=attributes.get("GROUP-ID", ""),
        name=attributes.get("NAME", ""),
        uri=attributes.get("URI"),
        language=attributes.get("LANGUAGE"),
        default=attributes.get("DEFAULT") == "YES",
        autoselect=attributes.get("AUTOSELECT") == "YES",
    )


class _MediaParser:
    """Collects the tags in front of each segment."""

    def __init__(self) -> None:
        self._target_duration: int | None = None
        self._version = 1
        self._media_sequence = 0
        self._discontinuity_sequence = 0
        self._ended = False
        self._playlist_type: str | None = None
        self._part_target: float | None = None
        self._control = ServerControl()
        self._skipped = 0
        self._hints: list[PreloadHint] = []
        self._reports: list[ParsedReport] = []
        self._segments: list[ParsedSegment] = []
        self._part_count = 0
        self._part_end = 0
        self._initialization: Initialization | None = None
        self._keys: dict[str, Key] = {}
        """By key format: segments may be announced for several systems, with the same key (section 4.3.2.4)."""
        self._discontinuities = 0
        self._range_end: tuple[str, int] | None = None
        self._reset_segment()

    def _reset_segment(self) -> None:
        self._duration: float | None = None
        self._title = ""
        self._range: tuple[int, int | None] | None = None
        self._discontinuity = False
        self._gap = False
        self._date: WallTime | None = None
        self._parts: list[ParsedPart] = []

    def parse(self, lines: list[str]) -> ParsedMediaPlaylist:
        """Return the playlist of the lines."""
        for line in lines[1:]:
            if line.startswith("#EXT"):
                name, value = _split_tag(line)
                self._parse_tag(name, value)
            elif line and not line.startswith("#"):
                self._add_segment(line)
        if self._target_duration is None:
            raise RemoteProtocolError("a media playlist has no target duration")
        return ParsedMediaPlaylist(
            version=self._version,
            target_duration=self._target_duration,
            media_sequence=self._media_sequence,
            discontinuity_sequence=self._discontinuity_sequence,
            segments=tuple(self._segments),
            ended=self._ended,
            playlist_type=self._playlist_type,
            part_target=self._part_target,
            control=self._control,
            skipped_segments=self._skipped,
            open_parts=tuple(self._parts),
            hints=tuple(self._hints),
            reports=tuple(self._reports),
        )

    def _parse_tag(self, name: str, value: str) -> None:
        if name == "#EXTINF":
            duration, _, self._title = value.partition(",")
            self._duration = parse_decimal(duration)
        elif name == "#EXT-X-BYTERANGE":
            self._range = _parse_range(value)
        elif name == "#EXT-X-DISCONTINUITY":
            self._discontinuity = True
            self._discontinuities += 1
        elif name == "#EXT-X-GAP":
            self._gap = True
        elif name == "#EXT-X-PROGRAM-DATE-TIME":
            self._date = parse_date(value)
        elif name == "#EXT-X-MAP":
            self._initialization = self._make_initialization(parse_attributes(value))
        elif name == "#EXT-X-KEY":
            self._set_key(_make_key(parse_attributes(value)))
        elif name == "#EXT-X-PART":
            self._parse_part(parse_attributes(value))
        else:
            self._parse_header_tag(name, value)

    def _set_key(self, key: Key | None) -> None:
        if key is None:
            self._keys.clear()
        else:
            self._keys.pop(key.key_format, None)
            self._keys[key.key_format] = key
        if len(self._keys) > MAXIMUM_KEY_FORMATS:
            raise RemoteProtocolError("a media playlist has too many key formats")

    @property
    def _key(self) -> Key | None:
        """The key that can be used, otherwise the last one."""
        return self._keys.get(_IDENTITY) or next(reversed(self._keys.values()), None)

    def _parse_header_tag(self, name: str, value: str) -> None:
        if name == "#EXT-X-VERSION":
            self._version = parse_integer(value)
        elif name == "#EXT-X-TARGETDURATION":
            self._target_duration = round(parse_decimal(value))
        elif name == "#EXT-X-MEDIA-SEQUENCE":
            self._media_sequence = parse_integer(value)
        elif name == "#EXT-X-DISCONTINUITY-SEQUENCE":
            self._discontinuity_sequence = parse_integer(value)
        elif name == "#EXT-X-ENDLIST":
            self._ended = True
        elif name == "#EXT-X-PLAYLIST-TYPE":
            self._playlist_type = value
        elif name == "#EXT-X-PART-INF":
            self._part_target = parse_decimal(_required(parse_attributes(value), "PART-TARGET"))
        elif name == "#EXT-X-SERVER-CONTROL":
            self._control = _make_control(parse_attributes(value))
        elif name == "#EXT-X-SKIP":
            self._skipped = parse_integer(_required(parse_attributes(value), "SKIPPED-SEGMENTS"))
        elif name == "#EXT-X-PRELOAD-HINT":
            self._parse_hint(parse_attributes(value))
        elif name == "#EXT-X-RENDITION-REPORT":
            self._parse_report(parse_attributes(value))

    def _add_segment(self, uri: str) -> None:
        if self._duration is None:
            raise RemoteProtocolError("a segment has no duration")
        if len(self._segments) == MAXIMUM_SEGMENTS:
            raise RemoteProtocolError("a media playlist has too many segments")
        sequence = self._media_sequence + self._skipped + len(self._segments)
        self._segments.append(
            ParsedSegment(
                uri=uri,
                sequence=sequence,
                duration=self._duration,
                title=self._title,
                byte_range=self._resolve_range(uri),
                discontinuity=self._discontinuity,
                discontinuity_sequence=self._discontinuity_sequence + self._discontinuities,
                gap=self._gap,
                date=self._date,
                initialization=self._initialization,
                key=self._key,
                parts=tuple(self._parts),
            )
        )
        self._reset_segment()

    def _resolve_range(self, uri: str) -> ByteRange | None:
        """Without an offset, a range starts where the previous one in the same file ends (section 4.3.2.2)."""
        if self._range is None:
            self._range_end = None
            return None
        length, start = self._range
        if start is None:
            if self._range_end is None or self._range_end[0] != uri:
                raise RemoteProtocolError("a byte range has no offset")
            start = self._range_end[1]
        self._range_end = uri, start + length
        return ByteRange(start, length)

    def _make_initialization(self, attributes: Attributes) -> Initialization:
        text = attributes.get("BYTERANGE")
        if text is None:
            return Initialization(_required(attributes, "URI"), None, self._key)
        length, start = _parse_range(text)
        return Initialization(_required(attributes, "URI"), ByteRange(start or 0, length), self._key)

    def _parse_part(self, attributes: Attributes) -> None:
        self._part_count += 1
        if self._part_count > MAXIMUM_PARTS:
            raise RemoteProtocolError("a media playlist has too many parts")
        byte_range = None
        text = attributes.get("BYTERANGE")
        if text is not None:
            length, start = _parse_range(text)
            byte_range = ByteRange(self._part_end if start is None else start, length)
            self._part_end = byte_range.start + length
        self._parts.append(
            ParsedPart(
                uri=_required(attributes, "URI"),
                duration=parse_decimal(_required(attributes, "DURATION")),
                independent=attributes.get("INDEPENDENT") == "YES",
                gap=attributes.get("GAP") == "YES",
                byte_range=byte_range,
            )
        )

    def _parse_hint(self, attributes: Attributes) -> None:
        if len(self._hints) == MAXIMUM_VARIANTS:
            raise RemoteProtocolError("a media playlist has too many preload hints")
        length = attributes.get("BYTERANGE-LENGTH")
        self._hints.append(
            PreloadHint(
                kind=_required(attributes, "TYPE"),
                uri=_required(attributes, "URI"),
                start=parse_integer(attributes.get("BYTERANGE-START", "0")),
                length=None if length is None else parse_integer(length),
            )
        )

    def _parse_report(self, attributes: Attributes) -> None:
        if len(self._reports) == MAXIMUM_VARIANTS:
            raise RemoteProtocolError("a media playlist has too many rendition reports")
        last_part = attributes.get("LAST-PART")
        self._reports.append(
            ParsedReport(
                uri=_required(attributes, "URI"),
                last_sequence=parse_integer(attributes.get("LAST-MSN", "0")),
                last_part=None if last_part is None else parse_integer(last_part),
            )
        )


def _required(attributes: Attributes, name: str) -> str:
    value = attributes.get(name)
    if value is None:
        raise RemoteProtocolError(f"a tag of a playlist has no {name}")
    return value


def _parse_range(text: str) -> tuple[int, int | None]:
    length, at, start = text.partition("@")
    return parse_integer(length), parse_integer(start) if at else None


def _make_key(attributes: Attributes) -> Key | None:
    method = attributes.get("METHOD", "NONE")
    if method == "NONE":
        return None
    return Key(method, attributes.get("URI"), attributes.get("IV"), attributes.get("KEYFORMAT") or _IDENTITY)


def _make_control(attributes: Attributes) -> ServerControl:
    def seconds(name: str) -> float | None:
        text = attributes.get(name)
        return None if text is None else parse_decimal(text)

    return ServerControl(
        can_block_reload=attributes.get("CAN-BLOCK-RELOAD") == "YES",
        can_skip_until=seconds("CAN-SKIP-UNTIL"),
        hold_back=seconds("HOLD-BACK"),
        part_hold_back=seconds("PART-HOLD-BACK"),
    )
