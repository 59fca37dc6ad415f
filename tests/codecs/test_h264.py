from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.media import Encode, Media, check_times

from polycast.codecs import h264, nal
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import H264

BASE = ("-preset", "ultrafast", "-g", "10", "-keyint_min", "10")
VARIANTS = {
    "no-b-frames": ("-bf", "0"),
    "b-frames": ("-preset", "fast", "-bf", "2", "-x264-params", "b-pyramid=none"),
    "pyramid": ("-preset", "fast", "-bf", "3", "-x264-params", "b-pyramid=normal:b-adapt=0"),
    "open-gop": ("-preset", "fast", "-bf", "2", "-x264-params", "open-gop=1:b-adapt=0"),
    "interlaced": ("-preset", "fast", "-bf", "2", "-flags", "+ildct+ilme", "-x264-params", "tff=1"),
    "high-4:4:4": ("-pix_fmt", "yuv444p", "-bf", "2"),
    "baseline": (
        "-profile:v",
        "baseline",
    ),
    "ten-bit": (
        "-pix_fmt",
        "yuv420p10le",
    ),
}


@pytest.fixture(params=VARIANTS)
def media(request: pytest.FixtureRequest, encode: Encode) -> Media:
    return encode("libx264", "mp4", *BASE, *VARIANTS[request.param])


def access_units(media: Media) -> list[tuple[list[bytes], int, int]]:
    return [
        (nal.split_length_prefixed(data), int(packet["pts"]), int(packet["dts"]))
        for data, packet in zip(media.packet_data(), media.packets, strict=True)
    ]


def test_parameter_sets_agree_with_ffmpeg(media: Media) -> None:
    codec, length_size = h264.parse_configuration_record(media.box(b"avcC"))
    sps = h264.parse_sps(codec.sps)
    stream = media.stream
    assert length_size == 4
    assert h264.resolution(codec) == (stream["width"], stream["height"]) == (320, 180)
    assert h264.parse_sps(codec.sps).frame_rate == 25.0
    assert sps.level == stream["level"]
    assert sps.bit_depth_luma == int(stream.get("bits_per_raw_sample", 8))
    assert sps.reorder_depth == stream["has_b_frames"]
    assert h264.build_configuration_record(codec) == media.box(b"avcC")


def test_key_frames_agree_with_ffmpeg(media: Media) -> None:
    assert [h264.is_key(units) for units, _, _ in access_units(media)] == ["K" in p["flags"] for p in media.packets]


def test_dts_agree_with_ffmpeg(media: Media) -> None:
    codec, _ = h264.parse_configuration_record(media.box(b"avcC"))
    extractor = h264.DtsExtractor(codec, clock_rate=12_800)
    units = access_units(media)
    found = [extractor.extract(unit, pts) for unit, pts, _ in units]
    assert None not in found
    offsets = {expected - dts for dts, (_, _, expected) in zip(found, units, strict=True) if dts is not None}
    assert len(offsets) == 1
    if media.stream["has_b_frames"] == 0:
        assert found == [pts for _, pts, _ in units]


def test_dts_of_variable_frame_rate(encode: Encode) -> None:
    media = encode(
        "libx264", "mp4", *BASE, "-preset", "fast", "-bf", "2", "-vf", "select='mod(n,5)'", "-fps_mode", "vfr"
    )
    codec, _ = h264.parse_configuration_record(media.box(b"avcC"))
    extractor = h264.DtsExtractor(codec, clock_rate=12_800)
    units = access_units(media)
    found = [extractor.extract(unit, pts) for unit, pts, _ in units]
    offsets = {expected - dts for dts, (_, _, expected) in list(zip(found, units, strict=True))[2:] if dts is not None}
    assert len(offsets) == 1


@pytest.fixture
def b_frames(encode: Encode) -> list[tuple[list[bytes], int, int]]:
    media = encode("libx264", "mp4", *BASE, *VARIANTS["pyramid"])
    codec, _ = h264.parse_configuration_record(media.box(b"avcC"))
    return [(list(h264.with_parameter_sets(codec, units)), pts, dts) for units, pts, dts in access_units(media)]


def without_reorder_depth(units: list[bytes]) -> list[bytes]:
    """Cut the end of the VUI off, where the reorder depth is."""
    return [unit[:-4] + b"\x80" if unit[0] & 0x1F == 7 else unit for unit in units]


def test_dts_learned_from_the_picture_order_count(b_frames: list[tuple[list[bytes], int, int]]) -> None:
    units = [(without_reorder_depth(unit), pts, dts) for unit, pts, dts in b_frames]
    sps = next(unit for unit in units[0][0] if unit[0] & 0x1F == 7)
    assert h264.parse_sps(sps).reorder_depth is None
    extractor = h264.DtsExtractor(clock_rate=12_800)
    found = [extractor.extract(unit, pts) for unit, pts, _ in units]
    assert None not in found
    check_times(found, [pts for _, pts, _ in units])
    # Once learned, the depth is right: the end agrees with the encoder but for a constant.
    assert len({expected - (dts or 0) for dts, (_, _, expected) in list(zip(found, units, strict=True))[12:]}) == 1


def test_dts_equals_pts_without_b_frames_and_reorder_depth(encode: Encode) -> None:
    media = encode("libx264", "mp4", "-preset", "ultrafast", "-g", "25", "-bf", "0", "-profile:v", "main", "-refs", "2")
    codec, _ = h264.parse_configuration_record(media.box(b"avcC"))
    units = [
        (without_reorder_depth(list(h264.with_parameter_sets(codec, u))), pts) for u, pts, _ in access_units(media)
    ]
    extractor = h264.DtsExtractor()
    assert [extractor.extract(unit, pts) for unit, pts in units] == [pts for _, pts in units]
    # A lost picture leaves a gap that is not reordering; at the latest after some pictures that is known.
    extractor = h264.DtsExtractor()
    kept = units[:5] + units[6:]
    found = [extractor.extract(unit, pts) for unit, pts in kept]
    check_times(found, [pts for _, pts in kept])
    assert found[12:] == [pts for _, pts in kept[12:]]


@pytest.mark.parametrize("seed", range(5))
def test_dts_survive_lost_frames(b_frames: list[tuple[list[bytes], int, int]], seed: int) -> None:
    source = random.Random(seed)
    for change in (list, without_reorder_depth):
        kept = [(change(unit), pts) for i, (unit, pts, _) in enumerate(b_frames) if i == 0 or source.random() > 0.2]
        extractor = h264.DtsExtractor()
        found = [extractor.extract(unit, pts) for unit, pts in kept]
        check_times(found, [pts for _, pts in kept])
        if change is list:
            assert None not in found
        assert found.count(None) < len(found) // 4


def test_dts_start_at_a_key_frame(b_frames: list[tuple[list[bytes], int, int]]) -> None:
    extractor = h264.DtsExtractor()
    found = [extractor.extract(unit, pts) for unit, pts, _ in b_frames[3:]]
    first = next(index for index, (unit, _, _) in enumerate(b_frames[3:]) if h264.is_key(unit))
    assert first > 0
    assert found[:first] == [None] * first
    assert None not in found[first:]


def test_dts_from_an_open_group_of_pictures_on(encode: Encode) -> None:
    media = encode("libx264", "mp4", *BASE, *VARIANTS["open-gop"])
    codec, _ = h264.parse_configuration_record(media.box(b"avcC"))
    units = access_units(media)
    first = next(index for index, (unit, _, _) in enumerate(units) if index and h264.is_key(unit))
    assert all(unit[0] & 0x1F != h264.NalType.IDR for unit in units[first][0])
    extractor = h264.DtsExtractor(codec, clock_rate=12_800)
    found = [extractor.extract(unit, pts) for unit, pts, _ in units[first:]]
    assert None not in found
    assert (
        len({dts - expected for dts, (_, _, expected) in zip(found, units[first:], strict=True) if dts is not None})
        == 1
    )


def test_dts_across_a_change_of_parameters(encode: Encode, b_frames: list[tuple[list[bytes], int, int]]) -> None:
    media = encode("libx264", "mp4", *BASE, "-bf", "0")
    codec, _ = h264.parse_configuration_record(media.box(b"avcC"))
    plain = [(list(h264.with_parameter_sets(codec, units)), pts) for units, pts, _ in access_units(media)]
    both = [(unit, pts) for unit, pts, _ in b_frames]
    end = max(pts for _, pts in both) + 512
    both += [(unit, pts + end) for unit, pts in plain]
    both += [(unit, pts + 2 * end) for unit, pts, _ in b_frames]
    extractor = h264.DtsExtractor(clock_rate=12_800)
    found = [extractor.extract(unit, pts) for unit, pts in both]
    assert None not in found
    check_times(found, [pts for _, pts in both])
    assert found[len(b_frames) + 2 : len(b_frames) + len(plain)] == [
        pts for _, pts in both[len(b_frames) + 2 : len(b_frames) + len(plain)]
    ]


@given(st.lists(st.tuples(st.lists(st.binary(max_size=40), max_size=4), st.integers(-(2**40), 2**40)), max_size=60))
def test_dts_never_fail(frames: list[tuple[list[bytes], int]]) -> None:
    extractor = h264.DtsExtractor()
    extractor.extract([b"\x65\x88\x84"], 0)
    found = [extractor.extract(units, pts) for units, pts in frames]
    check_times(found, [pts for _, pts in frames])


KEY_CASES = [
    ([b"\x65\x88"], True),
    ([b"\x09\xf0", b"\x67\x42", b"\x68\xce", b"\x65\x88"], True),
    ([b"\x41\x9a"], False),
    ([b"\x41\x88"], False),  # an I slice without a mark
    ([b"\x67\x42", b"\x68\xce", b"\x41\x88"], True),  # an I slice behind an SPS
    ([b"\x67\x42", b"\x68\xce", b"\x41\x9a"], False),  # a P slice behind an SPS
    ([b"\x06\x06\x01\xc4\x80", b"\x41\x88"], True),  # recovery point, 0 frames
    ([b"\x06\x06\x01\x44\x80", b"\x41\x88"], False),  # recovery point, 1 frame
    ([b"\x06\x05\x01\x00\x06\x01\xc4\x80", b"\x41\x88"], True),  # the second message of a SEI
    ([b"\x06\x06", b"\x41\x88"], False),
    ([b"\x06\xff\xff\xff", b"\x41\x88"], False),
    ([b"\x67\x42", b"\x41"], False),
    ([b"", b"\x67"], False),
    ([], False),
]


@pytest.mark.parametrize(("units", "key"), KEY_CASES)
def test_is_key(units: list[bytes], key: bool) -> None:
    assert h264.is_key(units) is key


SPS = bytes.fromhex("67640020acd940780227e5c044000003000400000300f03c60c658")
OTHER_SPS = bytes.fromhex("6742c028d900780227e584000003000400000300f03c60c920")
PPS = b"\x68\xeb\xe3\xcb\x22\xc0"  # number 0
SECOND_PPS = b"\x68\x5b\xe3\xcb\x22\xc0"  # number 1


def test_with_parameter_sets() -> None:
    codec = H264(sps=SPS, pps=PPS, extra_parameter_sets=(SECOND_PPS,))
    all_sets = (SPS, PPS, SECOND_PPS)
    assert h264.with_parameter_sets(codec, [b"\x65\x88"]) == (*all_sets, b"\x65\x88")
    assert h264.with_parameter_sets(codec, [SPS, b"\x65\x88"]) == (*all_sets, b"\x65\x88")
    assert h264.with_parameter_sets(codec, [SPS, PPS, b"\x65\x88"]) == (SPS, PPS, b"\x65\x88")
    assert h264.with_parameter_sets(codec, [b"\x41\x9a"]) == (b"\x41\x9a",)
    assert h264.with_parameter_sets(H264(), [b"\x65\x88"]) == (b"\x65\x88",)


def test_updated() -> None:
    codec = H264(sps=SPS, pps=PPS)
    assert h264.updated(codec, [SPS, PPS, b"\x65\x88"]) is codec
    assert h264.updated(codec, [b"\x41\x9a", OTHER_SPS]) is codec
    assert h264.updated(codec, [OTHER_SPS, PPS, b"\x65"]) == H264(sps=OTHER_SPS, pps=PPS)
    assert h264.updated(codec, [b"\x67\x01\x02\x03", b"\x65"]) is codec
    two = h264.updated(codec, [SPS, PPS, SECOND_PPS, b"\x65"])
    assert two == H264(sps=SPS, pps=PPS, extra_parameter_sets=(SECOND_PPS,))
    assert h264.updated(two, [SPS, PPS, SECOND_PPS, b"\x65"]) is two
    assert h264.updated(codec, [SECOND_PPS]) == two
    assert h264.updated(H264(), [SPS, PPS]) == codec


def test_sps_of_a_camera_stream() -> None:
    sps = h264.parse_sps(SPS)
    assert (sps.width, sps.height, sps.frame_rate, sps.profile, sps.level) == (1920, 1080, 30.0, 100, 32)
    assert h264.parse_sps(OTHER_SPS).width == 1920
    assert h264.codec_string(H264(sps=OTHER_SPS, pps=PPS)) == "avc1.42c028"


def test_configuration_record_keeps_all_parameter_sets() -> None:
    codec = H264(sps=SPS, pps=PPS, extra_parameter_sets=(OTHER_SPS, SECOND_PPS))
    assert h264.parse_configuration_record(h264.build_configuration_record(codec)) == (codec, 4)
    with pytest.raises(LocalProtocolError):
        h264.build_configuration_record(H264())


PARSERS: list[Callable[[bytes], object]] = [h264.parse_sps, h264.parse_configuration_record]


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("data", [SPS, b"\x67" + b"\xff" * 300, b"\x67" + bytes(300), b"", b"\x01" * 9, b"\x67" * 5000])
def test_truncated_input(parse: Callable[[bytes], object], data: bytes) -> None:
    for size in range(min(len(data), 64)):
        try:
            parse(data[:size])
        except RemoteProtocolError:
            pass


@given(st.binary(max_size=120))
def test_hostile_input(data: bytes) -> None:
    record = b"\x01\x64\x00\x20\xff\xe1" + data
    for parse, value in ((h264.parse_sps, b"\x67\x64\x00\x20" + data), (h264.parse_configuration_record, record)):
        try:
            parse(value)
        except RemoteProtocolError:
            pass
    h264.updated(H264(), nal.split_annexb(data))
    h264.is_key([b"\x06" + data, b"\x41" + data])
    h264.resolution(H264(sps=data))
