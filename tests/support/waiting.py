"""How long tests wait, and for what."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

PATIENCE = 60.0 * float(os.environ.get("POLYCAST_PATIENCE", "1"))
"""Seconds after which something that should happen counts as not happening.

``POLYCAST_PATIENCE=4`` makes it four times as long, for a machine that is slow or busy."""


async def until(condition: Callable[[], object], log: Sequence[str] = ()) -> None:
    """Wait until a condition holds, which is asked about each millisecond; when it does not, fail with the log."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError("the condition does not hold; the log:\n" + "\n".join(log)) from None
