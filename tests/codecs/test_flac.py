from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.media import Encode

from polycast.codecs import flac
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import FLAC


@pytest.mark.parametrize(("rate", "channels", "bits"), [(48_000, 2, 16), (44_100, 1, 16), (96_000, 2, 24)])
def test_stream_info_agrees_with_ffmpeg(encode: Encode, rate: int, channels: int, bits: int) -> None:
    depth = ("-sample_fmt", "s16" if bits == 16 else "s32", "-bits_per_raw_sample", str(bits))
    media = encode("flac", "mp4", "-ar", str(rate), "-ac", str(channels), "-strict", "experimental", *depth)
    codec = flac.parse_configuration_record(media.box(b"dfLa"))
    assert (codec.sample_rate, codec.channels) == (rate, channels)
    assert (int.from_bytes(codec.stream_info[12:14], "big") >> 4 & 0x1F) + 1 == bits
    assert bytes(4) + flac.build_configuration_record(codec) == media.box(b"dfLa")
    assert flac.parse_configuration_record(flac.build_configuration_record(codec)) == codec
    samples = [flac.frame_samples(frame) for frame in media.packet_data()]
    assert samples == [int(packet["duration"]) for packet in media.packets]


def test_stream_info_of_a_file(encode: Encode) -> None:
    media = encode("flac", "flac", "-frame_size", "4000")
    codec = flac.parse_stream_info(media.data)
    assert codec.stream_info == media.data[8:42]
    frames = media.packet_data()
    assert flac.frame_samples(frames[0]) == 4000  # a size that has no code


STREAM_INFO = bytes.fromhex("1000100000000e0000100ac442f00000") + bytes(18)


@pytest.mark.parametrize(
    ("frame", "samples"),
    [
        (b"\xff\xf8\xc9\x18\x00", 4096),
        (b"\xff\xf8\x19\x18\x00", 192),
        (b"\xff\xf8\x69\x18\x00\xbf", 192),  # in 8 bits
        (b"\xff\xf8\x79\x18\x00\x0f\x9f", 4000),  # in 16 bits
        (b"\xff\xf9\x79\x18\xf0\x90\x80\x80\x0f\x9f", 4000),  # behind a number of 4 bytes
    ],
)
def test_frame_samples(frame: bytes, samples: int) -> None:
    assert flac.frame_samples(frame) == samples


@pytest.mark.parametrize("frame", [b"", b"\xff\xf8\x09\x18\x00", b"\xff\xfb\xc9\x18\x00", b"\xff\xf8\x69\x18\x80\x00"])
def test_broken_frames(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        flac.frame_samples(frame)


def test_broken_stream_info() -> None:
    assert flac.parse_stream_info(STREAM_INFO) == FLAC(STREAM_INFO, 44_100, 2)
    for data in (b"", STREAM_INFO[:-1], bytes(34)):
        with pytest.raises(RemoteProtocolError):
            flac.parse_stream_info(data)
    with pytest.raises(LocalProtocolError):
        flac.build_configuration_record(FLAC())


@given(st.binary(max_size=64))
def test_hostile_input(data: bytes) -> None:
    for parse, value in (
        (flac.frame_samples, data),
        (flac.frame_samples, b"\xff\xf8" + data),
        (flac.parse_stream_info, data),
        (flac.parse_configuration_record, data),
    ):
        try:
            parse(value)
        except RemoteProtocolError:
            pass
