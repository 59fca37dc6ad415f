"""HLS playlists of recorded periods (RFC 8216)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, zip_longest
from math import ceil
from typing import Final, NamedTuple
from urllib.parse import urlencode

from polycast.media.timebase import NANOSECONDS
from polycast.playback.index import Segment
from polycast.playback.output import distance
from polycast.playback.periods import OffsetDateTime

VERSION: Final = 7
"""Of the protocol: fragmented MP4 with EXT-X-MAP."""
SEGMENT: Final = 6 * NANOSECONDS
"""Nanoseconds that a media segment has at least, except at the end of a file."""
SHORTEST_SEGMENT: Final = 2 * NANOSECONDS
"""The same where viewers are to be near the end of what is being recorded."""
FRESH: Final = 60 * NANOSECONDS
"""Nanoseconds since the end of the recording during which more is expected."""
TAIL: Final = NANOSECONDS
"""Nanoseconds after the last picture of a file in which there may be sound."""
TOLERANCE: Final = NANOSECONDS
"""Nanoseconds between two files that players do not notice."""
LONG_SPANS: Final = ((6 * 3600 * NANOSECONDS, 2), (24 * 3600 * NANOSECONDS, 5))
"""Media segments of longer spans are this many times as long, so that the playlist does not become too large."""


class _MediaSegment(NamedTuple):
    part: Segment
    begin: int
    end: int

    @property
    def start(self) -> int:
        """Wall-clock time."""
        return self.part.start + self.begin


class _PlacedSegment(NamedTuple):
    media: _MediaSegment
    base: int
    """When its file starts on the timeline of the playlist, in nanoseconds."""
    duration: int
    is_discontinuous: bool
    """Whether it does not continue the segment before."""


def thin_out(times: Iterable[int], shortest: int = SHORTEST_SEGMENT) -> tuple[int, ...]:
    """Return those of some key frames at which media segments begin; the first one is 0. Times in nanoseconds."""
    cuts = [0]
    for time in times:
        if time - cuts[-1] >= shortest:
            cuts.append(time)
    return tuple(cuts)


class RecordedPlaylist:
    """A media playlist of what was recorded in a span of time."""

    def __init__(self, parts: Sequence[Segment], start: int, end: int | None, now: int) -> None:
        """``start`` and ``end`` in nanoseconds since 1970; without end, it grows while more is recorded.

        ``now`` is the current time.
        """
        self._start = start
        is_fresh = bool(parts) and now - parts[-1].start - parts[-1].duration <= FRESH
        self._is_open = (end is None or end > now) and is_fresh
        span = end - start if end is not None else 0
        factor = max((factor for limit, factor in LONG_SPANS if span > limit), default=1)
        last = end if end is not None else now
        segments = [
            segment
            for part in parts
            for segment in _segments_of(part, factor, is_whole=not (self._is_open and part is parts[-1]))
            if part.start + segment.end > start and segment.start < last
        ]
        self._segments = list(_placed(segments))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to play."""
        return not self._segments

    def write(self, query: dict[str, str]) -> bytes:
        """Return the text. ``query`` is added to the addresses of all segments."""
        segments = self._segments
        offset = max(self._start - segments[0].media.start, 0) / NANOSECONDS
        lines = [
            "#EXTM3U",
            f"#EXT-X-VERSION:{VERSION}",
            f"#EXT-X-PLAYLIST-TYPE:{'EVENT' if self._is_open else 'VOD'}",
            f"#EXT-X-TARGETDURATION:{max(ceil(segment.duration / NANOSECONDS) for segment in segments)}",
            "#EXT-X-MEDIA-SEQUENCE:0",
            "#EXT-X-INDEPENDENT-SEGMENTS",
        ]
        if offset:
            lines.append(f"#EXT-X-START:TIME-OFFSET={offset:.3f},PRECISE=YES")
        before: Segment | None = None
        for segment in segments:
            media, part = segment.media, segment.media.part
            if segment.is_discontinuous:
                lines.append("#EXT-X-DISCONTINUITY")
            if before is None or part.head != before.head:
                lines.append(f'#EXT-X-MAP:URI="init.mp4?{urlencode({**query, "file": part.start})}"')
            if part is not before:
                lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{OffsetDateTime(media.start // 1_000_000 * 1_000_000)}")
            lines.append(f"#EXTINF:{segment.duration / NANOSECONDS:.6f},")
            until = media.end + (TAIL if media.end == part.duration else 0)
            address = {**query, "file": part.start, "from": media.begin, "to": until, "time": segment.base}
            lines.append(f"segment.m4s?{urlencode(address)}")
            before = part
        if not self._is_open:
            lines.append("#EXT-X-ENDLIST")
        lines.append("")
        return "\n".join(lines).encode()


def _segments_of(part: Segment, factor: int, *, is_whole: bool) -> list[_MediaSegment]:
    """Return the media segments of a file. While it is being written, its end belongs to none yet."""
    cuts = [*thin_out(part.cuts or (), SEGMENT)[::factor]]
    if is_whole:
        cuts.append(part.duration)
    return [_MediaSegment(part, begin, end) for begin, end in pairwise(cuts) if end > begin]


def _placed(segments: Sequence[_MediaSegment]) -> Iterator[_PlacedSegment]:
    """Yield segments with their times in the playlist. Gaps take no time."""
    base = -segments[0].begin if segments else 0
    is_discontinuous = False
    for segment, following in zip_longest(segments, segments[1:]):
        duration = segment.end - segment.begin
        next_base, next_is_discontinuous = base, False
        if following is not None and following.part is not segment.part:
            joins = _is_continued(segment, following)
            next_base = base + (distance(segment.part, following.part) if joins else segment.end - following.begin)
            next_is_discontinuous = not joins
            if joins:
                duration = max(next_base - base - segment.begin, 1)
        yield _PlacedSegment(segment, base, duration, is_discontinuous)
        base, is_discontinuous = next_base, next_is_discontinuous


def _is_continued(segment: _MediaSegment, following: _MediaSegment) -> bool:
    """Return whether a segment of another file follows without a gap: a recording may pause within its timeline."""
    part = segment.part
    is_whole = segment.end == part.duration and following.begin == 0
    return following.part.joins and is_whole and abs(distance(part, following.part) - part.duration) <= TOLERANCE
