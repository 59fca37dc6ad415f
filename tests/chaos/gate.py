"""A TCP relay in front of an origin: it cuts connections, holds them up, answers in the origin's place, or does TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence

from tests.support.listeners import Listener

RECEIVE_SIZE = 65536


class Gate:
    """The relay of one port."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener: Listener | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: asyncio.Event = asyncio.Event()
        self._held.set()
        self._is_cut = False
        self._answer: bytes | None = None
        self.port = 0
        self.connections = 0

    async def open(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen, always on the same port."""
        self._listener = Listener(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), self._serve), port=self.port, tls=tls
        )
        self.port = self._listener.port

    async def close(self) -> None:
        """Close the listener and reset all connections."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.close(self._reset)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Close each connection in the middle of what comes next, and all new ones at once."""
        self._is_cut = True

    def hold(self) -> None:
        """Pass nothing on; nobody is told."""
        self._held.clear()

    def answer(self, data: bytes) -> None:
        """Reset all connections, and answer each request of the next ones with ``data``."""
        self._answer = data
        self._reset()

    def restore(self) -> None:
        """Be a plain relay again."""
        self._is_cut = False
        self._answer = None
        self._held.set()

    def _reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
                if self._answer is not None:
                    await self._answer_all(reader, writer)
                elif not self._is_cut:
                    await self._relay(reader, writer)
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self._answer is not None:
            await reader.readuntil(b"\r\n\r\n")
            if self._answer is not None:
                writer.write(self._answer)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        origin_reader, origin_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers.add(origin_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, origin_writer))
                group.create_task(self._pump(origin_reader, writer, is_cut_here=True))
        except* ConnectionError:
            pass
        finally:
            self._writers.discard(origin_writer)
            origin_writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_cut_here: bool = False
    ) -> None:
        while data := await reader.read(RECEIVE_SIZE):
            await self._held.wait()
            if self._is_cut and is_cut_here:
                writer.write(data[: len(data) // 2])
                writer.close()
                break
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # ends the other direction


@contextlib.asynccontextmanager
async def gates(targets: Sequence[int], tls: ssl.SSLContext | None = None) -> AsyncIterator[list[Gate]]:
    """Gates in front of some ports."""
    found = [Gate(target) for target in targets]
    try:
        for gate in found:
            await gate.open(tls)
        yield found
    finally:
        for gate in found:
            await gate.close()
