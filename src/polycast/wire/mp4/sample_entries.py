"""Sample entries (ISO/IEC 14496-12 section 8.5.2): the description of each codec in an init segment."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack
from typing import Any, Final

from polycast.codecs.registry import resolution
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import (
    G711,
    G722,
    G726,
    KLV,
    LPCM,
    MJPEG,
    MPEGTS,
    VP8,
    Codec,
    Generic,
    Kind,
    MPEG2Video,
    MPEG4Video,
    Speex,
    Vorbis,
    label,
)  # fmt: skip
from polycast.media.codec_table import CodecTable
from polycast.wire.mp4.audio_codecs import AUDIO_MAPPINGS
from polycast.wire.mp4.boxes import Box, box, iterate
from polycast.wire.mp4.mapping import CodecMapping, Described, EntryFields
from polycast.wire.mp4.video_codecs import VIDEO_MAPPINGS

_DATA_REFERENCE: Final = bytes(6) + b"\x00\x01"
_VISUAL_ENTRY_SIZE: Final = 78
_AUDIO_ENTRY_SIZE: Final = 28

MAPPINGS: Final[tuple[CodecMapping[Any], ...]] = (*VIDEO_MAPPINGS, *AUDIO_MAPPINGS)

CODECS: Final = CodecTable[CodecMapping[Any]](
    {mapping.codec_type: mapping for mapping in MAPPINGS},
    {
        "browsers do not play it in MP4": (VP8, MPEG4Video, MPEG2Video, MJPEG, G711, G722, G726, LPCM, Vorbis, Speex),
        "MP4 with metadata is not implemented": (KLV,),
        "it is itself a container": (MPEGTS,),
        "its frames are not understood": (Generic,),
    },
)


def picture_size(codec: Codec) -> tuple[int, int]:
    """Return width and height of a video codec in pixels. Raises LocalProtocolError while they are unknown."""
    size = resolution(codec)
    if size is None:
        raise LocalProtocolError(f"the picture size of the {label(codec)} track is not known")
    if not (0 < size[0] <= 0xFFFF and 0 < size[1] <= 0xFFFF):
        raise LocalProtocolError(f"MP4 cannot carry a picture of {size[0]}x{size[1]}")
    return size


def build_sample_entry(codec: Codec) -> bytes:
    """Return the sample entry of a codec.

    Raises LocalProtocolError for a codec that MP4 cannot carry or whose parameters are not known yet, and
    RemoteProtocolError if they are invalid.
    """
    mapping = CODECS.get(codec)
    if mapping is None:
        raise LocalProtocolError(f"MP4 cannot carry {label(codec)}")
    configuration = mapping.build(codec)
    if codec.kind is Kind.VIDEO:
        return visual_entry(mapping.entries[0], picture_size(codec), configuration)
    sample_rate, channels = getattr(codec, "sample_rate", codec.clock_rate), getattr(codec, "channels", 1)
    return audio_entry(mapping.entries[0], sample_rate, channels, configuration)


def visual_entry(kind: bytes, size: tuple[int, int], configuration: bytes) -> bytes:
    """Return a sample entry of pictures: 72 dpi, one frame per sample, no compressor name, 24 bits deep
    (section 12.1.3)."""
    width, height = size
    fields = pack(">16xHHIIIH32xHh", width, height, 0x00480000, 0x00480000, 0, 1, 0x0018, -1)
    return box(kind, _DATA_REFERENCE, fields, configuration)


def audio_entry(kind: bytes, sample_rate: int, channels: int, configuration: bytes, bit_depth: int = 16) -> bytes:
    """Return a sample entry of audio (section 12.2.3)."""
    # the rate is 16.16 fixed point; 0 if it does not fit, because the configuration contains it
    fields = pack(">8xHH4xI", channels, bit_depth, sample_rate << 16 if sample_rate <= 0xFFFF else 0)
    return box(kind, _DATA_REFERENCE, fields, configuration)


def parse_sample_entry(data: bytes, entry: Box, handler: bytes) -> Described[Any] | None:
    """Return what the sample entry of a track with this handler type says; None if its codec is not supported.

    Raises RemoteProtocolError.
    """
    start = entry.content
    if handler == b"vide":
        if entry.end - start < _VISUAL_ENTRY_SIZE:
            raise RemoteProtocolError("a visual sample entry is too short")
        fields = EntryFields(width=_number(data, start + 24), height=_number(data, start + 26))
        return _parse_configuration(data, entry, start + _VISUAL_ENTRY_SIZE, VIDEO_MAPPINGS, fields)
    if handler == b"soun":
        if entry.end - start < _AUDIO_ENTRY_SIZE:
            raise RemoteProtocolError("an audio sample entry is too short")
        fields = EntryFields(sample_rate=_number(data, start + 24), channels=_number(data, start + 16))
        # QuickTime's version 1 has 16 additional bytes; version 2 is not used in fragmented files
        children = start + _AUDIO_ENTRY_SIZE + (16 if _number(data, start + 8) == 1 else 0)
        return _parse_configuration(data, entry, children, AUDIO_MAPPINGS, fields)
    return None


def _number(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "big")


def _parse_configuration(
    data: bytes, entry: Box, children: int, mappings: Sequence[CodecMapping[Any]], fields: EntryFields
) -> Described[Any] | None:
    candidates = [mapping for mapping in mappings if entry.kind in mapping.entries]
    for child in iterate(data, min(children, entry.end), entry.end):
        for mapping in candidates:
            if child.kind == mapping.box:
                found = mapping.parse(data[child.content : child.end], fields)
                if found is not None:
                    return found
    for mapping in candidates:
        if entry.kind == mapping.entry_without_box:
            return mapping.parse(b"", fields)
    return None
