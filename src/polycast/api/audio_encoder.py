"""Encodes audio samples."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from polycast.errors import UnsupportedCodec
from polycast.transcode.codecs import AUDIO_ENCODINGS
from polycast.transcode.encoder import layout_of, open_audio_encoder
from polycast.transcode.pyav import import_av

if TYPE_CHECKING:
    from numpy.typing import NDArray

BITRATE_PER_CHANNEL = 64_000
OPUS_RATE = 48_000
LOW_DELAY = {"application": "lowdelay", "frame_duration": "20"}
"""Options of FFmpeg's Opus encoder; the duration is in milliseconds."""

# Samples in a frame of codecs without a frame size: 20 ms at 8 kHz, the usual packet of G.711 (RFC 3551 section 4.2).
G711_FRAME = 160


@dataclass(frozen=True, slots=True)
class AudioSettings:
    """Settings of the audio encoder."""

    sample_rate: int
    channels: int = 2
    codec: str = "aac"
    bitrate: int | None = None

    def check(self) -> None:
        """Raise ValueError if they are invalid."""
        if self.codec not in AUDIO_ENCODINGS:
            raise ValueError(f"unknown audio codec '{self.codec}': one of {', '.join(AUDIO_ENCODINGS)}")
        if self.channels not in (1, 2):
            raise ValueError(f"audio has one or two channels, not {self.channels}")
        if self.codec == "opus" and self.sample_rate != OPUS_RATE:
            raise ValueError("Opus needs a sample rate of 48000 Hz")
        if self.codec.startswith("pcm") and (self.sample_rate, self.channels) != (8000, 1):
            raise ValueError("G.711 needs a sample rate of 8000 Hz and one channel")


class AudioEncoder:
    """An encoder of PyAV: any number of samples in, coded frames out."""

    def __init__(self, settings: AudioSettings) -> None:
        settings.check()
        self._av = import_av()
        self._settings = settings
        self._layout = layout_of(settings.channels)
        self._encoding = encoding = AUDIO_ENCODINGS[settings.codec]
        self._format = encoding.sample_format
        try:
            self._context = open_audio_encoder(
                self._av,
                encoding,
                sample_rate=settings.sample_rate,
                channels=settings.channels,
                bitrate=settings.bitrate or BITRATE_PER_CHANNEL * settings.channels,
                options=LOW_DELAY if settings.codec == "opus" else {},
            )
        except self._av.error.FFmpegError as error:
            raise UnsupportedCodec(f"the encoder '{encoding.encoder}' cannot be opened: {error}") from error
        self._frame_size = int(self._context.frame_size) or G711_FRAME
        import numpy as np

        self._numpy = np
        self._waiting = np.zeros((0, settings.channels), np.float32)
        self._position = 0
        self.codec = encoding.describe(bytes(self._context.extradata or b""), settings.sample_rate, settings.channels)

    @property
    def clock_rate(self) -> int:
        """Ticks per second of the times."""
        return self._settings.sample_rate

    @property
    def next_pts(self) -> int:
        """Time of the next sample to encode."""
        return self._position + len(self._waiting)

    def skip_to(self, pts: int) -> None:
        """Set the time of the next sample to encode; buffered samples of an incomplete frame are dropped."""
        self._waiting = self._waiting[:0]
        self._position = pts

    def encode(self, samples: NDArray[Any]) -> list[tuple[bytes, int, int]]:
        """Encode samples; return the frames that are ready as (frame, pts, duration).

        Raises ValueError for samples of a wrong shape or type.
        """
        np = self._numpy
        self._waiting = np.concatenate((self._waiting, self._checked(samples)))
        frames: list[tuple[bytes, int, int]] = []
        size = self._frame_size
        while len(self._waiting) >= size:
            block, self._waiting = self._waiting[:size], self._waiting[size:]
            frames += self._encode_block(block)
        return frames

    def _checked(self, samples: NDArray[Any]) -> NDArray[Any]:
        np = self._numpy
        if samples.ndim == 1 and self._settings.channels == 1:
            samples = samples[:, None]
        if samples.ndim != 2 or samples.shape[1] != self._settings.channels:
            raise ValueError(f"samples must have the shape (number, {self._settings.channels}), not {samples.shape}")
        if samples.dtype == np.int16:
            return samples.astype(np.float32) / 32768
        if samples.dtype.kind != "f":
            raise ValueError(f"samples must be int16 or floats between -1 and 1, not {samples.dtype}")
        return samples.astype(np.float32, copy=False)

    def _encode_block(self, block: NDArray[Any]) -> list[tuple[bytes, int, int]]:
        np = self._numpy
        if self._format == "fltp":
            array = np.ascontiguousarray(block.T)
        elif self._format == "flt":
            array = np.ascontiguousarray(block).reshape(1, -1)
        else:
            array = (np.clip(block, -1, 1) * 32767).astype(np.int16).reshape(1, -1)
        sound = self._av.AudioFrame.from_ndarray(array, format=self._format, layout=self._layout)
        sound.sample_rate = self._settings.sample_rate
        sound.time_base = Fraction(1, self._settings.sample_rate)
        sound.pts = self._position
        self._position += len(block)
        # The first packet of AAC and Opus contains the encoder delay, before the time of the first sample.
        return [(bytes(packet), int(packet.pts), self._frame_size) for packet in self._context.encode(sound)]
