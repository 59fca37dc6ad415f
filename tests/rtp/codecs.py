"""Codecs whose packets are looked at in all ways."""

from __future__ import annotations

from polycast.media.codec import AV1, H264, H265, VP8, VP9, Codec, MPEG4Audio, MPEG4Video

CODECS: list[Codec] = [
    H264(),
    H265(),
    H265(maximum_don_difference=2),
    AV1(),
    VP8(),
    VP9(),
    MPEG4Video(),
    MPEG4Audio(bytes.fromhex("1190"), 48_000, 2),
]
