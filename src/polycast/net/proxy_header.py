"""Connections that trusted proxies pass on, with a header that says whose they are (PROXY protocol)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from polycast.errors import RemoteProtocolError
from polycast.net.address import peer_of
from polycast.security.addresses import IPNetwork, is_in_networks
from polycast.wire.proxy_protocol import parse_proxy_header


@dataclass(frozen=True, slots=True)
class ProxyRule:
    """Who may send the header, and what happens if it is wrong. The functions are called for each connection."""

    networks: Callable[[], Sequence[IPNetwork]]
    timeout: Callable[[], float]
    """Seconds for the header to arrive."""
    on_failed: Callable[[object, Exception], None]
    """Called with the address of the proxy."""

    def applies_to(self, address: object) -> bool:
        """Whether a connection from this socket address may begin with the header."""
        networks = self.networks()
        return bool(networks) and is_in_networks(peer_of(address)[0], networks)


class ProxyHeaderReader(asyncio.Protocol):
    """The protocol of a connection until the header was received; then `hand_over` gives the connection to another.

    A connection that begins with something else has no header: proxies may also check whether the server runs.
    """

    def __init__(self, timeout: float) -> None:
        """``timeout`` is in seconds."""
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._held = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_handed_over = False
        self.client: asyncio.Future[tuple[str, int] | None] = self._loop.create_future()
        """IP address and port of the client, None for those of the connection. Raises OSError."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._timer = self._loop.call_later(self._timeout, self._on_timeout)

    def data_received(self, data: bytes) -> None:
        if self.client.done():
            self._held += data  # the transport had already read it when it was paused
            return
        self._held += data
        try:
            header = parse_proxy_header(self._held)
        except RemoteProtocolError as error:
            self._fail(ConnectionAbortedError(str(error)))
            return
        if header is not None:
            self._held = self._held[header.size :]
            if self._transport is not None:
                self._transport.pause_reading()
            self._stop_timer()
            self.client.set_result(header.client)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionResetError("the proxy disconnected"))

    async def hand_over(self, protocol: asyncio.Protocol) -> None:
        """Give the connection, with what was received after the header, to another protocol. Raises OSError."""
        transport = self._transport
        # A socket that was reset has no address: HAProxy ends its checks of the server's health in this way.
        if transport is None or transport.is_closing() or transport.get_extra_info("peername") is None:
            raise ConnectionResetError("the proxy disconnected")
        self._is_handed_over = True
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if not transport.is_closing():
            transport.resume_reading()
            if self._held:
                protocol.data_received(self._held)

    def abort(self) -> None:
        """Close the connection unless it was handed over."""
        self._stop_timer()
        if self._transport is not None and not self._is_handed_over:
            self._transport.abort()

    def _on_timeout(self) -> None:
        self._fail(ConnectionAbortedError(f"no PROXY header within {self._timeout:g} seconds"))

    def _fail(self, error: OSError) -> None:
        self._stop_timer()
        if not self.client.done():
            self.client.set_exception(error)
            if self._transport is not None:
                self._transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
