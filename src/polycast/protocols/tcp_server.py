"""Base of the servers whose clients connect over TCP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar
from uuid import uuid4

from polycast.config.schema import Configuration
from polycast.net.address import join_host_port
from polycast.net.server import ClientConnection, ConnectionServer
from polycast.net.tcp import TcpConnection
from polycast.protocols.base import Server, ServerContext, ServerKind

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

    # For protocols

    def on_tick(self, now: float) -> None:
        """Called about once a second: timeouts. Not while received data is waiting for processing."""

    def on_dropped(self, count: int) -> None:
        """Called about once a second while packets or frames are dropped."""

    # Implementation

    def on_connected(self) -> None:
        self.log = self.server.log.child(f"conn {join_host_port(*self.peer)}")
        self.server.add_connection(self)
        self.log.info("opened")

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
