"""Long lists are made piece by piece, so that they do not hold up streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeVar

import msgspec

SLICE_SECONDS: Final = 0.001
"""How long items are made before others get their turn."""

Item = TypeVar("Item")
Made = TypeVar("Made")


async def in_slices(items: Iterable[Item], make: Callable[[Item], Made]) -> AsyncIterator[Made]:
    """Yield what ``make`` makes of each item. There may be thousands: in between, others get their turn."""
    loop = asyncio.get_running_loop()
    end = loop.time() + SLICE_SECONDS
    for item in items:
        if loop.time() >= end:
            await asyncio.sleep(0)
            end = loop.time() + SLICE_SECONDS
        yield make(item)


def encoded(item: object) -> msgspec.Raw:
    """Return an item as a part of a JSON response: to encode all of them at once would take long."""
    return msgspec.Raw(msgspec.json.encode(item))
