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
