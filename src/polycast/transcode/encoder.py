"""Opens FFmpeg's audio encoders."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from polycast.transcode.codecs import AudioEncoding


def open_audio_encoder(
    av: Any,
    encoding: AudioEncoding,
    *,
    sample_rate: int,
    channels: int,
    bitrate: int,
    options: Mapping[str, str] | None = None,
) -> Any:
    """Return an encoder of PyAV (``av``) for one or two channels; times are in samples.

    ``sample_rate`` is in Hz, ``bitrate`` in bits per second, for encoders that have one. Raises FFmpegError.
    """
    context = av.CodecContext.create(encoding.encoder, "w")
    context.sample_rate = sample_rate
    context.layout = layout_of(channels)
    context.format = encoding.sample_format
    context.time_base = Fraction(1, sample_rate)
    if encoding.has_bitrate:
        context.bit_rate = bitrate
        context.flags |= av.codec.context.Flags.global_header
    context.options = dict(options or {})
    context.open()
    return context


def layout_of(channels: int) -> str:
    """Return FFmpeg's name for the layout of one or two channels."""
    return "mono" if channels == 1 else "stereo"
