"""Publishes what arrives as an MPEG transport stream, whatever carries it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from polycast.hub.stats import Counters
from polycast.hub.stream import Stream
from polycast.hub.warnings import LossWarning
from polycast.log import Log
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.mpegts.demuxer import Demuxer

ANALYSIS_SECONDS: Final = 5.0
"""Seconds from the first data until the tracks are considered known, as far as they are: program maps announce tracks
that are silent."""

NO_SUPPORTED_TRACK: Final = (
    "the stream doesn't contain any supported codec, which are currently H265, H264, MPEG-4 Video, MPEG-1/2 Video, "
    "Opus, MPEG-4 Audio, MPEG-1/2 Audio, AC-3"
)

REPLACED: Final = "a track of the stream was replaced by one with another codec"


class TransportIngest:
    """Demuxes a transport stream and publishes its frames."""

    def __init__(
        self,
        publish: Callable[[Sequence[Track]], Stream | None],
        counters: Counters,
        log: Log,
        *,
        program: int | None = None,
    ) -> None:
        """``publish`` makes the path ready; what it raises is raised by `receive`. If it returns None, nothing is
        published. ``program`` is the number of one among several; None for the first one."""
        self._publish = publish
        self._counters = counters
        self._log = log
        self._loss = LossWarning(log, "%d discontinuities of the transport stream: packets were lost")
        self._demuxer = Demuxer(program)
        self._tracks: tuple[Track, ...] | None = None
        self.stream: Stream | None = None
        self._losses: tuple[int, ...] = ()
        """Those of each track that the stream has been told of."""
        self.problem = NO_SUPPORTED_TRACK
        """Why `tick` returned False."""
        self._since: float | None = None
        """When the first data came; None before, and once the tracks are known."""

    def receive(self, data: bytes, now: float) -> None:
        """Process the next bytes, in packets of any size."""
        if self._since is None and self._tracks is None:
            self._since = now
        self._forward(self._demuxer.receive_data(data), now)

    def finish(self, now: float) -> None:
        """Publish the last frames: the stream has ended."""
        self._forward(self._demuxer.flush(is_whole=False), now)

    def tick(self, now: float) -> bool:
        """To be called about once a second. Return False if the stream cannot go on; see ``problem``."""
        counters = self._demuxer.counters
        self._counters.packets_invalid = counters.broken + counters.scrambled
        self._counters.packets_lost = counters.continuity_errors
        self._loss.update(counters.continuity_errors, now)
        self._count_losses()
        if self._demuxer.is_replaced:
            self.problem = REPLACED
            return False
        if self._since is None or now - self._since < ANALYSIS_SECONDS:
            return True
        self._forward(self._demuxer.end_analysis(), now)
        return self._tracks is not None

    def _count_losses(self) -> None:
        if self.stream is None:
            return
        losses = self._demuxer.losses
        told = self._losses or (0,) * len(losses)
        for track, lost, before in zip(self.stream.tracks, losses, told, strict=False):
            track.counters.lost += lost - before
        self._losses = losses

    def _forward(self, frames: Sequence[tuple[int, Frame]], now: float) -> None:
        tracks = self._demuxer.tracks
        if tracks is None:
            return
        if self._tracks is None:
            self._since = None
            for stream_type in self._demuxer.skipped:
                self._log.warning("a track of stream type 0x%02x is skipped: unsupported codec", stream_type)
            self._tracks = tracks
            self.stream = self._publish(tracks)
        stream = self.stream
        if stream is None:
            return
        if tracks is not self._tracks:
            for old, new in zip(self._tracks, tracks, strict=True):
                if old.codec is not new.codec:
                    stream.set_codec(new.index, new.codec)
            self._tracks = tracks
        for index, frame in frames:
            stream.publish_frame(index, frame, now)
        self._counters.packets_received += len(frames)
        stream.end_of_read()
