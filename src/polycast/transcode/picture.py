"""Makes a small JPEG picture of a key frame."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

from polycast.codecs.registry import bitstream_of
from polycast.errors import UnsupportedCodec
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.transcode.decoder import decoder_name, open_decoder
from polycast.transcode.pyav import import_av

MAXIMUM_PIXELS: Final = 8192 * 4320
"""Pixels of a picture; to decode a larger one takes seconds."""

_QUALITY: Final = 5
"""Quantizer of FFmpeg's encoder: 2 is the best, 31 the worst."""


def can_be_shown(track: Track) -> bool:
    """Return whether pictures of a track can be decoded."""
    return track.codec.kind == "video" and decoder_name(track.codec) is not None


def jpeg_of(track: Track, frame: Frame, width: int) -> bytes:
    """Return a key frame as JPEG of at most ``width`` pixels, with its aspect ratio. Takes up to tenths of a second.

    Raises UnsupportedCodec if it cannot be decoded, MissingDependency without PyAV.
    """
    av = import_av("thumbnails")
    decoder = open_decoder(av, track)
    bitstream = bitstream_of(track.codec)
    packet = av.Packet(bitstream.join(bitstream.with_parameters(track.codec, frame.units)))
    packet.pts = packet.dts = 0
    packet.time_base = Fraction(1, track.clock_rate)
    try:
        pictures = [*decoder.decode(packet), *decoder.decode(None)]
        if not pictures:
            raise UnsupportedCodec(f"the key frame of {track.codec_name} has no picture")
        return _encode(av, pictures[0], decoder.sample_aspect_ratio, width)
    except (av.error.FFmpegError, ValueError) as error:
        raise UnsupportedCodec(f"the key frame of {track.codec_name} cannot be decoded: {error}") from error


def _encode(av: Any, picture: Any, aspect: Fraction | None, width: int) -> bytes:
    if picture.width * picture.height > MAXIMUM_PIXELS:
        raise ValueError("the picture is too large")
    shown = picture.width * float(aspect or 1)
    width = min(width, round(shown)) // 2 * 2 or 2
    height = max(2, round(width * picture.height / shown / 2) * 2)
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"flags": "+qscale", "global_quality": str(_QUALITY * 118)}
    small = av.video.reformatter.VideoReformatter().reformat(
        picture, width, height, "yuvj420p", dst_color_range=av.video.reformatter.ColorRange.JPEG
    )
    small.pts, small.time_base = 0, encoder.time_base
    return b"".join(bytes(part) for part in (*encoder.encode(small), *encoder.encode(None)))
