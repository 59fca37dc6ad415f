"""Suggestions for misspelled names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_SIMILARITY: Final = 0.65  # 0 to 1, as defined by difflib
_LONGEST: Final = 64  # characters of a text that is compared; comparing takes quadratic time


def closest(text: str, known: Iterable[str], similarity: float = _SIMILARITY) -> str:
    """Return the known text that is most similar to another one, ignoring case; empty if none is similar."""
    by_lower = {name.lower(): name for name in known}
    found = get_close_matches(text[:_LONGEST].lower(), by_lower, n=1, cutoff=similarity)
    return by_lower[found[0]] if found else ""
