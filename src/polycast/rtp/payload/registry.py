"""Finds the RTP payload format of a codec.

To add one: a file beside this one, and its rows here and in `description`.
"""

from __future__ import annotations

from collections.abc import Callable

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
    VP8,
    VP9,
    Codec,
    MPEG2Video,
    MPEG4Audio,
    MPEG4Video,
    MPEGAudio,
    Opus,
    Speex,
)
from polycast.media.track import Track
from polycast.rtp.header import MAXIMUM_PAYLOAD_SIZE
from polycast.rtp.payload import (
    ac3,
    av1,
    h264,
    h265,
    klv,
    latm,
    mjpeg,
    mpeg2_video,
    mpeg4_audio,
    mpeg4_video,
    mpeg_audio,
    opus,
    pcm,
    vp8,
    vp9,
)
from polycast.rtp.payload.au_headers import header_formats
from polycast.rtp.payload.base import (
    KEY,
    PARAMETERS,
    BasePacketizer,
    Depacketizer,
    Hints,
    Packetizer,
    Peek,
)
from polycast.rtp.payload.description import codec_from_sdp, format_parameters, rtp_format_for
from polycast.rtp.payload.format_parameters import decode_hexadecimal, parse_parameters

__all__ = [
    "KEY",
    "PARAMETERS",
    "codec_from_sdp",
    "format_parameters",
    "make_depacketizer",
    "make_packetizer",
    "packet_hints",
    "packet_peek",
    "parameters_from_packet",
    "rtp_format_for",
]


def _always_key(data: bytes, payload: int, end: int) -> int:
    return KEY


_PEEKS: dict[type[Codec], Peek] = {
    H264: h264.peek,
    AV1: av1.peek,
    VP8: vp8.peek,
    VP9: vp9.peek,
    MPEG4Video: mpeg4_video.peek,
    MPEG2Video: mpeg2_video.peek,
    MJPEG: mjpeg.peek,
}

_NO_HINTS = Hints()

_HINTS: dict[type[Codec], Hints] = {
    H264: h264.HINTS,
    H265: h265.HINTS,
    AV1: av1.HINTS,
    VP8: vp8.HINTS,
    VP9: vp9.HINTS,
}


def packet_peek(codec: Codec) -> Peek:
    """Return the function that tells whether decoding can begin at a packet of a track.

    It takes ``data``, ``payload`` and ``end`` of a packet and returns the flags KEY and PARAMETERS. It never raises,
    whatever the payload. For audio and for what is not understood, every packet is KEY.
    """
    if isinstance(codec, H265):
        return h265.make_peek(codec)
    return _PEEKS.get(type(codec), _always_key)


def packet_hints(codec: Codec) -> Hints:
    """Return by what the packets of a track that need no peek are told, which are most of them."""
    return _HINTS.get(type(codec), _NO_HINTS)


def parameters_from_packet(codec: Codec, data: bytes, payload: int, end: int) -> Codec:
    """Return ``codec`` with the parameter sets that a packet carries; the same object when nothing changed.

    For packets whose peek has the flag PARAMETERS. Raises `RemoteProtocolError` when the payload is broken.
    """
    match codec:
        case H264():
            return h264.parameters_from_packet(codec, data, payload, end)
        case H265():
            return h265.parameters_from_packet(codec, data, payload, end)
        case AV1():
            return av1.parameters_from_packet(codec, data, payload, end)
        case VP9():
            return vp9.parameters_from_packet(codec, data, payload, end)
        case MPEG4Video():
            return mpeg4_video.parameters_from_packet(codec, data, payload, end)
    return codec


def make_depacketizer(track: Track) -> Depacketizer | None:
    """Return a depacketizer for the packets of a track; None where the payload is not understood (Generic...)."""
    codec, clock_rate = track.codec, track.clock_rate
    match codec:
        case H264():
            return h264.H264Depacketizer(codec, clock_rate)
        case H265():
            return h265.H265Depacketizer(codec, clock_rate)
        case MPEG4Audio():
            return _make_aac_depacketizer(codec, track)
        case MPEGAudio():
            return mpeg_audio.MPEGAudioDepacketizer(clock_rate)
        case AC3():
            return ac3.AC3Depacketizer(clock_rate)
        case G711():
            return pcm.SampleDepacketizer(codec.channels)
        case LPCM():
            return pcm.SampleDepacketizer(codec.channels * codec.bit_depth // 8)
        case G722():
            # One byte is two samples at 16 kHz, and one tick of the clock.
            return pcm.SampleDepacketizer(codec.channels)
        case G726():
            return pcm.SampleDepacketizer(1, bits=codec.bit_rate // 8)
    maker = _SIMPLE_DEPACKETIZERS.get(type(codec))
    return maker() if maker is not None else None


_SIMPLE_DEPACKETIZERS: dict[type[Codec], Callable[[], Depacketizer]] = {
    AV1: av1.AV1Depacketizer,
    VP8: vp8.VP8Depacketizer,
    VP9: vp9.VP9Depacketizer,
    Opus: opus.OpusDepacketizer,
    MPEG4Video: mpeg4_video.MPEG4VideoDepacketizer,
    MPEG2Video: mpeg2_video.MPEG2VideoDepacketizer,
    MJPEG: mjpeg.MJPEGDepacketizer,
    Speex: pcm.WholePacketDepacketizer,
    KLV: klv.KLVDepacketizer,
}


def _make_aac_depacketizer(codec: MPEG4Audio, track: Track) -> Depacketizer:
    form = track.rtp
    parameters = parse_parameters(form.parameters) if form is not None else {}
    if form is None or form.encoding.upper() != "MP4A-LATM":
        return mpeg4_audio.MPEG4AudioDepacketizer(codec, track.clock_rate, header_formats(parameters))
    configuration = None
    # RFC 6416 section 7.3: cpresent is 1 unless told otherwise.
    if parameters.get("cpresent", "1") == "0":
        try:
            configuration = latm.parse_stream_mux_config(decode_hexadecimal(parameters.get("config", "")))
        except RemoteProtocolError:
            configuration = latm.StreamMuxConfig(1, codec.configuration, 0)
    return latm.LatmDepacketizer(codec, track.clock_rate, configuration)


_PACKETIZERS: dict[type[Codec], type[BasePacketizer]] = {
    H264: h264.H264Packetizer,
    H265: h265.H265Packetizer,
    AV1: av1.AV1Packetizer,
    VP8: vp8.VP8Packetizer,
    VP9: vp9.VP9Packetizer,
    MPEG4Video: mpeg4_video.MPEG4VideoPacketizer,
    MPEG2Video: mpeg2_video.MPEG2VideoPacketizer,
    MJPEG: mjpeg.MJPEGPacketizer,
    MPEG4Audio: mpeg4_audio.MPEG4AudioPacketizer,
    Opus: opus.WholeFramePacketizer,
    MPEGAudio: mpeg_audio.MPEGAudioPacketizer,
    AC3: ac3.AC3Packetizer,
    G722: opus.WholeFramePacketizer,
    G726: opus.WholeFramePacketizer,
    Speex: opus.WholeFramePacketizer,
    KLV: klv.KLVPacketizer,
}


def make_packetizer(
    track: Track,
    *,
    ssrc: int,
    initial_sequence: int,
    initial_timestamp: int,
    maximum_payload: int = MAXIMUM_PAYLOAD_SIZE,
) -> Packetizer | None:
    """Return a packetizer for the frames of a track; None where its codec has no payload format in RTP.

    The payload type is that of the track's RTP format, or what `rtp_format_for` gives for 96.
    RTP timestamps are the frames' ``pts`` plus ``initial_timestamp``.
    """
    codec = track.codec
    form = track.rtp if track.rtp is not None else rtp_format_for(codec, 96)
    if form is None:
        return None
    packetizer: BasePacketizer
    numbers = (form.payload_type, ssrc, initial_sequence, initial_timestamp, maximum_payload)
    if isinstance(codec, G711 | LPCM):
        width = codec.bit_depth // 8 if isinstance(codec, LPCM) else 1
        packetizer = pcm.SamplePacketizer(*numbers, block_size=codec.channels * width)
    elif isinstance(codec, MPEG4Audio) and form.encoding.upper() == "MP4A-LATM":
        packetizer = latm.LatmPacketizer(*numbers)
    else:
        maker = _PACKETIZERS.get(type(codec))
        if maker is None:
            return None
        packetizer = maker(*numbers)
    packetizer.codec = codec
    return packetizer
