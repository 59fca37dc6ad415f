"""The bitstreams of all codecs."""

from __future__ import annotations

from typing import Any, Final

from polycast.codecs import (
    aac,
    ac3,
    av1,
    eac3,
    flac,
    h264,
    h265,
    mjpeg,
    mpeg2_video,
    mpeg4_video,
    mpeg_audio,
    opus,
    vp8,
    vp9,
)
from polycast.codecs.bitstream import Bitstream
from polycast.media.codec import G711, G722, G726, KLV, LPCM, MPEGTS, Codec, Generic, Speex, Vorbis
from polycast.media.frame import Frame

BITSTREAMS: Final[tuple[Bitstream[Any], ...]] = (
    h264.BITSTREAM,
    h265.BITSTREAM,
    av1.BITSTREAM,
    vp8.BITSTREAM,
    vp9.BITSTREAM,
    mpeg4_video.BITSTREAM,
    mpeg2_video.BITSTREAM,
    mjpeg.BITSTREAM,
    aac.BITSTREAM,
    opus.BITSTREAM,
    mpeg_audio.BITSTREAM,
    ac3.BITSTREAM,
    eac3.BITSTREAM,
    flac.BITSTREAM,
    # Codecs whose frames are not parsed.
    *(Bitstream(codec) for codec in (G711, G722, G726, LPCM, Vorbis, Speex, KLV, MPEGTS, Generic)),
)

_BY_CODEC: Final[dict[type[Codec], Bitstream[Any]]] = {bitstream.codec_type: bitstream for bitstream in BITSTREAMS}


def bitstream_of(codec: Codec) -> Bitstream[Any]:
    """Return how the frames of a codec are read."""
    return _BY_CODEC[type(codec)]


def updated_codec(codec: Codec, frame: Frame) -> Codec:
    """Return the codec as it is from this key frame on; see `Bitstream.updated`."""
    updated: Codec = _BY_CODEC[type(codec)].updated(codec, frame.units)
    return updated


def reorders(codec: Codec) -> bool:
    """Return whether the decoding order differs from the presentation order; see `Bitstream.reorders`."""
    return _BY_CODEC[type(codec)].reorders(codec)


def resolution(codec: Codec) -> tuple[int, int] | None:
    """Return width and height in pixels where they are known; see `Bitstream.resolution`."""
    return _BY_CODEC[type(codec)].resolution(codec)


def codec_string(codec: Codec) -> str:
    """Return the codec string; see `Bitstream.codec_string`."""
    return _BY_CODEC[type(codec)].codec_string(codec)
