"""An HTTP server: a listener for HTTP or HTTPS, HTTP/1.1 and HTTP/2, and a request handler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import ClassVar, Final

from polycast.log import Log
from polycast.net.address import join_host_port, peer_of
from polycast.net.close_reason import describe_close
from polycast.net.http.connection import HttpConnection
from polycast.net.http.transaction import HttpHandler, RequestCaches
from polycast.net.server import ClientConnection, ConnectionServer
from polycast.security.addresses import IPNetwork

# Seconds for a request to arrive, and for the first one of a connection.
REQUEST_TIMEOUT: Final = 10.0


class DateHeader:
    """The ``Date`` header of responses, formatted once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._text = b""
        self._second = 0

    def __call__(self) -> bytes:
        """Return the current time in the format of the header (RFC 9110 section 6.6.1)."""
        now = time.time()
        if not self._second <= now < self._second + 1:
            self._second = int(now)
            self._text = formatdate(self._second, usegmt=True).encode()
        return self._text


class HttpListener(ConnectionServer):
    """Base of the servers for HTTP: a listener whose connections are `HttpConnection`, and what these share."""

    alpn_protocols: ClassVar[tuple[str, ...]] = ("h2", "http/1.1")
    handler: HttpHandler

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        super().__init__(loop, log)
        self.request_caches = RequestCaches()
        self.date = DateHeader()

    @property
    def trusted_proxies(self) -> Sequence[IPNetwork]:
        """Proxies whose headers about the client are believed (`Transaction.client`)."""
        return ()

    def make_connection(self) -> asyncio.BaseProtocol:
        return HttpConnection(self)

    def listener_kind(self) -> str:
        return "HTTPS" if self.is_encrypted else "HTTP"

    def on_handshake_failed(self, address: object, error: Exception) -> None:
        # Browsers try once and ask their user if they do not know the certificate: not worth a line at info level.
        self.log.debug(
            "[conn %s] closed (TLS handshake failed: %s)", join_host_port(*peer_of(address)), describe_close(error)
        )


class HttpServer(HttpListener):
    """Serves a handler on an address. It is started and stopped once."""

    def __init__(
        self,
        handler: HttpHandler,
        address: str,
        log: Log,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        certificate: str = "",
        key: str = "",
        trusted_proxies: Callable[[], Sequence[IPNetwork]] = tuple,
        dump_prefix: Callable[[], str] = str,
    ) -> None:
        """``certificate`` and ``key`` are PEM files; with them, the server only speaks TLS."""
        super().__init__(loop if loop is not None else asyncio.get_running_loop(), log)
        self.handler = handler
        self._address = address
        self._files = (certificate, key)
        self._trusted_proxies = trusted_proxies
        self._dump_prefix = dump_prefix
        self.is_encrypted = bool(certificate)

    @property
    def trusted_proxies(self) -> Sequence[IPNetwork]:
        return self._trusted_proxies()

    @property
    def dump_prefix(self) -> str:
        return self._dump_prefix()

    def address(self) -> str:
        return self._address

    def certificate_files(self) -> tuple[str, str]:
        return self._files

    @property
    def read_timeout(self) -> float:
        return REQUEST_TIMEOUT

    def close_connection(self, connection: ClientConnection, reason: str) -> None:
        if isinstance(connection, HttpConnection):
            connection.shut_down(reason)
