"""The manifest of DASH (ISO/IEC 23009-1): the same segments as those of HLS, as live players of DASH find them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import quoteattr

from polycast.media.timebase import WallTime
from polycast.wire.hls.segment import Segment, Span, format_seconds, format_time
from polycast.wire.xml_text import without_invalid

MANIFEST_NAME: Final = "index.mpd"
CONTENT_TYPE: Final = "application/dash+xml"

_DELAY_SEGMENTS: Final = 3
"""Segments that players stay behind the newest one, as those of HLS do (RFC 8216 section 6.3.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Representation:
    """One rendition: the pictures, or one of the audio tracks."""

    name: str
    is_video: bool
    timescale: int
    """Ticks per second of the spans."""
    media: str
    """Name of a segment, with ``$Time$`` in the place of its time."""
    segments: Sequence[tuple[int, Segment, Span]]
    """Complete segments, each with the number of its period, which changes with each discontinuity, and its place."""
    codec: str
    """Empty while it is not known."""
    bandwidth: int
    resolution: tuple[int, int] | None = None
    frame_rate: float | None = None
    language: str | None = None
    channels: int | None = None
    sample_rate: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a manifest says."""

    begin: WallTime
    """Wall-clock time to which the starts of the periods refer: the same in all manifests of a stream."""
    published: WallTime
    starts: dict[int, float]
    """Seconds from `begin` to time 0 of the segments of each period."""
    target_duration: int
    """Seconds of a segment at most, about."""
    representations: Sequence[Representation]
    """The main one first."""


def write_manifest(manifest: Manifest) -> bytes:
    """Return a dynamic manifest."""
    target = manifest.target_duration
    depth = sum(segment.duration for _, segment, _ in manifest.representations[0].segments)
    attributes = {
        "xmlns": "urn:mpeg:dash:schema:mpd:2011",
        "profiles": "urn:mpeg:dash:profile:isoff-live:2011",
        "type": "dynamic",
        "availabilityStartTime": format_time(manifest.begin),
        "publishTime": format_time(manifest.published),
        "minimumUpdatePeriod": _duration(target),
        "timeShiftBufferDepth": _duration(depth),
        "suggestedPresentationDelay": _duration(_DELAY_SEGMENTS * target),
        "minBufferTime": _duration(target),
        "maxSegmentDuration": _duration(target + 1),
    }
    lines = ['<?xml version="1.0" encoding="utf-8"?>', _tag("MPD", attributes)]
    for period in sorted(manifest.starts):
        lines.append(_tag("Period", {"id": str(period), "start": _duration(manifest.starts[period])}))
        for number, representation in enumerate(manifest.representations):
            segments = [(segment, span) for of, segment, span in representation.segments if of == period]
            if segments:
                lines += _adaptation_set(number, representation, segments)
        lines.append("</Period>")
    timing = {"schemeIdUri": "urn:mpeg:dash:utc:http-head:2014", "value": MANIFEST_NAME}
    lines += [_tag("UTCTiming", timing, is_empty=True), "</MPD>", ""]
    return "\n".join(lines).encode()


def _adaptation_set(number: int, representation: Representation, segments: Sequence[tuple[Segment, Span]]) -> list[str]:
    kind = "video" if representation.is_video else "audio"
    common = {
        "id": str(number),
        "contentType": kind,
        "mimeType": f"{kind}/mp4",
        "segmentAlignment": "true",
        "startWithSAP": "1",
        "lang": representation.language or "",
    }
    attributes = {
        "id": representation.name,
        "bandwidth": str(representation.bandwidth),
        "codecs": representation.codec,
        "audioSamplingRate": str(representation.sample_rate or ""),
    }
    if representation.resolution is not None:
        width, height = representation.resolution
        attributes |= {"width": str(width), "height": str(height)}
    if representation.frame_rate:
        attributes["frameRate"] = f"{round(representation.frame_rate * 1000)}/1000"
    lines = [_tag("AdaptationSet", common), _tag("Representation", attributes)]
    if representation.channels:
        scheme = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011"
        value = {"schemeIdUri": scheme, "value": str(representation.channels)}
        lines.append(_tag("AudioChannelConfiguration", value, is_empty=True))
    template = {
        "timescale": str(representation.timescale),
        "initialization": segments[-1][0].initialization or "",
        "media": representation.media,
    }
    lines += [_tag("SegmentTemplate", template), "<SegmentTimeline>"]
    lines += [f'<S t="{span.time}" d="{span.duration}"/>' for _, span in segments]
    return [*lines, "</SegmentTimeline>", "</SegmentTemplate>", "</Representation>", "</AdaptationSet>"]


def _duration(seconds: float) -> str:
    return f"PT{format_seconds(max(seconds, 0.0))}S"


def _tag(name: str, attributes: dict[str, str], *, is_empty: bool = False) -> str:
    """Return a start tag without the attributes that are empty."""
    valid = {key: without_invalid(value) for key, value in attributes.items()}
    text = "".join(f" {key}={quoteattr(value)}" for key, value in valid.items() if value)
    return f"<{name}{text}{'/' if is_empty else ''}>"
