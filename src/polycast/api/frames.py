"""What readers return: decoded pictures, decoded audio, and encoded frames."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, get_args

from polycast.api.options import ArrayFormat
from polycast.api.picture_memory import PictureMemory
from polycast.codecs.registry import bitstream_of
from polycast.errors import MissingDependency
from polycast.media.track import Track
from polycast.transcode.pictures import encode_picture
from polycast.transcode.pyav import import_av

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray


class VideoFrame:
    """A decoded picture."""

    __slots__ = ("_convert", "_image", "_native", "key", "pts", "skipped", "time")

    def __init__(
        self,
        native: Any,
        convert: PictureConverter,
        *,
        pts: float,
        time: float | None,
        key: bool,
    ) -> None:
        self._native = native
        self._convert = convert
        self._image: NDArray[numpy.uint8] | None = None
        self.pts = pts
        """Presentation time in seconds, on the stream's timeline, which all its tracks share."""
        self.time = time
        """When the picture was captured: seconds since 1970-01-01 UTC by the clock of its publisher. None if the
        publisher does not report it; cameras report it in RTCP sender reports, a few seconds after the start."""
        self.key = key
        """Whether it was a key frame."""
        self.skipped = 0
        """Number of frames skipped immediately before this one because the reader was too slow."""

    @property
    def image(self) -> NDArray[numpy.uint8]:
        """The picture as an array in the reader's ``format``: height x width x 3 for ``bgr24`` and ``rgb24``, height x
        width for ``gray``, height * 3 / 2 x width for ``yuv420p``. Created on first access; you may modify it."""
        image = self._image
        if image is None:
            image = self._image = self._convert(self._native, None)
        return image

    def to_array(self, pixel_format: str) -> NDArray[numpy.uint8]:
        """Return the picture in a format other than the reader's: any FFmpeg pixel format that NumPy can represent
        (``rgb24``, ``gray``, ``yuv420p``, ``bgra``...)."""
        return self._convert(self._native, pixel_format)

    def tensor(self, device: str | None = None) -> Any:
        """Return `image` as a ``torch.Tensor`` of uint8, with the same shape.

        On the CPU (the default), it shares its memory with `image`: nothing is copied. ``device``, such as ``cuda`` or
        ``mps``: copy it there. Raises MissingDependency without PyTorch, which is not installed with Polycast.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingDependency(f"tensors need PyTorch: pip install torch ({error})") from error
        tensor = torch.from_numpy(self.image)
        return tensor if device is None else tensor.to(device, non_blocking=True)

    def jpeg(self, quality: int = 85) -> bytes:
        """Return the picture as a JPEG file. ``quality``: from 1 to 100. Raises ValueError for another one."""
        if not 1 <= quality <= 100:
            raise ValueError(f"the quality of a JPEG file is a number from 1 to 100, not {quality}")
        # FFmpeg's quantiser scale goes from 2 (best) to 31.
        return encode_picture(self._native, "mjpeg", "yuvj420p", 2 + (100 - quality) * 29 // 99)

    def _repr_png_(self) -> bytes:
        """Return the picture for Jupyter."""
        return encode_picture(self._native, "png", "rgb24")

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self._native.width)

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self._native.height)

    @property
    def datetime(self) -> datetime | None:
        """`time` as an aware datetime in UTC."""
        return None if self.time is None else datetime.fromtimestamp(self.time, UTC)

    @property
    def native(self) -> Any:
        """The underlying ``av.VideoFrame``."""
        return self._native

    def __reduce__(self) -> tuple[Any, ...]:
        """Let pickle send the picture to another process, as its array."""
        return (
            _restore_picture,
            (self.image, self._convert.pixel_format, self.pts, self.time, self.key, self.skipped),
        )

    def __repr__(self) -> str:
        return f"VideoFrame({self.width}x{self.height}, pts={self.pts:.3f}, time={self.time}, key={self.key})"


class AudioFrame:
    """A chunk of decoded audio."""

    __slots__ = ("pts", "sample_rate", "samples", "skipped", "time")

    def __init__(self, samples: NDArray[numpy.float32], *, sample_rate: int, pts: float, time: float | None) -> None:
        self.samples = samples
        """float32 between -1 and 1, one row for each sample, one column for each channel."""
        self.sample_rate = sample_rate
        """In Hz."""
        self.pts = pts
        """Presentation time of the first sample in seconds, as `VideoFrame.pts`."""
        self.time = time
        """When the first sample was captured, as `VideoFrame.time`."""
        self.skipped = 0
        """Number of encoded frames skipped immediately before this one because the reader was too slow."""

    @property
    def datetime(self) -> datetime | None:
        """`time` as an aware datetime in UTC."""
        return None if self.time is None else datetime.fromtimestamp(self.time, UTC)

    def __repr__(self) -> str:
        rows, columns = self.samples.shape
        return f"AudioFrame({rows} samples, {columns} channels, {self.sample_rate} Hz, pts={self.pts:.3f})"


@dataclass(frozen=True, slots=True)
class CodedFrame:
    """An encoded frame: what ``read(..., decode=False)`` gives and `CodedWriter.write` takes."""

    track: Track
    """The track it belongs to, with the parameters valid from this frame on: ``track.index``, ``track.codec``."""
    units: tuple[bytes, ...]
    """H264 and H265: the NAL units of one picture, without start codes. AV1: the OBUs of one temporal unit, without
    size fields. All others: exactly one element, the encoded frame."""
    pts: float
    """Presentation time in seconds, on the stream's timeline."""
    dts: float
    """Decoding time in seconds; never decreases within a track."""
    key: bool
    """Whether decoding can start at this frame. Always true for audio."""
    time: float | None = None
    """Capture time, as `VideoFrame.time`."""
    skipped: int = 0
    """Number of frames, of any track, skipped immediately before this one because the reader was too slow."""

    @property
    def data(self) -> bytes:
        """The frame in the form FFmpeg's decoders expect: H264 and H265 in Annex B form, AV1 with size fields."""
        return bitstream_of(self.track.codec).join(self.units)

    def __repr__(self) -> str:
        size = sum(map(len, self.units))
        return f"CodedFrame({self.track} {self.track.index}, {size} bytes, pts={self.pts:.3f}, key={self.key})"


ARRAY_FORMATS: Final = get_args(ArrayFormat)
"""The usual array formats; other FFmpeg formats that NumPy can represent work as well."""

PACKED_FORMATS: Final = ("bgr24", "rgb24")
"""Formats with three bytes for each pixel."""


class PictureConverter:
    """Converts decoded pictures to arrays. May be called from any thread.

    Raises ValueError for a format that arrays cannot represent.
    """

    def __init__(self, av: Any, pixel_format: str) -> None:
        self._reformatter = av.video.reformatter.VideoReformatter()
        self.pixel_format = pixel_format
        """FFmpeg's name of the format of the arrays."""
        self._lock = threading.Lock()
        self._memory = PictureMemory()
        try:
            self(av.VideoFrame(16, 16, "yuv420p"), None)
        except (ValueError, TypeError, av.error.FFmpegError) as error:
            choices = ", ".join(ARRAY_FORMATS)
            raise ValueError(f"{pixel_format!r} is not a format of arrays: use one of {choices}") from error

    def __call__(self, native: Any, pixel_format: str | None) -> NDArray[numpy.uint8]:
        with self._lock:
            converted = self._reformatter.reformat(native, format=pixel_format or self.pixel_format)
            if converted.format.name not in PACKED_FORMATS:
                array: NDArray[numpy.uint8] = converted.to_ndarray()
                return array
            return self._memory.copy(packed_pixels(converted))


def packed_pixels(native: Any) -> NDArray[numpy.uint8]:
    """Return a view of the pixels of an ``av.VideoFrame`` in one of `PACKED_FORMATS`: height x width x 3."""
    import numpy

    plane, height, width = native.planes[0], native.height, native.width
    rows = numpy.frombuffer(plane, numpy.uint8, height * plane.line_size).reshape(height, plane.line_size)
    return rows[:, : width * 3].reshape(height, width, 3)


def _restore_picture(
    image: NDArray[numpy.uint8], pixel_format: str, pts: float, time: float | None, key: bool, skipped: int
) -> VideoFrame:
    """Return a picture that was pickled."""
    av = import_av("pictures")
    native = av.VideoFrame.from_ndarray(image, format=pixel_format)
    frame = VideoFrame(native, PictureConverter(av, pixel_format), pts=pts, time=time, key=key)
    frame.skipped = skipped
    return frame
