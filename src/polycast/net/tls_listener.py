"""A listener for TLS connections that reports why a handshake failed, which asyncio's own servers do not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from polycast.net.address import peer_of
from polycast.net.connection_slots import ConnectionSlots
from polycast.net.listener import Connect, Listener
from polycast.net.proxy_header import ProxyRule
from polycast.net.tls_handshake import TlsHandshake

MAXIMUM_HANDSHAKES: Final = 1_000
"""Concurrent handshakes; further connections wait in the kernel's queue."""

SILENCE_SECONDS: Final = 0.5
"""Seconds of silence after which a handshake may be aborted for another client: longer than a mobile round trip."""


class TlsListener(Listener):
    """Makes a protocol object for each connection whose handshake succeeds.

    ``on_failed`` is called with the client's address and the error when a handshake fails.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        on_failed: Callable[[Any, Exception], None],
        *,
        handshake_timeout: Callable[[], float],
        shutdown_timeout: float,
        proxies: ProxyRule | None = None,
        wrap: Callable[[asyncio.Protocol], asyncio.Protocol] = lambda protocol: protocol,
    ) -> None:
        """Start accepting; must be called on the event loop.

        Timeouts are in seconds; that of a handshake is called when the handshake starts.
        """
        self.context = context
        """For the next connections; it may be replaced."""
        self._on_failed = on_failed
        self._handshake_timeout = handshake_timeout
        self._shutdown_timeout = shutdown_timeout
        self._slots: ConnectionSlots[TlsHandshake] = ConnectionSlots(MAXIMUM_HANDSHAKES, SILENCE_SECONDS)
        self._slot_freed = asyncio.Event()
        super().__init__(listener, make_protocol, proxies, wrap)

    async def _make_room(self, address: Any) -> None:
        """Abort silent handshakes until there is a slot for the next client; see `ConnectionSlots`."""
        host = peer_of(address)[0]
        while len(self._opening) > MAXIMUM_HANDSHAKES or self._slots.is_exceeded(host):
            silent = self._slots.oldest_silent(host, time.monotonic())
            if silent is not None:
                silent.evict()
                self._slots.release(silent)
            elif len(self._opening) <= MAXIMUM_HANDSHAKES:
                return
            else:
                self._slot_freed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._slot_freed.wait(), SILENCE_SECONDS)

    async def _open(self, connect: Connect, make: Callable[[], asyncio.BaseProtocol], address: Any) -> None:
        handshake = TlsHandshake(
            self.context,
            make,
            timeout=self._handshake_timeout(),
            shutdown_timeout=self._shutdown_timeout,
        )
        self._slots.acquire(handshake, peer_of(address)[0])
        try:
            await connect(handshake)
            await handshake.finished
        except OSError as error:  # also ssl.SSLError
            self._on_failed(address, error)
            await handshake.wait_closed()
        finally:
            handshake.abort()  # when this task was cancelled
            self._slots.release(handshake)
            self._slot_freed.set()
