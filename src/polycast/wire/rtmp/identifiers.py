"""Codec identifiers of FLV, which legacy RTMP messages begin with."""

from __future__ import annotations

from enum import IntEnum


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
"""Names of codecs that are not carried, for log messages."""
