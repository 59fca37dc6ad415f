"""The payload formats of RTP, by codec and by encoding name; and codecs in SDP (RFC 8866 section 6.6)."""

from __future__ import annotations

from typing import Any, Final

from polycast.errors import RemoteProtocolError
from polycast.media.codec import FLAC, Codec, Generic
from polycast.media.codec_table import CodecTable
from polycast.media.track import RtpFormat, Track
from polycast.rtp.header import MAXIMUM_PAYLOAD_SIZE
from polycast.rtp.payload import (
    ac3,
    av1,
    eac3,
    g711,
    g722,
    g726,
    generic,
    h264,
    h265,
    klv,
    latm,
    lpcm,
    mjpeg,
    mpeg2_video,
    mpeg4_audio,
    mpeg4_video,
    mpeg_audio,
    mpegts,
    opus,
    speex,
    vorbis,
    vp8,
    vp9,
)
from polycast.rtp.payload.base import Depacketizer, Packetizer
from polycast.rtp.payload.format_parameters import normalized, parse_parameters, replace_parameters
from polycast.rtp.payload.rtp_payload import Numbering, RtpPayload, SdpMedia
from polycast.rtp.payload.static_types import STATIC_TYPES

MAXIMUM_CHANNELS: Final = 255
"""Channels of a track: the maximum of an Opus header (RFC 7845 section 5.1), and more than any other format has."""
MAXIMUM_CLOCK_RATE: Final = 10_000_000
"""In Hz. The highest in use are 384 kHz for audio and 90 kHz otherwise."""

PAYLOADS: Final[tuple[RtpPayload[Any], ...]] = (
    h264.PAYLOAD,
    h265.PAYLOAD,
    av1.PAYLOAD,
    vp8.PAYLOAD,
    vp9.PAYLOAD,
    mpeg4_video.PAYLOAD,
    mpeg2_video.PAYLOAD,
    mjpeg.PAYLOAD,
    mpeg4_audio.PAYLOAD,
    latm.PAYLOAD,
    opus.PAYLOAD,
    mpeg_audio.PAYLOAD,
    ac3.PAYLOAD,
    eac3.PAYLOAD,
    g711.PAYLOAD,
    g722.PAYLOAD,
    g726.PAYLOAD,
    lpcm.PAYLOAD,
    vorbis.PAYLOAD,
    speex.PAYLOAD,
    klv.PAYLOAD,
    mpegts.PAYLOAD,
    generic.PAYLOAD,
)
"""All formats. If a codec has several, the first one is used for tracks that do not come from RTP."""

CODECS: Final = CodecTable[RtpPayload[Any]](
    {payload.codec_type: payload for payload in reversed(PAYLOADS)},
    {"RTP has no payload format for it": (FLAC,)},
)
_BY_ENCODING: Final[dict[str, RtpPayload[Any]]] = {
    encoding.upper(): payload for payload in PAYLOADS for encoding in payload.encodings
}


def payload_of_codec(codec: Codec) -> RtpPayload[Any]:
    """Return the payload format of a codec; the generic one if RTP cannot carry it."""
    return CODECS.get(codec) or generic.PAYLOAD


def payload_of(track: Track) -> RtpPayload[Any]:
    """Return the payload format of a track: the one that its publisher announced, or the one of its codec."""
    if track.rtp is not None:
        payload = _BY_ENCODING.get(track.rtp.encoding.upper())
        if payload is not None and payload.codec_type is type(track.codec):
            return payload
    return payload_of_codec(track.codec)


def make_depacketizer(track: Track) -> Depacketizer | None:
    """Return a depacketizer for the packets of a track; None if the payload is not supported (Generic...)."""
    return payload_of(track).depacketizer(track.codec, track)


def make_packetizer(
    track: Track,
    *,
    ssrc: int,
    initial_sequence: int,
    initial_timestamp: int,
    maximum_payload: int = MAXIMUM_PAYLOAD_SIZE,
) -> Packetizer | None:
    """Return a packetizer for the frames of a track; None if its codec has no payload format in RTP.

    The payload type is that of the track's RTP format, or what `rtp_format_for` gives for 96.
    RTP timestamps are the frames' ``pts`` plus ``initial_timestamp``.
    """
    form = track.rtp if track.rtp is not None else rtp_format_for(track.codec, 96)
    if form is None:
        return None
    numbering = Numbering(form.payload_type, ssrc, initial_sequence, initial_timestamp, maximum_payload)
    packetizer = payload_of(track).packetizer(track.codec, numbering)
    if packetizer is not None:
        packetizer.codec = track.codec
    return packetizer


def codec_from_sdp(
    media_type: str, payload_type: int, encoding: str, clock_rate: int | None, channels: int | None, fmtp: str
) -> tuple[Codec, RtpFormat]:
    """Return the codec of a media description, and its RTP format as described.

    ``encoding``, ``clock_rate`` and ``channels`` are those of the rtpmap line: empty or None without one.
    ``fmtp`` is the fmtp line after the payload type. Invalid parameter sets in it are ignored.
    Raises `RemoteProtocolError` if the clock rate is missing and the payload type does not imply it.
    """
    if clock_rate is not None and not 0 < clock_rate <= MAXIMUM_CLOCK_RATE:
        raise RemoteProtocolError(f"unable to get clock rate: invalid clock rate ({clock_rate})")
    if channels is not None and not 0 < channels <= MAXIMUM_CHANNELS:
        raise RemoteProtocolError(f"invalid number of channels ({channels})")
    name, implied_rate, implied_channels = encoding, clock_rate, channels
    if payload_type in STATIC_TYPES and (not encoding or clock_rate is None):
        static = STATIC_TYPES[payload_type]
        name = encoding or static.encoding
        implied_rate = clock_rate or static.clock_rate
        implied_channels = channels or static.channels
    if implied_rate is None:
        raise RemoteProtocolError("unable to get clock rate: attribute 'rtpmap' not found")
    understood = normalized(fmtp)
    media = SdpMedia(media_type, name, implied_rate, implied_channels, parse_parameters(understood))
    payload = _BY_ENCODING.get(name.upper())
    codec = payload.from_sdp(media) if payload is not None else None
    if codec is not None:
        return codec, RtpFormat(payload_type, encoding, implied_rate, channels, understood)
    generic = Generic(encoding=name, media_type=media_type, rate=implied_rate)
    return generic, RtpFormat(payload_type, encoding, implied_rate, channels, fmtp)


def rtp_format_for(codec: Codec, payload_type: int) -> RtpFormat | None:
    """Return the RTP format of a codec whose publisher does not use RTP; None if there is none.

    ``payload_type`` is a dynamic one (96 to 127); codecs with a static payload type of their own get that, as old
    receivers know no other.
    """
    payload = payload_of_codec(codec)
    encoding = payload.to_sdp(codec)
    if encoding is None:
        return None
    return RtpFormat(
        payload_type if encoding.static_type is None else encoding.static_type,
        encoding.name,
        codec.clock_rate,
        encoding.channels,
        _join(payload.parameters(codec)),
    )


def format_parameters(track: Track) -> str:
    """Return the current fmtp text: the publisher's, with the current parameter sets."""
    payload = payload_of(track)
    text = track.rtp.parameters if track.rtp is not None else ""
    if not text:
        is_wanted = track.rtp is None or payload.requires_parameters
        return _join(payload.parameters(track.codec)) if is_wanted else ""
    if track.rtp is None or _announces(track.rtp, track.codec):
        return text
    return replace_parameters(text, payload.live_parameters(track.codec))


def _announces(form: RtpFormat, codec: Codec) -> bool:
    """Return whether the publisher's text is up to date."""
    announced, _ = codec_from_sdp(
        codec.kind.value, form.payload_type, form.encoding, form.clock_rate, form.channels, form.parameters
    )
    return announced == codec


def _join(parameters: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in parameters.items())
