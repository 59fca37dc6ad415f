from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.media import Encode

from polycast.codecs import vp8
from polycast.errors import RemoteProtocolError
from polycast.media.codec import VP8


def test_frames_agree_with_ffmpeg(encode: Encode) -> None:
    media = encode("libvpx", "ivf", "-deadline", "realtime", "-cpu-used", "8", "-g", "5")
    data = media.data
    frames = []
    position = 32  # IVF: a header of 32 bytes, then 12 bytes in front of each frame
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "little")
        frames.append(data[position + 12 : position + 12 + size])
        position += 12 + size
    assert [vp8.is_key(frame) for frame in frames] == ["K" in packet["flags"] for packet in media.packets]
    assert vp8.resolution(frames[0]) == (media.stream["width"], media.stream["height"]) == (320, 180)
    assert vp8.resolution(frames[1]) is None
    assert vp8.parse_frame_header(frames[0]).show_frame
    assert vp8.codec_string(VP8()) == "vp8"


# A key frame of 176x144 with scaling bits set, which are not part of the size (RFC 6386 section 9.1).
KEY_FRAME = bytes.fromhex("5002009d012ab0409080") + bytes(4)


def test_key_frame() -> None:
    assert vp8.is_key(KEY_FRAME)
    assert vp8.parse_frame_header(KEY_FRAME) == vp8.FrameHeader(True, 0, True, 176, 144)
    assert not vp8.is_key(b"\x51" + KEY_FRAME[1:])


@pytest.mark.parametrize("data", [b"", b"\x50\x02", KEY_FRAME[:9], b"\x50\x02\x00\x00\x00\x00" + bytes(8)])
def test_broken_frames(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        vp8.parse_frame_header(data)


@given(st.binary(max_size=16))
def test_hostile_input(data: bytes) -> None:
    assert vp8.is_key(data) in (True, False)
    vp8.resolution(data)
