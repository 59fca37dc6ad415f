from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.media import Encode, Media

from polycast.codecs import vp9
from polycast.errors import RemoteProtocolError
from polycast.media.codec import VP9

FAST = ("-deadline", "realtime", "-cpu-used", "8", "-g", "5")
FORMATS = {"yuv420p": (0, 8, 1), "yuv444p": (1, 8, 3), "yuv422p": (1, 8, 2), "yuv420p10le": (2, 10, 1)}


@pytest.fixture(params=FORMATS)
def media(request: pytest.FixtureRequest, encode: Encode) -> Media:
    source = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=0.4")
    return encode("libvpx-vp9", "mp4", *FAST, "-pix_fmt", request.param, source=source)


def test_frames_agree_with_ffmpeg(media: Media) -> None:
    frames = media.packet_data()
    assert [vp9.is_key(frame) for frame in frames] == ["K" in packet["flags"] for packet in media.packets]
    assert [vp9.parse_frame_header(frame).key for frame in frames] == [vp9.is_key(frame) for frame in frames]
    codec = vp9.updated(VP9(), frames[0])
    assert (codec.profile, codec.bit_depth, codec.chroma_subsampling) == FORMATS[media.stream["pix_fmt"]]
    assert vp9.resolution(codec) == (320, 180)
    assert vp9.updated(codec, frames[0]) is codec
    assert vp9.updated(codec, frames[1]) is codec


def test_configuration_record_agrees_with_ffmpeg(media: Media) -> None:
    codec = vp9.updated(VP9(), media.packet_data()[0])
    record = media.box(b"vpcC")
    assert record[:4] == b"\x01\x00\x00\x00"
    assert vp9.build_configuration_record(codec, 25.0) == record[4:]
    parsed = vp9.parse_configuration_record(record)
    assert parsed == vp9.parse_configuration_record(record[4:])
    assert (parsed.profile, parsed.bit_depth) == (codec.profile, codec.bit_depth)


def test_codec_string() -> None:
    assert vp9.codec_string(VP9(width=1920, height=1080)) == "vp09.00.40.08"
    assert vp9.codec_string(VP9(width=1920, height=1080), 60.0) == "vp09.00.41.08"
    assert vp9.codec_string(VP9(width=65536, height=65536)) == "vp09.00.62.08"
    assert vp9.resolution(VP9()) is None


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x82", b"\x82\x49\x83\x43" + bytes(10)])
def test_broken_frames(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        vp9.parse_frame_header(data)
    assert vp9.updated(VP9(), data) == VP9()


@given(st.binary(max_size=32))
def test_hostile_input(data: bytes) -> None:
    for value in (data, b"\x82\x49\x83\x42" + data, b"\xb0\x49\x83\x42" + data):
        vp9.is_key(value)
        vp9.updated(VP9(), value)
        for parse in (vp9.parse_frame_header, vp9.parse_configuration_record):
            try:
                parse(value)
            except RemoteProtocolError:
                pass
