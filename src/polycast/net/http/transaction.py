"""A request with its pending response, and what a connection needs from its server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from polycast.log import Log
from polycast.net.address import join_host_port, plain_host
from polycast.net.http.origins import AllowedOrigins
from polycast.net.http.request import client_of, scheme_of
from polycast.net.server import ClientConnection
from polycast.security.addresses import IPNetwork
from polycast.wire.http.http1_reader import RequestCache
from polycast.wire.http.http2_headers import HeaderBlockCache
from polycast.wire.http.message import BODY_LIMIT, Request
from polycast.wire.http.response import Response


class Responder(Protocol):
    """The connection that a request came over."""

    @property
    def peer(self) -> tuple[str, int]:
        """IP address and port at its other end."""
        ...

    @property
    def local_address(self) -> tuple[str, int]:
        """IP address and port at its own end."""
        ...

    @property
    def is_encrypted(self) -> bool: ...

    @property
    def trusted_proxies(self) -> Sequence[IPNetwork]:
        """Proxies whose headers about the client are believed."""
        ...

    def respond(self, transaction: Transaction, response: Response) -> None:
        """Send a response. Does nothing if the client is gone or was already answered."""

    def send_body(self, transaction: Transaction, data: bytes, *, is_last: bool) -> None:
        """Send a piece of a streamed response."""

    def unsent(self, transaction: Transaction) -> int:
        """Return how many bytes of a streamed response the client has yet to accept, about."""
        ...

    async def drain(self, transaction: Transaction) -> None:
        """Wait until there is room for another piece."""

    def abandon(self, transaction: Transaction) -> None:
        """Abort a streamed response."""

    def abort(self, reason: str) -> None:
        """Close immediately."""


class HttpHandler(Protocol):
    """Answers requests."""

    body_limit: int
    """Maximum bytes of a request's body. A larger one is discarded (`Request.is_truncated`)."""

    def handle(self, transaction: Transaction) -> None:
        """Answer a request, now or later. Must not raise."""
        ...


class HttpHost(Protocol):
    """The server of a connection."""

    now: Callable[[], float]
    """Monotonic seconds."""
    log: Log
    loop: asyncio.AbstractEventLoop
    request_caches: RequestCaches

    @property
    def handler(self) -> HttpHandler: ...

    @property
    def read_timeout(self) -> float:
        """Seconds for a request to arrive after its first byte, and for the first request of a connection."""
        ...

    @property
    def trusted_proxies(self) -> Sequence[IPNetwork]:
        """Proxies whose headers about the client are believed."""
        ...

    def date(self) -> bytes:
        """Return the ``Date`` of responses sent now (RFC 9110 section 6.6.1)."""
        ...

    def add_connection(self, connection: ClientConnection) -> None:
        """Called when a connection begins."""

    def remove_connection(self, connection: ClientConnection) -> None:
        """Called when it has ended."""

    def on_internal_error(self) -> None:
        """Log and count the exception that is being handled."""


class RequestCaches:
    """Caches of parsed requests, shared by the connections of a server."""

    __slots__ = ("blocks", "requests")

    def __init__(self) -> None:
        self.requests = RequestCache()
        self.blocks = HeaderBlockCache()


class Receiver(Protocol):
    """Whoever a response counts for."""

    bytes_sent: int
    """Bytes of responses, without their headers."""


class Transaction:
    """A request to be answered: with `respond`, or with `respond`, `send` and `end` for a streamed response."""

    __slots__ = (
        "connection", "drained", "is_cancelled", "on_cancelled", "origins", "receiver", "request", "rewrite", "started",
        "task",
    )  # fmt: skip

    def __init__(self, connection: Responder, request: Request, started: float) -> None:
        self.connection = connection
        self.request = request
        self.started = started
        """Monotonic time in seconds."""
        self.task: asyncio.Task[None] | None = None
        """Produces the response; cancelled when the client no longer wants it."""
        self.is_cancelled = False
        self.on_cancelled: Callable[[Transaction], None] | None = None
        """Called when the client no longer wants the response."""
        self.origins: AllowedOrigins | None = None
        """Whose pages may read the response, if that depends on the request."""
        self.rewrite: Callable[[Response], Response] | None = None
        """Returns the response for this client only, made of the one for all."""
        self.receiver: Receiver | None = None
        self.drained: asyncio.Future[None] | None = None
        """The future that `drain` waits for."""

    @property
    def peer(self) -> tuple[str, int]:
        """IP address and port at the other end of the connection."""
        return self.connection.peer

    @property
    def client(self) -> str:
        """IP address of the client: behind trusted proxies, the one that they forward."""
        return client_of(self.request, self.peer[0], self.connection.trusted_proxies)

    @property
    def client_name(self) -> str:
        """What the log calls the client: its address, with the port unless a proxy is in between."""
        client = self.client
        return join_host_port(*self.peer) if client == plain_host(self.peer[0]) else client

    @property
    def scheme(self) -> str:
        """The scheme of the URL that the client uses: behind a trusted proxy, the one that it forwards."""
        connection = self.connection
        proxies = connection.trusted_proxies
        return scheme_of(self.request, self.peer[0], proxies, is_encrypted=connection.is_encrypted)

    def respond(self, response: Response) -> None:
        """Send the response. Does nothing if the client is gone or was already answered."""
        if self.rewrite is not None:
            response = self.rewrite(response)
        origins = self.origins
        if origins is not None and origins.is_varying:
            response = origins.adapt(self.request, response)
        if self.receiver is not None:
            self.receiver.bytes_sent += len(response.body)
        self.connection.respond(self, response)

    def send(self, data: bytes) -> None:
        """Send a piece of a streamed response; wait for `drain` before the next one."""
        self.connection.send_body(self, data, is_last=False)

    @property
    def unsent(self) -> int:
        """Bytes of a streamed response that the client has yet to accept, about."""
        return self.connection.unsent(self)

    async def drain(self) -> None:
        """Wait until the client has accepted enough data that there is room for more."""
        await self.connection.drain(self)

    def end(self) -> None:
        """End a streamed response."""
        self.connection.send_body(self, b"", is_last=True)

    def abandon(self) -> None:
        """Abort a streamed response that cannot be completed, so that the client notices."""
        self.connection.abandon(self)

    def cancel(self) -> None:
        """The client no longer wants the response."""
        self.is_cancelled = True
        if self.task is not None:
            self.task.cancel()
        if self.on_cancelled is not None:
            self.on_cancelled(self)


__all__ = ["BODY_LIMIT", "HttpHandler", "HttpHost", "RequestCaches", "Transaction"]
