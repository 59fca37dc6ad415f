"""Codec properties for HLS: which variants carry them, CODECS strings, picture size and frame rate."""

from __future__ import annotations

from typing import Final

from polycast.errors import ProtocolError
from polycast.media.codec import FLAC, KLV, Codec, MPEG2Video, MPEG4Audio, MPEG4Video, MPEGAudio, Opus
from polycast.wire.hls.options import Variant
from polycast.wire.mp4 import sample_entries as mp4
from polycast.wire.mpegts import codecs as mpegts

_NOT_PLAYED_IN_MPEGTS: Final[dict[type[Codec], str]] = {
    MPEG4Video: "players of HLS do not play it",
    MPEG2Video: "players of HLS do not play it",
    KLV: "HLS with metadata is not implemented",
}
"""Codecs that MPEG-TS carries, but not in HLS, and why."""


def supports(variant: Variant, codec: Codec) -> bool:
    """Return whether segments of the variant can carry the codec."""
    return obstacle(variant, codec) is None


def obstacle(variant: Variant, codec: Codec) -> str | None:
    """Return why segments of the variant cannot carry the codec; None if they can."""
    if variant is not Variant.MPEGTS:
        return mp4.CODECS.reason(codec)
    mapping = mpegts.CODECS.get(codec)
    if mapping is None:
        return mpegts.CODECS.reason(codec)
    return _NOT_PLAYED_IN_MPEGTS.get(type(codec)) or mapping.obstacle(codec)


def is_sound_for_all(variant: Variant, codec: Codec) -> bool:
    """Return whether all current players can be expected to play sound of the codec in this variant.

    In MPEG-TS, hls.js and Safari do not play Opus. In MP4, Safari plays it from version 17 on.
    """
    if not supports(variant, codec):
        return False
    return isinstance(
        codec, (MPEG4Audio, MPEGAudio) if variant is Variant.MPEGTS else (MPEG4Audio, MPEGAudio, Opus, FLAC)
    )


def is_complete(codec: Codec) -> bool:
    """Return whether the codec's parameters are known and valid, so that it can be muxed."""
    try:
        mp4.build_sample_entry(codec)
    except ProtocolError:
        return False
    return True


def channels(codec: Codec) -> int | None:
    """Return the number of audio channels, None if unknown."""
    return getattr(codec, "channels", None) or None
