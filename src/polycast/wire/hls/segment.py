"""Segments and parts as playlists list them."""

from __future__ import annotations

from polycast.media.timebase import WallTime


class Part:
    """A partial segment (draft-pantos-hls-rfc8216bis section 4.4.4.9)."""

    __slots__ = ("duration", "independent", "name", "size")

    def __init__(self, name: str, duration: float, independent: bool, size: int) -> None:
        self.name = name
        self.duration = duration
        """Seconds."""
        self.independent = independent
        """Whether it contains a key frame."""
        self.size = size
        """Bytes."""


class Segment:
    """A media segment; duration, size and parts are set when it is complete."""

    __slots__ = (
        "discontinuity",
        "duration",
        "gap",
        "independent",
        "initialization",
        "name",
        "parts",
        "program_date_time",
        "sequence",
        "size",
    )

    def __init__(
        self,
        name: str,
        sequence: int,
        program_date_time: WallTime,
        *,
        initialization: str | None = None,
        discontinuity: bool = False,
        independent: bool = True,
        gap: bool = False,
    ) -> None:
        self.name = name
        self.sequence = sequence
        """Media sequence number."""
        self.program_date_time = program_date_time
        """Wall-clock time of its first frame."""
        self.initialization = initialization
        """Name of its init segment; None for MPEG-TS."""
        self.discontinuity = discontinuity
        """Whether it does not continue the segment before it."""
        self.independent = independent
        """Whether it starts with a key frame."""
        self.gap = gap
        """Whether there is no such file (EXT-X-GAP)."""
        self.duration = 0.0
        """Seconds."""
        self.size = 0
        """Bytes."""
        self.parts: tuple[Part, ...] = ()
        """Empty where there are none, or they are not kept any more."""
