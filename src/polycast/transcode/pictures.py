"""Single pictures as image files."""

from __future__ import annotations

import io
from contextlib import closing
from fractions import Fraction
from typing import Any, Final

from polycast.codecs.registry import bitstream_of
from polycast.errors import PolycastError, UnsupportedCodec
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.transcode.decoder import decoder_name, open_decoder
from polycast.transcode.pyav import import_av

QUALITY: Final = 5
"""Quantiser scale of FFmpeg for small pictures, from 2 (best) to 31."""

MAXIMUM_PIXELS: Final = 8192 * 4320
"""Pixels of a picture; a larger one would take seconds, and FFmpeg refuses it before it takes memory for it."""


def encode_picture(native: Any, encoder: str, pixel_format: str, quantiser: int | None = None) -> bytes:
    """Return an ``av.VideoFrame`` as an image file."""
    import av

    context: Any = av.CodecContext.create(encoder, "w")
    context.width, context.height, context.pix_fmt = native.width, native.height, pixel_format
    context.time_base = Fraction(1, 1)
    if quantiser is not None:
        context.qmin = context.qmax = quantiser
    picture = native.reformat(format=pixel_format)
    picture.pts = 0
    return b"".join(bytes(packet) for packet in (*context.encode(picture), *context.encode(None)))


def can_be_shown(track: Track) -> bool:
    """Return whether pictures of a track can be decoded."""
    return track.codec.kind == "video" and decoder_name(track.codec) is not None


def key_picture(track: Track, frame: Frame, width: int) -> bytes:
    """Return a key frame as a JPEG file of a width in pixels, smaller if the picture is; it has square pixels.

    It takes up to tenths of a second. Raises UnsupportedCodec if it cannot be decoded, and MissingDependency without
    PyAV.
    """
    av = import_av("thumbnails")
    decoder = open_decoder(av, track, maximum_pixels=MAXIMUM_PIXELS)
    bitstream = bitstream_of(track.codec)
    try:
        packet = av.Packet(bitstream.join(bitstream.with_parameters(track.codec, frame.units)))
        pictures = [*decoder.decode(packet), *decoder.decode(None)]
        if not pictures:
            raise UnsupportedCodec(f"the key frame of {track.codec_name} has no picture")
        native = pictures[0]
        shown = native.width * float(decoder.sample_aspect_ratio or 1)
        width = min(width, round(shown)) // 2 * 2 or 2
        height = max(round(width * native.height / shown / 2) * 2, 2)
        small = native.reformat(width, height, "yuvj420p", dst_color_range="JPEG")
        return encode_picture(small, "mjpeg", "yuvj420p", QUALITY)
    except (av.error.FFmpegError, ValueError) as error:
        raise UnsupportedCodec(f"the key frame of {track.codec_name} cannot be decoded: {error}") from error


def first_picture(file: bytes, width: int) -> bytes:
    """Return the first picture of an MP4 file as a JPEG file of a width in pixels, smaller if the picture is.

    It takes some milliseconds. Raises UnsupportedCodec if it cannot be decoded, and MissingDependency without PyAV.
    """
    av = import_av("thumbnails")
    try:
        with closing(av.open(io.BytesIO(file), format="mp4")) as container:
            container.streams.video[0].thread_type = "NONE"
            container.streams.video[0].codec_context.options = {"max_pixels": str(MAXIMUM_PIXELS)}
            native = next(container.decode(video=0))
            width = min(width, native.width) // 2 * 2 or 2
            height = max(round(native.height * width / native.width) // 2 * 2, 2)
            return encode_picture(native.reformat(width, height), "mjpeg", "yuvj420p", QUALITY)
    except PolycastError:
        raise
    except (av.error.FFmpegError, StopIteration, IndexError, ValueError) as error:
        raise UnsupportedCodec(f"the picture cannot be decoded: {error}") from error
