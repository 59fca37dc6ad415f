"""Movements of cameras in API v3, given as parameters of the query."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from polycast.control.errors import RequestError
from polycast.hub.movement import LONGEST, Movement

MAXIMUM_PRESET: Final = 256
"""Characters of the token of a preset."""
SPEEDS: Final = ("pan", "tilt", "zoom")


def read_movement(query: Mapping[str, str]) -> Movement:
    """Return the movement that a query describes. Raises RequestError."""
    speeds = {name: _number(query, name, 0.0, -1.0, 1.0) for name in SPEEDS}
    preset = query.get("preset", "")
    if len(preset) > MAXIMUM_PRESET:
        raise RequestError(400, f"invalid preset: longer than {MAXIMUM_PRESET} characters")
    seconds = _number(query, "seconds", 1.0, 0.0, LONGEST)
    return Movement(speeds["pan"], speeds["tilt"], speeds["zoom"], seconds, preset)


def _number(query: Mapping[str, str], name: str, default: float, lowest: float, highest: float) -> float:
    text = query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not lowest <= value <= highest:
        raise RequestError(400, f"invalid {name}: a number from {lowest:g} to {highest:g}")
    return value
