"""A listener that tests can end with all its connections, at any moment.

In Python 3.11, `asyncio.Server` leaves a connection unclosed that it had accepted just before it was closed, and
`wait_closed` waits for nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable


class Listener:
    """Accepts connections on 127.0.0.1, with TLS if there is a context."""

    def __init__(
        self, make_protocol: Callable[[], asyncio.BaseProtocol], *, port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._make_protocol = make_protocol
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", port), backlog=100)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._not_begun: set[socket.socket] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._loop.add_reader(self._socket, self._accept)

    async def close(self, abort: Callable[[], object]) -> None:
        """Stop listening, and return when all connections are lost; ``abort`` aborts those whose protocol is known."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for accepted in self._not_begun:
            accepted.close()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        abort()
        for _ in range(3):  # transports are closed in the turn after that
            await asyncio.sleep(0)

    def _accept(self) -> None:
        try:
            accepted, _ = self._socket.accept()
        except OSError:  # the client has just gone
            return
        accepted.setblocking(False)
        self._not_begun.add(accepted)
        task = self._loop.create_task(self._open(accepted))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket) -> None:
        self._not_begun.discard(accepted)
        with contextlib.suppress(OSError):  # ssl.SSLError, too
            await self._loop.connect_accepted_socket(self._make_protocol, accepted, ssl=self._tls)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(serve: Serve, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve each connection with ``serve`` until the block ends, and yield the port. Nothing is left at the end."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers.append(writer)
        try:
            await serve(reader, writer)
        except asyncio.CancelledError:  # asyncio (3.11) does not expect it
            writer.transport.abort()
        finally:
            tasks.discard(task)

    listener = Listener(lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), serve_one), tls=tls)
    try:
        yield listener.port
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.close(lambda: [writer.transport.abort() for writer in writers])
