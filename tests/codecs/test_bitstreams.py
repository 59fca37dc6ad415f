"""One object per codec says how its frames are read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.codecs.media import Encode

from polycast.codecs.registry import BITSTREAMS, bitstream_of, codec_string, resolution, updated_codec
from polycast.errors import LocalProtocolError
from polycast.media.codec import (
    AV1,
    CODEC_TYPES,
    G722,
    H264,
    H265,
    VP8,
    Codec,
    MPEG2Video,
    MPEG4Video,
)
from polycast.media.frame import Frame

UNITS: list[tuple[Codec, tuple[bytes, ...], bytes]] = [
    (H264(), (b"\x67\x42", b"\x65\x88"), bytes.fromhex("00000001 09f0 000001 6742 00000001 6588")),
    (H265(), (b"\x40\x01\x0c", b"\x26\x01\xaf"), bytes.fromhex("00000001 460150 00000001 40010c 00000001 2601af")),
    (AV1(), (b"\x08\x00\x01", b"\x30\x42"), bytes.fromhex("1200 0a020001 320142")),
]


def test_every_codec_has_one() -> None:
    types = [bitstream.codec_type for bitstream in BITSTREAMS]
    assert len(types) == len(set(types))
    assert set(types) == set(CODEC_TYPES)


@pytest.mark.parametrize(("codec", "units", "data"), UNITS, ids=lambda value: getattr(value, "name", ""))
def test_frames_are_split_without_delimiters_and_joined(codec: Codec, units: tuple[bytes, ...], data: bytes) -> None:
    bitstream = bitstream_of(codec)
    assert bitstream.split(data) == units
    assert bitstream.split(bitstream.join(units)) == units


def test_frames_of_other_codecs_are_one_unit() -> None:
    assert bitstream_of(VP8()).split(b"abc") == (b"abc",)
    assert bitstream_of(VP8()).join((b"abc",)) == b"abc"
    assert bitstream_of(G722()).is_key((b"abc",))


@pytest.mark.parametrize(
    ("encoder", "extension", "codec"),
    [("mpeg4", "m4v", MPEG4Video()), ("mpeg2video", "m2v", MPEG2Video()), ("libx264", "h264", H264())],
)
def test_key_frames_agree_with_ffmpeg(encode: Encode, encoder: str, extension: str, codec: Codec) -> None:
    media = encode(encoder, extension, "-g", "5")
    bitstream = bitstream_of(codec)
    found = [bitstream.is_key(bitstream.split(data)) for data in media.packet_data()]
    assert found == ["K" in packet["flags"] for packet in media.packets]


def test_mpeg4_video_learns_its_configuration_from_frames(encode: Encode) -> None:
    first = encode("mpeg4", "m4v", "-g", "5", "-f", "m4v").packet_data()[0]
    codec = updated_codec(MPEG4Video(), Frame((first,), 0, 0, key=True))
    assert isinstance(codec, MPEG4Video)
    assert codec.configuration
    assert resolution(codec) == (320, 180)
    assert updated_codec(replace(codec), Frame((first,), 0, 0, key=True)) == codec


def test_a_codec_without_a_name_for_the_web() -> None:
    with pytest.raises(LocalProtocolError, match="G722 has no name for the Web"):
        codec_string(G722())
