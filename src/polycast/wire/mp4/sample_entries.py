"""Sample entries (ISO/IEC 14496-12 section 8.5.2): the description of each codec in an init segment."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack

from polycast.codecs import ac3, av1, flac, h264, h265, opus, vp9
from polycast.codecs.registry import resolution
from polycast.errors import LocalProtocolError
from polycast.media.codec import (
    AC3,
    AV1,
    FLAC,
    H264,
    H265,
    VP9,
    Codec,
    MPEG4Audio,
    MPEGAudio,
    Opus,
    VideoCodec,
    label,
)
from polycast.wire.mp4.boxes import box, full_box

OBJECT_TYPE_AAC = 0x40
OBJECT_TYPE_MPEG2_AUDIO = 0x69
OBJECT_TYPE_MPEG1_AUDIO = 0x6B
"""objectTypeIndication of MPEG-4 audio, of MPEG-2 layer III and of MPEG-1 audio (mp4ra.org)."""

_DATA_REFERENCE = bytes(6) + b"\x00\x01"
_AUDIO_STREAM = 0x15
"""streamType 5 (audio), upStream 0, reserved 1 (ISO/IEC 14496-1 section 7.2.6.6)."""
_LOWEST_MPEG1_SAMPLE_RATE = 32_000
_AC3_SAMPLE_RATE_CODES = {48_000: 0, 44_100: 1, 32_000: 2}
_AC3_CHANNEL_MODES = {1: (1, 0), 2: (2, 0), 3: (3, 0), 4: (6, 0), 5: (7, 0), 6: (7, 1)}
"""acmod and lfeon by number of channels (ATSC A/52 table 5.8)."""


def picture_size(codec: Codec) -> tuple[int, int]:
    """Return width and height of a video codec in pixels. Raises LocalProtocolError while they are unknown."""
    size = resolution(codec)
    if size is None:
        raise LocalProtocolError(f"the picture size of the {label(codec)} track is not known")
    if not (0 < size[0] <= 0xFFFF and 0 < size[1] <= 0xFFFF):
        raise LocalProtocolError(f"MP4 cannot carry a picture of {size[0]}x{size[1]}")
    return size


def _visual(kind: bytes, codec: VideoCodec, configuration: bytes) -> bytes:
    # 72 dpi, one frame per sample, no compressor name, 24 bits deep (section 12.1.3)
    width, height = picture_size(codec)
    fields = pack(">16xHHIIIH32xHh", width, height, 0x00480000, 0x00480000, 0, 1, 0x0018, -1)
    return box(kind, _DATA_REFERENCE, fields, configuration)


def _audio(kind: bytes, sample_rate: int, channels: int, configuration: bytes) -> bytes:
    # the rate is 16.16 fixed point; 0 if it does not fit, because the configuration contains it (section 12.2.3)
    rate = sample_rate << 16 if sample_rate <= 0xFFFF else 0
    return box(kind, _DATA_REFERENCE, pack(">8xHH4xI", channels, 16, rate), configuration)


def _h264(codec: H264) -> bytes:
    return _visual(b"avc1", codec, box(b"avcC", h264.build_configuration_record(codec)))


def _h265(codec: H265) -> bytes:
    return _visual(b"hvc1", codec, box(b"hvcC", h265.build_configuration_record(codec)))


def _av1(codec: AV1) -> bytes:
    return _visual(b"av01", codec, box(b"av1C", av1.build_configuration_record(codec)))


def _vp9(codec: VP9) -> bytes:
    return _visual(b"vp09", codec, full_box(b"vpcC", 1, 0, vp9.build_configuration_record(codec)))


def _descriptor(tag: int, content: bytes) -> bytes:
    """Return a descriptor with an expandable size (ISO/IEC 14496-1 section 8.3.3)."""
    size = len(content)
    encoded = bytes((size & 0x7F,))
    while size > 0x7F:
        size >>= 7
        encoded = bytes((size & 0x7F | 0x80,)) + encoded
    return bytes((tag,)) + encoded + content


def _elementary_stream(object_type: int, specific: bytes) -> bytes:
    # bufferSizeDB, maxBitrate and avgBitrate are 0: unknown for a live stream
    configuration = bytes((object_type, _AUDIO_STREAM)) + bytes(11)
    if specific:
        configuration += _descriptor(0x05, specific)
    stream = bytes(3) + _descriptor(0x04, configuration) + _descriptor(0x06, b"\x02")
    return full_box(b"esds", 0, 0, _descriptor(0x03, stream))


def _aac(codec: MPEG4Audio) -> bytes:
    if not codec.configuration:
        raise LocalProtocolError("the AAC configuration is not known yet")
    descriptors = _elementary_stream(OBJECT_TYPE_AAC, codec.configuration)
    return _audio(b"mp4a", codec.sample_rate, codec.channels, descriptors)


def _mpeg_audio(codec: MPEGAudio) -> bytes:
    if not codec.sample_rate:
        raise LocalProtocolError("the sample rate of the MPEG audio track is not known yet")
    first = codec.sample_rate >= _LOWEST_MPEG1_SAMPLE_RATE
    object_type = OBJECT_TYPE_MPEG1_AUDIO if first else OBJECT_TYPE_MPEG2_AUDIO
    return _audio(b"mp4a", codec.sample_rate, codec.channels, _elementary_stream(object_type, b""))


def _opus(codec: Opus) -> bytes:
    configuration = opus.build_configuration_record(opus.configuration_of(codec))
    return _audio(b"Opus", codec.clock_rate, codec.channels, box(b"dOps", configuration))


def _flac(codec: FLAC) -> bytes:
    configuration = full_box(b"dfLa", 0, 0, flac.build_configuration_record(codec))
    return _audio(b"fLaC", codec.sample_rate, codec.channels, configuration)


def _ac3(codec: AC3) -> bytes:
    rate_code = _AC3_SAMPLE_RATE_CODES.get(codec.sample_rate)
    mode = _AC3_CHANNEL_MODES.get(codec.channels)
    if rate_code is None or mode is None:
        raise LocalProtocolError(f"AC-3 cannot have {codec.sample_rate} Hz and {codec.channels} channels")
    # the bit rate is the usual one for the channels (192 or 448 kbit/s); decoders read it in each frame
    header = ac3.SyncFrame(
        sample_rate=codec.sample_rate,
        bit_rate=192_000 if codec.channels <= 2 else 448_000,
        channels=codec.channels,
        frame_size=0,
        sample_rate_code=rate_code,
        bit_rate_code=10 if codec.channels <= 2 else 15,
        bsid=8,
        bsmod=0,
        acmod=mode[0],
        low_frequency_channel=bool(mode[1]),
    )
    return _audio(b"ac-3", codec.sample_rate, codec.channels, box(b"dac3", ac3.build_configuration_record(header)))


_ENTRIES: dict[type[Codec], Callable[..., bytes]] = {
    H264: _h264,
    H265: _h265,
    AV1: _av1,
    VP9: _vp9,
    MPEG4Audio: _aac,
    MPEGAudio: _mpeg_audio,
    Opus: _opus,
    FLAC: _flac,
    AC3: _ac3,
}


def supports(codec: Codec) -> bool:
    """Return whether fragmented MP4 can carry the codec."""
    return type(codec) in _ENTRIES


def build_sample_entry(codec: Codec) -> bytes:
    """Return the sample entry of a codec.

    Raises LocalProtocolError for a codec that MP4 cannot carry or whose parameters are not known yet, and
    RemoteProtocolError if they are invalid.
    """
    build = _ENTRIES.get(type(codec))
    if build is None:
        raise LocalProtocolError(f"MP4 cannot carry {label(codec)}")
    return build(codec)
