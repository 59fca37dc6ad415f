"""The part target suits the frame rate: every part is between 85 % and 100 % of it."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest

from polycast.wire.hls.part_target import MAXIMUM_GROWTH, PartTarget

RATES = [Fraction(each) for each in (1, 2, 5, 8, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 144, 240)]
RATES += [Fraction(24_000, 1001), Fraction(30_000, 1001), Fraction(60_000, 1001)]
AUDIO_RATES = [
    Fraction(rate, samples) for rate in (8000, 44_100, 48_000, 96_000) for samples in (120, 960, 1024, 1152, 2048)
]


@pytest.mark.parametrize("milliseconds", [50, 100, 200, 333, 500, 1000])
@pytest.mark.parametrize("rounding", [1, 90])
@pytest.mark.parametrize("rate", [*RATES, *AUDIO_RATES])
def test_every_part_fills_the_target(rate: Fraction, rounding: int, milliseconds: int) -> None:
    """``rounding`` 90 is a publisher that rounds its times to milliseconds."""
    times = [int(number * 90_000 / rate) // rounding * rounding for number in range(int(20 * rate) + 20)]
    durations = [later - earlier for earlier, later in pairwise(times)]
    target = PartTarget(milliseconds / 1000, 90_000)
    for duration in durations[: len(durations) // 4]:
        target.observe(duration)
    target.fix()
    parts, elapsed = [], 0
    for duration in durations:
        elapsed += duration
        if elapsed >= target.minimum:
            parts.append(elapsed)
            elapsed = 0
    assert parts
    assert max(parts) <= target.milliseconds * 90
    assert min(parts) * 100 >= target.milliseconds * 90 * 85
    assert target.milliseconds <= max(2 * milliseconds, 1200 / rate)


def test_a_fixed_target_grows_for_long_parts_within_its_limit() -> None:
    target = PartTarget(0.2, 90_000)
    target.observe(3000)
    target.fix()
    target.observe(90_000)
    assert target.milliseconds == 205
    target.grow(18_901)
    assert target.milliseconds == 215
    target.grow(90_000 * 30)
    assert target.milliseconds == MAXIMUM_GROWTH
    target.grow(900)
    assert target.milliseconds == MAXIMUM_GROWTH
