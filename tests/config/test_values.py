"""Durations, sizes and addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycast.config import Duration, Size
from polycast.errors import ConfigurationError

# Text and seconds; the canonical text where it differs. As in Go's ParseDuration and Duration.String.
DURATIONS = [
    ("0s", 0.0, "0s"),
    ("0", 0.0, "0s"),
    ("10s", 10.0, "10s"),
    ("200ms", 0.2, "200ms"),
    ("1m30s", 90.0, "1m30s"),
    ("60s", 60.0, "1m0s"),
    ("1h", 3600.0, "1h0m0s"),
    ("1.5h", 5400.0, "1h30m0s"),
    (".5s", 0.5, "500ms"),
    ("5.s", 5.0, "5s"),
    ("1500us", 0.0015, "1.5ms"),
    ("3\u00b5s", 3e-6, "3\u00b5s"),
    ("3\u03bcs", 3e-6, "3\u00b5s"),
    ("12ns", 12e-9, "12ns"),
    ("1s1s", 2.0, "2s"),
    ("720h", 2_592_000.0, "720h0m0s"),
]
SIZES = [
    ("50M", 52428800, "50M"),
    ("50MB", 52428800, "50M"),
    ("50MiB", 52428800, "50M"),
    ("50m", 52428800, "50M"),
    ("1.5G", 1610612736, "1.5G"),
    ("512K", 524288, "512K"),
    ("1024K", 1048576, "1M"),
    ("1000B", 1000, "1000B"),
    ("0.1K", 102, "102B"),
    ("0B", 0, "0B"),
    ("2T", 2 * 1024**4, "2T"),
    ("1P", 1024**5, "1P"),
    ("1E", 1024**6, "1E"),
]


@pytest.mark.parametrize(("text", "seconds", "canonical"), DURATIONS)
def test_duration(text: str, seconds: float, canonical: str) -> None:
    assert Duration.parse(text) == pytest.approx(seconds, rel=1e-12)
    assert str(Duration.parse(text)) == canonical


@pytest.mark.parametrize(
    "text",
    ["", "10", "s", ".s", "-5s", "+5s", "1d", "1 s", "1s ", "1S", "\u0661s", "1e3s", "9999999999h", "9" * 5000 + "s"],
)
def test_not_a_duration(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a duration"):
        Duration.parse(text)


@given(st.integers(min_value=0, max_value=2**51))
def test_duration_round_trip(nanoseconds: int) -> None:
    duration = Duration.parse(f"{nanoseconds}ns")
    assert round(duration * 1e9) == nanoseconds
    assert Duration.parse(str(duration)) == duration


@given(st.text(alphabet="0123456789.hmsnu\u00b5", max_size=12))
def test_any_duration_text(text: str) -> None:
    try:
        duration = Duration.parse(text)
    except ConfigurationError:
        return
    assert duration >= 0


@pytest.mark.parametrize(("text", "size", "canonical"), SIZES)
def test_size(text: str, size: int, canonical: str) -> None:
    assert Size.parse(text) == size
    assert str(Size.parse(text)) == canonical


@pytest.mark.parametrize("text", ["", "50", "M", "-1M", "1 M", "1X", "1MBB", "1e3M", "8E", "9" * 5000 + "B", "\u0661M"])
def test_not_a_size(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a size"):
        Size.parse(text)


@given(st.integers(min_value=0, max_value=2**53) | st.integers(0, 2**14).map(lambda n: n * 512 * 1024**3))
def test_size_round_trip(size: int) -> None:
    assert Size.parse(str(Size(size))) == size
