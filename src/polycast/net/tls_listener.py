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
from polycast.net.places import Places
from polycast.net.tls_handshake import TlsHandshake

# Seconds without accepting after the system had no file descriptor or memory for another connection.
ACCEPT_PAUSE_SECONDS = 0.5

MAXIMUM_HANDSHAKES: Final = 1_000
"""Handshakes under way at once; further connections wait in the kernel's queue."""

SILENCE_SECONDS: Final = 1.0
"""After which a handshake may have to make room for another client: a packet is lost and sent again within that."""


class TlsListener:
    """Accepts connections on a listening socket and makes a protocol object for each whose handshake succeeds.

    ``on_failed`` is called with the client's address and the error of a handshake that did not.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        on_failed: Callable[[Any, Exception], None],
        *,
        handshake_timeout: float,
        shutdown_timeout: float,
    ) -> None:
        """Begin to accept; must be called on the event loop. Timeouts are in seconds."""
        self._loop = asyncio.get_running_loop()
        self._socket = listener
        self.context = context
        """For the next connections; it may be replaced."""
        self._make_protocol = make_protocol
        self._on_failed = on_failed
        self._handshake_timeout = handshake_timeout
        self._shutdown_timeout = shutdown_timeout
        self._places: Places[TlsHandshake] = Places(MAXIMUM_HANDSHAKES, SILENCE_SECONDS)
        self._place_left = asyncio.Event()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._not_begun: set[socket.socket] = set()
        """Connections whose task did not run yet; from then on they belong to their transport."""
        self._task = self._loop.create_task(self._accept())
        self._task.add_done_callback(lambda _: listener.close())  # also when the task is cancelled before it ran

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening socket; empty once closed."""
        return (self._socket,) if self._socket.fileno() >= 0 else ()

    def close(self) -> None:
        """Stop to accept, and end the handshakes that are under way."""
        for task in (self._task, *self._handshakes):
            task.cancel()
        for accepted in self._not_begun:
            accepted.close()

    async def wait_closed(self) -> None:
        """Return when the socket is closed and no handshake is under way."""
        await asyncio.gather(self._task, *self._handshakes, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            try:
                accepted, address = await self._loop.sock_accept(self._socket)
            except OSError:
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            self._not_begun.add(accepted)
            task = self._loop.create_task(self._shake_hands(accepted, address))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)
            await self._make_room(peer_of(address)[0])

    async def _make_room(self, host: str) -> None:
        """Let silent ones give way until there is a place for the next client; see `Places`."""
        while len(self._handshakes) > MAXIMUM_HANDSHAKES or self._places.is_over(host):
            silent = self._places.victim(host, time.monotonic())
            if silent is not None:
                silent.give_way()
                self._places.leave(silent)
            elif len(self._handshakes) <= MAXIMUM_HANDSHAKES:
                return
            else:
                self._place_left.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._place_left.wait(), SILENCE_SECONDS)

    async def _shake_hands(self, accepted: socket.socket, address: Any) -> None:
        self._not_begun.discard(accepted)
        handshake = TlsHandshake(
            self.context, self._make_protocol, timeout=self._handshake_timeout, shutdown_timeout=self._shutdown_timeout
        )
        host = peer_of(address)[0]
        self._places.take(handshake, host)
        try:
            await self._loop.connect_accepted_socket(lambda: handshake, accepted)
            await handshake.finished
        except OSError as error:  # also ssl.SSLError
            self._on_failed(address, error)
        finally:
            handshake.abort()  # when this task was cancelled
            self._places.leave(handshake)
            self._place_left.set()
