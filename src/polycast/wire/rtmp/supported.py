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
    tracks: Iterable[Track], *, multitrack: bool = False, four_ccs: frozenset[str] = frozenset()
) -> Selection:
    """Choose the tracks that a peer can take.

    ``multitrack``: the peer announced that it understands several tracks of a kind; else it gets the first of each.
    ``four_ccs``: the enhanced codecs that the peer announced; empty when it announced none, which excludes nothing,
    because many players that understand enhanced codecs say nothing.
    """
    chosen: list[Track] = []
    skipped: list[tuple[Track, str]] = []
    counts: dict[str, int] = {}
    for track in tracks:
        reason = obstacle(track.codec)
        if reason is None:
            number = counts.get(track.kind, 0)
            counts[track.kind] = number + 1
            reason = _peer_obstacle(track, number, multitrack, four_ccs)
        if reason is None:
            chosen.append(track)
        else:
            skipped.append((track, reason))
    return Selection(tuple(chosen), tuple(skipped))


def _peer_obstacle(track: Track, number: int, multitrack: bool, four_ccs: frozenset[str]) -> str | None:
    carriage = SUPPORTED[type(track.codec)]
    name = carriage.four_cc.decode("ascii")
    if number > 0 and not multitrack:
        return f"the peer takes one {track.kind} track only"
    if number > 0 and not name:
        return "the codec has no enhanced identifier, so it cannot be one of several tracks"
    if four_ccs and "*" not in four_ccs and name not in four_ccs and (number > 0 or not carriage.legacy):
        return f"the peer did not announce support for {name}"
    return None
