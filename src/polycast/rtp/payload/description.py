"""Codecs in SDP: which codec a media description means, and how a codec is described (RFC 8866 section 6.6)."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from polycast.codecs import aac, av1, h264, h265
from polycast.errors import RemoteProtocolError
from polycast.media.codec import (
    AC3,
    AV1,
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
    Generic,
    MPEG2Video,
    MPEG4Audio,
    MPEG4Video,
    MPEGAudio,
    Opus,
    Speex,
    Vorbis,
)
from polycast.media.track import RtpFormat, Track
from polycast.rtp.payload import latm
from polycast.rtp.payload.format_parameters import (
    decode_base64,
    decode_base64_list,
    decode_hexadecimal,
    decode_integer,
    encode_base64_list,
    parse_parameters,
    replace_parameters,
)

MAXIMUM_CHANNELS = 255
"""Channels of a track; what an Opus header can tell (RFC 7845 section 5.1), and more than any other format has."""
MAXIMUM_CLOCK_RATE = 10_000_000
"""In Hz. The highest in use are 384 kHz for audio and 90 kHz for all else."""


class _Media(NamedTuple):
    """What the lines of a media description say."""

    media_type: str
    encoding: str
    clock_rate: int
    channels: int | None
    parameters: dict[str, str]


# RFC 3551 section 6, tables 4 and 5: encoding name, clock rate, channels.
_STATIC_TYPES: dict[int, tuple[str, int, int | None]] = {
    0: ("PCMU", 8_000, 1),
    3: ("GSM", 8_000, 1),
    4: ("G723", 8_000, 1),
    5: ("DVI4", 8_000, 1),
    6: ("DVI4", 16_000, 1),
    7: ("LPC", 8_000, 1),
    8: ("PCMA", 8_000, 1),
    9: ("G722", 8_000, 1),
    10: ("L16", 44_100, 2),
    11: ("L16", 44_100, 1),
    12: ("QCELP", 8_000, 1),
    13: ("CN", 8_000, 1),
    14: ("MPA", 90_000, None),
    15: ("G728", 8_000, 1),
    16: ("DVI4", 11_025, 1),
    17: ("DVI4", 22_050, 1),
    18: ("G729", 8_000, 1),
    25: ("CelB", 90_000, None),
    26: ("JPEG", 90_000, None),
    28: ("nv", 90_000, None),
    31: ("H261", 90_000, None),
    32: ("MPV", 90_000, None),
    33: ("MP2T", 90_000, None),
    34: ("H263", 90_000, None),
}


def codec_from_sdp(
    media_type: str, payload_type: int, encoding: str, clock_rate: int | None, channels: int | None, fmtp: str
) -> tuple[Codec, RtpFormat]:
    """Return the codec that a media description means, and its RTP format as the description has it.

    ``encoding``, ``clock_rate`` and ``channels`` are those of the rtpmap line: empty or None without one.
    ``fmtp`` is the fmtp line after the payload type. Broken parameter sets in it are passed over.
    Raises `RemoteProtocolError` when the clock rate is not told and the payload type does not imply it.
    """
    if clock_rate is not None and not 0 < clock_rate <= MAXIMUM_CLOCK_RATE:
        raise RemoteProtocolError(f"unable to get clock rate: invalid clock rate ({clock_rate})")
    if channels is not None and not 0 < channels <= MAXIMUM_CHANNELS:
        raise RemoteProtocolError(f"invalid number of channels ({channels})")
    name, implied_rate, implied_channels = encoding, clock_rate, channels
    if payload_type in _STATIC_TYPES and (not encoding or clock_rate is None):
        static_name, static_rate, static_channels = _STATIC_TYPES[payload_type]
        name = encoding or static_name
        implied_rate = clock_rate or static_rate
        implied_channels = channels or static_channels
    if implied_rate is None:
        raise RemoteProtocolError("unable to get clock rate: attribute 'rtpmap' not found")
    media = _Media(media_type, name, implied_rate, implied_channels, parse_parameters(fmtp))
    reader = _READERS.get(name.upper())
    codec = reader(media) if reader is not None else None
    if codec is None:
        codec = Generic(encoding=name, media_type=media_type, rate=implied_rate)
    return codec, RtpFormat(payload_type, encoding, implied_rate, channels, fmtp)


def _read_h264(media: _Media) -> Codec:
    units = decode_base64_list(media.parameters.get("sprop-parameter-sets", ""))
    return h264.updated(H264(), units)


def _read_h265(media: _Media) -> Codec:
    units: list[bytes] = []
    for name in ("sprop-vps", "sprop-sps", "sprop-pps"):
        units += decode_base64_list(media.parameters.get(name, ""))
    difference = decode_integer(media.parameters.get("sprop-max-don-diff"), 0)
    return h265.updated(H265(maximum_don_difference=difference), units)


def _read_vp9(media: _Media) -> Codec:
    profile = decode_integer(media.parameters.get("profile-id"), 0)
    return VP9(profile=profile if profile <= 3 else 0)


def _read_mpeg4_video(media: _Media) -> Codec:
    return MPEG4Video(
        configuration=decode_hexadecimal(media.parameters.get("config", "")),
        profile_level=decode_integer(media.parameters.get("profile-level-id"), 1),
    )


def _read_mpeg4_generic(media: _Media) -> Codec | None:
    # mpeg4-generic carries every elementary stream of MPEG-4; only audio is understood (RFC 3640 section 4.1).
    if media.media_type != "audio" or media.parameters.get("mode", "aac-hbr").lower() not in ("aac-hbr", "aac-lbr"):
        return None
    return _aac_codec(decode_hexadecimal(media.parameters.get("config", "")), media)


def _read_latm(media: _Media) -> Codec:
    try:
        configuration = latm.parse_stream_mux_config(decode_hexadecimal(media.parameters.get("config", "")))
    except RemoteProtocolError:
        return _aac_codec(b"", media)
    return _aac_codec(configuration.audio_specific_config, media)


def _aac_codec(configuration: bytes, media: _Media) -> Codec:
    try:
        return aac.parse_audio_specific_config(configuration)
    except RemoteProtocolError:
        # Without a valid configuration, AAC-LC as the rtpmap describes it is the best guess.
        channels = media.channels if media.channels is not None and media.channels <= 7 else 1
        return MPEG4Audio(
            configuration=aac.build_audio_specific_config(2, media.clock_rate, channels),
            sample_rate=media.clock_rate,
            channels=channels,
        )


def _read_lpcm(media: _Media) -> Codec:
    bit_depth = int(media.encoding[1:])
    return LPCM(bit_depth=bit_depth, sample_rate=media.clock_rate, channels=media.channels or 1)


def _read_g726(media: _Media) -> Codec:
    return G726(bit_rate=int(media.encoding[-2:]), big_endian=media.encoding.upper().startswith("AAL2"))


def _read_g711(media: _Media) -> Codec:
    mu_law = media.encoding.upper() == "PCMU"
    return G711(mu_law=mu_law, sample_rate=media.clock_rate, channels=media.channels or 1)


def _read_vorbis(media: _Media) -> Codec:
    configuration = decode_base64(media.parameters.get("configuration", ""))
    return Vorbis(sample_rate=media.clock_rate, channels=media.channels or 1, configuration=configuration)


_READERS: dict[str, Callable[[_Media], Codec | None]] = {
    "H264": _read_h264,
    "H265": _read_h265,
    "HEVC": _read_h265,
    "AV1": lambda media: AV1(),
    "VP8": lambda media: VP8(),
    "VP9": _read_vp9,
    "MP4V-ES": _read_mpeg4_video,
    "MPV": lambda media: MPEG2Video(),
    "JPEG": lambda media: MJPEG(),
    "MPEG4-GENERIC": _read_mpeg4_generic,
    "MP4A-LATM": _read_latm,
    "OPUS": lambda media: Opus(channels=media.channels or 2),
    "MULTIOPUS": lambda media: Opus(channels=media.channels or 2),
    "MPA": lambda media: MPEGAudio(),
    # RFC 4184 section 5.1 leaves the number of channels optional; the stream itself tells it.
    "AC3": lambda media: AC3(sample_rate=media.clock_rate, channels=media.channels or 6),
    "PCMU": _read_g711,
    "PCMA": _read_g711,
    "G722": lambda media: G722(channels=media.channels or 1),
    **{f"{packing}G726-{rate}": _read_g726 for packing in ("", "AAL2-") for rate in (16, 24, 32, 40)},
    "L8": _read_lpcm,
    "L16": _read_lpcm,
    "L24": _read_lpcm,
    "VORBIS": _read_vorbis,
    "SPEEX": lambda media: Speex(sample_rate=media.clock_rate),
    "SMPTE336M": lambda media: KLV(),
    "MP2T": lambda media: MPEGTS(),
}


def rtp_format_for(codec: Codec, payload_type: int) -> RtpFormat | None:
    """Return how a codec is carried in RTP when its publisher does not speak RTP; None when it cannot be.

    ``payload_type`` is a dynamic one (96 to 127); codecs with a static payload type of their own get that, as old
    receivers know no other.
    """
    description = _describe(codec)
    if description is None:
        return None
    encoding, channels, static_type = description
    return RtpFormat(
        payload_type if static_type is None else static_type,
        encoding,
        codec.clock_rate,
        channels,
        _generated_parameters(codec),
    )


def _describe(codec: Codec) -> tuple[str, int | None, int | None] | None:
    """Return encoding name, channels for the rtpmap, and static payload type."""
    match codec:
        case G711():
            static_type = None
            if codec.sample_rate == 8_000 and codec.channels == 1:
                static_type = 0 if codec.mu_law else 8
            return ("PCMU" if codec.mu_law else "PCMA"), (codec.channels if codec.channels > 1 else None), static_type
        case LPCM():
            if codec.bit_depth not in (8, 16, 24):
                return None
            static_type = {1: 11, 2: 10}.get(codec.channels) if codec.sample_rate == 44_100 else None
            return f"L{codec.bit_depth}", codec.channels, static_type if codec.bit_depth == 16 else None
        case G726():
            return f"{'AAL2-' if codec.big_endian else ''}G726-{codec.bit_rate}", None, None
        case MPEG4Audio():
            return "mpeg4-generic", codec.channels, None
        case Opus():
            return ("opus", 2, None) if codec.channels <= 2 else ("multiopus", codec.channels, None)
        case AC3():
            return "AC3", codec.channels, None
    return _SIMPLE_DESCRIPTIONS.get(type(codec))


_SIMPLE_DESCRIPTIONS: dict[type[Codec], tuple[str, int | None, int | None]] = {
    H264: ("H264", None, None),
    H265: ("H265", None, None),
    AV1: ("AV1", None, None),
    VP8: ("VP8", None, None),
    VP9: ("VP9", None, None),
    MPEG4Video: ("MP4V-ES", None, None),
    MPEG2Video: ("MPV", None, 32),
    MJPEG: ("JPEG", None, 26),
    MPEGAudio: ("MPA", None, 14),
    G722: ("G722", None, 9),
    Speex: ("speex", None, None),
    KLV: ("SMPTE336M", None, None),
    MPEGTS: ("MP2T", None, 33),
}


def format_parameters(track: Track) -> str:
    """Return the fmtp text to announce now: the publisher's own, with the parameter sets that are valid now."""
    codec = track.codec
    if track.rtp is None:
        return _generated_parameters(codec)
    text = track.rtp.parameters
    if not text:
        return _generated_parameters(codec) if _LIVE_WITHOUT_TEXT.get(type(codec), False) else ""
    if track.rtp.encoding.upper() == "MP4A-LATM":
        return text
    if _announces(track.rtp, codec):
        return text
    return replace_parameters(text, _live_parameters(codec))


# Formats whose receivers need the parameters even when the publisher announced none.
_LIVE_WITHOUT_TEXT: dict[type[Codec], bool] = {H264: True, H265: True, MPEG4Audio: True, MPEG4Video: True}


def _announces(form: RtpFormat, codec: Codec) -> bool:
    """Return whether the publisher's own text says what is valid now."""
    announced, _ = codec_from_sdp(
        codec.kind.value, form.payload_type, form.encoding, form.clock_rate, form.channels, form.parameters
    )
    return announced == codec


def _generated_parameters(codec: Codec) -> str:
    live = _live_parameters(codec)
    match codec:
        case H264():
            live = {"packetization-mode": "1"} | live
        case MPEG4Audio():
            live = {
                "profile-level-id": "1",
                "mode": "AAC-hbr",
                "sizelength": "13",
                "indexlength": "3",
                "indexdeltalength": "3",
            } | live
        case Opus() if codec.channels == 2:
            live = {"sprop-stereo": "1"}
    return "; ".join(f"{name}={value}" for name, value in live.items())


def _live_parameters(codec: Codec) -> dict[str, str]:
    """Return the parameters that follow from the parameter sets, in the order in which they are announced."""
    match codec:
        case H264():
            return _h264_parameters(codec)
        case H265():
            sets = {"sprop-vps": codec.vps, "sprop-sps": codec.sps, "sprop-pps": codec.pps}
            return {name: encode_base64_list([unit]) for name, unit in sets.items() if unit}
        case MPEG4Audio():
            return {"config": codec.configuration.hex()} if codec.configuration else {}
        case AV1():
            return _av1_parameters(codec)
        case VP9():
            return {"profile-id": str(codec.profile)}
        case MPEG4Video():
            values = {"profile-level-id": str(codec.profile_level)}
            return values | {"config": codec.configuration.hex().upper()} if codec.configuration else values
        case Vorbis() if codec.configuration:
            return {"configuration": base64.b64encode(codec.configuration).decode()}
    return {}


def _h264_parameters(codec: H264) -> dict[str, str]:
    values: dict[str, str] = {}
    units = [unit for unit in (codec.sps, codec.pps, *codec.extra_parameter_sets) if unit]
    if units:
        values["sprop-parameter-sets"] = encode_base64_list(units)
    if len(codec.sps) >= 4:
        values["profile-level-id"] = codec.sps[1:4].hex().upper()
    return values


def _av1_parameters(codec: AV1) -> dict[str, str]:
    if not codec.sequence_header:
        return {}
    try:
        header = av1.parse_sequence_header(codec.sequence_header)
    except RemoteProtocolError:
        return {}
    # AV1 RTP specification section 7.2.1.
    return {"profile": str(header.profile), "level-idx": str(header.level), "tier": str(header.tier)}


def with_parameters(track: Track) -> Track:
    """Return the track with an RTP format whose parameters are those of `format_parameters`."""
    if track.rtp is None:
        return track
    parameters = format_parameters(track)
    if parameters == track.rtp.parameters:
        return track
    return dataclasses.replace(track, rtp=dataclasses.replace(track.rtp, parameters=parameters))
