"""Opens FFmpeg's decoder for a track."""

from __future__ import annotations

from typing import Any

from polycast.errors import UnsupportedCodec
from polycast.media.codec import Codec
from polycast.media.track import Track
from polycast.transcode.codecs import CODECS
from polycast.transcode.threads import decoding_threads


def decoder_name(codec: Codec) -> str | None:
    """Return the name of the decoder for a codec, or None."""
    row = CODECS.get(codec)
    return row.decoder(codec) if row is not None else None


def open_decoder(av: Any, track: Track) -> Any:
    """Return a decoder for a track, with settings for low delay. ``av`` is PyAV. Raises UnsupportedCodec."""
    codec = track.codec
    row = CODECS.get(codec)
    name = decoder_name(codec)
    if row is not None and row.substitute and name not in av.codecs_available:
        name = row.substitute
    try:
        if row is None or name is None or name not in av.codecs_available:
            raise UnsupportedCodec(f"no decoder for {track.codec_name}")
        context = av.CodecContext.create(name, "r")
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
