"""Datagrams of a peer that only knows UDP, carried over TCP connections to the server's media port (RFC 4571)."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from typing import Self, cast

CANDIDATE = re.compile(r"a=candidate:\S+ 1 tcp \d+ (\S+) (\d+) typ host tcptype passive\r\n", re.IGNORECASE)

RECEIVE_BUFFER = 64 * 1024
"""Bytes: the less, the sooner the server notices that nobody reads."""


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, gateway: TcpGateway) -> None:
        self._gateway = gateway

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._gateway.from_peer(data, address)


class TcpGateway:
    """A UDP port whose datagrams go to the server over TCP: one connection for each address of a peer."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._outgoing: dict[tuple[str, int], asyncio.Queue[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = ("", 0)
        self.writers: list[asyncio.StreamWriter] = []
        """The connections to the server."""
        self.reads = asyncio.Event()
        """While it is not set, nothing that the server sends is read."""
        self.reads.set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=("127.0.0.1", 0))
        self._transport = cast("asyncio.DatagramTransport", transport)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()

    def cut(self) -> None:
        """Cut all connections to the server."""
        for writer in self.writers:
            writer.transport.abort()

    def rewrite(self, answer: str) -> str:
        """Return an answer whose only candidate, a TCP one, is replaced by the UDP port of this gateway."""
        assert self._transport is not None
        (found,) = CANDIDATE.findall(answer)
        self._server = found[0], int(found[1])
        assert " udp " not in answer
        port = self._transport.get_extra_info("sockname")[1]
        return CANDIDATE.sub(f"a=candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host\r\n", answer)

    def from_peer(self, data: bytes, address: tuple[str, int]) -> None:
        """The peer has sent a datagram."""
        outgoing = self._outgoing.get(address)
        if outgoing is None:
            outgoing = self._outgoing[address] = asyncio.Queue()
            task = asyncio.get_running_loop().create_task(self._carry(outgoing, address))
            self._tasks.add(task)
        outgoing.put_nowait(data)

    async def _carry(self, outgoing: asyncio.Queue[bytes], address: tuple[str, int]) -> None:
        connected = socket.socket()
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        connected.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connected, self._server)
        reader, writer = await asyncio.open_connection(sock=connected, limit=1024)
        self.writers.append(writer)
        back = asyncio.get_running_loop().create_task(self._carry_back(reader, address))
        try:
            while True:
                data = await outgoing.get()
                writer.write(struct.pack("!H", len(data)) + data)
        finally:
            back.cancel()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _carry_back(self, reader: asyncio.StreamReader, address: tuple[str, int]) -> None:
        assert self._transport is not None
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await self.reads.wait()
                (size,) = struct.unpack("!H", await reader.readexactly(2))
                self._transport.sendto(await reader.readexactly(size), address)
