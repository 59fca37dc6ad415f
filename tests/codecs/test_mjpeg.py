from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.media import Encode

from polycast.codecs import mjpeg
from polycast.errors import RemoteProtocolError


def test_size_agrees_with_ffmpeg(encode: Encode) -> None:
    media = encode("mjpeg", "mjpeg", "-pix_fmt", "yuvj420p")
    frames = [b"\xff\xd8" + frame for frame in media.data.split(b"\xff\xd8\xff")[1:]]
    assert len(frames) == len(media.packets)
    assert {mjpeg.resolution(b"\xff\xd8\xff" + frame[2:]) for frame in frames} == {(320, 180)}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xc0\x00\x11\x08\x00",
        b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x00\x00\x00\x03" + bytes(9),
        b"\xff\xd8\xff\xda" + bytes(20),
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * (mjpeg.MAXIMUM_SEGMENTS + 1) + b"\xff\xc0\x00\x11\x08\x00\x10\x00\x10\x03",
    ],
)
def test_broken_images(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        mjpeg.parse_size(data)
    assert mjpeg.resolution(data) is None


def test_fill_bytes() -> None:
    assert mjpeg.parse_size(b"\xff\xd8\xff\xff\xff\xc0\x00\x11\x08\x00\x10\x00\x20\x03") == (32, 16)


@given(st.binary(max_size=64))
def test_hostile_input(data: bytes) -> None:
    for value in (data, b"\xff\xd8\xff" + data):
        mjpeg.resolution(value)
