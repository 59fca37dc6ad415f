"""PyAV, imported when it is first needed."""

from __future__ import annotations

from typing import Any

from polycast.api.errors import MissingDependency


def import_av() -> Any:
    """Return the module ``av``. Raises MissingDependency."""
    try:
        import av
        import av.video.reformatter
        import numpy as np  # noqa: F401  (arrays are what it is for)
    except ImportError as error:
        raise MissingDependency(
            f'pictures and sound need PyAV and numpy: pip install "polycast[media]" ({error})'
        ) from error
    return av
