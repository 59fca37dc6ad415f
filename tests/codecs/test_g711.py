from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycast.codecs import g711
from polycast.errors import RemoteProtocolError


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg is not installed")
@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_decoding_agrees_with_ffmpeg(law: str) -> None:
    codes = bytes(range(256))
    command = ["ffmpeg", "-v", "error", "-f", law, "-i", "-", "-f", "s16be", "-"]
    expected = subprocess.run(command, input=codes, capture_output=True, check=True).stdout
    assert g711.decode(codes, mu_law=law == "mulaw") == expected


@pytest.mark.parametrize("mu_law", [True, False])
def test_every_code_survives_decoding_and_encoding(mu_law: bool) -> None:
    codes = bytes(range(256))
    again = bytearray(g711.encode(g711.decode(codes, mu_law=mu_law), mu_law=mu_law))
    if mu_law:
        assert again[0x7F] == 0xFF  # there are two codes for zero
        again[0x7F] = 0x7F
    assert bytes(again) == codes


@pytest.mark.parametrize("mu_law", [True, False])
@given(sample=st.integers(-32768, 32767))
def test_encoding_takes_a_near_code(mu_law: bool, sample: int) -> None:
    table = g711.MU_LAW_TO_LINEAR if mu_law else g711.A_LAW_TO_LINEAR
    code = g711.encode(sample.to_bytes(2, "big", signed=True), mu_law=mu_law)[0]
    # A step is at most 1/16 of the value (with the offset of mu-law), and 16 near zero; an error is half of it.
    assert abs(table[code] - sample) <= max(8, (abs(sample) + 132) / 32 + 8)


@pytest.mark.parametrize("mu_law", [True, False])
def test_encoding_keeps_the_order(mu_law: bool) -> None:
    samples = b"".join(value.to_bytes(2, "big", signed=True) for value in range(-32768, 32768, 7))
    decoded = g711.decode(g711.encode(samples, mu_law=mu_law), mu_law=mu_law)
    values = [int.from_bytes(decoded[i : i + 2], "big", signed=True) for i in range(0, len(decoded), 2)]
    assert values == sorted(values)


def test_half_a_sample() -> None:
    with pytest.raises(RemoteProtocolError):
        g711.encode(b"\x00", mu_law=True)
