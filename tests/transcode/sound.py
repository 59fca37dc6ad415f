"""Sound with clicks at known times: encoded with FFmpeg, and found again in what comes out."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from polycast.media.codec import AudioCodec, MPEG4Audio, Opus
from polycast.media.frame import Frame

CLICK_SECONDS = 0.01
TONE_HERTZ = 440.0


def clicks(times: Iterable[float], seconds: float, rate: int, channels: int = 2) -> NDArray[np.float32]:
    """Return quiet samples of a tone with short loud bursts at some times, one row per channel."""
    moments = np.arange(round(seconds * rate)) / rate
    samples = 0.05 * np.sin(2 * np.pi * TONE_HERTZ * moments)
    for start in times:
        burst = (moments >= start) & (moments < start + CLICK_SECONDS)
        samples[burst] = 0.9 * np.sin(2 * np.pi * 2000 * (moments[burst] - start))
    return np.tile(samples.astype(np.float32), (channels, 1))


@functools.cache
def coded_clicks(
    encoder: str, times: tuple[float, ...], seconds: float, rate: int, channels: int = 2
) -> tuple[tuple[tuple[bytes, int], ...], bytes]:
    """Return coded `clicks`: frames with their times in samples, and the extradata of the encoder."""
    packets, extradata = encode(encoder, clicks(times, seconds, rate, channels), rate)
    return tuple(packets), extradata


def encode(encoder: str, samples: NDArray[np.float32], rate: int) -> tuple[list[tuple[bytes, int]], bytes]:
    """Return coded frames with their times in samples, and the extradata of the encoder."""
    context: Any = av.CodecContext.create(encoder, "w")
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    context.sample_rate, context.layout = rate, layout
    context.format = context.codec.audio_formats[0]
    context.time_base = Fraction(1, rate)
    context.open()
    size = context.frame_size or rate // 50
    resampler = av.AudioResampler(format=context.format, layout=layout, rate=rate)
    packets: list[Any] = []
    for start in range(0, samples.shape[1] - size + 1, size):
        block = np.ascontiguousarray(samples[:, start : start + size])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        for converted in resampler.resample(frame):
            packets += context.encode(converted)
    return [(bytes(packet), int(packet.pts)) for packet in packets], bytes(context.extradata or b"")


def decode(frames: Sequence[Frame], codec: AudioCodec) -> NDArray[np.float32]:
    """Return the samples of stereo sound at 48 kHz, from the time of the first frame on, silence in the gaps; one row
    per channel."""
    decoder: Any = av.CodecContext.create("libopus" if isinstance(codec, Opus) else "aac", "r")
    if isinstance(codec, MPEG4Audio):
        decoder.extradata = codec.configuration
    first = frames[0].pts
    size = frames[0].duration
    assert size is not None
    samples = np.zeros((2, frames[-1].pts - first + size), np.float32)
    for frame in frames:
        for sound in decoder.decode(av.Packet(frame.units[0])):
            assert (sound.sample_rate, sound.layout.name, sound.samples) == (48_000, "stereo", size)
            start = frame.pts - first
            array = sound.to_ndarray().astype(np.float32)
            if not sound.format.is_planar:
                array = array.reshape(-1, 2).T
            scale = 32768 if sound.format.name.startswith("s16") else 1
            samples[:, start : start + size] = array / scale
    return samples


def find_clicks(samples: NDArray[np.float32], rate: int = 48_000) -> list[float]:
    """Return the times in seconds at which bursts begin."""
    loud = np.abs(samples[0]) > 0.3
    found: list[float] = []
    for index in np.flatnonzero(loud):
        time = float(index) / rate
        if not found or time - found[-1] > 2 * CLICK_SECONDS:
            found.append(time)
    return found


def pitch(samples: NDArray[np.float32], rate: int = 48_000) -> float:
    """Return the strongest frequency in Hz."""
    spectrum = np.abs(np.fft.rfft(samples[0] * np.hanning(samples.shape[1])))
    return float(np.argmax(spectrum) * rate / samples.shape[1])
