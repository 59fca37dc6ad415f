"""Connections that are passed from one worker to another, both in this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.waiting import PATIENCE

from polycast.log import Log
from polycast.protocols.handing_over import HandedOver
from polycast.workers import channel
from polycast.workers.channel import Channel, ChannelError
from polycast.workers.messages import SentSocket
from polycast.workers.neighbours import Neighbours

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")


HANDED = HandedOver(b"", 0, 0.0, b"", None, "cam", 1)


class Server:
    """Keeps the connections that it is to serve."""

    def __init__(self) -> None:
        self.taken: asyncio.Queue[socket.socket] = asyncio.Queue()

    async def take(self, end: socket.socket, handed: HandedOver) -> None:
        self.taken.put_nowait(end)


@contextlib.asynccontextmanager
async def neighbours(folder: Path, server: Server) -> AsyncIterator[tuple[Neighbours, Neighbours]]:
    """The second one has the server."""
    log, servers = Log(logging.getLogger("test")), ({}, {"RTSP": server})
    one, other = (
        Neighbours(number, str(folder), lambda number=number: servers[number - 1], lambda _: True, log)  # type: ignore[misc]
        for number in (1, 2)
    )
    await one.open()
    await other.open()
    try:
        yield one, other
    finally:
        one.close()
        other.close()


@contextlib.contextmanager
def connection() -> Any:
    """The ends of a client and of the first worker."""
    client, served = socket.socketpair()
    client.setblocking(False)
    with client, served:
        yield SimpleNamespace(client=client, served=served)


async def sees_the_end(client: socket.socket) -> bool:
    async with asyncio.timeout(PATIENCE):
        return await asyncio.get_running_loop().sock_recv(client, 1) == b""


async def test_a_connection_is_served_by_the_other_worker(tmp_path: Path) -> None:
    server = Server()
    async with neighbours(tmp_path, server) as (one, _):
        with connection() as ends:
            assert await one.hand_over(2, "RTSP", HANDED, ends.served.fileno())
            ends.served.close()
            async with asyncio.timeout(PATIENCE):
                end = await server.taken.get()
            with end:
                end.sendall(b"x")
            assert ends.client.recv(10) == b"x"
            assert await sees_the_end(ends.client)
            assert not await one.hand_over(2, "RTMP", HANDED, ends.client.fileno())


async def test_a_worker_that_is_too_busy_keeps_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one goes on with the client, which sees the end of the connection as soon as that one closes it."""
    monkeypatch.setattr(channel, "MAXIMUM_CALLS", 0)
    async with neighbours(tmp_path, Server()) as (one, _):
        with connection() as ends:
            assert not await one.hand_over(2, "RTSP", HANDED, ends.served.fileno())
            ends.served.close()
            assert await sees_the_end(ends.client)


async def test_an_answer_that_is_too_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one worker serves the client: the one that has it already."""
    answer_in_time, server = Channel.call, Server()

    async def too_late(*arguments: Any, **options: Any) -> Any:
        assert await answer_in_time(*arguments, **options)
        raise ChannelError("no answer within 10 s")

    async with neighbours(tmp_path, server) as (one, _):
        with connection() as ends, monkeypatch.context() as patched:
            patched.setattr(Channel, "call", too_late)
            assert not await one.hand_over(2, "RTSP", HANDED, ends.served.fileno())
            ends.served.close()
            assert await sees_the_end(ends.client)
        assert server.taken.empty()


async def test_the_first_worker_ends_before_it_has_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    async with neighbours(tmp_path, server) as (one, _):
        with connection() as ends, monkeypatch.context() as patched:

            def end_instead(self: Channel, subject: str, body: SentSocket) -> None:
                assert subject == "serve"
                self.close()

            patched.setattr(Channel, "tell", end_instead)
            await one.hand_over(2, "RTSP", HANDED, ends.served.fileno())
            ends.served.close()
            assert await sees_the_end(ends.client)
        assert server.taken.empty()
