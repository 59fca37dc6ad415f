"""The order of the tests when several workers run them."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from tests.support.schedule import FIRST, TESTS, rank, sort


def test_slow_files_are_scheduled_first() -> None:
    names = ["interop/test_hls_players.py", "interop/test_copies.py", "control/test_api.py", "wire/test_sdp.py"]
    items = [SimpleNamespace(path=TESTS / name) for name in names]
    mixed = random.Random(1).sample(items, len(items))
    assert mixed != items
    sort(mixed)  # type: ignore[arg-type]
    assert mixed == items
    assert rank(TESTS / "test_cli.py") == rank(TESTS.parent / "other.py") == len(FIRST)


@pytest.mark.parametrize("name", FIRST)
def test_the_first_reference_exists(name: str) -> None:
    assert (TESTS / name).exists()
