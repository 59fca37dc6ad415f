"""Tracks in API v3: the labels of codecs, and their properties."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from polycast.codecs import h264_parameter_sets, h265_parameter_sets
from polycast.control.v3.items import TrackFields
from polycast.errors import RemoteProtocolError
from polycast.media.codec import AC3, EAC3, G711, H264, H265, LPCM, VP9, Codec, MPEG4Audio, Opus

LABELS: Final[Mapping[str, str]] = {
    "MPEG4Video": "MPEG-4 Video",
    "MPEG2Video": "MPEG-1/2 Video",
    "JPEG": "M-JPEG",
    "MPEG4Audio": "MPEG-4 Audio",
    "MPEG2Audio": "MPEG-1/2 Audio",
    "MPEGTS": "MPEG-TS",
}
"""Of codecs that API v3 does not call by their names."""

_H264_PROFILES: Final = {
    66: "Baseline",
    77: "Main",
    88: "Extended",
    100: "High",
    110: "High 10",
    122: "High 4:2:2",
    244: "High 4:4:4 Predictive",
}
"""Rec. ITU-T H.264 annex A."""

_H265_PROFILES: Final = {
    1: "Main",
    2: "Main 10",
    3: "Main Still Picture",
    4: "Range Extensions",
    5: "High Throughput",
    6: "Multiview Main",
    7: "Scalable Main",
    8: "3D Main",
    9: "Screen Content Coding Extensions",
    10: "Scalable Range Extensions",
}
"""Rec. ITU-T H.265 annex A."""


def label_of(codec: Codec) -> str:
    """Return what API v3 calls a codec."""
    return LABELS.get(codec.name, codec.name)


def describe_track(codec: Codec) -> TrackFields:
    """Return an item of ``tracks2``."""
    properties = _PROPERTIES.get(type(codec))
    return {"codec": label_of(codec), "codecProps": properties(codec) if properties is not None else None}


def _h264(codec: H264) -> dict[str, Any]:
    try:
        sps = h264_parameter_sets.parse_sps(codec.sps)
    except RemoteProtocolError:
        return _unknown_picture()
    profile = _H264_PROFILES.get(sps.profile, str(sps.profile))
    return {"width": sps.width, "height": sps.height, "profile": profile, "level": _level(sps.level / 10)}


def _h265(codec: H265) -> dict[str, Any]:
    try:
        sps = h265_parameter_sets.parse_sps(codec.sps)
    except RemoteProtocolError:
        return _unknown_picture()
    profile = sps.profile_tier_level.profile
    name = _H265_PROFILES.get(profile, str(profile))
    level = _level(sps.profile_tier_level.level / 30)
    return {"width": sps.width, "height": sps.height, "profile": name, "level": level}


def _unknown_picture() -> dict[str, Any]:
    return {"width": 0, "height": 0, "profile": "", "level": ""}


def _level(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


_PROPERTIES: Final[Mapping[type[Codec], Callable[[Any], dict[str, Any]]]] = {
    H264: _h264,
    H265: _h265,
    VP9: lambda codec: {"profile": codec.profile},
    Opus: lambda codec: {"channelCount": codec.channels},
    MPEG4Audio: lambda codec: {"sampleRate": codec.sample_rate, "channelCount": codec.channels},
    AC3: lambda codec: {"sampleRate": codec.sample_rate, "channelCount": codec.channels},
    EAC3: lambda codec: {"sampleRate": codec.sample_rate, "channelCount": codec.channels},
    G711: lambda codec: {"muLaw": codec.mu_law, "sampleRate": codec.sample_rate, "channelCount": codec.channels},
    LPCM: lambda codec: {
        "bitDepth": codec.bit_depth,
        "sampleRate": codec.sample_rate,
        "channelCount": codec.channels,
    },
}
