"""A TLS handshake, on an incoming or outgoing connection."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Callable
from typing import cast

from polycast.net.lingering import LingeringClose
from polycast.net.tls_transport import TlsTransport, end_of_records
from polycast.net.work import SLICE_SECONDS, work_queue_of


class TlsHandshake(asyncio.Protocol):
    """The protocol of a plain transport until the handshake is over; then a `TlsTransport` takes its place.

    A handshake takes one to two milliseconds, so all handshakes of a loop run in its work queue (see `net.work`).
    ``timeout`` and ``shutdown_timeout`` are in seconds.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        *,
        timeout: float,
        shutdown_timeout: float,
        server_name: str | None = None,
    ) -> None:
        """``server_name`` is that of the server to connect to; None on the server's side."""
        self._loop = asyncio.get_running_loop()
        self._make_protocol = make_protocol
        self._timeout = timeout
        self._shutdown_timeout = shutdown_timeout
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl_object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self._plain: asyncio.Transport | None = None
        self._held = b""
        """Data that was not passed to OpenSSL yet."""
        self._is_queued = False
        self.silent_since: float | None = time.monotonic()
        """When the client last sent something."""
        self._timer: asyncio.TimerHandle | None = None
        self.finished: asyncio.Future[asyncio.BaseProtocol] = self._loop.create_future()
        """The protocol, when the handshake is complete. Raises OSError (which includes ssl.SSLError) if it failed."""
        self._closed: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection of a failed handshake is closed."""

    async def wait_closed(self) -> None:
        """Return when the connection of a failed handshake is closed."""
        if self._plain is not None:
            await self._closed

    def abort(self) -> None:
        """Abort a handshake in progress, or the connection of one that failed."""
        self.finished.cancel()
        if self.finished.cancelled() or self.finished.exception() is not None:
            self._stop_timer()
            if self._plain is not None:
                self._plain.abort()

    def evict(self) -> None:
        """Abort a handshake whose slot another client needs."""
        self._fail(ConnectionAbortedError("the client was silent while others waited"))
        self.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._plain = cast("asyncio.Transport", transport)
        self._timer = self._loop.call_later(self._timeout, self._on_timeout)
        if not self._ssl_object.server_side:
            self._shake_hands()

    def data_received(self, data: bytes) -> None:
        if self.finished.done():
            return
        self.silent_since = time.monotonic()
        self._held += data
        if not self._is_queued and self._plain is not None:
            self._is_queued = True
            self._plain.pause_reading()
            work_queue_of(self._loop).add(self)

    def work(self) -> bool:
        """Called by the work queue for one slice."""
        slice_end = time.monotonic() + SLICE_SECONDS
        while not self.finished.done() and (end := end_of_records(self._held, 0)):
            self._incoming.write(self._held[:end])
            self._held = self._held[end:]
            self._shake_hands()
            if time.monotonic() >= slice_end:
                break
        else:
            self._is_queued = False
            if self._plain is not None and not self.finished.done():
                self._plain.resume_reading()
            return False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        peer = "client" if self._ssl_object.server_side else "server"
        left = ConnectionResetError(f"the {peer} disconnected during the handshake")
        self._fail(exc if isinstance(exc, OSError) else left)
        if not self._closed.done():
            self._closed.set_result(None)

    def _shake_hands(self) -> None:
        try:
            self._ssl_object.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
        except OSError as error:
            self._fail(error)
        else:
            self._succeed()

    # The end

    def _on_timeout(self) -> None:
        self._fail(ConnectionAbortedError(f"it took longer than {self._timeout:g} seconds"))

    def _fail(self, error: OSError) -> None:
        if self.finished.done():
            return
        self._stop_timer()
        self.finished.set_exception(error)
        self.silent_since = -math.inf  # it may be evicted for another client at any time
        plain = self._plain
        if plain is None:
            return
        self._send()  # the alert that tells the peer
        if not isinstance(error, ssl.SSLError) or plain.is_closing():
            plain.abort()
        elif self._ssl_object.server_side:
            LingeringClose(plain, self, self._loop, self._shutdown_timeout)
        else:
            plain.close()

    def _succeed(self) -> None:
        plain = self._plain
        if plain is None:
            return
        self._stop_timer()
        self._send()
        plain.resume_reading()
        try:
            protocol = self._make_protocol()
            self.finished.set_result(protocol)
            TlsTransport(
                self._loop,
                plain,
                self._ssl_object,
                self._incoming,
                self._outgoing,
                cast("asyncio.Protocol", protocol),
                self._shutdown_timeout,
                self._incoming.read() + self._held,
            ).start()
        except Exception as error:  # plain transports do the same
            message = "the protocol of a TLS connection failed"
            self._loop.call_exception_handler({"message": message, "exception": error, "transport": plain})
            plain.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _send(self) -> None:
        data = self._outgoing.read()
        if data and self._plain is not None and not self._plain.is_closing():
            self._plain.write(data)
