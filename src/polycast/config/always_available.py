"""Paths that are always available: the tracks that readers get while nobody publishes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from polycast.config.kinds import choice_kind
from polycast.config.spelling import yaml_key
from polycast.config.struct_lists import StructListKind
from polycast.errors import ConfigurationError


class SlateCodec(StrEnum):
    """The codecs of slates."""

    AV1 = "AV1"
    VP9 = "VP9"
    H265 = "H265"
    H264 = "H264"
    OPUS = "Opus"
    MPEG4_AUDIO = "MPEG4Audio"
    G711 = "G711"
    LPCM = "LPCM"


_CODEC: Final = choice_kind(SlateCodec, "unsupported codec '%s'")
_LOWEST_SAMPLE_RATES: Final = {SlateCodec.MPEG4_AUDIO: 22_050, SlateCodec.G711: 8_000, SlateCodec.LPCM: 8_000}
"""In Hz, of the codecs that need to be told theirs."""
_HIGHEST_SAMPLE_RATES: Final = {SlateCodec.MPEG4_AUDIO: 96_000, SlateCodec.G711: 192_000, SlateCodec.LPCM: 192_000}
_CHANNEL_COUNTS: Final = {
    SlateCodec.MPEG4_AUDIO: (1, 2, 3, 4, 5, 6, 8),
    SlateCodec.G711: tuple(range(1, 9)),
    SlateCodec.LPCM: tuple(range(1, 9)),
}
EXAMPLE: Final = '{"codec": "H264"}, {"codec": "MPEG4Audio", "sampleRate": 48000, "channelCount": 2}'
"""Of a list of tracks, for errors."""


class AlwaysAvailableTrack(Struct, frozen=True, kw_only=True, rename=yaml_key):
    """One track."""

    codec: Annotated[
        SlateCodec, _CODEC, Meta(description="H264, H265, AV1, VP9, Opus, MPEG4Audio (AAC), G711 or LPCM (16 bits).")
    ]
    sample_rate: Annotated[int, Meta(description="Hz; only for MPEG4Audio, G711 and LPCM, which need it.")] = 0
    channel_count: Annotated[
        int, Meta(description="Number of channels; only for MPEG4Audio, G711 and LPCM, which need it.")
    ] = 0
    mu_law: Annotated[bool, Meta(description="Whether G711 is PCMU; else PCMA.")] = False


def check_track(track: AlwaysAvailableTrack) -> None:
    """Raise ConfigurationError for a track that cannot exist. The texts are those of MediaMTX."""
    codec = track.codec
    lowest = _LOWEST_SAMPLE_RATES.get(codec)
    for key, value in (("sampleRate", track.sample_rate), ("channelCount", track.channel_count)):
        if value and lowest is None:
            raise ConfigurationError(f"{key} must not be specified for codec '{codec}'")
        if not value and lowest is not None:
            raise ConfigurationError(f"{key} is mandatory for codec '{codec}'")
    if lowest is None:
        return
    if track.sample_rate < lowest:
        raise ConfigurationError(f"sampleRate must be greater than or equal to {lowest} for codec '{codec}'")
    if track.sample_rate > _HIGHEST_SAMPLE_RATES[codec]:
        raise ConfigurationError(f"sampleRate must not exceed {_HIGHEST_SAMPLE_RATES[codec]} for codec '{codec}'")
    if track.channel_count not in _CHANNEL_COUNTS[codec]:
        counts = ", ".join(map(str, _CHANNEL_COUNTS[codec]))
        raise ConfigurationError(f"channelCount of codec '{codec}' must be one of {counts}")


TRACKS: Final = StructListKind(AlwaysAvailableTrack, check_track, EXAMPLE)
