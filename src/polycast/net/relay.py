"""Relays the bytes of a connection to another process, which serves its client."""

from __future__ import annotations

import asyncio
import socket
from typing import cast


class _End(asyncio.Protocol):
    """One of the two transports; what it receives goes to the other one."""

    def __init__(self) -> None:
        self.other: _End
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not of this class

    def data_received(self, data: bytes) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self.other.transport.close()
        else:
            self.other.transport.abort()


async def relay(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, end: socket.socket) -> None:
    """Join a transport, whose reading is paused, and one end of a pair of sockets, until one of them is closed.

    Raises OSError.
    """
    client, far = _End(), _End()
    client.other, far.other = far, client
    end.setblocking(False)
    client.connection_made(transport)
    await loop.create_connection(lambda: far, sock=end)
    transport.set_protocol(client)
    if transport.is_closing():
        far.transport.close()
    else:
        transport.resume_reading()
