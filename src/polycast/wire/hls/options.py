"""Options of HLS, and limits of a muxer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Variant(StrEnum):
    """The three variants of HLS, with their names in the configuration."""

    MPEGTS = "mpegts"
    FMP4 = "fmp4"
    LOW_LATENCY = "lowLatency"


@dataclass(frozen=True, slots=True)
class MuxerOptions:
    """Options of one muxer; the defaults are those of the configuration."""

    prefix: str
    """Prefix of every file name. Unique for each muxer (random or derived from the time), so that a name is never
    reused for different content, whatever caches are in between. Letters and digits only."""
    first_sequence: int = 0
    """Media sequence number of the first segment; see `polycast.wire.hls.numbering`."""
    first_discontinuity_sequence: int = 0
    segment_count: int = 7
    """Segments listed in a media playlist."""
    segment_duration: float = 1.0
    """Seconds. A segment ends at the first key frame after this duration."""
    part_duration: float = 0.2
    """Seconds; for lowLatency. Raised if the frame rate requires it."""
    trusts_capture_times: bool = False
    """Whether the wall clock is that of the publisher, however far it is off."""
    recorded_playlist: str = ""
    """Address of the playlist of the stream's recordings; empty if there is none."""
    recorded_seconds: int = 0
    """Length of its window in seconds."""
    splits_audio: bool = False
    """Whether a single audio track beside video is a rendition of its own, as DASH needs it."""
    segment_maximum_size: int = 50 * 1024 * 1024
    """Bytes of one segment of one rendition. A segment that reaches this size ends early, and the next one may start
    without a key frame; a larger frame is dropped, with all video up to the next key frame."""


RETAINED_SEGMENTS = 2
"""Segments kept after they left the playlist, for clients that still use an older one (RFC 8216 section 6.2.2)."""
GAP_SEGMENTS = 7
"""Segments that a lowLatency playlist for Apple's players contains from the start, because they do not start with
fewer. Those that do not exist yet are gaps."""
MAXIMUM_SEGMENT_DURATION = 60
"""Seconds. A publisher that sends no more key frames gets segments of this length, which start without one."""
SEGMENT_TOLERANCE_MILLISECONDS = 5
"""How much shorter than configured a segment may be: publishers round times to milliseconds."""
SAMPLE_OVERHEAD = 64
"""Bytes that a frame counts for in addition to its payload, so that floods of empty frames are limited as well."""
