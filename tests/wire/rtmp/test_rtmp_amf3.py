"""AMF3: values and bytes of the specification, references, limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.rtmp import amf3
from polycast.wire.rtmp.amf import Date, Value

ROUND_TRIP: list[tuple[str, Value]] = [
    ("01", None),
    ("02", False),
    ("03", True),
    ("0400", 0),
    ("047f", 127),
    ("048100", 128),
    ("04ffff7f", 0x1FFFFF),
    ("0480c08000", 0x200000),
    ("04bfffffff", 0x0FFFFFFF),
    ("04c0808000", -(1 << 28)),
    ("04ffffffff", -1),
    ("053ff8000000000000", 1.5),
    ("0601", ""),
    ("0607616263", "abc"),
    ("0801408f400000000000", Date(1000.0)),
    ("09050104010402", [1, 2]),
    ("0a0b010361040101", {"a": 1}),
    ("0c050102", b"\x01\x02"),
]

READ_ONLY: list[tuple[str, Value]] = [
    ("00", None),
    ("09050106076162630600", ["abc", "abc"]),
    ("090303610401010402", {"a": 1, "0": 2}),
    ("0d050000000001ffffffff", [1, -1]),
    ("0e050000000001ffffffff", [1, 0xFFFFFFFF]),
    ("0f03003ff8000000000000", [1.5]),
    ("100300010401", [1]),
    ("1103000603610401", {"a": 1}),
    ("0b093c612f3e", "<a/>"),
]

BROKEN = ["04", "0480", "06ff", "09ffffffff01", "0a07", "0afffffff701", "0902", "0600", "12", "0dfffffffd00", "0c0901"]


@pytest.mark.parametrize(("data", "value"), ROUND_TRIP)
def test_round_trip(data: str, value: Value) -> None:
    assert amf3.encode(value) == bytes.fromhex(data)
    assert amf3.decode(bytes.fromhex(data)) == [value]


@pytest.mark.parametrize(("data", "value"), READ_ONLY)
def test_read(data: str, value: Value) -> None:
    assert amf3.decode(bytes.fromhex(data)) == [value]


def test_a_class_is_remembered_by_its_number() -> None:
    # Two objects of the class "C" with the sealed member "a"; the second names the class by reference.
    data = bytes.fromhex("0905010a130343036104010a010402")
    assert amf3.decode(data) == [[{"a": 1}, {"a": 2}]]


@pytest.mark.parametrize("data", BROKEN)
def test_broken(data: str) -> None:
    with pytest.raises(RemoteProtocolError):
        amf3.decode(bytes.fromhex(data))


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="nested deeper"):
        amf3.decode(bytes.fromhex("090301") * 10_000)


def test_an_object_that_contains_itself_is_read() -> None:
    (value,) = amf3.decode(bytes.fromhex("0903010900"))
    assert isinstance(value, list)
    assert value[0] is value


def test_what_amf3_lacks_cannot_be_written() -> None:
    with pytest.raises(LocalProtocolError):
        amf3.encode(object())  # type: ignore[arg-type]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        amf3.decode(data)
    except RemoteProtocolError:
        return
