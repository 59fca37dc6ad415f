from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.media import Encode

from polycast.codecs import eac3
from polycast.codecs.bits import BitWriter
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import EAC3
from polycast.media.frame import Frame
from polycast.rtp.payload.eac3 import EAC3Packetizer

LAYOUTS = {"mono": 1, "stereo": 2, "3.0": 3, "5.0": 5, "5.1": 6}
RATES = {1: 96, 2: 192, 6: 384}
"""Kbit/s that a dec3 box says."""


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rate", [48_000, 44_100, 32_000])
def test_access_units_agree_with_ffmpeg(encode: Encode, layout: str, rate: int) -> None:
    media = encode("eac3", "eac3", "-af", f"aformat=channel_layouts={layout}", "-ar", str(rate))
    units = eac3.split_access_units(media.data)
    assert [len(unit) for unit, _ in units] == [int(packet["size"]) for packet in media.packets]
    assert {description.codec for _, description in units} == {EAC3(rate, LAYOUTS[layout])}
    assert {description.samples for _, description in units} == {1536}


def test_frames_with_fewer_blocks_are_joined(encode: Encode) -> None:
    media = encode("eac3", "eac3", "-af", "aformat=channel_layouts=5.1", "-b:a", "2000k")
    assert {eac3.parse_sync_frame(data[:12]).blocks for data in media.packet_data()} == {3}
    units = eac3.split_access_units(media.data)
    assert {(unit.frames, unit.samples) for _, unit in units} == {(2, 1536)}
    assert len(units) * 2 == len(media.packets)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_configuration_record_agrees_with_ffmpeg(encode: Encode, layout: str) -> None:
    channels = LAYOUTS[layout]
    media = encode("eac3", "mp4", "-af", f"aformat=channel_layouts={layout}", "-b:a", f"{RATES.get(channels, 384)}k")
    assert eac3.build_configuration_record(EAC3(48_000, channels)) == media.box(b"dec3")
    assert eac3.parse_configuration_record(media.box(b"dec3"), 0) == EAC3(48_000, channels)


@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize("rate", [48_000, 32_000, 22_050])
def test_configuration_records_of_all_layouts(channels: int, rate: int) -> None:
    codec = EAC3(rate, channels)
    assert eac3.parse_configuration_record(eac3.build_configuration_record(codec), rate) == codec


@pytest.mark.parametrize("codec", [EAC3(48_000, 9), EAC3(11_025, 2)])
def test_what_a_configuration_record_cannot_describe(codec: EAC3) -> None:
    with pytest.raises(LocalProtocolError):
        eac3.build_configuration_record(codec)


# A frame of 12 bytes: 48 kHz, six blocks, 5.1 channels.
MAIN = bytes.fromhex("0b77 0005 3f 86 00 000000 0000")


def dependent(channel_map: int) -> bytes:
    """Return a frame of a substream that depends on the main one, with this channel map."""
    writer = BitWriter()
    # Type, substream, size, sample rate, blocks, mode, version, dialnorm, no compr, and a channel map.
    fields = (
        (0x0B77, 16),
        (1, 2),
        (0, 3),
        (5, 11),
        (0, 2),
        (3, 2),
        (6 << 1, 4),
        (16, 5),
        (0, 6),
        (1, 1),
        (channel_map, 16),
    )
    for value, count in (*fields, (0, 28)):
        writer.write(value, count)
    return writer.to_bytes()


def test_channels_of_dependent_substreams() -> None:
    """Two of the four channels replace those of the main substream."""
    surround = dependent(0x1A00)  # left, right, and rear surround
    assert eac3.parse_sync_frame(surround).locations == 0x1A00
    unit = eac3.read_access_unit(MAIN + surround)
    assert unit is not None
    assert (unit.size, unit.frames, unit.codec) == (24, 2, EAC3(48_000, 8))
    other_program = bytes.fromhex("0b770805") + MAIN[4:]
    units = eac3.split_access_units((MAIN + surround + other_program + surround) * 3)
    assert [(each.frames, each.codec.channels) for _, each in units] == [(4, 8)] * 3
    assert eac3.read_access_unit(MAIN + MAIN + surround) is not None
    assert eac3.updated(EAC3(48_000, 6), (MAIN + surround,)) == EAC3(48_000, 8)
    codec = EAC3(48_000, 6)
    assert eac3.updated(codec, (MAIN,)) is codec


def test_the_end_of_an_access_unit() -> None:
    assert eac3.read_access_unit(MAIN) is not None, "what follows is another access unit"
    for data in (b"", MAIN[:6], MAIN[:-1], MAIN + MAIN[:5], MAIN + dependent(0x0200)[:-1]):
        assert eac3.read_access_unit(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x0b\x78" + MAIN[2:],
        MAIN[:2] + b"\xc0" + MAIN[3:],  # a reserved type
        MAIN[:5] + b"\x40" + MAIN[6:],  # AC-3
        MAIN[:3] + b"\x00" + MAIN[4:],  # too small
        MAIN[:4] + b"\xff" + MAIN[5:],  # no sample rate
        dependent(0x0200),
        MAIN[:1],
    ],
)
def test_broken_frames(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        eac3.split_access_units(data)


def test_limits() -> None:
    assert len(eac3.split_access_units(MAIN * eac3.MAXIMUM_UNITS)) == eac3.MAXIMUM_UNITS
    for data in (MAIN * (eac3.MAXIMUM_UNITS + 1), MAIN + dependent(0x0200) * eac3.MAXIMUM_SYNC_FRAMES + MAIN):
        with pytest.raises(RemoteProtocolError):
            eac3.split_access_units(data)
    for record in (b"", bytes(3), bytes.fromhex("0600e004")):
        with pytest.raises(RemoteProtocolError):
            eac3.parse_configuration_record(record, 0)


@given(st.binary(max_size=48))
def test_hostile_input(data: bytes) -> None:
    for value in (data, b"\x0b\x77" + data, MAIN[:6] + data):
        try:
            eac3.split_access_units(value)
        except RemoteProtocolError:
            pass
        try:
            eac3.parse_configuration_record(value, 48_000)
        except RemoteProtocolError:
            pass


def test_an_access_unit_with_more_fragments_than_can_be_counted_is_not_sent() -> None:
    """Their number has 8 bits (RFC 4598 section 4.1.1)."""
    largest = bytes.fromhex("0b7707ff0480") + bytes(4090)
    depends = bytes.fromhex("0b7747ff0480") + bytes(4090)
    unit = (largest + 9 * depends) * 6
    assert eac3.read_access_unit(unit) is not None
    frame = Frame((unit,), 0, 0, key=True)
    assert len(EAC3Packetizer(96, 1, 0, 0, 1_400).payloads(frame)) == 176
    assert EAC3Packetizer(96, 1, 0, 0, 500).payloads(frame) == ()
