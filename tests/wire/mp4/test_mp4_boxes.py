"""Boxes: sizes, nesting, limits; fragments and init segments byte by byte."""

from __future__ import annotations

import pytest
from tests.wire.hls.streams import AUDIO, OPUS, VIDEO

from polycast.codecs import h264
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import AC3, AV1, EAC3, FLAC, H264, H265, VP8, VP9, Codec, MPEG4Audio, MPEGAudio
from polycast.wire.mp4 import boxes
from polycast.wire.mp4.boxes import Box, box, find, full_box, iterate, read_header
from polycast.wire.mp4.fragment import SampleRun, build_fragment
from polycast.wire.mp4.initialization import InitializationTrack, build_initialization
from polycast.wire.mp4.sample_entries import build_sample_entry


def test_boxes() -> None:
    assert box(b"free", b"ab", b"c") == b"\0\0\0\x0bfreeabc"
    assert full_box(b"vmhd", 1, 0x020304) == b"\0\0\0\x0cvmhd\x01\x02\x03\x04"
    data = box(b"moov", box(b"mvhd", b"1"), box(b"trak", box(b"tkhd", b"2")), box(b"trak"))
    movie = next(iterate(data, 0, len(data)))
    assert movie == Box(b"moov", 0, 8, len(data))
    assert [child.kind for child in iterate(data, movie.content, movie.end)] == [b"mvhd", b"trak", b"trak"]
    found = find(data, movie, b"trak", b"tkhd")
    assert found is not None
    assert data[found.content : found.end] == b"2"
    assert find(data, movie, b"trak", b"mdia") is None


def test_sizes_of_boxes() -> None:
    large = b"\0\0\0\1mdat" + (20).to_bytes(8, "big") + b"abcd"
    assert read_header(large, 0, len(large)) == Box(b"mdat", 0, 16, 20)
    assert read_header(large, 0, 12) is None
    assert read_header(b"\0\0\0\0mdatabc", 0, 11) == Box(b"mdat", 0, 8, 11)
    assert read_header(b"\0\0\0", 0, 3) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x07free",
        b"\0\0\0\1free" + (15).to_bytes(8, "big"),
        b"\0\0\0\x09free",
        b"\xff\xff\xff\xfffree",
        box(b"free") * (boxes.MAXIMUM_BOXES + 1),
    ],
)
def test_broken_boxes(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        list(iterate(data, 0, len(data)))


def test_a_fragment_byte_by_byte() -> None:
    video = SampleRun(1, 1 << 40, full=True)
    video.append(b"key", 3000, 6000, key=True)
    video.append(b"other", 3001, -3000, key=False)
    audio = SampleRun(2, 7, full=False)
    audio.append(b"AA", 1024, 0, key=True)
    expected = bytes.fromhex(
        "000000c8 6d6f6f66"
        " 00000010 6d666864 00000000 00000009"
        " 00000064 74726166"
        " 00000014 74666864 00020020 00000001 01010000"
        " 00000014 74666474 01000000 0000010000000000"
        " 00000034 7472756e 01000f01 00000002 000000d0"
        " 00000bb8 00000003 02000000 00001770"
        " 00000bb9 00000005 01010000 fffff448"
        " 0000004c 74726166"
        " 00000014 74666864 00020020 00000002 02000000"
        " 00000014 74666474 01000000 0000000000000007"
        " 0000001c 7472756e 01000301 00000001 000000d8"
        " 00000400 00000002"
        " 00000012 6d646174"
    )
    assert build_fragment(9, [video, audio]) == expected + b"keyotherAA"


def test_an_init_segment_has_what_players_need() -> None:
    data = build_initialization(
        [InitializationTrack(1, VIDEO, 90_000), InitializationTrack(2, AUDIO, 48_000, language="deu")]
    )
    top = list(iterate(data, 0, len(data)))
    assert [each.kind for each in top] == [b"ftyp", b"moov"]
    kinds = [each.kind for each in iterate(data, top[1].content, top[1].end)]
    assert kinds == [b"mvhd", b"trak", b"trak", b"mvex"]
    entry = find(data, top[1], b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    assert entry is not None
    assert box(b"avcC", h264.build_configuration_record(VIDEO)) in data[entry.content : entry.end]


KNOWN: list[tuple[Codec, bytes]] = [
    # fields of an esds box written out: ES, decoder configuration, AudioSpecificConfig, SL
    (AUDIO, bytes.fromhex("03190000000411401500000000000000000000000502") + AUDIO.configuration + b"\x06\x01\x02"),
    (MPEGAudio(44_100, 2), bytes.fromhex("0315000000040d6b1500000000000000000000 00060102")),
    (MPEGAudio(24_000, 1), bytes.fromhex("0315000000040d691500000000000000000000 00060102")),
    (OPUS, b"dOps\x00\x02\x01\x38\x00\x00\xbb\x80\x00\x00\x00"),
    (AC3(48_000, 6), b"dac3\x10\x3d\xe0"),
    (AC3(44_100, 2), b"dac3\x50\x11\x40"),
    (EAC3(48_000, 2), b"dec3\x06\x00\x20\x04\x00"),
    (VP9(profile=0, width=640, height=480), b"\x00\x00\x00\x14vpcC\x01\x00\x00\x00\x00"),
]


@pytest.mark.parametrize(
    ("codec", "expected"), KNOWN, ids=[f"{codec.name}{index}" for index, (codec, _) in enumerate(KNOWN)]
)
def test_configurations_byte_by_byte(codec: Codec, expected: bytes) -> None:
    assert expected in build_sample_entry(codec)


@pytest.mark.parametrize(
    "codec",
    [
        H264(),
        H265(),
        AV1(),
        VP9(),
        VP8(),
        MPEG4Audio(),
        MPEGAudio(),
        FLAC(),
        AC3(48_000, 9),
        AC3(22_050, 2),
        EAC3(48_000, 9),
        VP9(width=70_000, height=2),
    ],
)
def test_what_cannot_be_described(codec: Codec) -> None:
    with pytest.raises(LocalProtocolError):
        build_sample_entry(codec)
