"""Recordings in numbers, for metrics."""

from __future__ import annotations

from msgspec import Struct


class RecordingNumbers(Struct, frozen=True):
    """One recording."""

    path: str
    written_bytes: int
    segments: int
    queued_bytes: int
    dropped_frames: int
    discarded_frames: int
    errors: int


class DiskNumbers(Struct, frozen=True):
    """One directory that is written to."""

    root: str
    free: int | None
    """Bytes, as far as it is known."""
    queued: int
    """Bytes."""
