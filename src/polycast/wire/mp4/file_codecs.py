"""The codecs of recorded MP4 files: those of `sample_entries`, and those that browsers do not play.

Some codecs are described by their first key frame, as their parameters are nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic

from polycast.codecs import g711, mjpeg, mpeg2_video, mpeg4_video, vp8
from polycast.media.codec import (
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
    Codec,
    Kind,
    MPEG2Video,
    MPEG4Video,
    Speex,
    Vorbis,
)  # fmt: skip
from polycast.media.codec import Generic as GenericCodec
from polycast.media.codec_table import CodecTable
from polycast.media.frame import Frame
from polycast.wire.mp4.boxes import box, full_box
from polycast.wire.mp4.descriptors import VISUAL_STREAM, build_elementary_stream
from polycast.wire.mp4.initialization import Description
from polycast.wire.mp4.mapping import AnyCodec, CodecMapping, one_unit
from polycast.wire.mp4.sample_entries import (
    MAPPINGS,
    audio_entry,
    build_sample_entry,
    picture_size,
    visual_entry,
)

# objectTypeIndication (mp4ra.org): MPEG-4 Part 2, MPEG-2 main profile, MPEG-1, JPEG.
_OBJECT_TYPE_MPEG4_VIDEO: Final = 0x20
_OBJECT_TYPE_MPEG2_VIDEO: Final = 0x61
_OBJECT_TYPE_MPEG1_VIDEO: Final = 0x6A
_OBJECT_TYPE_JPEG: Final = 0x6C

_PCM_BIG_ENDIAN: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMapping(Generic[AnyCodec]):
    """How a recorded file carries a codec."""

    codec_type: type[AnyCodec]
    describe: Callable[[AnyCodec, Frame], Description]
    """Describe a track that continues with a frame. Raises LocalProtocolError if its parameters are not known, and
    RemoteProtocolError if they are invalid."""
    sample: Callable[[AnyCodec, Frame], bytes] = one_unit
    """Return a frame as a sample."""
    keeps_units: bool = False
    """Whether frames other than key frames are samples as they are, with lengths before their units."""
    is_described_by_frames: bool = False
    """Whether key frames have parameters that are nowhere else."""


def _describe_by_parameters(codec: Codec, first: Frame) -> Description:
    size = picture_size(codec) if codec.kind is Kind.VIDEO else (0, 0)
    return Description(build_sample_entry(codec), size)


def _for_browsers(mapping: CodecMapping[Any]) -> FileMapping[Any]:
    return FileMapping(
        codec_type=mapping.codec_type,
        describe=_describe_by_parameters,
        sample=mapping.sample,
        keeps_units=mapping.codec_type in (H264, H265),
    )


def _visual(size: tuple[int, int], object_type: int, specific: bytes) -> Description:
    stream = build_elementary_stream(object_type, specific, VISUAL_STREAM)
    return Description(visual_entry(b"mp4v", size, stream), size)


def _describe_mpeg4_video(codec: MPEG4Video, first: Frame) -> Description:
    size = mpeg4_video.parse_resolution(codec.configuration)
    return _visual(size, _OBJECT_TYPE_MPEG4_VIDEO, codec.configuration)


def _describe_mpeg2_video(codec: MPEG2Video, first: Frame) -> Description:
    header = mpeg2_video.parse_sequence_header(first.units[0])
    object_type = _OBJECT_TYPE_MPEG2_VIDEO if header.mpeg2 else _OBJECT_TYPE_MPEG1_VIDEO
    return _visual((header.width, header.height), object_type, mpeg2_video.sequence_headers(first.units[0]))


def _describe_mjpeg(codec: MJPEG, first: Frame) -> Description:
    return _visual(mjpeg.parse_size(first.units[0]), _OBJECT_TYPE_JPEG, b"")


def _describe_vp8(codec: VP8, first: Frame) -> Description:
    header = vp8.parse_frame_header(first.units[0])
    size = (header.width, header.height)
    # VP codec configuration record: profile, no level, 8 bits 4:2:0 (VP Codec ISO Media File Format Binding)
    record = full_box(b"vpcC", 1, 0, bytes((header.version, 0, 8 << 4 | 1 << 1, 2, 2, 2, 0, 0)))
    return Description(visual_entry(b"vp08", size, record), size)


def _pcm(sample_rate: int, channels: int, bit_depth: int) -> Description:
    # ISO/IEC 23003-5 section 5.1
    configuration = full_box(b"pcmC", 0, 0, bytes((_PCM_BIG_ENDIAN, bit_depth)))
    return Description(audio_entry(b"ipcm", sample_rate, channels, configuration, bit_depth))


_FILE_ONLY: Final[tuple[FileMapping[Any], ...]] = (
    FileMapping(codec_type=MPEG4Video, describe=_describe_mpeg4_video),
    FileMapping(codec_type=MPEG2Video, describe=_describe_mpeg2_video, is_described_by_frames=True),
    FileMapping(codec_type=MJPEG, describe=_describe_mjpeg, is_described_by_frames=True),
    FileMapping(codec_type=VP8, describe=_describe_vp8, is_described_by_frames=True),
    FileMapping(
        codec_type=LPCM, describe=lambda codec, first: _pcm(codec.sample_rate, codec.channels, codec.bit_depth)
    ),
    FileMapping(
        codec_type=G711,
        describe=lambda codec, first: _pcm(codec.sample_rate, codec.channels, 16),
        sample=lambda codec, frame: g711.decode(frame.units[0], mu_law=codec.mu_law),
    ),
)

CODECS: Final = CodecTable[FileMapping[Any]](
    {mapping.codec_type: mapping for mapping in (*map(_for_browsers, MAPPINGS), *_FILE_ONLY)},
    {
        "players do not play it in MP4": (G722, G726, Vorbis, Speex),
        "MP4 with metadata is not implemented": (KLV,),
        "it is itself a container": (MPEGTS,),
        "its frames are not understood": (GenericCodec,),
    },
)


def recording_information(stream: bytes, number: int, time: int, wall_time: int) -> bytes:
    """Return MediaMTX's box that says where a file belongs in the recording of a stream, for the udta box.

    ``stream`` are 16 bytes that all files of the recording have, ``number`` that of the file from 0, ``time`` its start
    on the timeline of the recording in nanoseconds, and ``wall_time`` its start in nanoseconds since 1970.
    """
    return full_box(
        b"mtxi",
        0,
        0,
        stream,
        number.to_bytes(8, "big"),
        time.to_bytes(8, "big", signed=True),
        wall_time.to_bytes(8, "big", signed=True),
    )


RECORDED_FILE: Final = box(b"ftyp", b"mp42", b"\0\0\0\1", b"mp41mp42isomhlsf")
"""The ftyp box of a recorded file."""
