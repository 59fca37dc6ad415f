"""A live HLS playlist that reaches back over recorded files (draft-pantos-hls-rfc8216bis). It does no I/O.

A media sequence number always stands for the same segment, with the same name and content, whatever happens to the
files: players merge playlists by these numbers.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Sequence
from itertools import islice, pairwise
from math import ceil
from typing import Final, NamedTuple

from polycast.media.timebase import NANOSECONDS
from polycast.playback.index import Segment
from polycast.playback.output import distance
from polycast.playback.periods import OffsetDateTime
from polycast.playback.playlist import FRESH, SHORTEST_SEGMENT, TAIL, TOLERANCE, thin_out
from polycast.wire.hls.numbering import FirstNumbers

VERSION: Final = 9
"""Version of the protocol that has EXT-X-SKIP."""
MAXIMUM_SEGMENTS: Final = 3_000
"""Segments of a window at most; in longer windows, segments are longer, so that the playlist stays small."""
LONGEST_SEGMENT: Final = 60 * NANOSECONDS
"""Nanoseconds without a key frame; longer ones are left out of the playlist, as players load whole segments."""
SKIP_TARGETS: Final = 6
"""Target durations before the end that a delta update never skips (section 4.4.3.8)."""
HOLD_BACK_TARGETS: Final = 3
"""Target durations that players stay behind the end (section 4.4.3.8)."""
RETAINED: Final = 32
"""Segments that can still be loaded after they have left the playlist."""
CLOCK_STEP: Final = 10 * NANOSECONDS
"""Nanoseconds that a file may begin after the current time."""
SET_BACK: Final = NANOSECONDS
"""Nanoseconds by which the clock goes back if it was set; a recorder begins a new file at no less."""


class WindowSegment(NamedTuple):
    """A media segment of the playlist: some of the samples of a recorded file."""

    number: int
    """Media sequence number."""
    part: Segment
    """The file, as it was when the segment was complete."""
    begin: int
    """In nanoseconds from the start of the file."""
    end: int
    base: int
    """Start of the file on the timeline of the playlist, in nanoseconds."""
    duration: int
    is_discontinuous: bool
    """Whether it does not continue the segment before."""
    is_last: bool
    """Whether it is the last segment of its file."""
    ahead: int = 0
    """Nanoseconds by which the clock was set back since."""

    @property
    def start(self) -> int:
        """Wall-clock time."""
        return self.part.start + self.begin

    @property
    def until(self) -> int:
        """End of its samples in the file, in nanoseconds: sound may continue after the last picture."""
        return self.end + TAIL if self.is_last else self.end


class _Seen:
    """What the last update has seen of clock and files."""

    def __init__(self) -> None:
        self.now = 0
        """The time."""
        self.files: set[str] = set()
        self.older: set[str] = set()
        """Those that were recorded before the clock was set back."""
        self.missing: set[str] = set()
        """Files that are gone, although their segments are listed."""

    def follow(self, now: int, files: set[str], older: Collection[str]) -> None:
        """Take an update; ``older``: files that are found to be older now, except for those that were seen before."""
        self.older = (self.older & files) | (set(older) - self.files)
        self.now, self.files = now, files


class LiveWindow:
    """The playlist of one path."""

    def __init__(self, length: int, shortest: int, first: FirstNumbers, prefix: str) -> None:
        """``length`` of the window and ``shortest`` duration of a segment, in nanoseconds.

        ``prefix`` of the names of files, which no other playlist of the path may have.
        """
        self._length = length
        self._shortest = max(shortest, SHORTEST_SEGMENT, length // MAXIMUM_SEGMENTS)
        self._next_number = first.sequence
        self._discontinuity_sequence = first.discontinuity_sequence
        self._prefix = prefix
        self._segments: deque[WindowSegment] = deque()
        self._last: WindowSegment | None = None
        self._seen = _Seen()
        self._retained: OrderedDict[int, WindowSegment] = OrderedDict()
        self._heads: dict[str, Segment] = {}
        """For each description of the tracks, a file that has it, by its identification."""
        self._lines: dict[int, str] = {}
        """The lines of each segment."""
        self._target = 0

    @property
    def next_numbers(self) -> tuple[int, int]:
        """A media sequence number and a discontinuity sequence number higher than all those that were used."""
        discontinuities = sum(segment.is_discontinuous for segment in self._segments)
        return self._next_number, self._discontinuity_sequence + discontinuities + 1

    @property
    def is_empty(self) -> bool:
        return not self._segments

    @property
    def target(self) -> int:
        """The target duration in seconds."""
        return max(self._target, 1)

    def since(self, now: int) -> int:
        """Return when the window begins; both in nanoseconds since 1970."""
        return now - self._length

    @property
    def latest(self) -> int:
        """When the last file that is listed begins, in nanoseconds since 1970; after now if the clock was set back."""
        return max((segment.part.start for segment in self._segments), default=0)

    # Update

    def update(self, parts: Sequence[Segment], now: int, older: Collection[str] = ()) -> bool:
        """Take the files of the window, in order, with their cuts; return whether the playlist has changed.

        ``now`` in nanoseconds since 1970. ``older``: those files that were recorded before the clock was set back,
        although their names say a later time.

        When the clock is set back, what is listed stays, as long as it would have otherwise. What is recorded from then
        on follows it, with a discontinuity. Files from before that are not listed yet never are: their dates would put
        them among those that are recorded now.
        """
        number, first = self._next_number, self._segments[0].number if self._segments else 0
        missing = self._seen.missing
        self._seen.missing = {segment.part.file for segment in self._segments} - {part.file for part in parts}
        since, seen = self.since(now), self._seen
        if now < seen.now - SET_BACK:
            self._set_back(seen.now - now, parts)
        seen.follow(now, {part.file for part in parts}, older)
        self._forget(since)
        last = self._last.part.file if self._last is not None else ""
        new = [part for part in parts if part.file not in seen.older]
        wanted = [*(part for part in parts if part.file in seen.older and part.file == last), *new]
        for index, part in enumerate(wanted):
            is_whole = index < len(wanted) - 1 or part.is_complete or now - part.end > FRESH
            if part.file == last or part.start <= now + CLOCK_STEP:
                self._append_of(part, since, is_whole=is_whole)
        is_shorter = bool(self._segments) and self._segments[0].number != first
        return number != self._next_number or is_shorter or missing != self._seen.missing

    def _set_back(self, step: int, parts: Sequence[Segment]) -> None:
        """The clock was set back, by some nanoseconds.

        What is listed is older than its dates say; what was complete at that time before is not live.
        """
        self._seen.older |= self._seen.files
        self._seen.older |= {part.file for part in parts if part.is_complete}
        self._segments = deque(segment._replace(ahead=segment.ahead + step) for segment in self._segments)
        if self._last is not None:
            self._last = self._last._replace(ahead=self._last.ahead + step)

    def _forget(self, before: int) -> None:
        segments = self._segments
        while segments and (
            segments[0].part.start + segments[0].end - segments[0].ahead <= before
            or segments[0].part.file in self._seen.missing
        ):
            segment = segments.popleft()
            del self._lines[segment.number]
            self._retained[segment.number] = segment
            self._discontinuity_sequence += segment.is_discontinuous
            if len(self._retained) > RETAINED:
                self._retained.popitem(last=False)
        listed = {segment.part.head for segment in (*segments, *self._retained.values())}
        self._heads = {head: part for head, part in self._heads.items() if head in listed}

    def _append_of(self, part: Segment, since: int, *, is_whole: bool) -> None:
        """Add the new segments of a file."""
        last = self._last
        cuts = thin_out(part.cuts or (), self._shortest)
        part = part._replace(cuts=None)  # each segment has its file
        if last is not None:
            if part.start < last.part.start - last.ahead:
                return  # a file that was added by another program, and is older than the end of the playlist
            if part.file == last.part.file:
                later = (cut for cut in cuts if cut > last.end)
                # it may have grown although it seemed to be complete: the next segment begins at a key frame
                cuts = (*later,) if last.is_last else (last.end, *later)
        if is_whole and cuts and part.duration > cuts[-1]:
            cuts = (*cuts, part.duration)
        for begin, end in pairwise(cuts):
            if part.start + end > since and end - begin <= LONGEST_SEGMENT:
                self._append(part, begin, end, is_last=is_whole and end == part.duration)

    def _append(self, part: Segment, begin: int, end: int, *, is_last: bool) -> None:
        last = self._last
        base, is_discontinuous, ahead = -begin, False, 0
        if last is not None and part.file == last.part.file:
            base, is_discontinuous = last.base + last.end - begin, last.is_last or begin != last.end
            ahead = last.ahead
        elif last is not None:
            step = distance(last.part, part)
            joins = part.joins and last.is_last and begin == 0 and abs(step - last.end) <= TOLERANCE
            base = last.base + (step if joins else last.end - begin)
            is_discontinuous = not joins
        duration = end - begin
        segment = WindowSegment(self._next_number, part, begin, end, base, duration, is_discontinuous, is_last, ahead)
        self._next_number += 1
        self._target = max(self._target, ceil(duration / NANOSECONDS), ceil(self._shortest / NANOSECONDS))
        self._heads.setdefault(part.head, part)
        self._segments.append(segment)
        self._lines[segment.number] = self._describe(segment)
        self._last = segment

    # Files

    def find(self, name: str) -> WindowSegment | None:
        """Return the media segment with a name, if it is listed or was until recently."""
        number = self._number_in(name, ".m4s")
        if number is None:
            return None
        if self._segments and self._segments[0].number <= number < self._next_number:
            return self._segments[number - self._segments[0].number]
        return self._retained.get(number)

    def find_head(self, name: str) -> Segment | None:
        """Return a file to make the init segment with a name from; None if there is no such name."""
        head = name.removeprefix(self._prefix).removesuffix(".mp4")
        return self._heads.get(head) if name == f"{self._prefix}{head}.mp4" else None

    def _number_in(self, name: str, suffix: str) -> int | None:
        text = name.removeprefix(self._prefix).removesuffix(suffix)
        return int(text) if name == f"{self._prefix}{text}{suffix}" and text.isdecimal() and len(text) < 20 else None

    # Text

    def write(self, *, skips: bool = False) -> bytes:
        """Return the playlist. ``skips``: a delta update is enough (section 6.2.5.1). It must not be empty."""
        segments = self._segments
        target = self.target
        lines = [
            "#EXTM3U",
            f"#EXT-X-VERSION:{VERSION}",
            f"#EXT-X-TARGETDURATION:{target}",
            f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={SKIP_TARGETS * target}.0"
            f",HOLD-BACK={HOLD_BACK_TARGETS * target}.0",
            f"#EXT-X-MEDIA-SEQUENCE:{segments[0].number}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{self._discontinuity_sequence}",
            "#EXT-X-INDEPENDENT-SEGMENTS",
        ]
        skipped = self._skippable(target) if skips else 0
        head = ""
        if skipped:
            lines.append(f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")
            head = segments[skipped - 1].part.head
        for segment in islice(segments, skipped, None):
            if segment.is_discontinuous:
                lines.append("#EXT-X-DISCONTINUITY")
            if segment.part.head != head:
                head = segment.part.head
                lines.append(f'#EXT-X-MAP:URI="{self._prefix}{head}.mp4"')
            if segment.part.file in self._seen.missing:
                lines.append("#EXT-X-GAP")
            lines.append(self._lines[segment.number])
        lines.append("")
        return "\n".join(lines).encode()

    def _describe(self, segment: WindowSegment) -> str:
        date = OffsetDateTime(segment.start // 1_000_000 * 1_000_000)
        return (
            f"#EXT-X-PROGRAM-DATE-TIME:{date}\n#EXTINF:{segment.duration / NANOSECONDS:.6f},\n"
            f"{self._prefix}{segment.number}.m4s"
        )

    def _skippable(self, target: int) -> int:
        """Return how many segments a delta update skips."""
        kept = 0
        for count, segment in enumerate(reversed(self._segments)):
            if kept >= SKIP_TARGETS * target * NANOSECONDS:
                return len(self._segments) - count
            kept += segment.duration
        return 0
