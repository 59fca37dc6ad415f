from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.media import Encode, Media, check_times

from polycast.codecs import h265, nal
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import H265

BASE = "log-level=none:info=0:keyint=10:min-keyint=10:pools=none:frame-threads=1"
VARIANTS = {
    "no-b-frames": (":bframes=0", ()),
    "b-frames": (":bframes=2:b-pyramid=0", ()),
    "pyramid": (":bframes=3:b-pyramid=1:b-adapt=0", ()),
    "open-gop": (":bframes=2:open-gop=1", ()),
    "ten-bit": (":bframes=0", ("-pix_fmt", "yuv420p10le")),
    "4:2:2": (":bframes=0", ("-pix_fmt", "yuv422p")),
    "temporal-layers": (":bframes=3:b-pyramid=1:temporal-layers=2", ()),
    "scaling-lists": (":bframes=0:scaling-list=default", ()),
}


@pytest.fixture(params=VARIANTS)
def media(request: pytest.FixtureRequest, encode: Encode) -> Media:
    options, arguments = VARIANTS[request.param]
    preset = ("-preset", "ultrafast", "-tag:v", "hvc1")
    return encode("libx265", "mp4", *preset, "-x265-params", BASE + options, *arguments)


def access_units(media: Media) -> list[tuple[list[bytes], int, int]]:
    return [
        (nal.split_length_prefixed(data), int(packet["pts"]), int(packet["dts"]))
        for data, packet in zip(media.packet_data(), media.packets, strict=True)
    ]


def test_parameter_sets_agree_with_ffmpeg(media: Media) -> None:
    codec, length_size = h265.parse_configuration_record(media.box(b"hvcC"))
    sps = h265.parse_sps(codec.sps)
    stream = media.stream
    assert length_size == 4
    assert h265.resolution(codec) == (stream["width"], stream["height"]) == (320, 180)
    assert h265.parse_sps(codec.sps).frame_rate == 25.0
    assert sps.profile_tier_level.level == stream["level"]
    assert sps.reorder_depth == stream["has_b_frames"]
    assert ("10le" in stream["pix_fmt"]) == (sps.bit_depth_luma == 10)
    assert ("422" in stream["pix_fmt"]) == (sps.chroma_format == 2)
    assert h265.build_configuration_record(codec) == media.box(b"hvcC")


def test_key_frames_agree_with_ffmpeg(media: Media) -> None:
    assert [h265.is_key(units) for units, _, _ in access_units(media)] == ["K" in p["flags"] for p in media.packets]


def test_dts_agree_with_ffmpeg(media: Media) -> None:
    codec, _ = h265.parse_configuration_record(media.box(b"hvcC"))
    extractor = h265.DtsExtractor(codec, clock_rate=12_800)
    units = access_units(media)
    found = [extractor.extract(unit, pts) for unit, pts, _ in units]
    assert None not in found
    offsets = {expected - dts for dts, (_, _, expected) in zip(found, units, strict=True) if dts is not None}
    assert len(offsets) == 1
    if media.stream["has_b_frames"] == 0:
        assert found == [pts for _, pts, _ in units]


def test_dts_with_parameter_sets_in_band(encode: Encode) -> None:
    params = BASE + ":bframes=3:b-pyramid=1:b-adapt=0:repeat-headers=1"
    media = encode("libx265", "mp4", "-preset", "ultrafast", "-tag:v", "hev1", "-x265-params", params)
    units = access_units(media)
    extractor = h265.DtsExtractor(clock_rate=12_800)
    found = [extractor.extract(unit, pts) for unit, pts, _ in units]
    assert len({expected - dts for dts, (_, _, expected) in zip(found, units, strict=True) if dts is not None}) == 1
    extractor = h265.DtsExtractor(clock_rate=12_800)
    kept = [unit for index, unit in enumerate(units) if index % 4 != 1]
    found = [extractor.extract(unit, pts) for unit, pts, _ in kept]
    assert None not in found
    check_times(found, [pts for _, pts, _ in kept])


def test_dts_when_the_reorder_depth_is_unknown(encode: Encode) -> None:
    media = encode("libx265", "mp4", "-preset", "ultrafast", "-x265-params", BASE + ":bframes=2:b-adapt=0:b-pyramid=0")
    units = access_units(media)
    extractor = h265.DtsExtractor()
    found = [extractor.extract(unit, pts) for unit, pts, _ in units]
    check_times(found, [pts for _, pts, _ in units])
    assert None not in found[4:]


@given(st.lists(st.tuples(st.lists(st.binary(max_size=40), max_size=4), st.integers(-(2**40), 2**40)), max_size=60))
def test_dts_never_fail(frames: list[tuple[list[bytes], int]]) -> None:
    extractor = h265.DtsExtractor()
    extractor.extract([b"\x26\x01\xaf"], 0)
    found = [extractor.extract(units, pts) for units, pts in frames]
    check_times(found, [pts for _, pts in frames])


# From the H.265 stream of a camera: 1920x1080, main profile.
VPS = bytes.fromhex("40010c01ffff016000000300b0000003000003007bac0901")
SPS = bytes.fromhex("420101016000000300b0000003000003007ba003c08010e58dae4932f4dc04040402")
PPS = bytes.fromhex("4401c0f2f03c90")
IDR, TRAIL, CRA = b"\x26\x01\xaf", b"\x02\x01\xd0", b"\x2a\x01\xaf"


def test_camera_parameter_sets() -> None:
    codec = H265(vps=VPS, sps=SPS, pps=PPS)
    assert h265.resolution(codec) == (1920, 1080)
    assert h265.codec_string(codec) == "hvc1.1.6.L123.B0"
    assert h265.codec_string(H265()) == "hvc1"
    assert h265.resolution(H265()) is None
    assert h265.parse_configuration_record(h265.build_configuration_record(codec)) == (codec, 4)
    with pytest.raises(LocalProtocolError):
        h265.build_configuration_record(H265())


def test_is_key() -> None:
    for units, key in [([IDR], True), ([VPS, SPS, PPS, IDR], True), ([CRA], True), ([TRAIL], False), ([], False)]:
        assert h265.is_key(units) is key


def test_with_parameter_sets() -> None:
    codec = H265(vps=VPS, sps=SPS, pps=PPS)
    assert h265.with_parameter_sets(codec, [IDR]) == (VPS, SPS, PPS, IDR)
    assert h265.with_parameter_sets(codec, [SPS, PPS, IDR]) == (VPS, SPS, PPS, IDR)
    assert h265.with_parameter_sets(codec, [VPS, SPS, PPS, IDR]) == (VPS, SPS, PPS, IDR)
    assert h265.with_parameter_sets(codec, [TRAIL]) == (TRAIL,)
    assert h265.with_parameter_sets(H265(), [IDR]) == (IDR,)


def test_updated() -> None:
    codec = H265(vps=VPS, sps=SPS, pps=PPS)
    assert h265.updated(H265(), [VPS, SPS, PPS, IDR]) == codec
    assert h265.updated(codec, [VPS, SPS, PPS, IDR]) is codec
    assert h265.updated(codec, [TRAIL]) is codec
    assert h265.updated(codec, [b"\x42\x01\x00", IDR]) is codec
    assert h265.updated(codec, [PPS + b"\x80", IDR]).pps == PPS + b"\x80"


@given(st.binary(max_size=120))
def test_hostile_input(data: bytes) -> None:
    record = b"\x01" + bytes(20) + b"\xff\x03" + data
    for parse, value in (
        (h265.parse_sps, SPS[:20] + data),
        (h265.parse_sps, b"\x42\x01" + data),
        (h265.parse_configuration_record, record),
    ):
        try:
            parse(value)
        except RemoteProtocolError:
            pass
    h265.updated(H265(), nal.split_annexb(data))
    h265.is_key([data])
    h265.codec_string(H265(sps=data))


@pytest.mark.parametrize("size", range(len(SPS)))
def test_truncated_sps(size: int) -> None:
    try:
        assert h265.parse_sps(SPS[:size]).width == 1920
    except RemoteProtocolError:
        assert size < 30
