"""What a user chooses about HLS, and the limits that bound a muxer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Variant(StrEnum):
    """The three forms of HLS, as the configuration names them."""

    MPEGTS = "mpegts"
    FMP4 = "fmp4"
    LOW_LATENCY = "lowLatency"


@dataclass(frozen=True, slots=True)
class MuxerOptions:
    """Options of one muxer; the defaults are those of the configuration."""

    prefix: str
    """Starts the name of every file. The caller makes it anew for each muxer (random or from the time), so that a name
    never comes back with other content, whatever caches lie between. Letters and digits only."""
    first_sequence: int = 0
    """Media sequence number of the first segment; see `polycast.wire.hls.numbering`."""
    first_discontinuity_sequence: int = 0
    segment_count: int = 7
    """Segments listed in a media playlist."""
    segment_duration: float = 1.0
    """Seconds. A segment ends at the first key frame after it."""
    part_duration: float = 0.2
    """Seconds; lowLatency. Raised where the frame rate asks for it."""
    segment_maximum_size: int = 50 * 1024 * 1024
    """Bytes of one segment of one rendition. A segment that reaches it ends early, and the next one may start without
    a key frame; a frame larger than it is dropped, with all video up to the next key frame."""


RETAINED_SEGMENTS = 2
"""Segments kept after they left the playlist, for clients that still hold an older one (RFC 8216 section 6.2.2)."""
GAP_SEGMENTS = 7
"""Segments that the lowLatency playlist of Apple's players has from the start: they do not begin with fewer. What is
not there yet is a gap."""
MAXIMUM_SEGMENT_DURATION = 60
"""Seconds. A publisher that sends no more key frames gets segments of this length, which start without one."""
SEGMENT_TOLERANCE_MILLISECONDS = 5
"""By how much a segment may be shorter than chosen: publishers round times to milliseconds."""
SAMPLE_OVERHEAD = 64
"""Bytes that a frame counts for besides its payload, so that floods of empty frames are bounded, too."""
