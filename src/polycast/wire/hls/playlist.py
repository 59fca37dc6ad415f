"""Playlist writers: pure functions that return the text (RFC 8216, draft-pantos-hls-rfc8216bis)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polycast.wire.hls.options import Variant
from polycast.wire.hls.segment import Part, Segment, format_seconds

SKIP_TARGETS = 6
"""Target durations from the end of the playlist before which a delta update skips segments; the minimum that the
specification allows (section 4.4.3.8)."""
HOLD_BACK_PARTS = 3
"""Part targets that players stay behind the end; the specification requires 2 and recommends 3 (section 4.4.3.8)."""
LISTED_PART_TARGETS = 3
"""Target durations from the end within which parts are listed (section 6.2.2)."""

RECORDED_DATA_ID = "polycast.dvr"
"""DATA-ID of the EXT-X-SESSION-DATA tag (RFC 8216 section 4.3.4.4) that names the playlist of the recordings."""

_VERSIONS = {Variant.MPEGTS: 3, Variant.FMP4: 9, Variant.LOW_LATENCY: 9}


@dataclass(frozen=True, slots=True)
class RenditionReport:
    """The position of another media playlist of the stream (section 4.4.5.4)."""

    uri: str
    last_sequence: int
    last_part: int
    """Index of the last part of that segment."""


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """The content of a media playlist."""

    variant: Variant
    target_duration: int
    """Seconds."""
    discontinuity_sequence: int
    segments: Sequence[Segment]
    part_target: float = 0.0
    """Seconds; for lowLatency, like all fields that follow."""
    first_with_parts: int = 0
    """Index of the first segment whose parts are listed, if it is near enough to the end. The first segment of a new
    stream is listed without parts, because hls.js 1.7 would load them again and again."""
    open_parts: Sequence[Part] = ()
    """Parts of the incomplete segment."""
    open_start: Segment | None = None
    """What is known of that segment if it has parts: its tags precede them."""
    next_part: str = ""
    """Name of the next part."""
    reports: Sequence[RenditionReport] = ()


def listed_part_segments(segments: Sequence[Segment], target_duration: int) -> int:
    """Return the index of the first segment near enough to the end to have its parts listed."""
    index = len(segments)
    distance = 0.0
    while index > 0 and distance < LISTED_PART_TARGETS * target_duration:
        index -= 1
        distance += segments[index].duration
    return index


def skippable_segments(playlist: MediaPlaylist) -> int:
    """Return how many segments a delta update skips; 0 if none is old enough."""
    distance = sum(part.duration for part in playlist.open_parts)
    boundary = float(SKIP_TARGETS * playlist.target_duration)
    for index in range(len(playlist.segments) - 1, -1, -1):
        if distance >= boundary:
            return index + 1
        distance += playlist.segments[index].duration
    return 0


def write_media_playlist(playlist: MediaPlaylist, *, skip: bool = False) -> bytes:
    """Return the text of a media playlist. ``skip`` asks for a delta update (section 6.2.5.1)."""
    low_latency = playlist.variant is Variant.LOW_LATENCY
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{_VERSIONS[playlist.variant]}"]
    if playlist.variant is Variant.MPEGTS:
        lines.append("#EXT-X-ALLOW-CACHE:NO")
    lines.append(f"#EXT-X-TARGETDURATION:{playlist.target_duration}")
    if low_latency:
        hold_back = format_seconds(playlist.part_target * HOLD_BACK_PARTS)
        lines.append(
            f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={hold_back}"
            f",CAN-SKIP-UNTIL={SKIP_TARGETS * playlist.target_duration}"
        )
        lines.append(f"#EXT-X-PART-INF:PART-TARGET={format_seconds(playlist.part_target)}")
    segments = playlist.segments
    lines.append(f"#EXT-X-MEDIA-SEQUENCE:{segments[0].sequence if segments else 0}")
    if playlist.discontinuity_sequence:
        lines.append(f"#EXT-X-DISCONTINUITY-SEQUENCE:{playlist.discontinuity_sequence}")
    lines.append("")
    first = skippable_segments(playlist) if skip and low_latency else 0
    if first:
        lines.append(f"#EXT-X-SKIP:SKIPPED-SEGMENTS={first}")
    initialization = segments[first - 1].initialization if first else None
    with_parts = len(segments)
    if low_latency:
        with_parts = max(listed_part_segments(segments, playlist.target_duration), playlist.first_with_parts)
    for index in range(first, len(segments)):
        segment = segments[index]
        _write_start(lines, segment, initialization)
        initialization = segment.initialization
        if index >= with_parts:
            _write_parts(lines, segment.parts)
        if segment.gap:
            lines.append("#EXT-X-GAP")
        lines.append(f"#EXTINF:{format_seconds(segment.duration)},")
        lines.append(segment.name)
    if low_latency:
        if playlist.open_start is not None:
            _write_start(lines, playlist.open_start, initialization)
            _write_parts(lines, playlist.open_parts)
        lines.append(f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{playlist.next_part}"')
        for report in playlist.reports:
            lines.append(
                f'#EXT-X-RENDITION-REPORT:URI="{report.uri}",LAST-MSN={report.last_sequence}'
                f",LAST-PART={report.last_part}"
            )
    lines.append("")
    return "\n".join(lines).encode()


def _write_start(lines: list[str], segment: Segment, initialization: str | None) -> None:
    if segment.discontinuity:
        lines.append("#EXT-X-DISCONTINUITY")
    if segment.initialization is not None and segment.initialization != initialization:
        lines.append(f'#EXT-X-MAP:URI="{segment.initialization}"')
    lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{segment.date}")


def _write_parts(lines: list[str], parts: Sequence[Part]) -> None:
    lines.extend([part.line for part in parts])


@dataclass(frozen=True, slots=True)
class AudioRendition:
    """One EXT-X-MEDIA entry (RFC 8216 section 4.3.4.1)."""

    name: str
    uri: str | None
    """None for the audio in the main media playlist."""
    default: bool
    language: str | None = None
    channels: int | None = None


@dataclass(frozen=True, slots=True)
class MultivariantPlaylist:
    """The content of the multivariant playlist: one variant stream and its audio renditions."""

    variant: Variant
    uri: str
    bandwidth: int
    """Bits per second of the largest segment."""
    average_bandwidth: int
    codecs: Sequence[str]
    """Empty if they are not known."""
    resolution: tuple[int, int] | None = None
    frame_rate: float | None = None
    renditions: Sequence[AudioRendition] = ()
    independent_segments: bool = True
    """Whether all segments start with a key frame."""
    recorded_playlist: str = ""
    """Address of the playlist of the stream's recordings; empty if there is none."""
    recorded_seconds: int = 0
    """Length of its window in seconds."""


_AUDIO_GROUP = "audio"


def quotable(text: str) -> str:
    """Return text without double quotes and line breaks, which a quoted string cannot contain (RFC 8216 section
    4.2)."""
    return "".join("'" if letter == '"' else letter for letter in text if letter.isprintable())


def _quoted(text: str) -> str:
    return f'"{quotable(text)}"'


def write_multivariant_playlist(playlist: MultivariantPlaylist) -> bytes:
    """Return the text of the multivariant playlist."""
    version = _VERSIONS[playlist.variant]
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{max(version, 4) if playlist.renditions else version}"]
    if playlist.independent_segments:
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
    if playlist.recorded_playlist:
        lines.append(f'#EXT-X-SESSION-DATA:DATA-ID="{RECORDED_DATA_ID}",VALUE="{playlist.recorded_playlist}"')
        lines.append(f'#EXT-X-SESSION-DATA:DATA-ID="{RECORDED_DATA_ID}.seconds",VALUE="{playlist.recorded_seconds}"')
    lines.append("")
    for rendition in playlist.renditions:
        attributes = [f'TYPE=AUDIO,GROUP-ID="{_AUDIO_GROUP}",NAME={_quoted(rendition.name)}']
        if rendition.language and quotable(rendition.language):
            attributes.append(f"LANGUAGE={_quoted(rendition.language)}")
        attributes.append(f"DEFAULT={'YES' if rendition.default else 'NO'},AUTOSELECT=YES")
        if rendition.channels:
            attributes.append(f'CHANNELS="{rendition.channels}"')
        if rendition.uri is not None:
            attributes.append(f'URI="{rendition.uri}"')
        lines.append("#EXT-X-MEDIA:" + ",".join(attributes))
    attributes = [
        f"BANDWIDTH={playlist.bandwidth}",
        f"AVERAGE-BANDWIDTH={playlist.average_bandwidth}",
    ]
    if playlist.codecs:
        attributes.append(f'CODECS="{",".join(playlist.codecs)}"')
    if playlist.resolution is not None:
        attributes.append(f"RESOLUTION={playlist.resolution[0]}x{playlist.resolution[1]}")
    if playlist.frame_rate is not None:
        attributes.append(f"FRAME-RATE={playlist.frame_rate:.3f}")
    if playlist.renditions:
        attributes.append(f'AUDIO="{_AUDIO_GROUP}"')
    lines += ["#EXT-X-STREAM-INF:" + ",".join(attributes), playlist.uri, ""]
    return "\n".join(lines).encode()
