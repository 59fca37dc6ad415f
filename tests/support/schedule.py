"""In which order several workers of pytest-xdist run the tests, so that they finish at about the same time.

Most tests wait for other programs. What takes long begins first, and the many short tests fill the gaps at the end.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent

FIRST = ("interop/test_hls_players.py", "interop", "chaos", "control", "api", "protocols", "packaging")
"""Folders and files of ``tests`` in the order in which they begin; the others follow."""


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
