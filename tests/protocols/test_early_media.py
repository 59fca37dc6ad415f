"""Media that is received too early is kept up to a number of bytes."""

from __future__ import annotations

import pytest

from polycast.protocols.early_media import EARLY_MEDIA_LIMIT, ENTRY_OVERHEAD, EarlyMedia


@pytest.mark.parametrize("size", [0, 1_400, 65_507])
def test_the_limit_is_in_bytes(size: int) -> None:
    early: EarlyMedia[int] = EarlyMedia()
    room = EARLY_MEDIA_LIMIT // (size + ENTRY_OVERHEAD)
    for number in range(room + 10):
        early.add(number, size)
    assert len(early) == room
    assert early.size <= EARLY_MEDIA_LIMIT
    assert early.take() == list(range(room))
    assert (early.take(), early.size) == ([], 0)
