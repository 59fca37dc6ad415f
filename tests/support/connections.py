"""Connections of clients that tests play."""

from __future__ import annotations

import asyncio
from typing import Any


class _Protocol(asyncio.StreamReaderProtocol):
    def eof_received(self) -> bool:
        super().eof_received()
        return False  # closes the transport


async def open_connection(
    host: str, port: int, *, limit: int = 1 << 16, **options: Any
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect like `asyncio.open_connection`, and close the connection as soon as the server has closed its side.

    That is what programs do, and what a server waits for when it closes a connection, for up to two seconds.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit, loop)
    transport, protocol = await loop.create_connection(lambda: _Protocol(reader, loop=loop), host, port, **options)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
