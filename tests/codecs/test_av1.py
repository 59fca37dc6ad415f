from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.media import Encode, Media

from polycast.codecs import av1
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import AV1

SOURCE = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=0.4")
VARIANTS = {
    "aom": ("libaom-av1", ()),
    "aom-ten-bit": ("libaom-av1", ("-pix_fmt", "yuv420p10le")),
    "aom-4:4:4": ("libaom-av1", ("-pix_fmt", "yuv444p")),
    "svt": ("libsvtav1", ()),
}


@pytest.fixture(params=VARIANTS)
def media(request: pytest.FixtureRequest, encode: Encode) -> Media:
    encoder, arguments = VARIANTS[request.param]
    speed = ("-preset", "12") if encoder == "libsvtav1" else ("-cpu-used", "8", "-usage", "realtime")
    return encode(encoder, "mp4", *speed, "-g", "5", *arguments, source=SOURCE)


def test_sequence_header_agrees_with_ffmpeg(media: Media) -> None:
    codec = av1.parse_configuration_record(media.box(b"av1C"))
    header = av1.parse_sequence_header(codec.sequence_header)
    stream = media.stream
    assert av1.resolution(codec) == (stream["width"], stream["height"]) == (320, 180)
    assert header.level == stream["level"]
    assert header.bit_depth == (10 if "10le" in stream["pix_fmt"] else 8)
    assert header.chroma_subsampling_x == (0 if "444" in stream["pix_fmt"] else 1)
    assert header.profile == (1 if "444" in stream["pix_fmt"] else 0)
    record = media.box(b"av1C")
    ours = av1.build_configuration_record(codec)
    assert ours[:4] == record[:4]
    assert av1.split_obus(ours[4:]) == [codec.sequence_header]
    assert record[4:].startswith(ours[4:])
    assert av1.codec_string(codec) == f"av01.{header.profile}.{header.level:02d}M.{header.bit_depth:02d}"


def test_key_frames_agree_with_ffmpeg(media: Media) -> None:
    units = [av1.split_obus(packet) for packet in media.packet_data()]
    assert [av1.is_key(unit) for unit in units] == ["K" in packet["flags"] for packet in media.packets]


def test_obus_round_trip(media: Media) -> None:
    for packet in media.packet_data():
        units = av1.split_obus(packet)
        assert all(not unit[0] & 2 for unit in units)
        assert av1.split_obus(av1.join_obus(units)) == units
        assert av1.split_obus(b"\x12\x00" + packet) == units  # a temporal delimiter in front


def test_updated(media: Media) -> None:
    units = av1.split_obus(media.packet_data()[0])
    codec = av1.updated(AV1(), units)
    assert codec.sequence_header in units
    assert av1.updated(codec, units) is codec
    assert av1.updated(codec, [b"\x08\xff"]) is codec
    without = [unit for unit in units if av1.obu_type(unit) != av1.ObuType.SEQUENCE_HEADER]
    assert av1.with_sequence_header(codec, without) == (codec.sequence_header, *without)
    assert av1.with_sequence_header(codec, units) == tuple(units)


@pytest.mark.parametrize(
    ("value", "data"), [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (0xFFFFFFFF, b"\xff\xff\xff\xff\x0f")]
)
def test_leb128(value: int, data: bytes) -> None:
    assert av1.write_leb128(value) == data
    assert av1.read_leb128(data + b"\xff") == (value, len(data))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9, b"\xff\xff\xff\xff\x7f"])
def test_broken_leb128(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        av1.read_leb128(data)


@pytest.mark.parametrize("data", [b"\x32\x05\x00", b"\x32", b"\x80", b"\x34"])
def test_broken_obus(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        av1.split_obus(data)


def test_limits() -> None:
    many = av1.MAXIMUM_OBUS_PER_TEMPORAL_UNIT
    assert len(av1.split_obus(b"\x32\x00" * many)) == many
    for data in (b"\x32\x00" * (many + 1), bytes(av1.MAXIMUM_TEMPORAL_UNIT_SIZE + 1)):
        with pytest.raises(RemoteProtocolError):
            av1.split_obus(data)
    with pytest.raises(LocalProtocolError):
        av1.build_configuration_record(AV1())
    assert av1.codec_string(AV1()) == "av01"
    assert av1.resolution(AV1()) is None


@given(st.binary(max_size=80))
def test_hostile_input(data: bytes) -> None:
    for parse in (
        av1.split_obus,
        av1.parse_sequence_header,
        lambda d: av1.parse_sequence_header(b"\x08" + d),
        lambda d: av1.parse_configuration_record(b"\x81\x00\x00\x00" + d),
    ):
        try:
            parse(data)
        except RemoteProtocolError:
            pass
    av1.is_key([data])
    av1.updated(AV1(), [b"\x08" + data, data])
    av1.join_obus([data])
