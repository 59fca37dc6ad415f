"""A listener for TLS connections that says why a handshake failed, which asyncio's own servers keep to themselves."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from polycast.net.address import peer_of
from polycast.net.listener import Listener
from polycast.net.places import Places
from polycast.net.tls_handshake import TlsHandshake

MAXIMUM_HANDSHAKES: Final = 1_000
"""Handshakes under way at once; further connections wait in the kernel's queue."""

SILENCE_SECONDS: Final = 0.5
"""After which a handshake may have to make room for another client: longer than a round trip in mobile networks."""


class TlsListener(Listener):
    """Makes a protocol object for each connection whose handshake succeeds.

    ``on_failed`` is called with the client's address and the error of a handshake that did not.
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
    ) -> None:
        """Begin to accept; must be called on the event loop.

        Timeouts are in seconds; that of a handshake is asked for as the handshake begins.
        """
        self.context = context
        """For the next connections; it may be replaced."""
        self._on_failed = on_failed
        self._handshake_timeout = handshake_timeout
        self._shutdown_timeout = shutdown_timeout
        self._places: Places[TlsHandshake] = Places(MAXIMUM_HANDSHAKES, SILENCE_SECONDS)
        self._place_left = asyncio.Event()
        super().__init__(listener, make_protocol)

    async def _make_room(self, address: Any) -> None:
        """Let silent ones give way until there is a place for the next client; see `Places`."""
        host = peer_of(address)[0]
        while len(self._opening) > MAXIMUM_HANDSHAKES or self._places.is_over(host):
            silent = self._places.victim(host, time.monotonic())
            if silent is not None:
                silent.give_way()
                self._places.leave(silent)
            elif len(self._opening) <= MAXIMUM_HANDSHAKES:
                return
            else:
                self._place_left.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._place_left.wait(), SILENCE_SECONDS)

    async def _open(self, accepted: socket.socket, address: Any) -> None:
        handshake = TlsHandshake(
            self.context,
            self._make_protocol,
            timeout=self._handshake_timeout(),
            shutdown_timeout=self._shutdown_timeout,
        )
        self._places.take(handshake, peer_of(address)[0])
        try:
            await self._loop.connect_accepted_socket(lambda: handshake, accepted)
            await handshake.finished
        except OSError as error:  # also ssl.SSLError
            self._on_failed(address, error)
        finally:
            handshake.abort()  # when this task was cancelled
            self._places.leave(handshake)
            self._place_left.set()
