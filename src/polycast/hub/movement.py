"""Movements of the camera of a source."""

from __future__ import annotations

from typing import Final, NamedTuple

from polycast.hub.errors import PathError

LONGEST: Final = 60.0
"""Seconds of one movement."""


class Movement(NamedTuple):
    """A movement with a speed, or to a place that the camera remembers. Without both, the camera stops."""

    pan: float = 0.0
    """From -1 (left) to 1 (right), in parts of the highest speed."""
    tilt: float = 0.0
    """From -1 (down) to 1 (up)."""
    zoom: float = 0.0
    """From -1 (out) to 1 (in)."""
    seconds: float = 1.0
    """After which the camera stops by itself."""
    preset: str = ""
    """The token of a place."""

    @property
    def is_stop(self) -> bool:
        """Whether the camera is to stop."""
        return not (self.pan or self.tilt or self.zoom or self.preset)


class CannotMove(PathError):
    """The path has no camera that can be moved, or the camera refused."""
