"""Which codecs RTMP carries, and which tracks a peer gets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from polycast.media.codec import G722, G726, KLV, MJPEG, MPEGTS, Codec, Generic, MPEG2Video, MPEG4Video, Vorbis
from polycast.media.codec_table import CodecTable
from polycast.media.track import Track
from polycast.wire.rtmp.audio_codecs import AUDIO_MAPPINGS
from polycast.wire.rtmp.mapping import AudioMapping, CodecMapping
from polycast.wire.rtmp.video_codecs import VIDEO_MAPPINGS

NOTHING_TO_CARRY = "the stream doesn't contain an H264 track or an AAC track, nor any other that RTMP can carry"
"""Why a reader is refused whose stream has no track that RTMP carries."""


MAPPINGS: Final[tuple[CodecMapping[Any], ...]] = (*VIDEO_MAPPINGS, *AUDIO_MAPPINGS)

CODECS: Final = CodecTable[CodecMapping[Any]](
    {mapping.codec_type: mapping for mapping in MAPPINGS},
    {
        "RTMP has no identifier for this codec": (
            MPEG4Video, MPEG2Video, MJPEG, G722, G726, Vorbis, KLV, MPEGTS, Generic,
        )
    },
)  # fmt: skip

VIDEO_FOUR_CCS: Final[dict[bytes, type[Codec]]] = {
    mapping.four_cc: mapping.codec_type for mapping in VIDEO_MAPPINGS if mapping.four_cc
}
AUDIO_FOUR_CCS: Final[dict[bytes, type[Codec]]] = {
    mapping.four_cc: mapping.codec_type for mapping in AUDIO_MAPPINGS if mapping.four_cc
}


def obstacle(codec: Codec) -> str | None:
    """Return why RTMP cannot carry ``codec``, or None if it can."""
    mapping = CODECS.get(codec)
    return CODECS.reason(codec) if mapping is None else mapping.obstacle(codec)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tracks of a stream go to a peer."""

    tracks: tuple[Track, ...]
    skipped: tuple[tuple[Track, str], ...]
    """The others, each with the reason."""


def select_tracks(
    tracks: Iterable[Track],
    *,
    multitrack: bool = False,
    four_ccs: frozenset[str] = frozenset(),
    sound_formats: int = 0,
    presumes_enhanced_audio: bool = True,
) -> Selection:
    """Choose the tracks that a peer can take: of each kind the first, or more for one that understands more.

    ``multitrack``: the peer announced that it understands several tracks of a kind.
    ``four_ccs``: the enhanced codecs that it announced; ``*`` is any.
    ``sound_formats``: the legacy audio codecs that it announced, as the bits of ``audioCodecs`` (Adobe RTMP 1.0
    section 7.2.1.1); 0 if it named none, which excludes none.

    A peer that announced no enhanced codecs may understand them all the same (FFmpeg from 6.1 on says nothing), or may
    fail at the first enhanced message (FFmpeg before that). So it gets them where it would get nothing else, as with
    H265; but no enhanced audio beside a legacy video track, because the picture alone is better than nothing, and none
    at all without ``presumes_enhanced_audio``, for those who have something better.
    """
    chosen: list[Track] = []
    skipped: list[tuple[Track, str]] = []
    counts: dict[str, int] = {}
    has_legacy_video = False
    # Video first: what audio a silent peer gets depends on it.
    for track in sorted(tracks, key=lambda track: track.kind != "video"):
        number = counts.get(track.kind, 0)
        reason = obstacle(track.codec)
        if reason is None and number > 0:
            reason = _multitrack_obstacle(track, multitrack)
        if reason is None:
            is_audio_presumed = multitrack or (presumes_enhanced_audio and not has_legacy_video)
            reason = _codec_obstacle(track, number, four_ccs, sound_formats, is_audio_presumed=is_audio_presumed)
        if reason is not None:
            skipped.append((track, reason))
            continue
        counts[track.kind] = number + 1
        has_legacy_video |= track.kind == "video" and number == 0 and _is_written_legacy(track.codec)
        chosen.append(track)
    chosen.sort(key=lambda track: track.index)
    return Selection(tuple(chosen), tuple(skipped))


def _is_written_legacy(codec: Codec) -> bool:
    """Whether the first track of a codec is written with its legacy identifier."""
    mapping = CODECS.get(codec)
    return mapping is not None and mapping.legacy_identifier is not None


def _multitrack_obstacle(track: Track, multitrack: bool) -> str | None:
    if not multitrack:
        return f"the peer takes one {track.kind} track only"
    if not CODECS[track.codec].four_cc:
        return "the codec has no enhanced identifier, so it cannot be one of several tracks"
    return None


def _codec_obstacle(
    track: Track, number: int, four_ccs: frozenset[str], sound_formats: int, *, is_audio_presumed: bool
) -> str | None:
    codec = track.codec
    if number == 0 and _is_written_legacy(codec):
        if track.kind == "audio" and sound_formats and not sound_formats & _sound_format_bits(codec):
            return f"the peer did not announce support for {codec.name}"
        return None
    name = CODECS[codec].four_cc.decode("ascii")
    if four_ccs:
        return None if name in four_ccs or "*" in four_ccs else f"the peer did not announce support for {name}"
    if track.kind == "audio" and not is_audio_presumed:
        return f"the peer did not announce Enhanced RTMP, which {codec.name} needs"
    return None


def _sound_format_bits(codec: Codec) -> int:
    """Return the bits of ``audioCodecs`` that stand for a codec: one for each sound format, by its number."""
    mapping = CODECS[codec]
    numbers = mapping.legacy_identifiers
    if isinstance(mapping, AudioMapping) and mapping.announced_as is not None:
        numbers = mapping.announced_as(codec)
    return sum(1 << number for number in numbers)
