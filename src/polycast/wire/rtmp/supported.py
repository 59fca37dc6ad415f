"""Which codec goes how in RTMP: the one table that reading, writing and the documentation use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from polycast.media.codec import (
    AC3,
    AV1,
    FLAC,
    G711,
    H264,
    H265,
    LPCM,
    VP8,
    VP9,
    Codec,
    MPEG4Audio,
    MPEGAudio,
    Opus,
    Speex,
)
from polycast.media.track import Track

NOTHING_TO_CARRY = "the stream doesn't contain an H264 track or an AAC track, nor any other that RTMP can carry"
"""Why a reader is refused whose stream has no track that RTMP carries."""


class VideoCodecId(IntEnum):
    """Legacy video codecs (FLV 10.1 annex E.4.3.1). 12 was never standard: Chinese networks use it for H265."""

    SORENSON_H263 = 2
    SCREEN = 3
    VP6 = 4
    VP6_ALPHA = 5
    SCREEN_2 = 6
    AVC = 7
    HEVC = 12


class SoundFormat(IntEnum):
    """Legacy audio codecs (FLV 10.1 annex E.4.2.1) and 9, which announces an enhanced header."""

    LPCM_PLATFORM_ENDIAN = 0
    ADPCM = 1
    MP3 = 2
    LPCM_LITTLE_ENDIAN = 3
    NELLYMOSER_16K = 4
    NELLYMOSER_8K = 5
    NELLYMOSER = 6
    G711_A_LAW = 7
    G711_MU_LAW = 8
    EXTENDED = 9
    AAC = 10
    SPEEX = 11
    MP3_8K = 14
    NATIVE = 15


LEGACY_VIDEO_NAMES: dict[int, str] = {
    VideoCodecId.SORENSON_H263: "Sorenson H.263",
    VideoCodecId.SCREEN: "Screen Video",
    VideoCodecId.VP6: "VP6",
    VideoCodecId.VP6_ALPHA: "VP6 with alpha",
    VideoCodecId.SCREEN_2: "Screen Video 2",
}
LEGACY_AUDIO_NAMES: dict[int, str] = {
    SoundFormat.ADPCM: "ADPCM",
    SoundFormat.NELLYMOSER_16K: "Nellymoser",
    SoundFormat.NELLYMOSER_8K: "Nellymoser",
    SoundFormat.NELLYMOSER: "Nellymoser",
    SoundFormat.NATIVE: "of the device",
}
"""Of codecs that are not carried, for messages to people."""


@dataclass(frozen=True, slots=True)
class Carriage:
    """How RTMP carries a codec. Written: legacy where there is a legacy identifier, else enhanced."""

    legacy: tuple[int, ...]
    """Legacy codec identifiers that are read."""
    four_cc: bytes
    """The enhanced codec identifier; empty where there is none."""
    note: str = ""


SUPPORTED: dict[type[Codec], Carriage] = {
    H264: Carriage((VideoCodecId.AVC,), b"avc1"),
    H265: Carriage((VideoCodecId.HEVC,), b"hvc1", "written enhanced"),
    AV1: Carriage((), b"av01"),
    VP9: Carriage((), b"vp09"),
    VP8: Carriage((), b"vp08"),
    MPEG4Audio: Carriage((SoundFormat.AAC,), b"mp4a"),
    Opus: Carriage((), b"Opus"),
    FLAC: Carriage((), b"fLaC"),
    AC3: Carriage((), b"ac-3"),
    MPEGAudio: Carriage((SoundFormat.MP3, SoundFormat.MP3_8K), b".mp3", "layer III; written legacy"),
    G711: Carriage((SoundFormat.G711_A_LAW, SoundFormat.G711_MU_LAW), b"", "8 kHz"),
    LPCM: Carriage(
        (SoundFormat.LPCM_PLATFORM_ENDIAN, SoundFormat.LPCM_LITTLE_ENDIAN),
        b"",
        "8 or 16 bits at 5.5125, 11.025, 22.05 or 44.1 kHz, one or two channels",
    ),
    Speex: Carriage((SoundFormat.SPEEX,), b"", "16 kHz"),
}

VIDEO_FOUR_CCS: dict[bytes, type[Codec]] = {
    carriage.four_cc: codec for codec, carriage in SUPPORTED.items() if carriage.four_cc and codec.kind == "video"
}
AUDIO_FOUR_CCS: dict[bytes, type[Codec]] = {
    carriage.four_cc: codec for codec, carriage in SUPPORTED.items() if carriage.four_cc and codec.kind == "audio"
}

LPCM_SAMPLE_RATES = (5512, 11025, 22050, 44100)
"""In Hz, in the order of FLV's two bits for the sample rate."""


def obstacle(codec: Codec) -> str | None:
    """Return why RTMP cannot carry ``codec``, or None when it can."""
    if type(codec) not in SUPPORTED:
        return "RTMP has no identifier for this codec"
    if isinstance(codec, G711) and (codec.sample_rate != 8000 or codec.channels > 2):
        return "RTMP carries G711 at 8 kHz only"
    if isinstance(codec, LPCM) and (
        codec.bit_depth not in (8, 16) or codec.sample_rate not in LPCM_SAMPLE_RATES or codec.channels > 2
    ):
        return (
            f"RTMP carries LPCM with 8 or 16 bits at 11025, 22050 or 44100 Hz only,"
            f" not {codec.bit_depth} bits at {codec.sample_rate} Hz"
        )
    if isinstance(codec, MPEGAudio) and codec.layer != 3:
        return "RTMP carries layer III of MPEG audio only"
    if isinstance(codec, Speex) and codec.sample_rate != 16000:
        return "RTMP carries Speex at 16 kHz only"
    return None


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
) -> Selection:
    """Choose the tracks that a peer can take: of each kind the first, or more for one that understands more.

    ``multitrack``: the peer announced that it understands several tracks of a kind.
    ``four_ccs``: the enhanced codecs that it announced; ``*`` is any.
    ``sound_formats``: the legacy audio codecs that it announced, as the bits of ``audioCodecs`` (Adobe RTMP 1.0
    section 7.2.1.1); 0 when it named none, which excludes none.

    A peer that announced no enhanced codecs may understand them all the same (FFmpeg from 6.1 on says nothing), or may
    fail at the first enhanced message (FFmpeg before that). So it gets them where it would get nothing else, as with
    H265; but no enhanced audio beside a legacy video track, because the picture alone is better than nothing.
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
            is_picture_at_risk = has_legacy_video and not multitrack
            reason = _codec_obstacle(track, number, four_ccs, sound_formats, is_picture_at_risk)
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
    carriage = SUPPORTED.get(type(codec))
    return carriage is not None and bool(carriage.legacy) and not isinstance(codec, H265)


def _multitrack_obstacle(track: Track, multitrack: bool) -> str | None:
    if not multitrack:
        return f"the peer takes one {track.kind} track only"
    if not SUPPORTED[type(track.codec)].four_cc:
        return "the codec has no enhanced identifier, so it cannot be one of several tracks"
    return None


def _codec_obstacle(
    track: Track, number: int, four_ccs: frozenset[str], sound_formats: int, is_picture_at_risk: bool
) -> str | None:
    codec = track.codec
    if number == 0 and _is_written_legacy(codec):
        if track.kind == "audio" and sound_formats and not sound_formats & _sound_format_bits(codec):
            return f"the peer did not announce support for {codec.name}"
        return None
    name = SUPPORTED[type(codec)].four_cc.decode("ascii")
    if four_ccs:
        return None if name in four_ccs or "*" in four_ccs else f"the peer did not announce support for {name}"
    if track.kind == "audio" and is_picture_at_risk:
        return f"the peer did not announce Enhanced RTMP, which {codec.name} needs"
    return None


def _sound_format_bits(codec: Codec) -> int:
    """Return the bits of ``audioCodecs`` that stand for a codec: one for each sound format, by its number."""
    if isinstance(codec, G711):
        return 1 << (SoundFormat.G711_MU_LAW if codec.mu_law else SoundFormat.G711_A_LAW)
    return sum(1 << number for number in SUPPORTED[type(codec)].legacy)
