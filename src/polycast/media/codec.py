"""Codecs by name, with the parameters that a decoder or a container needs.

A codec is a frozen value. When parameter sets change mid-stream, the track gets a new value.
Names are those of the HTTP API (``H264``, ``MPEG4Audio``); ``ffmpeg_name`` is what FFmpeg calls the same thing.
To add one: a class here, then what `CONTRIBUTING.md` lists under "Add a codec".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final


class Kind(StrEnum):
    """What a track carries: the media types of SDP (RFC 8866 section 5.14)."""

    VIDEO = "video"
    AUDIO = "audio"
    DATA = "application"


@dataclass(frozen=True, slots=True)
class Codec:
    """Base class of all codecs."""

    name: ClassVar[str]
    """The name in the API; `common_name` is the one for people."""
    kind: ClassVar[Kind]
    ffmpeg_name: ClassVar[str] = ""

    @property
    def clock_rate(self) -> int:
        """Ticks per second of the codec's RTP clock and of the track's timeline."""
        return 90_000


@dataclass(frozen=True, slots=True)
class VideoCodec(Codec):
    """Base of the video codecs; all have a clock of 90 kHz."""

    kind: ClassVar[Kind] = Kind.VIDEO


@dataclass(frozen=True, slots=True)
class AudioCodec(Codec):
    """Base of the audio codecs."""

    kind: ClassVar[Kind] = Kind.AUDIO


@dataclass(frozen=True, slots=True)
class H264(VideoCodec):
    """Rec. ITU-T H.264. The parameter sets are NAL units without start code; empty while unknown."""

    name: ClassVar[str] = "H264"
    ffmpeg_name: ClassVar[str] = "h264"
    sps: bytes = b""
    pps: bytes = b""
    extra_parameter_sets: tuple[bytes, ...] = ()
    """Further SPS, SPS extension or PPS units of streams that have several."""


@dataclass(frozen=True, slots=True)
class H265(VideoCodec):
    """Rec. ITU-T H.265. Parameter sets as for `H264`."""

    name: ClassVar[str] = "H265"
    ffmpeg_name: ClassVar[str] = "hevc"
    vps: bytes = b""
    sps: bytes = b""
    pps: bytes = b""
    maximum_don_difference: int = 0
    """``sprop-max-don-diff``: over 0, RTP packets carry decoding order numbers (RFC 7798 section 7.1)."""


@dataclass(frozen=True, slots=True)
class AV1(VideoCodec):
    """AOMedia Video 1. The sequence header is an OBU without size field; empty while unknown."""

    name: ClassVar[str] = "AV1"
    ffmpeg_name: ClassVar[str] = "av1"
    sequence_header: bytes = b""


@dataclass(frozen=True, slots=True)
class VP8(VideoCodec):
    """VP8 (RFC 6386)."""

    name: ClassVar[str] = "VP8"
    ffmpeg_name: ClassVar[str] = "vp8"


@dataclass(frozen=True, slots=True)
class VP9(VideoCodec):
    """VP9. The picture parameters are known after the first key frame."""

    name: ClassVar[str] = "VP9"
    ffmpeg_name: ClassVar[str] = "vp9"
    profile: int = 0
    bit_depth: int = 8
    chroma_subsampling: int = 1
    """As in the VP codec configuration record: 1 is 4:2:0 collocated, 2 is 4:2:2, 3 is 4:4:4."""
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class MPEG4Video(VideoCodec):
    """MPEG-4 Part 2 (ISO/IEC 14496-2). ``configuration`` is the visual object sequence header."""

    name: ClassVar[str] = "MPEG4Video"
    ffmpeg_name: ClassVar[str] = "mpeg4"
    configuration: bytes = b""
    profile_level: int = 1


@dataclass(frozen=True, slots=True)
class MPEG2Video(VideoCodec):
    """MPEG-1 and MPEG-2 video (ISO/IEC 11172-2, 13818-2), which share one RTP payload format (RFC 2250)."""

    name: ClassVar[str] = "MPEG2Video"
    ffmpeg_name: ClassVar[str] = "mpeg2video"


@dataclass(frozen=True, slots=True)
class MJPEG(VideoCodec):
    """JPEG frames (RFC 2435). The API calls it JPEG, like rtsp-simple-server."""

    name: ClassVar[str] = "JPEG"
    ffmpeg_name: ClassVar[str] = "mjpeg"


@dataclass(frozen=True, slots=True)
class MPEG4Audio(AudioCodec):
    """AAC in its MPEG-4 forms (ISO/IEC 14496-3)."""

    name: ClassVar[str] = "MPEG4Audio"
    ffmpeg_name: ClassVar[str] = "aac"
    configuration: bytes = b""
    """The AudioSpecificConfig."""
    sample_rate: int = 48_000
    """Output sample rate in Hz; the RTP clock rate."""
    channels: int = 2

    @property
    def clock_rate(self) -> int:
        return self.sample_rate


@dataclass(frozen=True, slots=True)
class Opus(AudioCodec):
    """Opus (RFC 6716, RFC 7587). The clock is always 48 kHz."""

    name: ClassVar[str] = "Opus"
    ffmpeg_name: ClassVar[str] = "opus"
    channels: int = 2

    @property
    def clock_rate(self) -> int:
        return 48_000


@dataclass(frozen=True, slots=True)
class MPEGAudio(AudioCodec):
    """MPEG-1 and MPEG-2 audio, layers I to III (RFC 2250). The API calls it MPEG2Audio, like rtsp-simple-server.

    The RTP clock is 90 kHz, regardless of the sample rate.
    """

    name: ClassVar[str] = "MPEG2Audio"
    ffmpeg_name: ClassVar[str] = "mp3"
    sample_rate: int = 0
    """In Hz; 0 while unknown (RTP does not carry it)."""
    channels: int = 0
    layer: int = 3


@dataclass(frozen=True, slots=True)
class AC3(AudioCodec):
    """AC-3 (ATSC A/52, RFC 4184)."""

    name: ClassVar[str] = "AC3"
    ffmpeg_name: ClassVar[str] = "ac3"
    sample_rate: int = 48_000
    channels: int = 2

    @property
    def clock_rate(self) -> int:
        return self.sample_rate


@dataclass(frozen=True, slots=True)
class EAC3(AudioCodec):
    """E-AC-3, also called Dolby Digital Plus (ATSC A/52 annex E, RFC 4598)."""

    name: ClassVar[str] = "EAC3"
    ffmpeg_name: ClassVar[str] = "eac3"
    sample_rate: int = 48_000
    channels: int = 2

    @property
    def clock_rate(self) -> int:
        return self.sample_rate


@dataclass(frozen=True, slots=True)
class FLAC(AudioCodec):
    """FLAC (RFC 9639). There is no RTP payload format in use; carried by RTMP, HLS and files."""

    name: ClassVar[str] = "FLAC"
    ffmpeg_name: ClassVar[str] = "flac"
    stream_info: bytes = b""
    """The STREAMINFO block without its metadata header, 34 bytes."""
    sample_rate: int = 48_000
    channels: int = 2

    @property
    def clock_rate(self) -> int:
        return self.sample_rate


@dataclass(frozen=True, slots=True)
class G711(AudioCodec):
    """G.711 (RFC 3551 section 4.5.14). The API calls it PCMA or PCMU."""

    name: ClassVar[str] = "G711"
    mu_law: bool = True
    sample_rate: int = 8_000
    channels: int = 1

    @property
    def clock_rate(self) -> int:
        return self.sample_rate


@dataclass(frozen=True, slots=True)
class G722(AudioCodec):
    """G.722. It samples at 16 kHz, but its RTP clock is 8 kHz by an old mistake (RFC 3551 section 4.5.2)."""

    name: ClassVar[str] = "G722"
    ffmpeg_name: ClassVar[str] = "g722"
    channels: int = 1

    @property
    def clock_rate(self) -> int:
        return 8_000


@dataclass(frozen=True, slots=True)
class G726(AudioCodec):
    """G.726 at 16, 24, 32 or 40 kbit/s (RFC 3551 section 4.5.4)."""

    name: ClassVar[str] = "G726"
    ffmpeg_name: ClassVar[str] = "g726"
    bit_rate: int = 32
    """In kbit/s."""
    big_endian: bool = False
    """The AAL2 packing order."""

    @property
    def clock_rate(self) -> int:
        return 8_000


@dataclass(frozen=True, slots=True)
class LPCM(AudioCodec):
    """Linear PCM, big-endian as in RTP (RFC 3551 section 4.5.11, RFC 3190)."""

    name: ClassVar[str] = "LPCM"
    bit_depth: int = 16
    sample_rate: int = 48_000
    channels: int = 2

    @property
    def clock_rate(self) -> int:
        return self.sample_rate


@dataclass(frozen=True, slots=True)
class Vorbis(AudioCodec):
    """Vorbis (RFC 5215)."""

    name: ClassVar[str] = "Vorbis"
    ffmpeg_name: ClassVar[str] = "vorbis"
    sample_rate: int = 48_000
    channels: int = 2
    configuration: bytes = b""

    @property
    def clock_rate(self) -> int:
        return self.sample_rate


@dataclass(frozen=True, slots=True)
class Speex(AudioCodec):
    """Speex (RFC 5574)."""

    name: ClassVar[str] = "Speex"
    ffmpeg_name: ClassVar[str] = "speex"
    sample_rate: int = 16_000

    @property
    def clock_rate(self) -> int:
        return self.sample_rate


@dataclass(frozen=True, slots=True)
class KLV(Codec):
    """SMPTE 336M metadata (RFC 6597)."""

    name: ClassVar[str] = "KLV"
    kind: ClassVar[Kind] = Kind.DATA
    ffmpeg_name: ClassVar[str] = "klv"
    synchronous: bool = False
    """Whether it is synchronous in MPEG-TS, with exact timestamps (MISB ST 1402), as in the original stream."""


@dataclass(frozen=True, slots=True)
class MPEGTS(VideoCodec):
    """An MPEG transport stream in RTP (RFC 2250 section 2), passed through as it is."""

    name: ClassVar[str] = "MPEGTS"
    ffmpeg_name: ClassVar[str] = "mpegts"


@dataclass(frozen=True, slots=True)
class Generic(Codec):
    """Any other RTP payload: passed through, not understood."""

    name: ClassVar[str] = "Generic"
    kind: ClassVar[Kind] = Kind.DATA
    encoding: str = ""
    """Encoding name of the rtpmap."""
    media_type: str = "application"
    """Media type of the SDP: video, audio, application, text..."""
    rate: int = 90_000

    @property
    def clock_rate(self) -> int:
        return self.rate


CODEC_TYPES: Final[tuple[type[Codec], ...]] = tuple(
    value
    for value in list(globals().values())
    if isinstance(value, type) and issubclass(value, Codec) and hasattr(value, "name")
)
"""All codecs of this module, in its order, which is also that of the documents."""


def label(codec: Codec) -> str:
    """Return the name of a codec as the API prints it (``PCMU`` and ``PCMA`` for the two G711 laws)."""
    if isinstance(codec, G711):
        return "PCMU" if codec.mu_law else "PCMA"
    return codec.name


COMMON_NAMES: Final[Mapping[str, str]] = {
    "MPEG4Audio": "AAC",
    "MPEG2Audio": "MPEG audio",
    "MPEG4Video": "MPEG-4 video",
    "MPEG2Video": "MPEG-2 video",
    "JPEG": "MJPEG",
    "AC3": "AC-3",
    "EAC3": "E-AC-3",
    "MPEGTS": "MPEG-TS",
}
"""The display name of a codec, by its name in the API, where the two differ. The web pages have a copy."""


MAXIMUM_NAME: Final = 40
"""Characters of the name of a codec that is not known here: its publisher chooses it."""


def common_name(codec: Codec) -> str:
    """Return what people call a codec, for logs, messages and pages."""
    if isinstance(codec, MPEGAudio) and codec.layer == 3:
        return "MP3"
    if isinstance(codec, Generic) and codec.encoding:
        return codec.encoding[:MAXIMUM_NAME]
    name = label(codec)
    return COMMON_NAMES.get(name, name)
