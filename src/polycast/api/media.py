"""PyAV, imported when it is first needed."""

from __future__ import annotations

from typing import Any

from polycast.api.errors import MissingDependency
from polycast.errors import missing_packages


def import_av() -> Any:
    """Return the module ``av``. Raises MissingDependency."""
    try:
        import av
        import av.video.reformatter
        import numpy as np  # noqa: F401  (arrays are what it is for)
    except ImportError as error:
        raise MissingDependency(f"{missing_packages('encoding and decoding', 'av', 'numpy')} ({error})") from error
    return av
