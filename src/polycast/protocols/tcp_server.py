"""Base of the servers whose clients connect over TCP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from datetime import UTC, datetime
from typing import ClassVar
from uuid import uuid4

from polycast.config.schema import Configuration
from polycast.net.address import join_host_port
from polycast.net.relay import relay
from polycast.net.server import ClientConnection, ConnectionServer
from polycast.net.tcp import TcpConnection
from polycast.protocols.base import Server, ServerContext, ServerKind, Workers
from polycast.protocols.handing_over import HandedOver, History

# Bytes per packet, the unit of readBufferCount.
PACKET_SIZE = 1472


class ServerConnection(TcpConnection):
    """A client's connection to a `TcpServer`."""

    def __init__(self, server: TcpServer) -> None:
        super().__init__(server.context.loop, server.log, server.now)
        self.server = server
        self.id = str(uuid4())
        """Its id in the API and for commands."""
        self.created = datetime.now(UTC)
        self.history = History() if server.context.workers is not None else None
        """What another worker needs to serve the client; None once that is no longer possible."""
        self._taken: HandedOver | None = None
        """What the worker that handed this connection over has sent; None if none has."""

    # For protocols

    def on_tick(self, now: float) -> None:
        """Called about once a second: timeouts. Not while received data is waiting for processing."""

    def on_dropped(self, count: int) -> None:
        """Called about once a second while packets or frames are dropped."""

    def remember(self, data: bytes) -> None:
        """Called with received data while there is a ``history``."""
        if self.history is not None and not self.history.receive(data):
            self.history = None

    @property
    def seed(self) -> bytes:
        """Seed of the engine's random numbers, if its answers depend on them; else empty."""
        return b""

    # Other workers

    @property
    def other_workers(self) -> Workers | None:
        """The other workers, if one of them can still serve the client in place of this one; else None."""
        return self.server.context.workers if self.history is not None and self._taken is None else None

    async def hand_over(self, index: int, path: str = "", received: bytes | None = None) -> bool:
        """Hand the client over to another worker; return whether it accepted. If not, continue as before.

        ``path``: the other worker has the stream of this path, but may refuse; empty: it must serve the client.
        ``received``: the bytes that the client has sent; by default, those of the history.
        """
        history, self.history = self.history, None
        workers, server, transport = self.server.context.workers, self.server, self.transport
        can_move = not server.is_encrypted and not server.dump_prefix and not transport.get_write_buffer_size()
        configuration = server.configuration
        # Commands run once for each connection.
        may_refuse = not can_move or configuration.run_on_connect or configuration.run_on_disconnect
        if workers is None or history is None or self.waiting_size or (path and may_refuse):
            return False
        self.hold_reading()
        ours, theirs = (None, None) if can_move else socket.socketpair()
        try:
            descriptor = transport.get_extra_info("socket").fileno() if theirs is None else theirs.fileno()
            handed = HandedOver(
                bytes(history.received) if received is None else received,
                history.answered,
                self.opened_at,
                self.seed,
                self.peer if theirs is not None else self.forwarded,
                path,
                workers.index + 1,
            )
            is_taken = await workers.hand_over(index, server.name, handed, descriptor)
            if is_taken and self.is_open:
                self.close_reason = f"handed over to worker {index + 1}"
                if ours is None:
                    self.abort("")
                else:
                    await self._relay(ours)
                    ours = None
            elif self.is_open:
                self.release_reading()
            return is_taken
        finally:
            for end in (ours, theirs):
                if end is not None:
                    end.close()

    async def _relay(self, end: socket.socket) -> None:
        """Relay everything to the other worker; for this server, the connection has ended."""
        try:
            await relay(self.loop, self.transport, end)
        except OSError:
            end.close()
            self.abort("")
        else:
            if self.is_open:  # the client may have gone meanwhile
                self.connection_lost(None)

    def layer(self, transport: asyncio.Transport, *, encodes: bool) -> None:
        self.history = None  # the received bytes are no longer those of the socket
        super().layer(transport, encodes=encodes)

    def take(self, handed: HandedOver) -> None:
        """Serve the client of another worker. Called before the connection is open."""
        self._taken = handed
        self.opened_at = handed.opened_at
        self.forwarded = handed.client
        self.history = History(handed.answered)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        taken = self._taken
        if taken is not None and self.is_open:
            self.data_received(taken.received)

    def answer(self, data: bytes) -> None:
        if self.history is not None:
            data = self.history.answer(data)
            if not data:
                return
        super().answer(data)

    # Implementation

    def on_connected(self) -> None:
        self.log = self.server.log.child(f"conn {join_host_port(*self.peer)}")
        self.server.add_connection(self)
        origin = f" (handed over by worker {self._taken.origin})" if self._taken is not None else ""
        self.log.info("opened%s", origin)

    def on_lost(self, reason: str) -> None:
        self.server.remove_connection(self)
        self.log.info("closed (%s)", reason)

    def on_internal_error(self) -> None:
        self.server.on_internal_error()
        self.close("internal error")

    def tick(self, now: float) -> None:
        if self.is_open:
            dropped = self.outbox.take_dropped()
            if dropped:
                self.on_dropped(dropped)
        if self.check_progress(now, self.server.write_timeout) and not self.is_behind:
            self.on_tick(now)


class TcpServer(ConnectionServer, Server):
    """The server of a protocol: a listener with its connections, settings and sessions."""

    tells_observer: ClassVar[bool] = True
    """Whether the command for client connections also runs for these clients."""

    def __init__(self, kind: ServerKind, context: ServerContext, configuration: Configuration) -> None:
        self.kind = kind
        super().__init__(context.loop, context.log.child(self.name))
        self.context = context
        self.configuration = configuration

    def address(self) -> str:
        return self.kind.listeners[0].address(self.configuration)

    def certificate_files(self) -> tuple[str, str]:
        if self.kind.certificate is None:
            raise OSError("there is no certificate")
        return self.kind.certificate.files(self.configuration)

    async def take(self, end: socket.socket, handed: HandedOver) -> None:
        """Serve a client of another worker; close its socket if that is not possible."""
        end.setblocking(False)
        connection = self.make_connection()
        if isinstance(connection, ServerConnection) and self.is_running:
            connection.take(handed)
            with contextlib.suppress(OSError):
                await self.loop.connect_accepted_socket(lambda: connection, end)
                return
        end.close()

    # Settings

    @property
    def dump_prefix(self) -> str:
        return f"{self.dump_name}_server_conn" if self.configuration.dump_packets else ""

    @property
    def dump_name(self) -> str:
        """What files with its packets call the protocol."""
        return self.name.lower()

    @property
    def read_timeout(self) -> float:
        """Seconds."""
        return float(self.configuration.read_timeout)

    @property
    def write_timeout(self) -> float:
        """Seconds."""
        return float(self.configuration.write_timeout)

    @property
    def failure_pause(self) -> float:
        """Seconds by which the answer to a failed authentication is delayed."""
        return float(self.configuration.authentication_failure_pause)

    @property
    def queue_minimum(self) -> int:
        """Minimum queue size for a slow reader in bytes."""
        return self.configuration.write_queue_size * PACKET_SIZE

    def apply(self, configuration: Configuration) -> None:
        self.configuration = configuration

    @property
    def ports(self) -> dict[str, int]:
        return {self.kind.listeners[0].key: self.port}

    def add_connection(self, connection: ClientConnection) -> None:
        super().add_connection(connection)
        observer = self.context.connections
        if observer is not None and isinstance(connection, ServerConnection) and self.tells_observer:
            observer.on_connected(connection, self.connection_kind, connection.id, connection.log)

    def remove_connection(self, connection: ClientConnection) -> None:
        observer = self.context.connections
        if observer is not None and isinstance(connection, ServerConnection) and self.tells_observer:
            observer.on_disconnected(connection, self.connection_kind, connection.id, connection.log)
        super().remove_connection(connection)

    @property
    def connection_kind(self) -> str:
        """What commands call its connections, such as ``rtspConn``."""
        return f"{self.name.lower()}Conn"
