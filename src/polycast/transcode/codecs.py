"""What can be decoded and encoded, and with what of FFmpeg: one row per codec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from polycast.codecs import av1, h264, h265, nal, opus
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
    AudioCodec,
    Codec,
    MPEG2Video,
    MPEG4Audio,
    MPEG4Video,
    MPEGAudio,
    Opus,
    Speex,
    VideoCodec,
    Vorbis,
)  # fmt: skip
from polycast.media.codec import Generic as GenericCodec
from polycast.media.codec_table import CodecTable

AnyCodec = TypeVar("AnyCodec", bound=Codec)

_LPCM_DECODERS: Final = {8: "pcm_u8", 16: "pcm_s16be", 24: "pcm_s24be"}


def _nothing(codec: Codec) -> bytes:
    return b""


@dataclass(frozen=True, slots=True)
class VideoEncoding:
    """How pictures are encoded."""

    name: str
    """What ``publish(codec=...)`` calls it."""
    software: str
    """FFmpeg's encoder."""
    describe: Callable[[bytes, int, int], tuple[VideoCodec, tuple[bytes, ...]]]
    """The codec, and the parameter sets that must precede each key frame, from the encoder's extradata, width and
    height."""
    hardware: tuple[str, ...] = ()
    """Encoders of graphics cards and boards, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class AudioEncoding:
    """How audio is encoded."""

    name: str
    """What ``publish(audio_codec=...)`` calls it."""
    encoder: str
    """FFmpeg's encoder."""
    sample_format: str
    """FFmpeg's name of the encoder's sample format: ``fltp``, ``flt`` or ``s16``."""
    describe: Callable[[bytes, int, int], AudioCodec]
    """The codec, from the encoder's extradata, sample rate and channels."""
    has_bitrate: bool = True
    """Whether a bit rate can be chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscodableCodec(Generic[AnyCodec]):
    """How a codec is decoded and encoded."""

    codec_type: type[AnyCodec]
    decoder: Callable[[AnyCodec], str | None]
    """FFmpeg's decoder; None for variants without one."""
    substitute: str = ""
    """The decoder to use if this FFmpeg does not have the first one."""
    extradata: Callable[[AnyCodec], bytes] = _nothing
    """What the decoder is configured with."""
    has_low_delay: bool = True
    """Whether FFmpeg's flag for low delay leaves the pictures in their order; otherwise it is not set."""
    sound: Callable[[AnyCodec], tuple[int, int]] | None = None
    """Sample rate in Hz and channels, for decoders that cannot know them."""
    video_encoding: VideoEncoding | None = None
    audio_encodings: tuple[AudioEncoding, ...] = ()


def _describe_h264(extradata: bytes, width: int, height: int) -> tuple[VideoCodec, tuple[bytes, ...]]:
    codec = h264.updated(H264(), nal.split_annexb(extradata))
    return codec, tuple(unit for unit in (codec.sps, codec.pps) if unit)


def _describe_h265(extradata: bytes, width: int, height: int) -> tuple[VideoCodec, tuple[bytes, ...]]:
    codec = h265.updated(H265(), nal.split_annexb(extradata))
    return codec, tuple(unit for unit in (codec.vps, codec.sps, codec.pps) if unit)


def _describe_av1(extradata: bytes, width: int, height: int) -> tuple[VideoCodec, tuple[bytes, ...]]:
    if extradata[:1] == b"\x81":  # marker and version of a configuration record; otherwise plain OBUs
        return av1.parse_configuration_record(extradata), ()
    return av1.updated(AV1(), av1.split_obus(extradata)), ()


_ROWS: Final[tuple[TranscodableCodec[Any], ...]] = (
    TranscodableCodec(
        codec_type=H264,
        decoder=lambda codec: "h264",
        video_encoding=VideoEncoding(
            "h264",
            "libx264",
            _describe_h264,
            ("h264_nvenc", "h264_videotoolbox", "h264_qsv", "h264_amf", "h264_v4l2m2m"),
        ),
    ),
    TranscodableCodec(
        codec_type=H265,
        decoder=lambda codec: "hevc",
        video_encoding=VideoEncoding(
            "h265",
            "libx265",
            _describe_h265,
            ("hevc_nvenc", "hevc_videotoolbox", "hevc_qsv", "hevc_amf", "hevc_v4l2m2m"),
        ),
    ),
    TranscodableCodec(
        codec_type=VP8,
        decoder=lambda codec: "vp8",
        video_encoding=VideoEncoding("vp8", "libvpx", lambda extradata, width, height: (VP8(), ())),
    ),
    TranscodableCodec(
        codec_type=VP9,
        decoder=lambda codec: "vp9",
        video_encoding=VideoEncoding(
            "vp9", "libvpx-vp9", lambda extradata, width, height: (VP9(width=width, height=height), ())
        ),
    ),
    TranscodableCodec(
        codec_type=AV1,
        decoder=lambda codec: "libdav1d",
        substitute="av1",
        video_encoding=VideoEncoding("av1", "libsvtav1", _describe_av1, ("av1_nvenc", "av1_qsv", "av1_amf")),
    ),
    TranscodableCodec(
        codec_type=MJPEG,
        decoder=lambda codec: "mjpeg",
        video_encoding=VideoEncoding("mjpeg", "mjpeg", lambda extradata, width, height: (MJPEG(), ())),
    ),
    TranscodableCodec(
        codec_type=MPEG4Video,
        decoder=lambda codec: "mpeg4",
        extradata=lambda codec: codec.configuration,
        has_low_delay=False,
    ),
    TranscodableCodec(codec_type=MPEG2Video, decoder=lambda codec: "mpeg2video", has_low_delay=False),
    TranscodableCodec(
        codec_type=MPEG4Audio,
        decoder=lambda codec: "aac",
        extradata=lambda codec: codec.configuration,
        audio_encodings=(AudioEncoding("aac", "aac", "fltp", MPEG4Audio),),
    ),
    TranscodableCodec(
        codec_type=Opus,
        decoder=lambda codec: "libopus",
        extradata=lambda codec: opus.build_id_header(opus.configuration_of(codec)),
        audio_encodings=(AudioEncoding("opus", "libopus", "flt", lambda extradata, rate, channels: Opus(channels)),),
    ),
    TranscodableCodec(codec_type=MPEGAudio, decoder=lambda codec: "mp3"),
    TranscodableCodec(codec_type=AC3, decoder=lambda codec: "ac3"),
    TranscodableCodec(codec_type=EAC3, decoder=lambda codec: "eac3"),
    TranscodableCodec(codec_type=FLAC, decoder=lambda codec: "flac", extradata=lambda codec: codec.stream_info),
    TranscodableCodec(
        codec_type=G711,
        decoder=lambda codec: "pcm_mulaw" if codec.mu_law else "pcm_alaw",
        sound=lambda codec: (codec.sample_rate, codec.channels),
        audio_encodings=(
            AudioEncoding("pcmu", "pcm_mulaw", "s16", lambda _, rate, channels: G711(True, rate, channels), False),
            AudioEncoding("pcma", "pcm_alaw", "s16", lambda _, rate, channels: G711(False, rate, channels), False),
        ),
    ),
    TranscodableCodec(codec_type=G722, decoder=lambda codec: "g722", sound=lambda codec: (16_000, 1)),
    TranscodableCodec(
        codec_type=LPCM,
        decoder=lambda codec: _LPCM_DECODERS.get(codec.bit_depth),
        sound=lambda codec: (codec.sample_rate, codec.channels),
    ),
)

CODECS: Final = CodecTable[TranscodableCodec[Any]](
    {row.codec_type: row for row in _ROWS},
    {
        "decoding it is not implemented": (G726, Speex),
        "its packets are forwarded without being understood": (Vorbis, MPEGTS, GenericCodec),
        "it is data, to be read as encoded frames": (KLV,),
    },
)

VIDEO_ENCODINGS: Final[dict[str, VideoEncoding]] = {
    row.video_encoding.name: row.video_encoding for row in _ROWS if row.video_encoding is not None
}
AUDIO_ENCODINGS: Final[dict[str, AudioEncoding]] = {
    encoding.name: encoding for row in _ROWS for encoding in row.audio_encodings
}
