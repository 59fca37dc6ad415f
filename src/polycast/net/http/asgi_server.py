"""HTTP servers: an ASGI application behind granian, in our event loop, on a socket that we opened.

HTTP/1.1 and HTTP/2, plain or with TLS. The applications speak ASGI only, so this is the one file that names the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from polycast.net.listen import BACKLOG, open_tcp_listener
from polycast.net.tls import certificate_stamp, load_server_context

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI 3 application for HTTP."""

# Requests handled at once, those that listen to events included.
MAXIMUM_REQUESTS = 4_096

# Milliseconds for a client to send its request's headers.
HEADER_TIMEOUT = 10_000

# Seconds that requests under way get when the server stops.
STOP_GRACE_SECONDS = 1.0

# Seconds without any progress after which the kernel drops a connection with data to send: whoever stops reading.
STALL_TIMEOUT = 20.0

# Requests that one HTTP/2 connection may have under way; a page has fewer than ten.
MAXIMUM_STREAMS = 64


class HttpServer:
    """Serves an application on an address. Made, started and stopped once."""

    def __init__(
        self, application: Application, host: str, port: int, *, certificate: str | None = None, key: str | None = None
    ) -> None:
        """``certificate`` and ``key`` are PEM files; with them the server speaks TLS only."""
        self._application = application
        self._host = host
        self._port = port
        self._files = (certificate, key) if certificate is not None and key is not None else None
        self._stamp: tuple[int, ...] = ()
        self._listener: socket.socket | None = None
        self._running: tuple[Any, asyncio.Task[None]] | None = None
        self._requests: set[asyncio.Task[Any]] = set()

    @property
    def port(self) -> int:
        """The port it listens on; 0 while it is stopped."""
        return int(self._listener.getsockname()[1]) if self._listener is not None else 0

    async def start(self) -> None:
        """Listen. Raises OSError or ssl.SSLError with a text for the user."""
        if self._files is not None:
            load_server_context(*self._files)  # granian only says that something is wrong
            self._stamp = certificate_stamp(*self._files)
        self._listener = open_tcp_listener(self._host, self._port)
        _limit_stalls(self._listener)
        self._running = self._launch(self._listener)
        await asyncio.sleep(0)
        if self._running[1].done():
            self._running[1].result()

    async def stop(self) -> None:
        """Close the listener; requests under way are given a moment, then cut."""
        running, self._running = self._running, None
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        if running is not None:
            running[0].stop()
            if self._requests:
                await asyncio.wait(self._requests, timeout=STOP_GRACE_SECONDS)
            for request in self._requests:
                request.cancel()
            await self._wait_for(running[1])

    async def renew_certificate(self) -> bool:
        """Take changed certificate files for new connections; return whether they had changed.

        Raises OSError or ssl.SSLError when they cannot be used; the old ones then stay.
        """
        if self._files is None or self._listener is None or self._running is None:
            return False
        stamp = certificate_stamp(*self._files)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        load_server_context(*self._files)
        # Both listen on the same socket for a moment, so no client is turned away.
        old, self._running = self._running, self._launch(self._listener)
        old[0].stop()
        await self._wait_for(old[1])
        return True

    def _launch(self, listener: socket.socket) -> tuple[Any, asyncio.Task[None]]:
        server = _make_server(self._track, listener, self._files)
        return server, asyncio.get_running_loop().create_task(server.serve())

    async def _track(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, so that requests under way can be cut when the server stops."""
        task = asyncio.current_task()
        if task is None:
            return
        self._requests.add(task)
        try:
            await self._application(scope, receive, send)
        finally:
            self._requests.discard(task)

    @staticmethod
    async def _wait_for(task: asyncio.Task[None]) -> None:
        """Wait until granian has ended; one that still has a connection to see off ends by itself."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), STOP_GRACE_SECONDS)


def _limit_stalls(listener: socket.socket) -> None:
    """Let the kernel drop connections that stand still, where it can; they inherit it from the listener."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        listener.setsockopt(socket.IPPROTO_TCP, option, int(STALL_TIMEOUT * 1000))


def _make_server(application: Application, listener: socket.socket, files: tuple[str, str] | None) -> Any:
    """Return an embedded server. granian is imported when the first HTTP server is started."""
    from granian._granian import SocketHolder
    from granian.constants import Interfaces, SSLProtocols
    from granian.http import HTTP1Settings, HTTP2Settings
    from granian.server.embed import Server

    class SocketServer(Server):
        """Takes a socket that is bound already: one for IPv4 and IPv6, with a port that is known."""

        def _init_shared_socket(self) -> None:
            self._ssp: Any = None
            self._shd: Any = SocketHolder(os.dup(listener.fileno()), False, BACKLOG)  # type: ignore[call-arg]
            self._sfd = self._shd.get_fd()

    logging.getLogger("_granian").setLevel(logging.CRITICAL)
    certificate, key = files if files is not None else (None, None)
    return SocketServer(
        application,
        interface=Interfaces.ASGINL,
        backlog=BACKLOG,
        backpressure=MAXIMUM_REQUESTS,
        websockets=False,
        log_enabled=False,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT),
        http2_settings=HTTP2Settings(max_concurrent_streams=MAXIMUM_STREAMS),
        ssl_cert=Path(certificate) if certificate is not None else None,
        ssl_key=Path(key) if key is not None else None,
        ssl_protocol_min=SSLProtocols.tls12,
    )
