"""The order of the tests when several workers run them."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from tests.support import schedule
from tests.support.schedule import FIRST, TESTS, Scheduler, rank, sort


def test_slow_files_are_scheduled_first() -> None:
    names = ["web/test_status_page.py", "interop/test_hls_players.py", "interop/test_copies.py", "wire/test_sdp.py"]
    items = [SimpleNamespace(path=TESTS / name) for name in names]
    mixed = random.Random(1).sample(items, len(items))
    assert mixed != items
    sort(mixed)  # type: ignore[arg-type]
    assert mixed == items
    assert rank(TESTS / "test_cli.py") == rank(TESTS.parent / "other.py") == len(FIRST)


@pytest.mark.parametrize("name", FIRST)
def test_the_first_reference_exists(name: str) -> None:
    assert (TESTS / name).exists()


@pytest.mark.parametrize(
    ("one", "other", "are_together"),
    [
        ("tests/wire/test_sdp.py::test_one[::1]", "tests/wire/test_sdp.py::test_other", True),
        ("tests/wire/test_sdp.py::test_one", "tests/test_cli.py::test_one", False),
        ("tests/web/test_one.py::test_one", "tests/web/test_other.py::test_other", True),
    ],
)
def test_what_one_worker_runs(one: str, other: str, are_together: bool) -> None:
    scheduler = Scheduler.__new__(Scheduler)
    assert (scheduler._split_scope(one) == scheduler._split_scope(other)) is are_together


def test_other_distributions_are_left_alone() -> None:
    config = SimpleNamespace(getvalue=lambda name: "worksteal")
    assert schedule.make_scheduler(config, None) is None  # type: ignore[arg-type]
