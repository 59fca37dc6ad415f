"""Connections to other servers: base class for those of sources and of pushes."""

from __future__ import annotations

import asyncio
import ssl
from typing import ClassVar

from polycast.errors import RemoteProtocolError
from polycast.log import Log
from polycast.net.dial import client_context
from polycast.net.tcp import CLOSE_GRACE_SECONDS, TcpConnection
from polycast.protocols.pull import PullError


def tls_of(fingerprint: str) -> ssl.SSLContext:
    """Return what `net.dial.client_context` does. Raises PullError for an invalid fingerprint."""
    try:
        return client_context(fingerprint)
    except ValueError as error:
        raise PullError(str(error)) from error


class OutgoingConnection(TcpConnection):
    """A client's end of a connection. Not usable before `net.dial.connect` has returned it."""

    is_accepted: ClassVar[bool] = False
    lingers: ClassVar[bool] = False
    peer_name: ClassVar[str] = "server"
    unread_reason: ClassVar[str] = "the server does not read what is sent to it"

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        super().__init__(loop, log)
        self.lost: asyncio.Future[None] = loop.create_future()
        """Fails when the connection is lost or the server breaks the protocol."""
        self.lost.add_done_callback(lambda future: future.exception() if not future.cancelled() else None)
        self._gone: asyncio.Future[None] = loop.create_future()
        """Done when the connection has ended."""

    def fail(self, error: Exception) -> None:
        """The connection has become unusable for this reason; its owner closes it."""
        if not self.lost.done():
            self.lost.set_exception(error)

    def finish(self) -> None:
        """Close the connection once all data is sent, or after a short time."""
        self.lost.cancel()
        self.close("closed by us")
        if self.transport.get_write_buffer_size():
            self.loop.call_later(CLOSE_GRACE_SECONDS, self.abort, "")

    async def finish_within(self, seconds: float) -> None:
        """Close the connection, and wait at most so many seconds until all data is sent."""
        self.finish()
        await asyncio.wait((self._gone,), timeout=seconds)
        self.abort("")

    def on_lost(self, reason: str) -> None:
        self._gone.set_result(None)
        self.fail(PullError(reason))

    def on_protocol_error(self, error: RemoteProtocolError) -> None:
        self.fail(PullError(f"invalid data: {error}"))
        self.close("invalid data")

    def on_internal_error(self) -> None:
        self.fail(PullError("internal error"))
        super().on_internal_error()
