from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.media import Encode

from polycast.codecs import opus
from polycast.errors import RemoteProtocolError
from polycast.media.codec import Opus

DURATIONS = [
    (bytes((0 << 3,)), 480),  # SILK 10 ms
    (bytes((3 << 3,)), 2880),  # SILK 60 ms
    (bytes((13 << 3,)), 960),  # hybrid 20 ms
    (bytes((16 << 3,)), 120),  # CELT 2.5 ms
    (bytes((31 << 3 | 1,)), 1920),  # two frames of the same size
    (bytes((31 << 3 | 2,)), 1920),  # two frames of different sizes
    (bytes((31 << 3 | 3, 3)), 2880),  # three frames
    (bytes((16 << 3 | 3, 0x80 | 48)), 5760),  # 48 frames: 120 ms
]


@pytest.mark.parametrize(("packet", "duration"), DURATIONS)
def test_packet_duration(packet: bytes, duration: int) -> None:
    assert opus.packet_duration(packet) == duration


@pytest.mark.parametrize("packet", [b"", b"\x03", b"\x03\x00", bytes((3 << 3 | 3, 3))])
def test_broken_packets(packet: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        opus.packet_duration(packet)


@pytest.mark.parametrize("milliseconds", ["2.5", "5", "10", "20", "40", "60"])
def test_durations_agree_with_ffmpeg(encode: Encode, milliseconds: str) -> None:
    media = encode("libopus", "mp4", "-frame_duration", milliseconds, "-ac", "2")
    durations = [opus.packet_duration(packet) for packet in media.packet_data()]
    assert set(durations) == {int(float(milliseconds) * 48)}
    assert durations[:-1] == [int(packet["duration"]) for packet in media.packets][:-1]


LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


@pytest.mark.parametrize("channels", LAYOUTS)
def test_configuration_record_agrees_with_ffmpeg(encode: Encode, channels: int) -> None:
    family = ("-mapping_family", "1") if channels > 2 else ()
    media = encode("libopus", "mp4", "-af", f"aformat=channel_layouts={LAYOUTS[channels]}", *family)
    record = media.box(b"dOps")
    assert opus.parse_configuration_record(record).channels == channels
    assert opus.build_configuration_record(opus.parse_configuration_record(record)) == record
    assert opus.build_configuration_record(opus.configuration_of(Opus(channels=channels))) == record


def test_id_header_agrees_with_ffmpeg(encode: Encode) -> None:
    media = encode("libopus", "ogg", "-ac", "2")
    start = media.data.index(b"OpusHead")
    header = media.data[start : start + 19]
    assert opus.build_id_header(opus.OpusConfiguration()) == header
    assert opus.parse_id_header(header) == opus.OpusConfiguration()


@given(st.binary(max_size=32))
def test_hostile_input(data: bytes) -> None:
    for parse in (
        opus.packet_duration,
        opus.parse_configuration_record,
        opus.parse_id_header,
        lambda d: opus.parse_id_header(b"OpusHead\x01" + d),
    ):
        try:
            parse(data)
        except RemoteProtocolError:
            pass
