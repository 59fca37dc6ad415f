"""Transcodes pictures to H264 that every browser shows in WebRTC: constrained baseline, without B-frames and delay."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from polycast.codecs.registry import bitstream_of
from polycast.errors import UnsupportedCodec
from polycast.media.codec import H264, Codec, VideoCodec
from polycast.media.frame import Frame
from polycast.media.timebase import rescale
from polycast.media.track import Track
from polycast.transcode.codecs import CODECS
from polycast.transcode.decoder import decoder_name, open_decoder
from polycast.transcode.pyav import import_av
from polycast.transcode.threads import encoding_threads

KEY_FRAME_INTERVAL: Final = 2
"""Seconds between two key frames that were requested: every viewer gets all of them, and each is several times as large
as another picture."""

BITS_PER_PIXEL: Final = 0.1
"""Limit of the bit rate, per pixel of a picture: 2.8 Mbit/s for 720p and 6.2 Mbit/s for 1080p, at 30 pictures a second.
Pictures that are easy to encode need less."""
QUALITY: Final = 23
"""Constant rate factor of x264: its default."""

MAXIMUM_PIXELS: Final = 4096 * 2304
"""Pixels of a picture; no real-time encoder without a graphics card can do more."""

MAXIMUM_RATE: Final = 240.0
"""Pictures per second for which an encoder is opened at most: the times of a publisher may hardly differ, and x264 only
takes bit rates up to a limit."""
_USUAL_RATE: Final = 30.0
_RATE_PICTURES: Final = 30
"""Pictures after which the rate is known."""
_RATE_TOLERANCE: Final = 1.25
"""Factor by which the rate may differ from the one that the encoder was opened with."""
_ENCODER: Final = "libx264"
_OPTIONS: Final = {
    "preset": "superfast",
    "tune": "zerolatency",
    "profile": "baseline",
    "crf": str(QUALITY),
    "forced-idr": "1",
    "sc_threshold": "0",  # no key frames but those that are asked for
}
_NO_INTERVAL: Final = 2**30


@dataclass(frozen=True, slots=True)
class VideoTarget:
    """What pictures become."""

    codec: VideoCodec = field(default_factory=H264)
    """That of the frames that come out. Its parameter sets are in front of each key frame."""

    def can_be_made_of(self, codec: Codec) -> bool:
        """Whether pictures of a codec can be transcoded."""
        return codec.kind == "video" and decoder_name(codec) is not None

    def open(self, track: Track) -> VideoTranscoder:
        """Return what transcodes a track. Raises MissingDependency without PyAV."""
        return VideoTranscoder(track, self)


BASELINE: Final = VideoTarget()


class VideoTranscoder:
    """Transcodes one track. Used by one thread at a time, except for `request_key_frame`.

    Raises MissingDependency without PyAV.
    """

    def __init__(self, track: Track, target: VideoTarget) -> None:
        self._av = import_av()
        self._target = target
        self.errors = 0
        """Frames that could not be decoded."""
        self.problem = ""
        """Why the last one of them could not."""
        self._track = track
        self._decoder: Any = None
        self._encoder: _Encoder | None = None
        self._rate = _Rate(target.codec.clock_rate)
        self._is_decodable = False
        """Whether there was a key frame."""
        self._wants_key = False
        self._next_pts = -(2**62)
        """Time after the last frame that came out; pictures that are earlier cannot be shown any more."""
        self._open_decoder()

    def _open_decoder(self) -> None:
        self._bitstream = bitstream_of(self._track.codec)
        self._is_decodable = False
        try:
            self._decoder = open_decoder(self._av, self._track)
        except UnsupportedCodec as error:
            self._decoder = None
            self.problem = str(error)

    def update(self, track: Track) -> None:
        """Use the new description of the track for the following frames."""
        old, self._track = self._track, track
        row = CODECS[track.codec]
        # Parameter sets are put in front of the next key frame; only decoders that were configured begin anew.
        if type(old.codec) is not type(track.codec) or row.extradata(old.codec) != row.extradata(track.codec):
            self._open_decoder()

    def restart(self) -> None:
        """Frames are missing before the next one: continue with a key frame."""
        self._is_decodable = False
        if self._decoder is not None:
            self._decoder.flush_buffers()

    def request_key_frame(self) -> None:
        """Make the next picture a key frame, or a later one if the last key frame was recent. From any thread."""
        self._wants_key = True

    def transcode(self, frame: Frame) -> list[Frame]:
        """Return the frames that are ready after this frame. They are on the same time line, in ticks of 90 kHz.

        What cannot be decoded is counted and left out.
        """
        if self._decoder is None:
            self.errors += 1
            return []
        if frame.discontinuity:
            self.restart()
        if not (frame.key or self._is_decodable):
            return []
        self._is_decodable = True
        units = self._bitstream.with_parameters(self._track.codec, frame.units) if frame.key else frame.units
        data = self._bitstream.join(units)
        if not data:
            return []  # it would mean the end to the decoder
        packet = self._av.Packet(data)
        packet.pts, packet.dts = frame.pts, frame.dts
        packet.time_base = Fraction(1, self._track.clock_rate)
        try:
            return [made for picture in self._decoder.decode(packet) for made in self._encode(picture)]
        except (self._av.error.FFmpegError, ValueError) as error:
            self.errors += 1
            self.problem = str(error)
            return []

    def _encode(self, picture: Any) -> list[Frame]:
        if picture.pts is None:
            return []
        pts = rescale(picture.pts, self._track.clock_rate, self._target.codec.clock_rate)
        if pts < self._next_pts:
            return []
        self._next_pts = pts + 1
        self._rate.add(pts)
        shape = VideoShape.of(picture, self._decoder.sample_aspect_ratio)
        encoder = self._encoder
        if encoder is None or not encoder.suits(shape, self._rate):
            encoder = self._encoder = _Encoder(self._av, shape, self._rate, self._target)
        is_due = encoder.last_key is None or pts - encoder.last_key >= KEY_FRAME_INTERVAL * encoder.clock_rate
        is_key = encoder.last_key is None or (self._wants_key and is_due)
        if is_key:
            self._wants_key = False
        return encoder.encode(picture, pts, key=is_key)


class _Rate:
    """Pictures per second, from their times."""

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._first: int | None = None
        self._last = 0
        self._count = 0
        self.known: float | None = None
        """None until it is known."""

    def add(self, pts: int) -> None:
        """Count a picture."""
        if self._first is None or pts - self._last > self._clock_rate:
            self._first, self._count = pts, 0
        elif self._count == _RATE_PICTURES:
            self.known = min(self._count * self._clock_rate / (pts - self._first), MAXIMUM_RATE)
            self._first, self._count = pts, 0
        self._last = pts
        self._count += 1

    @property
    def assumed(self) -> float:
        """The known rate, or a usual one."""
        return self.known or _USUAL_RATE


@dataclass(frozen=True, slots=True)
class VideoShape:
    """What an encoder is opened for."""

    width: int
    height: int
    colour: tuple[Any, ...]
    """Range, space, primaries and transfer."""

    @classmethod
    def of(cls, picture: Any, aspect: Fraction | None) -> VideoShape:
        """Return the size with square pixels, as browsers show them, and even sides, as chroma has half of them.

        Raises ValueError if it is too large.
        """
        width, height = picture.width, picture.height
        if aspect and aspect > 0:
            width = round(width * min(max(aspect, Fraction(1, 4)), Fraction(4)))
        width, height = max(width & ~1, 2), max(height & ~1, 2)
        if width * height > MAXIMUM_PIXELS:
            raise ValueError(f"pictures of {width}x{height} are too large to be converted")
        colour = (picture.color_range, picture.colorspace, picture.color_primaries, picture.color_trc)
        return cls(width, height, colour)


class _Encoder:
    """An encoder for pictures of one shape."""

    def __init__(self, av: Any, shape: VideoShape, rate: _Rate, target: VideoTarget) -> None:
        self._shape = shape
        self._rate = rate.assumed
        self.clock_rate = target.codec.clock_rate
        self.last_key: int | None = None
        """Time of the last key frame."""
        self._split = bitstream_of(target.codec).split
        self._reformatter = av.video.reformatter.VideoReformatter()
        types = av.video.frame.PictureType
        self._picture_types = (types.NONE, types.I)
        pixels = shape.width * shape.height
        bitrate = round(pixels * self._rate * BITS_PER_PIXEL)
        context = self._context = av.CodecContext.create(_ENCODER, "w")
        context.width, context.height = shape.width, shape.height
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, self.clock_rate)
        context.framerate = Fraction(self._rate).limit_denominator(1001)
        context.gop_size = _NO_INTERVAL
        context.max_b_frames = 0
        context.thread_count = encoding_threads(pixels)
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = shape.colour
        context.options = {**_OPTIONS, "maxrate": str(bitrate), "bufsize": str(bitrate // 2)}
        context.open()

    def suits(self, shape: VideoShape, rate: _Rate) -> bool:
        """Whether it was opened for pictures of this shape and rate."""
        factor = rate.assumed / self._rate
        return shape == self._shape and 1 / _RATE_TOLERANCE <= factor <= _RATE_TOLERANCE

    def encode(self, picture: Any, pts: int, *, key: bool) -> list[Frame]:
        """Return the frames that are ready after a picture: its own."""
        shape = self._shape
        if (picture.width, picture.height, picture.format.name) != (shape.width, shape.height, "yuv420p"):
            picture = self._reformatter.reformat(picture, shape.width, shape.height, "yuv420p")
        picture.pict_type = self._picture_types[key]  # it had that of the decoded picture
        picture.pts = pts
        picture.time_base = self._context.time_base
        if key:
            self.last_key = pts
        return [
            Frame(self._split(bytes(packet)), int(packet.pts), int(packet.pts), key=bool(packet.is_keyframe))
            for packet in self._context.encode(picture)
        ]
