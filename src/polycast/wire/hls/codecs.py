"""Codec properties for HLS: which variants carry them, CODECS strings, picture size and frame rate."""

from __future__ import annotations

from polycast.codecs import aac
from polycast.errors import ProtocolError
from polycast.media.codec import AC3, AV1, FLAC, H264, H265, VP9, Codec, MPEG4Audio, MPEGAudio, Opus
from polycast.wire.hls.options import Variant
from polycast.wire.mp4.sample_entries import build_sample_entry

_MPEGTS_CODECS = frozenset((H264, H265, MPEG4Audio, MPEGAudio, AC3, Opus))
_MP4_CODECS = frozenset((H264, H265, AV1, VP9, MPEG4Audio, MPEGAudio, AC3, Opus, FLAC))


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


def channels(codec: Codec) -> int | None:
    """Return the number of audio channels, None if unknown."""
    return getattr(codec, "channels", None) or None
