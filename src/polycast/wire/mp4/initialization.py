"""Init segments (ISO/IEC 14496-12 section 8.8, RFC 8216 section 3.3): ftyp and moov of fragmented files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import pack
from typing import NamedTuple

from polycast.media.codec import Codec, Kind
from polycast.wire.mp4.boxes import box, full_box
from polycast.wire.mp4.sample_entries import build_sample_entry, picture_size

_MATRIX = pack(">9I", 0x00010000, 0, 0, 0, 0x00010000, 0, 0, 0, 0x40000000)
MOVIE_TIMESCALE = 1000
"""Ticks per second of the duration of the movie."""
DURATION_OFFSET = 32
"""Bytes from the start of the moov box to the duration in its mvhd box, 4 bytes, which is written as 0."""
INIT_SEGMENT = box(b"ftyp", b"iso6", pack(">I", 1), b"iso6cmfcmp41")
"""The ftyp box of an init segment for HLS."""
_UNDETERMINED_LANGUAGE = "und"


class Description(NamedTuple):
    """A sample entry and what belongs to it."""

    entry: bytes
    size: tuple[int, int] = (0, 0)
    """Width and height of the picture in pixels."""


@dataclass(frozen=True, slots=True)
class InitializationTrack:
    """One track of an init segment."""

    track_id: int
    """1 or more."""
    codec: Codec
    timescale: int
    """Ticks per second of the sample times."""
    language: str | None = None
    """ISO 639-2, three letters; other values are written as undetermined."""
    description: Description | None = None
    """For codecs that `build_sample_entry` does not describe."""


def build_initialization(
    tracks: Sequence[InitializationTrack], user_data: bytes = b"", file_type: bytes = INIT_SEGMENT
) -> bytes:
    """Return an init segment. ``user_data`` are boxes for the udta box (section 8.10.1).

    Raises LocalProtocolError for a codec that MP4 cannot carry or whose parameters are not known yet, and
    RemoteProtocolError if they are invalid.
    """
    header = full_box(
        b"mvhd", 0, 0, pack(">IIIIIH10x", 0, 0, MOVIE_TIMESCALE, 0, 0x00010000, 0x0100), _MATRIX,
        pack(">24xI", max(track.track_id for track in tracks) + 1),
    )  # fmt: skip
    extends = [full_box(b"trex", 0, 0, pack(">IIIII", track.track_id, 1, 0, 0, 0)) for track in tracks]
    added = [box(b"udta", user_data)] if user_data else []
    return file_type + box(b"moov", header, *map(_build_track, tracks), box(b"mvex", *extends), *added)


def _build_track(track: InitializationTrack) -> bytes:
    video = track.codec.kind is Kind.VIDEO
    description = track.description
    if description is None:
        size = picture_size(track.codec) if video else (0, 0)
        description = Description(build_sample_entry(track.codec), size)
    width, height = description.size
    header = full_box(
        b"tkhd",
        0,
        3,  # enabled, in movie
        pack(">IIIII8xHHHH", 0, 0, track.track_id, 0, 0, 0, 0 if video else 1, 0 if video else 0x0100, 0),
        _MATRIX,
        pack(">II", width << 16, height << 16),
    )
    media_header = full_box(b"mdhd", 0, 0, pack(">IIIIHH", 0, 0, track.timescale, 0, _language(track.language), 0))
    if video:
        handler = full_box(b"hdlr", 0, 0, b"\0\0\0\0vide", bytes(12), b"VideoHandler\0")
        type_header = full_box(b"vmhd", 0, 1, bytes(8))
    else:
        handler = full_box(b"hdlr", 0, 0, b"\0\0\0\0soun", bytes(12), b"SoundHandler\0")
        type_header = full_box(b"smhd", 0, 0, bytes(4))
    data_information = box(b"dinf", full_box(b"dref", 0, 0, pack(">I", 1), full_box(b"url ", 0, 1)))
    sample_table = box(
        b"stbl",
        full_box(b"stsd", 0, 0, pack(">I", 1), description.entry),
        full_box(b"stts", 0, 0, bytes(4)),
        full_box(b"stsc", 0, 0, bytes(4)),
        full_box(b"stsz", 0, 0, bytes(8)),
        full_box(b"stco", 0, 0, bytes(4)),
    )
    media_information = box(b"minf", type_header, data_information, sample_table)
    return box(b"trak", header, box(b"mdia", media_header, handler, media_information))


def _language(language: str | None) -> int:
    if language is None or len(language) != 3 or not (language.isascii() and language.islower()):
        language = _UNDETERMINED_LANGUAGE
    first, second, third = (ord(letter) - 0x60 for letter in language)
    return first << 10 | second << 5 | third
