"""Opens FFmpeg's decoder for a track."""

from __future__ import annotations

from typing import Any, Final

from polycast.errors import UnsupportedCodec
from polycast.media.codec import Codec
from polycast.media.track import Track
from polycast.transcode.codecs import CODECS
from polycast.transcode.threads import decoding_threads

NATIVE_DECODERS: Final = {"libdav1d": "av1"}
"""FFmpeg's own decoders that hardware works with, for those of libraries."""


def decoder_name(codec: Codec) -> str | None:
    """Return the name of the decoder for a codec, or None."""
    row = CODECS.get(codec)
    return row.decoder(codec) if row is not None else None


def open_decoder(av: Any, track: Track, *, hardware: bool = False, maximum_pixels: int = 0) -> Any:
    """Return a decoder for a track, with settings for low delay. ``av`` is PyAV.

    ``hardware``: use the first device of this machine that decodes the codec; if there is none, the CPU.
    ``maximum_pixels``: larger pictures are errors, before memory is taken for them; 0: only what FFmpeg limits. Raises
    UnsupportedCodec.
    """
    if hardware and track.kind == "video":
        context = _open_hardware_decoder(av, track)
        if context is not None:
            return context
    codec = track.codec
    row = CODECS.get(codec)
    name = decoder_name(codec)
    if row is not None and row.substitute and name not in av.codecs_available:
        name = row.substitute
    try:
        if row is None or name is None or name not in av.codecs_available:
            raise UnsupportedCodec(f"no decoder for {track.codec_name}")
        context = av.CodecContext.create(name, "r")
        if maximum_pixels:
            context.options = {"max_pixels": str(maximum_pixels)}
        if codec.kind == "video":
            # Frame threads would delay by one picture each; slice threads do not.
            context.thread_type = "SLICE"
            context.thread_count = decoding_threads()
            if row.has_low_delay:
                context.flags |= av.codec.context.Flags.low_delay
        extradata = row.extradata(codec)
        if extradata:
            context.extradata = extradata
        if row.sound is not None:
            context.sample_rate, channels = row.sound(codec)
            context.layout = "mono" if channels == 1 else "stereo"
        context.open()
    except (av.error.FFmpegError, ValueError) as error:
        raise UnsupportedCodec(f"the decoder for {track.codec_name} cannot be opened: {error}") from error
    return context


def _open_hardware_decoder(av: Any, track: Track) -> Any:
    """Return a decoder on a graphics card or board; None if no device decodes the codec."""
    row, name = CODECS.get(track.codec), decoder_name(track.codec)
    if row is None or name is None:
        return None
    try:
        from av.codec.hwaccel import HWAccel, hwdevices_available
    except ImportError:  # PyAV 14 and earlier, or a build without devices
        return None
    for device in hwdevices_available():
        try:
            # Pictures that the device cannot decode, such as those with other profiles, are decoded by the CPU.
            acceleration = HWAccel(device_type=device, allow_software_fallback=True)
            context = av.CodecContext.create(NATIVE_DECODERS.get(name, name), "r", hwaccel=acceleration)
            extradata = row.extradata(track.codec)
            if extradata:
                context.extradata = extradata
            context.open()
        except (av.error.FFmpegError, OSError, ValueError, RuntimeError, NotImplementedError):
            continue
        if context.is_hwaccel:
            return context
    return None
