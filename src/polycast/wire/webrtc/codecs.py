"""The codecs that WebRTC carries, and the format negotiated with a peer for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from polycast.media.codec import AV1, G711, G722, H264, H265, LPCM, VP8, VP9, Codec, Opus
from polycast.wire.webrtc.description import Format, RemoteMedia

VIDEO_CODECS: Final[tuple[type[Codec], ...]] = (AV1, VP9, VP8, H265, H264)
"""Video codecs in the order in which one is chosen for a reader."""
AUDIO_CODECS: Final[tuple[type[Codec], ...]] = (Opus, G722, G711, LPCM)
"""Audio codecs, likewise."""

VIDEO_FEEDBACK: Final = frozenset({"nack", "nack pli", "ccm fir", "transport-cc", "goog-remb"})
"""Feedback about video that is understood or sent."""
AUDIO_FEEDBACK: Final = frozenset({"transport-cc", "nack"})
"""Feedback about audio."""

LPCM_CLOCK_RATES: Final = (8000, 16000, 48000)
"""Sample rates in Hz that browsers accept as L16."""

_BASELINE: Final = "42"
_H264_DEFAULT_PROFILE: Final = "42001f"


def supported_formats(media: RemoteMedia) -> list[Format]:
    """Return the supported ones of the formats that a peer offers to send, with the feedback that both support."""
    known = VIDEO_FEEDBACK if media.kind == "video" else AUDIO_FEEDBACK
    return [
        dataclasses.replace(item, feedback=item.feedback & known)
        for item in media.formats
        if _can_be_received(item, media.kind)
    ]


def format_for(codec: Codec, formats: Sequence[Format]) -> Format | None:
    """Return the format, among those that a peer can receive, in which to send a track of this codec.

    None if the peer cannot receive the codec. Unsupported feedback is removed.
    """
    choose = _CHOICES.get(type(codec))
    chosen = choose(codec, formats) if choose is not None else None
    if chosen is None:
        return None
    known = VIDEO_FEEDBACK if isinstance(codec, VIDEO_CODECS) else AUDIO_FEEDBACK
    # Bandwidth is not estimated: a stream is sent as it is.
    return dataclasses.replace(chosen, feedback=chosen.feedback & known - {"transport-cc", "goog-remb"})


def _can_be_received(item: Format, kind: str) -> bool:
    name = item.encoding.upper()
    if kind == "video":
        return name in ("AV1", "VP8", "VP9", "H265") or (name == "H264" and _packetization_mode(item) == 1)
    if name == "L16":
        return item.clock_rate in LPCM_CLOCK_RATES
    return name in ("OPUS", "MULTIOPUS", "G722", "PCMU", "PCMA")


def _named(formats: Iterable[Format], name: str) -> list[Format]:
    return [item for item in formats if item.encoding.upper() == name]


def _packetization_mode(item: Format) -> int:
    mode = item.parameter("packetization-mode") or "0"
    return int(mode) if mode.isdecimal() and len(mode) == 1 else 0


def _choose_h264(codec: Codec, formats: Sequence[Format]) -> Format | None:
    """Pictures do not fit into single packets, so mode 1 is required (RFC 6184 section 6.3).

    The profile of the format is only compared with that of the stream as a preference: browsers decode profiles
    that they do not list.
    """
    usable = [item for item in _named(formats, "H264") if _packetization_mode(item) == 1]
    profile = codec.sps[1:2].hex() if isinstance(codec, H264) else ""

    def distance(item: Format) -> int:
        offered = (item.parameter("profile-level-id") or _H264_DEFAULT_PROFILE)[:2].lower()
        return 0 if offered == profile else 1 if offered == _BASELINE else 2

    return min(usable, key=distance, default=None)


def _choose_by_profile(name: str, parameter: str, default: str, profile_of: Callable[[Codec], str]) -> _Choice:
    def choose(codec: Codec, formats: Sequence[Format]) -> Format | None:
        profile = profile_of(codec)
        usable = [item for item in _named(formats, name) if (item.parameter(parameter) or default) == profile]
        return next(iter(usable), None)

    return choose


def _choose_h265(codec: Codec, formats: Sequence[Format]) -> Format | None:
    """The general_profile_idc follows the two bytes of the NAL unit header and one byte of the SPS (H.265 7.3.2.2)."""
    usable = _named(formats, "H265")
    sps = codec.sps if isinstance(codec, H265) else b""
    profile = str(sps[3] & 0x1F) if len(sps) > 3 else "1"
    return next((item for item in usable if (item.parameter("profile-id") or "1") == profile), next(iter(usable), None))


def _choose_opus(codec: Codec, formats: Sequence[Format]) -> Format | None:
    channels = codec.channels if isinstance(codec, Opus) else 2
    if channels <= 2:
        return next(iter(_named(formats, "OPUS")), None)
    return next((item for item in _named(formats, "MULTIOPUS") if item.channels == channels), None)


def _choose_g711(codec: Codec, formats: Sequence[Format]) -> Format | None:
    if not isinstance(codec, G711):
        return None
    name = "PCMU" if codec.mu_law else "PCMA"
    return next(
        (
            item
            for item in _named(formats, name)
            if item.clock_rate == codec.sample_rate and (item.channels or 1) == codec.channels
        ),
        None,
    )


def _choose_lpcm(codec: Codec, formats: Sequence[Format]) -> Format | None:
    if not isinstance(codec, LPCM) or codec.bit_depth != 16:
        return None
    return next(
        (
            item
            for item in _named(formats, "L16")
            if item.clock_rate == codec.sample_rate and (item.channels or 1) == codec.channels
        ),
        None,
    )


_Choice = Callable[[Codec, Sequence[Format]], Format | None]

_CHOICES: Final[dict[type[Codec], _Choice]] = {
    AV1: _choose_by_profile("AV1", "profile", "0", lambda codec: "0"),
    VP8: lambda codec, formats: next(iter(_named(formats, "VP8")), None),
    VP9: _choose_by_profile(
        "VP9", "profile-id", "0", lambda codec: str(codec.profile) if isinstance(codec, VP9) else "0"
    ),
    H264: _choose_h264,
    H265: _choose_h265,
    Opus: _choose_opus,
    G722: lambda codec, formats: next(iter(_named(formats, "G722")), None),
    G711: _choose_g711,
    LPCM: _choose_lpcm,
}
