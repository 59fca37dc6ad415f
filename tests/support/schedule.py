"""In which order several workers of pytest-xdist run the tests, so that they finish at about the same time.

Most tests wait: for other programs, for pictures that are played in real time. What takes long begins first, and the
many short tests fill the gaps at the end.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).resolve().parent.parent

ONE_BY_ONE = "web"
"""The folder whose tests all run in one worker, as they judge how smoothly a picture moves in a browser."""

FIRST = ("web", "interop/test_hls_players.py", "interop", "chaos", "control", "api", "protocols", "packaging")
"""Folders and files of ``tests`` in the order in which they begin; the others follow."""


class Scheduler(LoadScopeScheduling):
    """Gives each worker whole files in the order in which they were collected.

    Tests of one file share what is expensive: a server, a publisher, encoded media.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return ONE_BY_ONE if file.startswith(f"tests/{ONE_BY_ONE}/") else file


def make_scheduler(config: pytest.Config, log: object) -> Scheduler | None:
    """Return the scheduler of a run with ``--dist loadfile``."""
    if config.getvalue("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # xdist would begin with the files that have the most tests
    return Scheduler(config, log)  # type: ignore[arg-type]


def sort(items: list[pytest.Item]) -> None:
    """Put the tests into the order in which they begin."""
    items.sort(key=lambda item: rank(item.path))


def rank(path: Path) -> int:
    """Return how soon the tests of a file begin: 0 for the first."""
    if path.is_relative_to(TESTS):
        name = path.relative_to(TESTS)
        for part in (name.as_posix(), name.parts[0]):
            if part in FIRST:
                return FIRST.index(part)
    return len(FIRST)
