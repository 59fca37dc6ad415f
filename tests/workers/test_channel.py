"""The channel between processes: calls, errors, what is told, and the end of either side."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec import Raw
from tests.support.waiting import PATIENCE

from polycast.errors import PolycastError
from polycast.log import Log
from polycast.workers import channel as module
from polycast.workers.channel import Channel, ChannelError


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[Channel, Channel]]:
    first, second = Channel(Log(logging.getLogger("test"))), Channel(Log(logging.getLogger("test")))
    ends = socket.socketpair()
    await first.open(ends[0])
    await second.open(ends[1])
    try:
        yield first, second
    finally:
        first.close()
        second.close()


async def double(body: Raw) -> int:
    return 2 * int(msgspec.msgpack.decode(body, type=int))


async def fail(_: Raw) -> None:
    raise PolycastError("that is not possible")


async def wait_for_ever(_: Raw) -> None:
    await asyncio.Event().wait()


async def tell_often(channel: Channel) -> None:
    for _ in range(100):
        channel.tell("bytes", bytes(100_000))


async def test_calls_are_answered_in_any_order() -> None:
    async with pair() as (one, other):
        other.calls |= {"double": double, "for ever": wait_for_ever}
        one.calls["double"] = double
        waiting: asyncio.Future[None] = asyncio.ensure_future(one.call("for ever"))
        assert await one.call("double", 21, int) == 42
        assert await other.call("double", 4, int) == 8
        assert await asyncio.gather(*(one.call("double", number, int) for number in range(50))) == [
            2 * number for number in range(50)
        ]
        other.close()
        with pytest.raises(ChannelError, match="the process has ended"):
            await waiting


async def test_errors_reach_the_caller() -> None:
    async with pair() as (one, other):
        other.calls |= {"fail": fail, "double": double, "for ever": wait_for_ever}
        with pytest.raises(ChannelError, match="that is not possible"):
            await one.call("fail")
        with pytest.raises(ChannelError, match="internal error"):
            await one.call("double", "text")
        with pytest.raises(ChannelError, match="internal error"):
            await one.call("unknown")
        with pytest.raises(ChannelError, match=r"no answer within 0\.01 s"):
            await one.call("for ever", seconds=0.01)
        assert await one.call("double", 1, int) == 2


async def test_a_call_that_is_given_up_is_cancelled_at_the_other_end() -> None:
    async with pair() as (one, other):
        began, ended = asyncio.Event(), asyncio.Event()

        async def answer(_: Raw) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        other.calls["wait"] = answer
        call: asyncio.Future[None] = asyncio.ensure_future(one.call("wait"))
        async with asyncio.timeout(PATIENCE):
            await began.wait()
            call.cancel()
            await ended.wait()


async def test_large_messages_arrive_whole() -> None:
    async with pair() as (one, other):
        received: asyncio.Queue[bytes] = asyncio.Queue()
        other.notices["bytes"] = lambda body: received.put_nowait(msgspec.msgpack.decode(body, type=bytes))
        sent = bytes(range(256)) * 4096
        one.tell("bytes", sent)
        one.tell("bytes", b"next")
        async with asyncio.timeout(PATIENCE):
            await one.drain()
            assert await received.get() == sent
            assert await received.get() == b"next"


async def test_the_end_of_the_other_process() -> None:
    async with pair() as (one, other):
        other.close()
        async with asyncio.timeout(PATIENCE):
            await one.lost
        one.tell("anything")
        with pytest.raises(ChannelError, match="the process has ended"):
            await one.call("anything")


async def test_what_is_not_read_ends_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAXIMUM_QUEUED", 1_000_000)
    ends = socket.socketpair()
    channel = Channel(Log(logging.getLogger("test")))
    await channel.open(ends[0])
    with ends[1]:
        for _ in range(10):
            channel.tell("bytes", bytes(100_000))
        with pytest.raises(ChannelError, match="does not read"):
            await tell_often(channel)
    assert channel.lost.done()


async def test_a_length_over_the_limit_ends_the_channel() -> None:
    ends = socket.socketpair()
    channel = Channel(Log(logging.getLogger("test")))
    await channel.open(ends[0])
    with ends[1]:
        ends[1].send(b"\xff\xff\xff\xff")
        async with asyncio.timeout(PATIENCE):
            await channel.lost
