from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.media import Encode

from polycast.codecs import mpeg2_video
from polycast.errors import RemoteProtocolError

VARIANTS = [
    ("mpeg2video", "m2v", ()),
    ("mpeg2video", "m2v", ("-bf", "2")),
    ("mpeg2video", "m2v", ("-r", "30000/1001")),
    ("mpeg1video", "m1v", ()),
]


@pytest.mark.parametrize(("encoder", "extension", "arguments"), VARIANTS)
def test_frames_agree_with_ffmpeg(encode: Encode, encoder: str, extension: str, arguments: tuple[str, ...]) -> None:
    media = encode(encoder, extension, "-g", "5", *arguments)
    frames = media.packet_data()
    assert [mpeg2_video.is_key(frame) for frame in frames] == ["K" in packet["flags"] for packet in media.packets]
    header = mpeg2_video.parse_sequence_header(frames[0])
    assert (header.width, header.height) == (media.stream["width"], media.stream["height"]) == (320, 180)
    numerator, denominator = map(int, media.stream["r_frame_rate"].split("/"))
    assert header.frame_rate == pytest.approx(numerator / denominator)
    assert header.mpeg2 == (encoder == "mpeg2video")
    assert header.progressive
    assert mpeg2_video.resolution(frames[1]) is None


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x01\xb3", b"\x00\x00\x01\xb3" + bytes(8)])
def test_broken_input(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        mpeg2_video.parse_sequence_header(data)
    assert not mpeg2_video.is_key(data)


@given(st.binary(max_size=64))
def test_hostile_input(data: bytes) -> None:
    for value in (
        data,
        b"\x00\x00\x01\xb3" + data,
        b"\x00\x00\x01\xb3\x14\x00\xb4\x13\xff\xff\xe0\x00\x00\x00\x01\xb5" + data,
    ):
        mpeg2_video.is_key(value)
        mpeg2_video.picture_type(b"\x00\x00\x01\x00" + value)
        mpeg2_video.resolution(value)
