"""Long lists: between the items, others get their turn."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from polycast.control import slices
from polycast.control.slices import encoded, in_slices


@pytest.mark.parametrize(("seconds", "least", "most"), [(0.0, 99, 110), (1000.0, 0, 10)])
async def test_others_get_their_turn(monkeypatch: pytest.MonkeyPatch, seconds: float, least: int, most: int) -> None:
    monkeypatch.setattr(slices, "SLICE_SECONDS", seconds)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    made = [item async for item in in_slices(range(100), lambda item: item * 2)]
    other.cancel()
    assert made == list(range(0, 200, 2))
    assert least <= turns <= most


def test_encoded_items_are_parts_of_a_response() -> None:
    assert msgspec.json.encode({"items": [encoded({"a": 1}), encoded(None)]}) == b'{"items":[{"a":1},null]}'
