"""Keeps the frames of one track in order, on one timeline that continues across jumps of the publisher's clock."""

from __future__ import annotations

from polycast.hub.successor import retimed
from polycast.hub.warnings import StreamWarnings
from polycast.media.codec import Kind
from polycast.media.continuity import TrackContinuity
from polycast.media.frame import Frame
from polycast.media.track import Track

# Seconds by which audio frames may overlap: rounding, and corrections of clocks.
MAXIMUM_OVERLAP_SECONDS = 0.1


class FrameOrder:
    """Keeps the frames of one track in order, and marks those that start a new section of the timeline."""

    __slots__ = ("_continuity", "_piece_start", "_track", "_warnings", "discontinuities", "is_video", "last_dts")

    def __init__(self, track: Track, continuity: TrackContinuity, warnings: StreamWarnings) -> None:
        self._track = track
        self._continuity = continuity
        self._warnings = warnings
        self.is_video = track.codec.kind is Kind.VIDEO
        self.discontinuities = 0
        """How often the publisher's timeline restarted."""
        self._piece_start: int | None = None
        """Start of a new section of the timeline, until its first frame."""
        self.last_dts: int | None = None
        """Decoding time of the last frame, in ticks; None before the first one."""

    def place(self, frame: Frame, now: float) -> Frame | None:
        """Return a frame of a publisher of frames as readers receive it; None if it is dropped."""
        position = self._continuity.place(frame.dts, now, key=frame.key and self.is_video)
        if self._continuity.pieces != self.discontinuities:
            self.follow(position, now)
        return self.put(frame, position - frame.dts)

    def follow(self, position: int, now: float) -> None:
        """Process a placement: a new section of the timeline may start there."""
        continuity = self._continuity
        if continuity.pieces != self.discontinuities:
            self.discontinuities = continuity.pieces
            self._piece_start = position
            if continuity.jump:
                self._warnings.on_jump(self._track, continuity.jump, now)

    def begin_again(self) -> None:
        """Start a new section: another publisher continues the stream."""
        self._piece_start = self.last_dts

    def put(self, frame: Frame, shift: int = 0) -> Frame | None:
        """Return a frame, ``shift`` ticks later, as readers receive it; None for audio that overlaps earlier frames."""
        dts = frame.dts + shift
        last = self.last_dts
        if last is not None and dts < last:
            if not self.is_video and last - dts > MAXIMUM_OVERLAP_SECONDS * self._track.clock_rate:
                return None
            dts = last
        pts = frame.pts + shift
        if pts < dts:
            pts = dts
        begins = self._piece_start is not None and pts >= self._piece_start
        if begins:
            self._piece_start = None
        self.last_dts = dts
        if pts != frame.pts or dts != frame.dts or begins:
            return retimed(frame, pts, dts, discontinuity=begins or frame.discontinuity)
        return frame
