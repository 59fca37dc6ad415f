"""All dialects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from polycast.config.dialects.base import Dialect
from polycast.config.dialects.legacy import LEGACY
from polycast.config.dialects.mediamtx import MEDIAMTX
from polycast.config.dialects.polycast import POLYCAST

__all__ = ["DIALECTS", "MEDIAMTX", "POLYCAST", "LEGACY", "dialect_of"]

DIALECTS: Final[Mapping[str, Dialect]] = {each.name: each for each in (LEGACY, MEDIAMTX, POLYCAST)}
"""All dialects by name."""


def dialect_of(name: str) -> Dialect:
    """Return the dialect of a configuration (``Configuration.dialect``)."""
    return DIALECTS[name]
