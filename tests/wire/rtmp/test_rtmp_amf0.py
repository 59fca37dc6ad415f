"""AMF0: values and bytes of the specification, limits, broken input."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.rtmp import amf, amf0
from polycast.wire.rtmp.amf import Date
from polycast.wire.rtmp.amf0 import EcmaArray

ROUND_TRIP = [
    pytest.param([3.5], "00400c000000000000", id="number"),
    pytest.param([True, False], "01010100", id="boolean"),
    pytest.param(["abc"], "020003616263", id="string"),
    pytest.param(["é"], "020002c3a9", id="string in UTF-8"),
    pytest.param([None], "05", id="null"),
    pytest.param([{"a": 1.0}], "03000161003ff0000000000000000009", id="object"),
    pytest.param([{}], "03000009", id="empty object"),
    pytest.param([[1.0, "x"]], "0a00000002003ff000000000000002000178", id="strict array"),
    pytest.param([Date(1000.0)], "0b408f4000000000000000", id="date"),
    pytest.param(["connect", 1.0, None], "020007636f6e6e656374003ff000000000000005", id="command"),
]

READ_ONLY = [
    pytest.param([{"a": None}], "080000006300016105000009", id="ECMA array with a wrong count"),
    pytest.param([None], "06", id="undefined"),
    pytest.param(["abc"], "0c00000003616263", id="long string"),
    pytest.param(["<a/>"], "0f000000043c612f3e", id="XML"),
    pytest.param([{"b": 1.0}], "1000036f6e65000162003ff0000000000000000009", id="typed object"),
    pytest.param([{"a": 1.0}, {"a": 1.0}], "03000161003ff0000000000000000009070000", id="reference"),
    pytest.param([5], "110405", id="AMF3 inside"),
]

BROKEN = [
    pytest.param("00400c", id="truncated number"),
    pytest.param("02000361", id="truncated string"),
    pytest.param("03000161", id="truncated object"),
    pytest.param("0affffffff", id="array of four thousand million"),
    pytest.param("0cffffffff", id="string of 4 GiB"),
    pytest.param("070000", id="reference to nothing"),
    pytest.param("04", id="movie clip"),
    pytest.param("ff", id="unknown type"),
]


@pytest.mark.parametrize(("values", "data"), ROUND_TRIP)
def test_round_trip(values: list[amf.Value], data: str) -> None:
    assert amf0.encode(*values) == bytes.fromhex(data)
    assert amf0.decode(bytes.fromhex(data)) == values


@pytest.mark.parametrize(("values", "data"), READ_ONLY)
def test_read(values: list[amf.Value], data: str) -> None:
    assert amf0.decode(bytes.fromhex(data)) == values


def test_a_missing_end_marker_at_the_end_of_the_message_is_tolerated() -> None:
    assert amf0.decode(bytes.fromhex("0300016101010000")) == [{"a": True}]


@pytest.mark.parametrize("data", BROKEN)
def test_broken(data: str) -> None:
    with pytest.raises(RemoteProtocolError):
        amf0.decode(bytes.fromhex(data))


def test_ecma_array_is_written_as_one() -> None:
    assert amf0.encode(EcmaArray(a=None)) == bytes.fromhex("080000000100016105000009")


def test_a_long_string_is_written_with_its_own_type() -> None:
    text = "x" * 70_000
    data = amf0.encode(text)
    assert data[:5] == bytes.fromhex("0c00011170")
    assert amf0.decode(data) == [text]


@pytest.mark.parametrize("marker", [b"\x03\x00\x01a", b"\x0a\x00\x00\x00\x01", b"\x08\x00\x00\x00\x01\x00\x01a"])
def test_deep_nesting_is_refused(marker: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="nested deeper"):
        amf0.decode(marker * 10_000)


def test_too_many_values_are_refused() -> None:
    assert len(amf0.decode(b"\x05" * amf.MAXIMUM_VALUES)) == amf.MAXIMUM_VALUES
    with pytest.raises(RemoteProtocolError, match="more than"):
        amf0.decode(b"\x05" * (amf.MAXIMUM_VALUES + 1))


def test_what_amf0_lacks_cannot_be_written() -> None:
    with pytest.raises(LocalProtocolError):
        amf0.encode(b"bytes")


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=8), children, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_any_value_survives(value: amf.Value) -> None:
    text = repr(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return
    assert amf0.decode(amf0.encode(value)) == [value]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        values = amf0.decode(data)
    except RemoteProtocolError:
        return
    assert all(not isinstance(value, float) or value == value or math.isnan(value) for value in values)
