"""The files of one rendition: their names, and what they contain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from polycast.wire.hls.options import Variant
from polycast.wire.hls.resource import CONTENT_TYPE_AUDIO_MP4, CONTENT_TYPE_MP4, CONTENT_TYPE_MPEGTS, Resource
from polycast.wire.hls.segment import Part, Span
from polycast.wire.mp4.boxes import box

GAP_NAME: Final = "gap.mp4"
"""Name of the gaps. Players that support EXT-X-GAP do not request it; VLC 3 does, and gives up if it does not exist."""

_GAP: Final = Resource(box(b"styp", b"msdh", bytes(4), b"msdh"), CONTENT_TYPE_MP4, immutable=True)
"""A segment without anything in it."""


class MediaFiles:
    """Segments, parts and init segments, by name."""

    def __init__(self, stem: str, variant: Variant, *, has_video: bool) -> None:
        """``stem`` is what all names begin with."""
        self.resources: dict[str, Resource] = {}
        """Everything that can be requested, by name."""
        self.initialization: str | None = None
        """Name of the current init segment; None for MPEG-TS, and before the first one."""
        self.spans: dict[str, Span] = {}
        """Where the segments are on the timeline, by name."""
        self._stem = stem
        self._suffix = ".ts" if variant is Variant.MPEGTS else ".mp4"
        self._content_type = CONTENT_TYPE_MP4 if has_video else CONTENT_TYPE_AUDIO_MP4
        if variant is Variant.MPEGTS:
            self._content_type = CONTENT_TYPE_MPEGTS
        self._initializations = 0
        self._parts = 0

    @property
    def next_part(self) -> str:
        """Name of the next part."""
        return f"{self._stem}_part{self._parts}.mp4"

    @property
    def time_template(self) -> str:
        """The name of a segment for DASH, with ``$Time$`` in the place of its time: FFmpeg fails with sequence numbers
        that do not start at 0."""
        return f"{self._stem}_time$Time$.mp4"

    def at_time(self, name: str) -> Resource | None:
        """Return the segment with such a name."""
        prefix, _, suffix = self.time_template.partition("$Time$")
        if not name.startswith(prefix) or not name.endswith(suffix):
            return None
        time = name[len(prefix) : len(name) - len(suffix)]
        found = next((other for other, span in self.spans.items() if str(span.time) == time), None)
        return self.resources[found] if found is not None else None

    def segment_name(self, sequence: int) -> str:
        """Return the name of the segment with a media sequence number."""
        return f"{self._stem}_seg{sequence}{self._suffix}"

    def add_initialization(self, body: bytes) -> None:
        """Add an init segment, for the segments from now on."""
        self.initialization = f"{self._stem}_init{self._initializations}.mp4"
        self._initializations += 1
        self._add(self.initialization, body)

    def add_part(self, body: bytes) -> str:
        """Add the next part; return its name."""
        name = self.next_part
        self._parts += 1
        self._add(name, body)
        return name

    def add_segment(self, name: str, body: bytes, span: Span) -> None:
        """Add a complete segment."""
        self._add(name, body)
        self.spans[name] = span

    def add_gap(self) -> None:
        """Add the file that gaps refer to."""
        self.resources[GAP_NAME] = _GAP

    def remove(self, *names: str) -> None:
        """Remove files; those that do not exist are ignored."""
        for name in names:
            self.resources.pop(name, None)
            self.spans.pop(name, None)

    def remove_parts(self, parts: Iterable[Part]) -> None:
        """Remove parts."""
        self.remove(*(part.name for part in parts))

    def _add(self, name: str, body: bytes) -> None:
        self.resources[name] = Resource(body, self._content_type, immutable=True)
