"""The tracks of one stream as RTP packets for all viewers, on one clock."""

from __future__ import annotations

import time

from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime, rescale_nearest
from polycast.media.track import Track
from polycast.protocols.transcoding import TranscodedTrack
from polycast.protocols.webrtc.outgoing import OutgoingTrack
from polycast.protocols.webrtc.transcoded import TranscodedOutgoingTrack


class OutgoingStream:
    """The tracks of one stream for all viewers, on one clock."""

    def __init__(self) -> None:
        self._tracks: dict[int, OutgoingTrack] = {}
        self._origin: int | None = None

    def track(self, track: Track) -> OutgoingTrack:
        """Return a track, created for the first viewer."""
        outgoing = self._tracks.get(track.index)
        if outgoing is None:
            outgoing = self._tracks[track.index] = OutgoingTrack(track, self._wall_time_of)
        return outgoing

    def transcoded(self, transcoded: TranscodedTrack) -> OutgoingTrack:
        """Return a transcoded track, created for the first viewer."""
        track = transcoded.track
        outgoing = self._tracks.get(track.index)
        if outgoing is None:
            outgoing = self._tracks[track.index] = TranscodedOutgoingTrack(transcoded, self._wall_time_of)
        return outgoing

    def has_reordering(self, track: Track) -> bool:
        """Whether a track had B-frames already."""
        outgoing = self._tracks.get(track.index)
        return outgoing is not None and outgoing.has_reordering

    def _wall_time_of(self, frame: Frame, clock_rate: int) -> WallTime:
        elapsed = rescale_nearest(frame.pts, clock_rate, NANOSECONDS)
        if self._origin is None:
            self._origin = time.time_ns() - elapsed
        return WallTime(self._origin + elapsed)
