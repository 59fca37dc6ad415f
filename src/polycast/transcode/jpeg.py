"""Transcodes pictures to JPEG, for pages and programs that show nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from polycast.media.codec import MJPEG, VideoCodec
from polycast.media.frame import Frame
from polycast.media.timebase import rescale
from polycast.media.track import Track
from polycast.transcode.video import VideoShape, VideoTarget, VideoTranscoder

MAXIMUM_RATE: Final = 10
"""Pictures per second: each is as large as a key frame, and takes milliseconds to encode."""
QUALITY: Final = 4
"""Scale of the quantiser, 2 (best) to 31."""
_LAMBDA: Final = 118
"""What FFmpeg multiplies it with (``FF_QP2LAMBDA``)."""


@dataclass(frozen=True, slots=True)
class JpegTarget(VideoTarget):
    """JPEG pictures."""

    codec: VideoCodec = field(default_factory=MJPEG)

    def open(self, track: Track) -> VideoTranscoder:
        """Return what transcodes a track. Raises MissingDependency without PyAV."""
        return _JpegTranscoder(track, self)


JPEG: Final = JpegTarget()


class _JpegTranscoder(VideoTranscoder):
    """Decodes all pictures, and encodes some of them."""

    def __init__(self, track: Track, target: VideoTarget) -> None:
        super().__init__(track, target)
        self._clock_rate = target.codec.clock_rate
        self._context: tuple[VideoShape, Any] | None = None
        self._reformatter = self._av.video.reformatter.VideoReformatter()

    def _encode(self, picture: Any) -> list[Frame]:
        if picture.pts is None:
            return []
        pts = rescale(picture.pts, self._track.clock_rate, self._clock_rate)
        if pts < self._next_pts:
            return []
        self._next_pts = pts + self._clock_rate // MAXIMUM_RATE
        shape = VideoShape.of(picture, self._decoder.sample_aspect_ratio)
        picture = self._reformatter.reformat(picture, shape.width, shape.height, "yuvj420p", dst_color_range="JPEG")
        picture.pts = pts
        context = self._open_encoder(shape)
        picture.time_base = context.time_base
        return [Frame((bytes(packet),), pts, pts, key=True) for packet in context.encode(picture)]

    def _open_encoder(self, shape: VideoShape) -> Any:
        if self._context is not None and self._context[0] == shape:
            return self._context[1]
        context = self._av.CodecContext.create("mjpeg", "w")
        context.width, context.height = shape.width, shape.height
        context.pix_fmt = "yuvj420p"
        context.time_base = Fraction(1, self._clock_rate)
        context.options = {"flags": "+qscale", "global_quality": str(QUALITY * _LAMBDA)}
        context.open()
        self._context = shape, context
        return context
