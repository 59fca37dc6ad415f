"""Requests to other HTTP servers whose packets are written to files. Imports the HTTP library, which takes long."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import anyio.abc
import httpcore2
import httpx2

from polycast.net.address import peer_of
from polycast.net.dumped import TcpDump
from polycast.net.packet_dump import packet_dumps_of


def dumping_transport(context: ssl.SSLContext, prefix: str) -> httpx2.AsyncHTTPTransport:
    """Return what `httpx2.AsyncClient` sends requests with. ``prefix``: the beginning of the files' names."""
    transport = httpx2.AsyncHTTPTransport(verify=context, trust_env=False)
    transport._pool = httpcore2.AsyncConnectionPool(ssl_context=context, network_backend=_Backend(context, prefix))
    return transport


class _Backend(httpcore2.AnyIOBackend):
    """Opens connections that are written to files."""

    def __init__(self, context: ssl.SSLContext, prefix: str) -> None:
        self._context = context
        self._prefix = prefix

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        connection: Any = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        loop = asyncio.get_running_loop()
        packet_dumps_of(loop).key_log.attach(self._context)
        dump = TcpDump(
            loop,
            self._prefix,
            peer_of(connection.get_extra_info("client_addr")),
            peer_of(connection.get_extra_info("server_addr")),
            is_server=False,
        )
        connection._stream = _DumpedStream(connection._stream, dump)
        return connection  # type: ignore[no-any-return]


class _DumpedStream(anyio.abc.ByteStream):
    """The bytes of a connection, with TLS the encrypted ones."""

    def __init__(self, stream: anyio.abc.ByteStream, dump: TcpDump) -> None:
        self._stream = stream
        self._dump: TcpDump | None = dump

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._stream.extra_attributes

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        data = await self._stream.receive(max_bytes)
        if self._dump is not None:
            self._dump.add(data, is_received=True)
        return data

    async def send(self, item: bytes) -> None:
        if self._dump is not None:
            self._dump.add(item, is_received=False)
        await self._stream.send(item)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        if self._dump is not None:
            self._dump.close()
            self._dump = None
        await self._stream.aclose()
