"""How many cores decode or encode pictures: enough for large ones, and some are left for the rest of the machine."""

from __future__ import annotations

import os
from typing import Final

SLICED_PIXELS: Final = 1280 * 720
"""Pictures of this size and above are split into slices, which several cores encode in parallel."""

MAXIMUM_THREADS: Final = 4


def decoding_threads() -> int:
    """Return the number of threads of a video decoder."""
    return min(os.cpu_count() or 1, MAXIMUM_THREADS)


def encoding_threads(pixels: int) -> int:
    """Return the number of threads of an encoder for pictures of a size."""
    return decoding_threads() if pixels >= SLICED_PIXELS else 1
