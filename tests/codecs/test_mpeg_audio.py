from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.media import Encode

from polycast.codecs import mpeg_audio
from polycast.errors import RemoteProtocolError
from polycast.media.codec import MPEGAudio

ENCODINGS = [
    ("libmp3lame", "mp3", 48_000, 2, 1152),
    ("libmp3lame", "mp3", 44_100, 1, 1152),
    ("libmp3lame", "mp3", 22_050, 2, 576),
    ("libmp3lame", "mp3", 8_000, 1, 576),  # MPEG-2.5
    ("mp2", "mp2", 48_000, 2, 1152),
    ("mp2", "mp2", 24_000, 1, 1152),
]


@pytest.mark.parametrize(("encoder", "extension", "rate", "channels", "samples"), ENCODINGS)
def test_frames_agree_with_ffmpeg(
    encode: Encode, encoder: str, extension: str, rate: int, channels: int, samples: int
) -> None:
    no_tags = ("-write_xing", "0", "-id3v2_version", "0") if extension == "mp3" else ()
    media = encode(encoder, extension, "-ar", str(rate), "-ac", str(channels), *no_tags)
    frames = mpeg_audio.split_frames(media.data)
    assert frames == media.packet_data()
    header = mpeg_audio.parse_frame_header(frames[0])
    assert (header.sample_rate, header.channels, header.samples) == (rate, channels, samples)
    assert header.bit_rate == int(media.stream["bit_rate"])
    assert header.layer == (3 if extension == "mp3" else 2)
    assert header.codec == MPEGAudio(sample_rate=rate, channels=channels, layer=header.layer)
    assert mpeg_audio.codec_string(header.codec) == ("mp4a.6B" if rate >= 32_000 else "mp4a.69")


def test_layer_one() -> None:
    # 384 kbit/s at 48 kHz: 96 slots of 4 bytes (ISO/IEC 11172-3 section 2.4.3.1).
    header = mpeg_audio.parse_frame_header(b"\xff\xff\xc4\x00")
    assert (header.layer, header.bit_rate, header.frame_size, header.samples) == (1, 384_000, 384, 384)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfb\x90", b"\x00" * 4, b"\xff\xfb\x00\x00", b"\xff\xfb\xf0\x00", b"\xff\xfb\x9c\x00"]
)
def test_broken_headers(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        mpeg_audio.parse_frame_header(data)


def test_limits() -> None:
    frame = b"\xff\xf3\x18\xc4" + bytes(20)  # MPEG-2 layer III, 8 kbit/s at 16 kHz would be 36 bytes
    size = mpeg_audio.parse_frame_header(frame).frame_size
    frame = frame[:4] + bytes(size - 4)
    assert len(mpeg_audio.split_frames(frame * mpeg_audio.MAXIMUM_FRAMES)) == mpeg_audio.MAXIMUM_FRAMES
    for data in (frame * (mpeg_audio.MAXIMUM_FRAMES + 1), frame[:-1]):
        with pytest.raises(RemoteProtocolError):
            mpeg_audio.split_frames(data)


@given(st.binary(max_size=32))
def test_hostile_input(data: bytes) -> None:
    for value in (data, b"\xff\xfb" + data):
        try:
            mpeg_audio.split_frames(value)
        except RemoteProtocolError:
            pass
