"""Validates the playlists of a live stream, as a player gets them one after another, against the specifications.

It has its own small parser, so that it shares no error with ours. Sections are those of RFC 8216 where a number stands
alone, and of draft-pantos-hls-rfc8216bis behind "bis".
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)(?:,|$)')


class Violation(AssertionError):
    """A rule was broken."""


def rule(holds: bool, text: str) -> None:
    if not holds:
        raise Violation(text)


@functools.lru_cache(maxsize=10_000)  # most lines of a playlist are those of the one before
def attributes(value: str) -> Mapping[str, str]:
    found = ATTRIBUTE.findall(value)
    rule(",".join(f"{name}={text}" for name, text in found) == value, f"4.2: not an attribute list: {value}")
    rule(len({name for name, _ in found}) == len(found), "4.2: an attribute occurs twice")
    return {name: text.strip('"') for name, text in found}


@dataclass
class Part:
    uri: str
    duration: float
    independent: bool


@dataclass
class Segment:
    sequence: int = 0
    uri: str = ""
    duration: float = 0.0
    discontinuity: bool = False
    discontinuity_sequence: int = 0
    gap: bool = False
    date: datetime | None = None
    initialization: str | None = None
    parts: list[Part] = field(default_factory=list)


@dataclass
class Playlist:
    version: int = 1
    target: int = 0
    media_sequence: int = 0
    discontinuity_sequence: int = 0
    segments: list[Segment] = field(default_factory=list)
    open: Segment = field(default_factory=Segment)
    part_target: float | None = None
    control: Mapping[str, str] = field(default_factory=dict)
    hint: str | None = None
    skipped: int = 0
    reports: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def parts(self) -> list[Part]:
        return [part for segment in [*self.segments, self.open] for part in segment.parts]


def parse(text: str) -> Playlist:
    rule(text.endswith("\n") and "\r" not in text, "4.1: lines end in LF")
    lines = text.split("\n")
    rule(lines[0] == "#EXTM3U", "4.3.1.1: EXTM3U is the first line")
    playlist = Playlist()
    seen: set[str] = set()
    segment = Segment()
    initialization: str | None = None
    discontinuities = 0
    first_media_line = len(lines)
    for number, line in enumerate(lines[1:], 1):
        if not line:
            continue
        name, _, value = line.partition(":")
        if not line.startswith("#"):
            rule(segment.duration > 0, "4.3.2.1: each segment has an EXTINF")
            segment.uri = line
            segment.sequence = playlist.media_sequence + playlist.skipped + len(playlist.segments)
            segment.initialization = initialization
            segment.discontinuity_sequence = playlist.discontinuity_sequence + discontinuities
            playlist.segments.append(segment)
            segment = Segment()
            continue
        if name in _ONCE:
            rule(name not in seen, f"4.3.3: {name} occurs twice")
            seen.add(name)
        if name in _BEFORE_SEGMENTS:
            rule(number < first_media_line, f"{name} stands before the first segment")
        else:
            first_media_line = min(first_media_line, number)
        if name == "#EXTINF":
            rule(value.endswith(","), "4.3.2.1: EXTINF has a comma")
            segment.duration = float(value[:-1])
        elif name in _BEFORE_PARTS and segment.parts:
            raise Violation(f"bis 4.4.4.9: {name} of a segment stands before its first part")
        elif name == "#EXT-X-DISCONTINUITY":
            segment.discontinuity = True
            discontinuities += 1
        elif name == "#EXT-X-GAP":
            segment.gap = True
        elif name == "#EXT-X-MAP":
            initialization = attributes(value)["URI"]
        elif name == "#EXT-X-PROGRAM-DATE-TIME":
            segment.date = datetime.fromisoformat(value)
        elif name == "#EXT-X-PART":
            found = attributes(value)
            segment.parts.append(Part(found["URI"], float(found["DURATION"]), found.get("INDEPENDENT") == "YES"))
        else:
            _parse_header(playlist, name, value)
    segment.initialization = initialization
    segment.discontinuity_sequence = playlist.discontinuity_sequence + discontinuities
    playlist.open = segment
    return playlist


_BEFORE_SEGMENTS = frozenset(
    (
        "#EXT-X-INDEPENDENT-SEGMENTS",
        "#EXT-X-VERSION",
        "#EXT-X-TARGETDURATION",
        "#EXT-X-MEDIA-SEQUENCE",
        "#EXT-X-DISCONTINUITY-SEQUENCE",
        "#EXT-X-SERVER-CONTROL",
        "#EXT-X-PART-INF",
        "#EXT-X-ALLOW-CACHE",
        "#EXT-X-SKIP",
    )
)
_ONCE = _BEFORE_SEGMENTS
_BEFORE_PARTS = frozenset(("#EXT-X-DISCONTINUITY", "#EXT-X-MAP", "#EXT-X-PROGRAM-DATE-TIME"))


def _parse_header(playlist: Playlist, name: str, value: str) -> None:
    if name == "#EXT-X-VERSION":
        playlist.version = int(value)
    elif name == "#EXT-X-TARGETDURATION":
        playlist.target = int(value)
    elif name == "#EXT-X-MEDIA-SEQUENCE":
        playlist.media_sequence = int(value)
    elif name == "#EXT-X-DISCONTINUITY-SEQUENCE":
        playlist.discontinuity_sequence = int(value)
    elif name == "#EXT-X-SERVER-CONTROL":
        playlist.control = attributes(value)
    elif name == "#EXT-X-PART-INF":
        playlist.part_target = float(attributes(value)["PART-TARGET"])
    elif name == "#EXT-X-SKIP":
        playlist.skipped = int(attributes(value)["SKIPPED-SEGMENTS"])
    elif name == "#EXT-X-PRELOAD-HINT":
        found = attributes(value)
        rule(found["TYPE"] == "PART", "bis 4.4.5.3: we hint at parts")
        playlist.hint = found["URI"]
    elif name == "#EXT-X-RENDITION-REPORT":
        found = attributes(value)
        playlist.reports[found["URI"]] = int(found["LAST-MSN"]), int(found["LAST-PART"])
    else:
        rule(name in ("#EXT-X-ALLOW-CACHE", "#EXT-X-INDEPENDENT-SEGMENTS"), f"an unknown tag: {name}")


class Checker:
    """Follows one media playlist. Give it every version in order; ``fetch`` returns the size of a file or None,
    ``begins`` whether decoding can begin somewhere in a part."""

    def __init__(
        self, fetch: Callable[[str], int | None], *, low_latency: bool, begins: Callable[[str], bool] | None = None
    ) -> None:
        self.fetch = fetch
        self.begins = begins
        self.low_latency = low_latency
        self.last: Playlist | None = None
        self.segments: dict[int, Segment] = {}
        """Every segment seen, by sequence number."""
        self.names: dict[str, int] = {}
        """Sequence number by name: names never come back."""
        self.beginnings: dict[str, bool] = {}
        """What ``begins`` says of each part seen: a part never changes."""
        self.target_changes = 0
        self.part_targets: dict[str, float] = {}
        """The part target when a part was listed first. It may have to rise when a publisher's frame rate falls; no
        server can make the parts of before longer then."""

    def check(self, text: str) -> Playlist:
        """Check a whole playlist."""
        playlist = parse(text)
        rule(not playlist.skipped, "bis 6.2.5.1: a delta update comes only when asked for")
        rule(bool(playlist.segments), "a playlist that is served has segments")
        self._check_segments(playlist)
        if self.low_latency:
            self._check_parts(playlist)
        else:
            rule(not playlist.parts and playlist.part_target is None, "parts are for Low-Latency only")
        if self.last is not None:
            self._check_update(self.last, playlist)
        self._check_files(playlist)
        self.last = playlist
        return playlist

    def _check_segments(self, playlist: Playlist) -> None:
        rule(playlist.target >= 1, "4.3.3.1: there is a target duration")
        previous: Segment | None = None
        for segment in playlist.segments:
            rule(
                int(segment.duration + 0.5) <= playlist.target, "4.3.3.1: EXTINF rounded is at most the target duration"
            )
            rule(segment.date is not None, "a date on every segment")
            if segment.initialization is not None:
                rule(playlist.version >= 6, "7: EXT-X-MAP needs version 6")
            if previous is not None and not segment.discontinuity:
                rule(segment.initialization == previous.initialization, "4.3.4.3: new parameters are a discontinuity")
                assert segment.date is not None
                assert previous.date is not None
                drift = (segment.date - previous.date).total_seconds() - previous.duration
                rule(abs(drift) < 0.05, f"4.3.2.6: dates and durations agree ({drift})")
            previous = segment
        whole = sum(segment.duration for segment in playlist.segments)
        if self.last is not None and playlist.media_sequence > self.last.media_sequence:
            rule(
                whole >= 3 * playlist.target - 1e-3 or len(playlist.segments) >= 7,
                "6.2.2: three target durations remain",
            )

    def _check_parts(self, playlist: Playlist) -> None:
        target = playlist.part_target
        rule(playlist.version >= 9, "bis 8: skipping needs version 9")
        rule(target is not None and target > 0, "bis 4.4.3.7: there is a part target")
        assert target is not None
        control = playlist.control
        rule(control.get("CAN-BLOCK-RELOAD") == "YES", "bis 4.4.3.8: Low-Latency needs blocking reload")
        rule(
            float(control["PART-HOLD-BACK"]) >= 3 * target - 1e-6,
            "bis 4.4.3.8: PART-HOLD-BACK should be at least three part targets",
        )
        rule(
            float(control["CAN-SKIP-UNTIL"]) >= 6 * playlist.target,
            "bis 4.4.3.8: the skip boundary is six targets away",
        )
        for segment in [*playlist.segments, playlist.open]:
            for number, part in enumerate(segment.parts):
                rule(part.duration <= target + 1e-6, f"bis 4.4.4.9: {part.duration} s is over the part target {target}")
                least = 0.85 * self.part_targets.setdefault(part.uri, target)
                last = segment is not playlist.open and number == len(segment.parts) - 1
                rule(last or part.duration >= least - 1e-6, f"bis 4.4.4.9: {part.duration} s is under 85 % of {target}")
            if segment.parts and segment is not playlist.open:
                whole = sum(part.duration for part in segment.parts)
                rule(abs(whole - segment.duration) < 0.001 * len(segment.parts), "a segment is as long as its parts")
            if segment.gap:
                rule(not segment.parts, "bis 4.4.4.9: parts that are not there would need GAP=YES")
        if playlist.open.parts:
            rule(playlist.open.date is not None, "a date on the open segment")
        if self.begins is not None:
            self._check_independent(playlist, self.begins)
        uris = [part.uri for part in playlist.parts]
        rule(len(set(uris)) == len(uris), "parts have different names")
        rule(playlist.hint is not None and playlist.hint not in uris, "bis 4.4.5.3: the hint is the next part")
        near = 0.0
        for segment in reversed(playlist.segments):
            if near >= 3 * playlist.target + 0.001:  # durations are rounded in the text
                rule(not segment.parts, "parts far from the end are not listed")
            near += segment.duration

    def _check_independent(self, playlist: Playlist, begins: Callable[[str], bool]) -> None:
        for part in playlist.parts:
            if part.uri not in self.beginnings:
                self.beginnings[part.uri] = begins(part.uri)
            rule(part.independent == self.beginnings[part.uri], f"bis 4.4.4.9: INDEPENDENT of {part.uri} is right")

    def _check_update(self, old: Playlist, new: Playlist) -> None:
        rule(new.version == old.version, "the version stays")
        rule(new.target >= old.target, "4.3.3.1: the target duration does not shrink")
        self.target_changes += new.target != old.target
        rule(new.media_sequence >= old.media_sequence, "6.2.2: the media sequence number grows")
        rule(new.media_sequence <= old.media_sequence + len(old.segments), "6.2.1: no segment is left out")
        if new.discontinuity_sequence != old.discontinuity_sequence:
            rule(new.media_sequence > old.media_sequence, "6.2.2: discontinuities leave with their segments")
        if self.low_latency and old.hint is not None and new.parts and old.hint != new.hint:
            after = [part.uri for part in new.parts]
            rule(old.hint in after, "bis 6.2.2: a part that was hinted at came")
        if old.open.parts:
            same = next((each for each in [*new.segments, new.open] if each.parts[:1] == old.open.parts[:1]), None)
            rule(same is not None, "6.2.1: the parts of the open segment stay")
            if same is not None:
                rule(same.parts[: len(old.open.parts)] == old.open.parts, "6.2.1: parts are only appended")
                rule(same.date == old.open.date, "6.2.1: the open segment keeps its date")
                rule(same.discontinuity == old.open.discontinuity, "6.2.1: the open segment keeps its discontinuity")
        for segment in new.segments:
            known = self.segments.get(segment.sequence)
            if known is not None:
                same_tags = (
                    known.uri,
                    known.duration,
                    known.discontinuity,
                    known.date,
                    known.gap,
                    known.initialization,
                )
                now = (
                    segment.uri,
                    segment.duration,
                    segment.discontinuity,
                    segment.date,
                    segment.gap,
                    segment.initialization,
                )
                rule(same_tags == now, f"6.2.1: segment {segment.sequence} does not change")
                rule(
                    known.discontinuity_sequence == segment.discontinuity_sequence,
                    "6.2.2: the discontinuity sequence number of a segment does not change",
                )

    def _check_files(self, playlist: Playlist) -> None:
        for segment in playlist.segments:
            self.segments[segment.sequence] = segment
            if segment.gap:
                continue
            rule(self.names.setdefault(segment.uri, segment.sequence) == segment.sequence, "a name never comes back")
            size = self.fetch(segment.uri)
            rule(size is not None and size > 0, f"{segment.uri} can be fetched")
            if segment.initialization is not None:
                rule(self.fetch(segment.initialization) is not None, "the init segment can be fetched")
            sizes = [self.fetch(part.uri) for part in segment.parts]
            rule(all(sizes), "the parts can be fetched")
            if sizes:
                rule(sum(each or 0 for each in sizes) == size, "bis 4.4.4.9: a segment is the sum of its parts")
        for part in playlist.open.parts:
            rule(self.fetch(part.uri) is not None, "open parts can be fetched")

    def check_delta(self, text: str, whole: Playlist) -> int:
        """Check a delta update (bis 6.2.5.1) against the whole playlist of the same moment; return what it skipped."""
        delta = parse(text)
        merged = [*whole.segments[: delta.skipped], *delta.segments]
        rule(delta.media_sequence == whole.media_sequence, "bis 4.4.5.2: the media sequence counts the skipped ones")
        rule(len(merged) == len(whole.segments), "bis 4.4.5.2: skipped and listed segments are all")

        def tags(segments: list[Segment]) -> list[Any]:
            return [(each.sequence, each.uri, each.duration, each.date, each.gap, each.parts) for each in segments]

        rule(tags(merged) == tags(whole.segments), "bis 6.2.5.1: the listed segments are those of the whole playlist")
        rule(delta.open.parts == whole.open.parts and delta.hint == whole.hint, "bis 6.2.5.1: the end is the same")
        after = sum(segment.duration for segment in delta.segments)
        after += sum(part.duration for part in delta.open.parts)
        if delta.skipped:
            boundary = float(delta.control["CAN-SKIP-UNTIL"])
            rule(after >= boundary - 1e-3, "bis 4.4.5.2: only segments before the skip boundary are skipped")
        return delta.skipped
