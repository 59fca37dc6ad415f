from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.media import Encode, Media

from polycast.codecs import mpeg4_video
from polycast.errors import RemoteProtocolError
from polycast.media.codec import MPEG4Video


@pytest.fixture(params=[(), ("-bf", "2")], ids=["no-b-frames", "b-frames"])
def media(request: pytest.FixtureRequest, encode: Encode) -> Media:
    return encode("mpeg4", "m4v", "-g", "5", *request.param, "-f", "m4v")


def test_frames_agree_with_ffmpeg(media: Media) -> None:
    frames = media.packet_data()
    assert [mpeg4_video.is_key(frame) for frame in frames] == ["K" in packet["flags"] for packet in media.packets]
    codec = mpeg4_video.updated(MPEG4Video(), frames[0])
    assert codec.configuration
    assert frames[0].startswith(codec.configuration)
    assert frames[0][len(codec.configuration) :].startswith((b"\x00\x00\x01\xb3", b"\x00\x00\x01\xb6"))
    assert mpeg4_video.resolution(codec) == (media.stream["width"], media.stream["height"]) == (320, 180)
    name = {"Simple Profile": "mp4v.20.1", "Advanced Simple Profile": "mp4v.20.F1"}[media.stream["profile"]]
    assert mpeg4_video.codec_string(codec) == name
    assert mpeg4_video.updated(codec, frames[0]) is codec
    assert mpeg4_video.updated(codec, frames[1]) is codec


def test_headers_are_put_in_front_of_a_frame_that_lacks_them(media: Media) -> None:
    frame = media.packet_data()[0]
    codec = mpeg4_video.updated(MPEG4Video(), frame)
    picture = frame.removeprefix(codec.configuration)
    assert mpeg4_video.with_configuration(codec, picture) == frame
    assert mpeg4_video.with_configuration(codec, frame) == frame
    for headers in (b"", b"\x20", codec.configuration[1:], codec.configuration[:4]):
        assert mpeg4_video.with_configuration(MPEG4Video(headers), picture) == picture


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x01", b"\x00\x00\x01\xb6", b"\x00\x00\x01\x20\x00"])
def test_broken_input(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        mpeg4_video.parse_resolution(data)
    assert not mpeg4_video.is_key(data)
    assert mpeg4_video.resolution(MPEG4Video(configuration=data)) is None


@given(st.binary(max_size=64))
def test_hostile_input(data: bytes) -> None:
    for value in (data, b"\x00\x00\x01\x20" + data, b"\x00\x00\x01\xb0" + data):
        mpeg4_video.is_key(value)
        mpeg4_video.updated(MPEG4Video(), value)
        mpeg4_video.resolution(MPEG4Video(configuration=value))
