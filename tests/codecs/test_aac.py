from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.media import Encode
from tests.interop.tools import quick_program

from polycast.codecs import aac
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import MPEG4Audio

# AudioSpecificConfig, sample rate and channels of the decoder, samples per frame, codec string.
CONFIGURATIONS = [
    ("1190", 48_000, 2, 1024, "mp4a.40.2"),  # AAC-LC
    ("1208", 44_100, 1, 1024, "mp4a.40.2"),
    ("1210", 44_100, 2, 1024, "mp4a.40.2"),
    ("11b0", 48_000, 6, 1024, "mp4a.40.2"),
    ("11b8", 48_000, 8, 1024, "mp4a.40.2"),
    ("1194", 48_000, 2, 960, "mp4a.40.2"),  # frames of 960 samples
    ("1780678408", 53_000, 1, 1024, "mp4a.40.2"),  # a sample rate without index
    ("2b920800", 44_100, 2, 2048, "mp4a.40.5"),  # HE-AAC, signalled explicitly: 22.05 kHz to 44.1 kHz
    ("eb8a0800", 44_100, 2, 2048, "mp4a.40.29"),  # HE-AAC v2: mono core, stereo out
    ("139056e5a0", 44_100, 2, 2048, "mp4a.40.2"),  # HE-AAC, signalled for those who look behind the end
    ("f8e85000", 44_100, 2, 480, "mp4a.40.39"),  # AAC-ELD
]


@pytest.mark.parametrize(("text", "rate", "channels", "samples", "name"), CONFIGURATIONS)
def test_audio_specific_config(text: str, rate: int, channels: int, samples: int, name: str) -> None:
    codec = aac.parse_audio_specific_config(bytes.fromhex(text))
    assert (codec.sample_rate, codec.channels) == (rate, channels)
    assert codec.configuration == bytes.fromhex(text)
    assert aac.samples_per_frame(codec) == samples
    assert aac.codec_string(codec) == name


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (44_100, 1), (16_000, 6), (96_000, 8), (53_000, 2)])
def test_build_audio_specific_config(rate: int, channels: int) -> None:
    codec = aac.parse_audio_specific_config(aac.build_audio_specific_config(2, rate, channels))
    assert (codec.sample_rate, codec.channels, aac.object_type(codec)) == (rate, channels, 2)
    assert aac.build_audio_specific_config(2, 48_000, 2) == b"\x11\x90"
    with pytest.raises(LocalProtocolError):
        aac.build_audio_specific_config(2, rate, 9)


def test_program_configuration_element() -> None:
    # Channel configuration 0; the element lists one front pair and one low frequency channel.
    bits = "00010001100000000000010011000100000000010000000000100000000"
    bits += "0" * (-len(bits) % 8) + "00000000"
    codec = aac.parse_audio_specific_config(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    assert (codec.sample_rate, codec.channels) == (48_000, 3)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_adts_agrees_with_ffmpeg(encode: Encode, channels: int) -> None:
    media = encode("aac", "aac", "-ac", str(channels))
    frames = aac.parse_adts(media.data)
    assert len(frames) == len(media.packets)
    assert [header.frame_size for header, _ in frames] == [int(packet["size"]) for packet in media.packets]
    codec = frames[0][0].codec
    assert (codec.sample_rate, codec.channels) == (int(media.stream["sample_rate"]), media.stream["channels"])
    rebuilt = b"".join(aac.build_adts_header(codec, len(payload)) + payload for _, payload in frames)
    # FFmpeg writes MPEG-4 ADTS without checksum and with a full buffer, as we do.
    assert rebuilt == media.data


def test_configuration_agrees_with_ffmpeg(encode: Encode) -> None:
    media = encode("aac", "mp4", "-ac", "2")
    descriptor = media.box(b"esds")
    configuration = descriptor[descriptor.index(b"\x05\x80\x80\x80") + 5 :][
        : descriptor[descriptor.index(b"\x05\x80\x80\x80") + 4]
    ]
    codec = aac.parse_audio_specific_config(configuration)
    assert (codec.sample_rate, codec.channels) == (48_000, 2)
    assert configuration.startswith(aac.build_audio_specific_config(2, 48_000, 2))
    assert {int(p["duration"]) for p in media.packets[:-1]} == {aac.samples_per_frame(codec)}


@pytest.mark.interop
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 8])
def test_ffmpeg_hears_nothing_in_silence(channels: int) -> None:
    configuration = aac.build_audio_specific_config(2, 48_000, channels)
    frame = aac.silent_frame(channels)
    data = (aac.build_adts_header(MPEG4Audio(configuration, 48_000, channels), len(frame)) + frame) * 20
    command = [quick_program(), "-v", "error", "-f", "aac", "-i", "-", "-f", "s16le", "-"]
    decoded = subprocess.run(command, input=data, capture_output=True, check=True)
    assert decoded.stderr == b""
    assert decoded.stdout == bytes(20 * 1024 * 2 * channels)


def test_channels_without_silence() -> None:
    with pytest.raises(LocalProtocolError, match="AAC cannot have 7 channels"):
        aac.silent_frame(7)


@pytest.mark.parametrize(
    "data", [b"\xff\xf1", b"\xff\xf1\x4c\x80\x00\x1f\xfc", b"\x00" * 9, b"\xff\xf1\x7c\x80\x02\x1f\xfc" + bytes(20)]
)
def test_broken_adts(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        aac.parse_adts(data)


def test_limits() -> None:
    frame = aac.build_adts_header(MPEG4Audio(), 1) + b"\x00"
    assert len(aac.parse_adts(frame * aac.MAXIMUM_ADTS_FRAMES)) == aac.MAXIMUM_ADTS_FRAMES
    with pytest.raises(RemoteProtocolError):
        aac.parse_adts(frame * (aac.MAXIMUM_ADTS_FRAMES + 1))
    with pytest.raises(RemoteProtocolError):
        aac.parse_audio_specific_config(bytes(aac.MAXIMUM_CONFIGURATION_SIZE + 1))
    with pytest.raises(LocalProtocolError):
        aac.build_adts_header(MPEG4Audio(), 8185)


@given(st.binary(max_size=64))
def test_hostile_input(data: bytes) -> None:
    for parse in (aac.parse_audio_specific_config, aac.parse_adts, lambda d: aac.parse_adts(b"\xff\xf1" + d)):
        try:
            parse(data)
        except RemoteProtocolError:
            pass
    codec = MPEG4Audio(configuration=data)
    aac.samples_per_frame(codec)
    aac.codec_string(codec)
