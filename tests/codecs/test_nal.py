from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycast.codecs import nal
from polycast.errors import RemoteProtocolError

UNITS = [b"\x67\x01\x02", b"\x68\x00\x00\x03\x00\x80", b"\x65" + b"\xaa" * 300]

ANNEX_B = [
    (b"\x00\x00\x00\x01\x67\x01\x00\x00\x01\x68", [b"\x67\x01", b"\x68"]),
    (b"\x00\x00\x01\x67\x01\x00\x00\x00\x01\x68\x00\x00", [b"\x67\x01", b"\x68"]),
    (b"junk\x00\x00\x01\x09\xf0", [b"\x09\xf0"]),
    (b"\x00\x00\x01\x00\x00\x01\x00\x00\x01\x41", [b"\x41"]),
    (b"\x00\x00\x01", []),
    (b"no start code", []),
    (b"", []),
]


@pytest.mark.parametrize(("data", "units"), ANNEX_B)
def test_split_annexb(data: bytes, units: list[bytes]) -> None:
    assert nal.split_annexb(data) == units


def test_annexb_round_trip() -> None:
    assert nal.split_annexb(nal.join_annexb(UNITS)) == UNITS


@pytest.mark.parametrize("length_size", [1, 2, 3, 4])
def test_split_length_prefixed(length_size: int) -> None:
    units = [unit[:200] for unit in UNITS]
    data = b"".join(len(unit).to_bytes(length_size, "big") + unit for unit in units)
    assert nal.split_length_prefixed(data, length_size) == units


def test_length_prefixed_round_trip() -> None:
    data = nal.join_length_prefixed(UNITS)
    assert data[:4] == b"\x00\x00\x00\x03"
    assert nal.split_length_prefixed(data) == UNITS


def test_length_prefixed_drops_empty_units() -> None:
    assert nal.split_length_prefixed(b"\x00\x00\x00\x00\x00\x00\x00\x01\x41") == [b"\x41"]


@pytest.mark.parametrize(
    "data", [b"\x00", b"\x00\x00\x00\x02\x41", b"\xff\xff\xff\xff\x41", b"\x00\x00\x00\x01\x41\x00"]
)
def test_length_prefixed_rejects_broken_lengths(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        nal.split_length_prefixed(data)


def test_limits() -> None:
    many = nal.MAXIMUM_NAL_UNITS_PER_FRAME
    assert len(nal.split_annexb(nal.join_annexb([b"\x41"] * many))) == many
    assert len(nal.split_length_prefixed(nal.join_length_prefixed([b"\x41"] * many))) == many
    for split, data in (
        (nal.split_annexb, nal.join_annexb([b"\x41"] * (many + 1))),
        (nal.split_annexb, bytes(nal.MAXIMUM_FRAME_SIZE + 1)),
        (nal.split_length_prefixed, nal.join_length_prefixed([b"\x41"] * (many + 1))),
        (nal.split_length_prefixed, bytes(nal.MAXIMUM_FRAME_SIZE + 1)),
    ):
        with pytest.raises(RemoteProtocolError):
            split(data)


@pytest.mark.parametrize(
    ("escaped", "plain"),
    [
        (b"\x67\x00\x00\x03\x01", b"\x67\x00\x00\x01"),
        (b"\x00\x00\x03\x00\x00\x03\x03", b"\x00\x00\x00\x00\x03"),
        (b"\x00\x00\x03\x03", b"\x00\x00\x03"),
        (b"\x00\x03\x00", b"\x00\x03\x00"),
        (b"\x41\x00\x00\x03", b"\x41\x00\x00"),
    ],
)
def test_remove_emulation_prevention(escaped: bytes, plain: bytes) -> None:
    assert nal.remove_emulation_prevention(escaped) == plain


@given(st.lists(st.integers(0, 2**32 - 2), max_size=8))
def test_exp_golomb(values: list[int]) -> None:
    writer = nal.BitWriter()
    for value in values:
        writer.write(value + 1, 2 * (value + 1).bit_length() - 1)
    reader = nal.BitReader(writer.to_bytes())
    assert [reader.read_ue() for _ in values] == values


def test_signed_exp_golomb() -> None:
    # Rec. ITU-T H.264 table 9-3: codes 1, 010, 011, 00100, 00101.
    reader = nal.BitReader(bytes((0b10100110, 0b01000010, 0b10000000)))
    assert [reader.read_se() for _ in range(5)] == [0, 1, -1, 2, -2]


def test_bit_reader_stops_at_the_end() -> None:
    reader = nal.BitReader(b"\xa5")
    assert (reader.read(4), reader.flag(), reader.remaining) == (0xA, False, 3)
    for read in (lambda: reader.read(4), lambda: reader.skip(4), nal.BitReader(bytes(3)).read_ue):
        with pytest.raises(RemoteProtocolError):
            read()
    with pytest.raises(RemoteProtocolError):
        nal.BitReader(bytes(9) + b"\xff").read_ue()
