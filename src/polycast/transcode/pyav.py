"""PyAV, imported when it is first needed."""

from __future__ import annotations

from typing import Any

from polycast.errors import MissingDependency, missing_packages


def import_av(purpose: str = "encoding and decoding") -> Any:
    """Return the module ``av``. Raises MissingDependency, whose text says what it is needed for."""
    try:
        import av
        import av.video.reformatter
        import numpy as np  # noqa: F401  (arrays are what it is for)
    except ImportError as error:
        raise MissingDependency(f"{missing_packages(purpose, 'av', 'numpy')} ({error})") from error
    return av


def missing_for(key: str) -> str:
    """Return what a key of the configuration needs and is not installed, as a text for the user; empty for nothing.

    What is installed is imported, so that this does not happen when the first reader comes.
    """
    try:
        import_av(key)
    except MissingDependency as error:
        return str(error)
    return ""
