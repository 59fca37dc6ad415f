"""Accepts connections, a few in each turn of the loop: event loops accept all that wait, thousands at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, cast

from polycast.net.proxy_header import ProxyHeaderReader, ProxyRule
from polycast.net.tcp import TcpConnection

ACCEPT_PAUSE_SECONDS = 0.5
"""Seconds without accepting after the system had no file descriptor or memory for another connection."""

Connect = Callable[[asyncio.Protocol], Awaitable[None]]
"""Makes a protocol object that of a connection. Raises OSError."""

ACCEPTS_AT_ONCE: Final = 8
"""Connections accepted in one turn; each takes up to half a millisecond, log lines and commands included."""


class Listener:
    """Accepts connections on a listening socket and makes a protocol object for each."""

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        proxies: ProxyRule | None = None,
        wrap: Callable[[asyncio.Protocol], asyncio.Protocol] = lambda protocol: protocol,
    ) -> None:
        """Start accepting; must be called on the event loop.

        ``wrap`` returns what is put between a connection's transport and its first protocol.
        """
        self._loop = asyncio.get_running_loop()
        self._socket = listener
        self._make_protocol = make_protocol
        self._proxies = proxies
        self._wrap = wrap
        self._opening: set[asyncio.Task[None]] = set()
        self._not_begun: set[socket.socket] = set()
        """Connections whose task has not run yet; after that, they belong to their transport."""
        self._task = self._loop.create_task(self._accept())
        self._task.add_done_callback(lambda _: listener.close())  # also when the task is cancelled before it ran

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening socket; empty once closed."""
        return (self._socket,) if self._socket.fileno() >= 0 else ()

    def close(self) -> None:
        """Stop accepting, and abort connections that are not open yet."""
        for task in (self._task, *self._opening):
            task.cancel()
        for accepted in self._not_begun:
            accepted.close()

    async def wait_closed(self) -> None:
        """Wait until the socket is closed and no connection is half open."""
        await asyncio.gather(self._task, *self._opening, return_exceptions=True)

    async def _accept(self) -> None:
        count = 0
        while True:
            try:
                accepted, address = await self._loop.sock_accept(self._socket)
            except OSError:
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            with contextlib.suppress(OSError):
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._not_begun.add(accepted)
            task = self._loop.create_task(self._begin(accepted, address))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
            await self._make_room(address)
            count += 1
            if count % ACCEPTS_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _begin(self, accepted: socket.socket, address: Any) -> None:
        self._not_begun.discard(accepted)
        connect = partial(self._connect, accepted)
        with contextlib.suppress(OSError):  # the client has just gone
            if self._proxies is not None and self._proxies.applies_to(address):
                await self._open_proxied(self._proxies, connect, address)
            else:
                await self._open(connect, self._make_protocol, address)

    async def _connect(self, accepted: socket.socket, protocol: asyncio.Protocol) -> None:
        await self._loop.connect_accepted_socket(lambda: self._wrap(protocol), accepted)

    async def _open_proxied(self, rule: ProxyRule, connect: Connect, address: Any) -> None:
        """Open a connection for the client that the proxy names. Raises OSError."""
        reader = ProxyHeaderReader(rule.timeout())
        try:
            await connect(reader)
            try:
                client = await reader.client
            except OSError as error:
                rule.on_failed(address, error)
                return

            def make() -> asyncio.BaseProtocol:
                protocol = self._make_protocol()
                if isinstance(protocol, TcpConnection):
                    protocol.forwarded = client
                return protocol

            await self._open(reader.hand_over, make, address if client is None else client)
        finally:
            reader.abort()

    async def _open(self, connect: Connect, make: Callable[[], asyncio.BaseProtocol], address: Any) -> None:
        """Give a connection from ``address`` to its protocol. Raises OSError."""
        await connect(cast("asyncio.Protocol", make()))

    async def _make_room(self, address: Any) -> None:
        """Called when a connection was accepted, before the next one is."""
