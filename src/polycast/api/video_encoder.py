"""Encodes pictures, with settings for live video: no B-frames, no delay, closed groups of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from polycast.codecs.registry import bitstream_of
from polycast.errors import UnsupportedCodec
from polycast.transcode.codecs import VIDEO_ENCODINGS
from polycast.transcode.pyav import import_av
from polycast.transcode.threads import encoding_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLOCK_RATE = 90_000

# Bits per pixel if no bit rate is given: 0.9 Mbit/s for 640x480 and 6 Mbit/s for 1080p, at 30 frames/s.
BITS_PER_PIXEL = 0.1
JPEG_BITS_PER_PIXEL = 1.0

# The colour space to which RGB arrays are converted, and which the stream announces.
SMPTE_170M = {"colorspace": "smpte170m", "color_primaries": "smpte170m", "color_trc": "smpte170m"}

# Channels of the array formats.
CHANNELS = {"bgr24": 3, "rgb24": 3, "gray": 1, "bgra": 4, "rgba": 4}
PLANAR = ("yuv420p", "nv12")

LIVE_OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "tune": "zerolatency", "forced-idr": "1"},
    "libx265": {"preset": "ultrafast", "tune": "zerolatency", "forced-idr": "1", "x265-params": "log-level=error"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "row-mt": "1"},
    "libsvtav1": {"preset": "11", "svtav1-params": "pred-struct=1:rtc=1:rc=2:lookahead=0"},
    "mjpeg": {"huffman": "default"},
    "h264_nvenc": {"preset": "p1", "tune": "ull", "zerolatency": "1", "delay": "0", "forced-idr": "1"},
    "hevc_nvenc": {"preset": "p1", "tune": "ull", "zerolatency": "1", "delay": "0", "forced-idr": "1"},
    "av1_nvenc": {"preset": "p1", "tune": "ull", "zerolatency": "1", "delay": "0", "forced-idr": "1"},
    "h264_qsv": {"preset": "veryfast", "async_depth": "1", "forced_idr": "1"},
    "hevc_qsv": {"preset": "veryfast", "async_depth": "1", "forced_idr": "1"},
    "h264_videotoolbox": {"realtime": "1"},
    "hevc_videotoolbox": {"realtime": "1"},
    "h264_amf": {"usage": "ultralowlatency"},
    "hevc_amf": {"usage": "ultralowlatency"},
}
"""Settings of each encoder for live video; other encoders have none."""


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """Settings of the video encoder."""

    width: int
    height: int
    rate: float
    format: str = "bgr24"
    codec: str = "h264"
    encoder: str | None = None
    hardware: bool = False
    bitrate: int | None = None
    key_interval: float = 1.0
    options: Mapping[str, str] | None = None

    def check(self) -> None:
        """Raise ValueError if they are invalid."""
        if self.width < 2 or self.height < 2 or self.width % 2 or self.height % 2:
            raise ValueError(f"the sides of the picture must be even, not {self.width}x{self.height}")
        if not 0 < self.rate <= 1000:
            raise ValueError(f"the rate must be between 0 and 1000 frames a second, not {self.rate}")
        if self.format not in CHANNELS and self.format not in PLANAR:
            raise ValueError(f"unknown format '{self.format}': one of {', '.join([*CHANNELS, *PLANAR])}")
        if self.codec not in VIDEO_ENCODINGS:
            raise ValueError(f"unknown codec '{self.codec}': one of {', '.join(VIDEO_ENCODINGS)}")
        if self.key_interval <= 0:
            raise ValueError("the key interval must be over 0 seconds")

    @property
    def shape(self) -> tuple[int, ...]:
        """The required shape of arrays."""
        if self.format in PLANAR:
            return (self.height * 3 // 2, self.width)
        channels = CHANNELS[self.format]
        return (self.height, self.width, channels) if channels > 1 else (self.height, self.width)


class VideoEncoder:
    """An encoder of PyAV. Raises MissingDependency without PyAV, UnsupportedCodec if no encoder can be opened."""

    def __init__(self, settings: VideoSettings) -> None:
        settings.check()
        self._av = import_av()
        self._settings = settings
        self.name, self._context = self._open()
        self._pixel_format = self._context.pix_fmt
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        self._key_type = self._av.video.frame.PictureType.I
        extradata = bytes(self._context.extradata or b"")
        self.codec, self._parameter_sets = VIDEO_ENCODINGS[settings.codec].describe(
            extradata, settings.width, settings.height
        )
        self._split = bitstream_of(self.codec).split

    def encode(self, array: NDArray[Any], pts: int, *, key: bool) -> list[tuple[tuple[bytes, ...], int, bool]]:
        """Encode a picture; return the frames that are ready as (units, pts, key). ``key`` requests a key frame.

        Raises ValueError if the array does not match the settings.
        """
        shape = self._settings.shape
        if array.shape != shape or array.dtype != "uint8":
            raise ValueError(
                f"the picture must be an array of uint8 and shape {shape}, not of {array.dtype} and {array.shape}"
            )
        picture = self._wrap(array)
        if picture.format.name != self._pixel_format:
            picture = self._reformatter.reformat(picture, format=self._pixel_format)
        picture.pts = pts
        picture.time_base = self._context.time_base
        if key:
            picture.pict_type = self._key_type
        return [self._unpack(packet) for packet in self._context.encode(picture)]

    def flush(self) -> list[tuple[tuple[bytes, ...], int, bool]]:
        """Return the remaining frames; nothing can be encoded after that."""
        return [self._unpack(packet) for packet in self._context.encode(None)]

    def _wrap(self, array: NDArray[Any]) -> Any:
        """Return the array as a frame without copying it: it is converted before the caller can modify it."""
        name = self._settings.format
        if name in CHANNELS and array.flags["C_CONTIGUOUS"]:
            return self._av.VideoFrame.from_numpy_buffer(array, format=name)
        import numpy as np

        return self._av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format=name)

    def _unpack(self, packet: Any) -> tuple[tuple[bytes, ...], int, bool]:
        key = bool(packet.is_keyframe)
        units = self._split(bytes(packet))
        if key and self._parameter_sets:
            # Readers that missed the session description start here, so the parameter sets are also sent in-band.
            units = self._parameter_sets + tuple(unit for unit in units if unit not in self._parameter_sets)
        return units, int(packet.pts), key

    def _open(self) -> tuple[str, Any]:
        settings = self._settings
        names = [settings.encoder] if settings.encoder else []
        if not names:
            encoding = VIDEO_ENCODINGS[settings.codec]
            names = [*(encoding.hardware if settings.hardware else ()), encoding.software]
        failure = ""
        for name in names:
            if name not in self._av.codecs_available:
                failure = f"this PyAV has no encoder '{name}'"
                continue
            try:
                return name, self._open_one(name)
            except (self._av.error.FFmpegError, ValueError) as error:
                failure = f"the encoder '{name}' cannot be opened: {getattr(error, 'strerror', '') or error}"
        raise UnsupportedCodec(failure)

    def _open_one(self, name: str) -> Any:
        settings = self._settings
        pixels = settings.width * settings.height
        bits = JPEG_BITS_PER_PIXEL if settings.codec == "mjpeg" else BITS_PER_PIXEL
        bitrate = settings.bitrate or round(pixels * settings.rate * bits)
        context = self._av.CodecContext.create(name, "w")
        context.width, context.height = settings.width, settings.height
        context.pix_fmt = "yuvj420p" if name == "mjpeg" else "nv12" if name.endswith("_qsv") else "yuv420p"
        context.time_base = Fraction(1, CLOCK_RATE)
        context.framerate = Fraction(settings.rate).limit_denominator(1001)
        context.bit_rate = bitrate
        context.gop_size = max(1, round(settings.rate * settings.key_interval))
        context.max_b_frames = 0
        context.thread_count = encoding_threads(pixels)
        options: dict[str, str] = {}
        if name != "mjpeg":
            flags = self._av.codec.context.Flags
            context.flags |= flags.low_delay
            if not name.startswith("libvpx"):
                context.flags |= flags.global_header
            options |= SMPTE_170M
        if name != "libsvtav1":  # its constant bit rate mode has no additional limit
            options |= {"maxrate": str(bitrate * 5 // 4), "bufsize": str(bitrate)}
        context.options = options | LIVE_OPTIONS.get(name, {}) | dict(settings.options or {})
        context.open()
        return context
