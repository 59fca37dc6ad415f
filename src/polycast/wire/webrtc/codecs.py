"""The codecs that WebRTC carries, and the format negotiated with a peer for each: one row per codec."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from polycast.codecs import opus
from polycast.media.codec import (
    AC3,
    AV1,
    EAC3,
    FLAC,
    G711,
    G722,
    G726,
    H264,
    H265,
    KLV,
    LPCM,
    MJPEG,
    MPEGTS,
    VP8,
    VP9,
    Codec,
    MPEG2Video,
    MPEG4Audio,
    MPEG4Video,
    MPEGAudio,
    Opus,
    Speex,
    Vorbis,
)  # fmt: skip
from polycast.media.codec import Generic as GenericCodec
from polycast.media.codec_table import CodecTable
from polycast.wire.webrtc.description import Format, RemoteMedia

AnyCodec = TypeVar("AnyCodec", bound=Codec)

VIDEO_FEEDBACK: Final = frozenset({"nack", "nack pli", "ccm fir", "transport-cc", "goog-remb"})
"""Feedback about video that is understood or sent."""
AUDIO_FEEDBACK: Final = frozenset({"transport-cc", "nack"})
"""Feedback about audio."""
_REQUESTED_FEEDBACK: Final = frozenset({"nack", "nack pli", "transport-cc"})

LPCM_CLOCK_RATES: Final = (8000, 16000, 48000)
"""Sample rates in Hz that browsers accept as L16."""

_BASELINE: Final = "42"
_H264_DEFAULT_PROFILE: Final = "42001f"
_H264_PARAMETERS: Final = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
_H265_PARAMETERS: Final = "level-id=93;profile-id=1;tier-flag=0;tx-mode=SRST"
_OPUS_PARAMETERS: Final = "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1"
"""Browsers send one channel to those that do not ask for two (RFC 7587 section 7.1)."""


def _always(item: Format) -> bool:
    return True


def _unchanged(item: Format) -> Format:
    return item


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecMapping(Generic[AnyCodec]):
    """How WebRTC carries a codec, in both directions."""

    codec_type: type[AnyCodec]
    encodings: tuple[str, ...]
    """Encoding names, in upper case."""
    is_received: Callable[[Format], bool] = _always
    """Whether a format with one of these names can be received."""
    choose: Callable[[AnyCodec, Sequence[Format]], Format | None]
    """The format, among those that a peer can receive, in which to send a track; None if there is none."""
    offered: tuple[Format, ...]
    """The format in our own offers; the payload types of all rows differ."""
    note: str = ""
    """Restrictions, for the documentation."""
    answer: Callable[[Format], Format] = _unchanged
    """The format that is answered to one that was offered, to tell the sender what to do."""


def _named(formats: Iterable[Format], name: str) -> list[Format]:
    return [item for item in formats if item.encoding.upper() == name]


def _packetization_mode(item: Format) -> int:
    mode = item.parameter("packetization-mode") or "0"
    return int(mode) if mode.isdecimal() and len(mode) == 1 else 0


def _choose_h264(codec: H264, formats: Sequence[Format]) -> Format | None:
    """Pictures do not fit into single packets, so mode 1 is required (RFC 6184 section 6.3).

    The profile of the format is only compared with that of the stream as a preference: browsers decode profiles
    that they do not list.
    """
    usable = [item for item in _named(formats, "H264") if _packetization_mode(item) == 1]
    profile = codec.sps[1:2].hex()

    def distance(item: Format) -> int:
        offered = (item.parameter("profile-level-id") or _H264_DEFAULT_PROFILE)[:2].lower()
        return 0 if offered == profile else 1 if offered == _BASELINE else 2

    return min(usable, key=distance, default=None)


def _choose_h265(codec: H265, formats: Sequence[Format]) -> Format | None:
    """The general_profile_idc follows the two bytes of the NAL unit header and one byte of the SPS (H.265 7.3.2.2)."""
    usable = _named(formats, "H265")
    profile = str(codec.sps[3] & 0x1F) if len(codec.sps) > 3 else "1"
    return _first_with(usable, "profile-id", "1", profile) or next(iter(usable), None)


def _first_with(formats: Iterable[Format], parameter: str, default: str, value: str) -> Format | None:
    """Return the first format with a value of a parameter, which has a default."""
    return next((item for item in formats if (item.parameter(parameter) or default) == value), None)


def _choose_opus(codec: Opus, formats: Sequence[Format]) -> Format | None:
    if codec.channels <= 2:
        return next(iter(_named(formats, "OPUS")), None)
    return next((item for item in _named(formats, "MULTIOPUS") if item.channels == codec.channels), None)


def _first_like(formats: Iterable[Format], sample_rate: int, channels: int) -> Format | None:
    return next((item for item in formats if item.clock_rate == sample_rate and (item.channels or 1) == channels), None)


def _choose_g711(codec: G711, formats: Sequence[Format]) -> Format | None:
    return _first_like(_named(formats, "PCMU" if codec.mu_law else "PCMA"), codec.sample_rate, codec.channels)


def _choose_lpcm(codec: LPCM, formats: Sequence[Format]) -> Format | None:
    return _first_like(_named(formats, "L16"), codec.sample_rate, codec.channels) if codec.bit_depth == 16 else None


def _video(payload_type: int, name: str, parameters: str = "") -> tuple[Format, ...]:
    return (Format(payload_type, name, 90_000, None, parameters, _REQUESTED_FEEDBACK, payload_type + 1),)


_AV1: Final = CodecMapping(
    codec_type=AV1,
    encodings=("AV1",),
    choose=lambda codec, formats: _first_with(_named(formats, "AV1"), "profile", "0", "0"),
    offered=_video(96, "AV1"),
)
_VP9: Final = CodecMapping(
    codec_type=VP9,
    encodings=("VP9",),
    choose=lambda codec, formats: _first_with(_named(formats, "VP9"), "profile-id", "0", str(codec.profile)),
    offered=_video(98, "VP9", "profile-id=0"),
)
_VP8: Final = CodecMapping(
    codec_type=VP8,
    encodings=("VP8",),
    choose=lambda codec, formats: next(iter(_named(formats, "VP8")), None),
    offered=_video(100, "VP8"),
)
_H265: Final = CodecMapping(
    codec_type=H265, encodings=("H265",), choose=_choose_h265, offered=_video(102, "H265", _H265_PARAMETERS)
)
_H264: Final = CodecMapping(
    codec_type=H264,
    encodings=("H264",),
    is_received=lambda item: _packetization_mode(item) == 1,
    choose=_choose_h264,
    offered=_video(104, "H264", _H264_PARAMETERS),
)


def _multiopus(channels: int) -> Format:
    parameters = ";".join(f"{name}={value}" for name, value in opus.multichannel_parameters(channels).items())
    return Format(112 + channels - 3, "multiopus", opus.CLOCK_RATE, channels, parameters)


def _answer_opus(item: Format) -> Format:
    return dataclasses.replace(item, parameters=_OPUS_PARAMETERS) if item.encoding.upper() == "OPUS" else item


_OPUS: Final = CodecMapping(
    codec_type=Opus,
    encodings=("OPUS", "MULTIOPUS"),
    choose=_choose_opus,
    offered=(
        Format(111, "opus", opus.CLOCK_RATE, 2, _OPUS_PARAMETERS),
        *(_multiopus(channels) for channels in opus.SURROUND_LAYOUTS),
    ),
    answer=_answer_opus,
)
_G722: Final = CodecMapping(
    codec_type=G722,
    encodings=("G722",),
    choose=lambda codec, formats: next(iter(_named(formats, "G722")), None),
    offered=(Format(9, "G722", 8_000),),
)
_G711: Final = CodecMapping(
    codec_type=G711,
    encodings=("PCMU", "PCMA"),
    choose=_choose_g711,
    offered=(Format(0, "PCMU", 8_000), Format(8, "PCMA", 8_000)),
)
_LPCM: Final = CodecMapping(
    codec_type=LPCM,
    encodings=("L16",),
    is_received=lambda item: item.clock_rate in LPCM_CLOCK_RATES,
    choose=_choose_lpcm,
    note=f"16 bits at {' or '.join(str(rate // 1000) for rate in LPCM_CLOCK_RATES)} kHz",
    offered=tuple(Format(120 + index, "L16", rate, 2) for index, rate in enumerate(LPCM_CLOCK_RATES)),
)

VIDEO_MAPPINGS: Final[tuple[CodecMapping[Any], ...]] = (_AV1, _VP9, _VP8, _H265, _H264)
"""Video codecs in the order in which one is chosen for a reader."""
AUDIO_MAPPINGS: Final[tuple[CodecMapping[Any], ...]] = (_OPUS, _G722, _G711, _LPCM)
"""Audio codecs, likewise."""

CODECS: Final = CodecTable[CodecMapping[Any]](
    {mapping.codec_type: mapping for mapping in (*VIDEO_MAPPINGS, *AUDIO_MAPPINGS)},
    {
        "browsers do not play it in WebRTC": (
            MPEG4Video, MPEG2Video, MJPEG, MPEG4Audio, MPEGAudio, AC3, EAC3, FLAC, G726, Vorbis, Speex, KLV, MPEGTS,
            GenericCodec,
        )
    },
)  # fmt: skip

VIDEO_CODECS: Final[tuple[type[Codec], ...]] = tuple(mapping.codec_type for mapping in VIDEO_MAPPINGS)
AUDIO_CODECS: Final[tuple[type[Codec], ...]] = tuple(mapping.codec_type for mapping in AUDIO_MAPPINGS)

_BY_KIND: Final = {"video": VIDEO_MAPPINGS, "audio": AUDIO_MAPPINGS}


def offered_formats(kind: str) -> list[Format]:
    """Return all formats of a kind, ``video`` or ``audio``, for an offer."""
    return [item for mapping in _BY_KIND[kind] for item in mapping.offered]


def supported_formats(media: RemoteMedia) -> list[Format]:
    """Return the supported ones of the formats that a peer offers to send, with the feedback that both support."""
    known = VIDEO_FEEDBACK if media.kind == "video" else AUDIO_FEEDBACK
    return [
        dataclasses.replace(item, feedback=item.feedback & known)
        for item in media.formats
        if (mapping := _mapping_of(item, media.kind)) is not None and mapping.is_received(item)
    ]


def answered_format(item: Format, kind: str) -> Format:
    """Return what is answered to one of `supported_formats`."""
    mapping = _mapping_of(item, kind)
    return item if mapping is None else mapping.answer(item)


def _mapping_of(item: Format, kind: str) -> CodecMapping[Any] | None:
    name = item.encoding.upper()
    return next((mapping for mapping in _BY_KIND.get(kind, ()) if name in mapping.encodings), None)


def format_for(codec: Codec, formats: Sequence[Format]) -> Format | None:
    """Return the format, among those that a peer can receive, in which to send a track of this codec.

    None if the peer cannot receive the codec. Unsupported feedback is removed.
    """
    mapping = CODECS.get(codec)
    chosen = mapping.choose(codec, formats) if mapping is not None else None
    if chosen is None:
        return None
    known = VIDEO_FEEDBACK if isinstance(codec, VIDEO_CODECS) else AUDIO_FEEDBACK
    # Bandwidth is not estimated: a stream is sent as it is.
    return dataclasses.replace(chosen, feedback=chosen.feedback & known - {"transport-cc", "goog-remb"})
