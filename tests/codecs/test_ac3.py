from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.media import Encode

from polycast.codecs import ac3
from polycast.errors import RemoteProtocolError
from polycast.media.codec import AC3

LAYOUTS = {"mono": 1, "stereo": 2, "3.0": 3, "5.0": 5, "5.1": 6}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rate", [48_000, 44_100, 32_000])
def test_frames_agree_with_ffmpeg(encode: Encode, layout: str, rate: int) -> None:
    media = encode("ac3", "ac3", "-af", f"aformat=channel_layouts={layout}", "-ar", str(rate))
    frames = ac3.split_frames(media.data)
    assert [len(frame) for frame in frames] == [int(packet["size"]) for packet in media.packets]
    header = ac3.parse_sync_frame(frames[0])
    assert (header.sample_rate, header.channels) == (rate, LAYOUTS[layout])
    assert header.bit_rate == int(media.stream["bit_rate"])
    assert header.codec == AC3(sample_rate=rate, channels=LAYOUTS[layout])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_configuration_record_agrees_with_ffmpeg(encode: Encode, layout: str) -> None:
    media = encode("ac3", "mp4", "-af", f"aformat=channel_layouts={layout}")
    header = ac3.parse_sync_frame(media.packet_data()[0])
    assert ac3.build_configuration_record(header) == media.box(b"dac3")
    assert ac3.parse_configuration_record(media.box(b"dac3")) == header.codec


FRAME = bytes.fromhex("0b7700001e40e106")


@pytest.mark.parametrize("data", [b"", FRAME[:6], b"\x0b\x78" + FRAME[2:], FRAME[:4] + b"\xde\x40\xe1\x06"])
def test_broken_frames(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        ac3.parse_sync_frame(data)
    with pytest.raises(RemoteProtocolError):
        ac3.parse_configuration_record(data[:2])


def test_enhanced_ac3_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        ac3.parse_sync_frame(FRAME[:5] + b"\x80\xe1\x06")


def test_limits() -> None:
    header = ac3.parse_sync_frame(FRAME)
    frame = FRAME + bytes(header.frame_size - len(FRAME))
    assert len(ac3.split_frames(frame * ac3.MAXIMUM_FRAMES)) == ac3.MAXIMUM_FRAMES
    for data in (frame * (ac3.MAXIMUM_FRAMES + 1), frame[:-1]):
        with pytest.raises(RemoteProtocolError):
            ac3.split_frames(data)


@given(st.binary(max_size=32))
def test_hostile_input(data: bytes) -> None:
    for parse, value in (
        (ac3.split_frames, data),
        (ac3.split_frames, b"\x0b\x77" + data),
        (ac3.parse_configuration_record, data),
    ):
        try:
            parse(value)
        except RemoteProtocolError:
            pass
