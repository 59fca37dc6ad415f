"""A request on its way to its response, and what a connection needs of the server that it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from polycast.log import Log
from polycast.wire.http.http1_reader import KnownRequests
from polycast.wire.http.message import Request
from polycast.wire.http.response import Response

if TYPE_CHECKING:
    from polycast.net.http.connection import HttpConnection


class HttpHandler(Protocol):
    """Answers requests."""

    def handle(self, transaction: Transaction) -> None:
        """Answer a request, now or later. An exception is a bug; it is answered with status 500 where possible."""
        ...


class HttpHost(Protocol):
    """The server of a connection."""

    now: Callable[[], float]
    """Monotonic seconds."""
    log: Log
    known_requests: KnownRequests
    loop: asyncio.AbstractEventLoop

    @property
    def handler(self) -> HttpHandler: ...

    @property
    def read_timeout(self) -> float:
        """Seconds for a request to arrive, from its first byte on, and for the first one of a connection."""
        ...

    def date(self) -> bytes:
        """Return the ``Date`` of responses sent now (RFC 9110 section 6.6.1)."""
        ...

    def add_connection(self, connection: HttpConnection) -> None:
        """Called when a connection begins."""

    def remove_connection(self, connection: HttpConnection) -> None:
        """Called when it has ended."""

    def on_internal_error(self) -> None:
        """Log and count the exception that is being handled."""


class Transaction:
    """A request that is being answered."""

    __slots__ = ("begun", "connection", "on_cancelled", "request", "task")

    def __init__(self, connection: HttpConnection, request: Request, begun: float) -> None:
        self.connection = connection
        self.request = request
        self.begun = begun
        """Monotonic time in seconds."""
        self.task: asyncio.Task[None] | None = None
        """Produces the response; cancelled when the client no longer wants it."""
        self.on_cancelled: Callable[[Transaction], None] | None = None
        """Called when the client no longer wants the response."""

    @property
    def peer(self) -> tuple[str, int]:
        """IP address and port at the other end of the connection."""
        return self.connection.peer

    def respond(self, response: Response) -> None:
        """Send the response. Nothing happens when the client is gone or was answered."""
        self.connection.respond(self, response)

    def cancel(self) -> None:
        """The client no longer wants the response."""
        if self.task is not None:
            self.task.cancel()
        if self.on_cancelled is not None:
            self.on_cancelled(self)
