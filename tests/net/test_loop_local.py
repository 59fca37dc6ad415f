"""What the connections of a loop share is one object for each loop, and goes with it."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable

import pytest

from polycast.net.coalescing import coalesce_reads, coalescing_of
from polycast.net.connection_slots import connection_slots_of
from polycast.net.loop_local import LoopLocal
from polycast.net.memory import held_memory_of
from polycast.net.work import work_queue_of


def make_loops() -> list[Callable[[], asyncio.AbstractEventLoop]]:
    loops: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop]
    if sys.platform != "win32":
        uvloop = pytest.importorskip("uvloop")
        loops.append(uvloop.new_event_loop)
    return loops


SHARED = [coalescing_of, connection_slots_of, held_memory_of, work_queue_of]


@pytest.mark.parametrize("make", make_loops())
def test_each_loop_has_its_own_and_keeps_it(make: Callable[[], asyncio.AbstractEventLoop]) -> None:
    first, second = make(), make()
    for loop in (first, second):
        coalesce_reads(loop)
    for shared in SHARED:
        assert shared(first) is shared(first)
        assert shared(first) is not shared(second)
    reference = weakref.ref(first)
    first.close()
    second.close()
    del first, loop
    gc.collect()
    assert reference() is None


def test_a_value_is_created_once_and_can_be_replaced() -> None:
    made: list[asyncio.AbstractEventLoop] = []
    local: LoopLocal[list[int]] = LoopLocal("test", lambda loop: made.append(loop) or [])
    loop = asyncio.new_event_loop()
    try:
        found = local.get(loop)
        found.append(1)
        assert local.get(loop) == [1]
        assert made == [loop]
        local.set(loop, [2])
        assert local.get(loop) == [2]
        assert LoopLocal("other", lambda loop: [3]).get(loop) == [3]
    finally:
        loop.close()
