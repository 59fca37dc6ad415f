"""Codec properties for HLS: which variants carry them, CODECS strings, picture size and frame rate."""

from __future__ import annotations

from collections.abc import Callable

from polycast.codecs import aac, ac3, av1, flac, h264, h265, mpeg_audio, opus, vp9
from polycast.errors import ProtocolError
from polycast.media.codec import AC3, AV1, FLAC, H264, H265, VP9, Codec, MPEG4Audio, MPEGAudio, Opus
from polycast.wire.hls.options import Variant
from polycast.wire.mp4.sample_entries import build_sample_entry

_MPEGTS_CODECS = frozenset((H264, H265, MPEG4Audio, MPEGAudio, AC3, Opus))
_MP4_CODECS = frozenset((H264, H265, AV1, VP9, MPEG4Audio, MPEGAudio, AC3, Opus, FLAC))

_CODEC_STRINGS: dict[type[Codec], Callable[..., str]] = {
    H264: h264.codec_string,
    H265: h265.codec_string,
    AV1: av1.codec_string,
    VP9: vp9.codec_string,
    MPEG4Audio: aac.codec_string,
    MPEGAudio: mpeg_audio.codec_string,
    AC3: ac3.codec_string,
    Opus: opus.codec_string,
    FLAC: flac.codec_string,
}


def supports(variant: Variant, codec: Codec) -> bool:
    """Return whether segments of the variant can carry the codec."""
    if variant is not Variant.MPEGTS:
        return type(codec) in _MP4_CODECS
    if isinstance(codec, MPEG4Audio) and codec.configuration:
        try:
            aac.build_adts_header(codec, 0)
        except ProtocolError:  # ADTS has no room for newer object types
            return False
    return type(codec) in _MPEGTS_CODECS


def is_complete(codec: Codec) -> bool:
    """Return whether the codec's parameters are known and valid, so that it can be muxed."""
    try:
        build_sample_entry(codec)
    except ProtocolError:
        return False
    return True


def codec_string(codec: Codec) -> str:
    """Return the codec string for the CODECS attribute (RFC 6381)."""
    return _CODEC_STRINGS[type(codec)](codec)


def resolution(codec: Codec) -> tuple[int, int] | None:
    """Return width and height in pixels, None if unknown."""
    if isinstance(codec, H264):
        return h264.resolution(codec)
    if isinstance(codec, H265):
        return h265.resolution(codec)
    if isinstance(codec, AV1):
        return av1.resolution(codec)
    if isinstance(codec, VP9):
        return vp9.resolution(codec)
    return None


def channels(codec: Codec) -> int | None:
    """Return the number of audio channels, None if unknown."""
    return getattr(codec, "channels", None) or None
