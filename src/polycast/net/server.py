"""A server's listener with its connections: plain or TLS, housekeeping, certificate renewal."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Final, Protocol

from polycast.log import Log
from polycast.net.address import join_host_port, peer_of
from polycast.net.close_reason import describe_close
from polycast.net.dumped import dumped_connection
from polycast.net.housekeeping import Housekeeping, Member
from polycast.net.listen import open_tcp_listener, port_sharing
from polycast.net.listener import Listener
from polycast.net.proxy_header import ProxyRule
from polycast.net.tls import ServerCertificate
from polycast.net.tls_listener import TlsListener
from polycast.security.addresses import IPNetwork, parse_address

# Seconds for connections to send their last bytes when the server stops.
STOP_GRACE_SECONDS: Final = 1.0


class ClientConnection(Member, Protocol):
    """A connection, as its server sees it. It is also an asyncio protocol."""

    log: Log

    def close(self, reason: str) -> None:
        """Close once everything queued was sent."""

    def abort(self, reason: str) -> None:
        """Close at once."""


class ConnectionServer(ABC):
    """A listener with its connections: plain, or with TLS."""

    is_encrypted: bool = False
    alpn_protocols: ClassVar[tuple[str, ...]] = ()
    """What TLS clients may choose from (RFC 7301)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        self.loop = loop
        self.log = log
        self.internal_errors = 0
        """Unexpected exceptions; each closed only one session."""
        self.now = time.monotonic
        self._connections: set[ClientConnection] = set()
        self._all_lost: asyncio.Event | None = None
        """Set when the last connection is lost; exists while the server stops."""
        self._listener: Listener | None = None
        self.housekeeping: Housekeeping[Member] = Housekeeping(
            loop, lambda: self.now(), self.members, lambda _: self.on_internal_error(), self._end_round
        )
        self._certificate: ServerCertificate | None = None
        self._renewal: asyncio.Task[None] | None = None
        """Looks for a new certificate; a file system that hangs may delay it."""

    # For subclasses

    @abstractmethod
    def address(self) -> str:
        """Return the configured address of the listener."""

    @abstractmethod
    def make_connection(self) -> asyncio.BaseProtocol:
        """Return the protocol object of a new connection; it calls `add_connection` and `remove_connection`."""

    @abstractmethod
    def certificate_files(self) -> tuple[str, str]:
        """Return the PEM files (certificate, key) of a server with TLS."""

    @property
    @abstractmethod
    def read_timeout(self) -> float:
        """Seconds."""

    @property
    def proxy_networks(self) -> Sequence[IPNetwork]:
        """Proxies whose connections begin with a header of the PROXY protocol."""
        return ()

    @property
    def dump_prefix(self) -> str:
        """Beginning of the names of the files with the packets of new connections; empty: there are none."""
        return ""

    def listener_kind(self) -> str:
        """Return what the log calls the listener."""
        return "TCP/TLS" if self.is_encrypted else "TCP"

    async def open_more(self) -> list[str]:
        """Open other sockets before the listener; return their descriptions for the log. Raises OSError.

        Addresses may be names, whose resolution blocks: sockets are opened in a thread.
        """
        return []

    def close_more(self) -> None:
        """Close what `open_more` opened, and whatever outlives connections."""

    def close_connection(self, connection: ClientConnection, reason: str) -> None:
        """Close a connection because the server stops; it is aborted after `STOP_GRACE_SECONDS`."""
        connection.close(reason)

    def members(self) -> list[Member]:
        """Return the members to call about once a second."""
        return list(self._connections)

    def on_second(self, now: float) -> None:
        """Called about once a second, after the members."""

    @property
    def is_running(self) -> bool:
        """Whether it accepts connections."""
        return self.housekeeping.is_running

    # Life

    async def start(self) -> None:
        host, port = parse_address(self.address())
        if self.is_encrypted:
            files = self.certificate_files()
            self._certificate = await asyncio.to_thread(ServerCertificate, *files, self.alpn_protocols)
        # First, since the error about its port is the clearest one if another server runs.
        is_shared = port_sharing.get(self.loop)
        listener = await asyncio.to_thread(partial(open_tcp_listener, host, port, is_shared=is_shared))
        try:
            texts = await self.open_more()
            self._listener = self._create_listener(listener)
        except BaseException:
            listener.close()
            raise
        self.housekeeping.start()
        self.log.info("listener opened on %s", ", ".join([f"{host}:{self.port} ({self.listener_kind()})", *texts]))

    async def stop(self, reason: str) -> None:
        was_started = self.is_running
        self.housekeeping.stop()
        if self._renewal is not None:
            self._renewal.cancel()
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            self.close_connection(connection, reason)
        await self._wait_for_connections()
        self.close_more()
        if was_started:
            self.log.info("listener closed")

    @property
    def port(self) -> int:
        """The port of the listener; 0 while it is closed."""
        if self._listener is None or not self._listener.sockets:
            return 0
        return int(self._listener.sockets[0].getsockname()[1])

    def add_connection(self, connection: ClientConnection) -> None:
        """Add a new connection to the housekeeping."""
        self._connections.add(connection)

    def remove_connection(self, connection: ClientConnection) -> None:
        """Remove a lost connection."""
        self._connections.discard(connection)
        if not self._connections and self._all_lost is not None:
            self._all_lost.set()

    def _create_listener(self, listener: socket.socket) -> Listener:
        proxies = ProxyRule(lambda: self.proxy_networks, lambda: self.read_timeout, self._on_proxy_failed)
        if self._certificate is None:
            return Listener(listener, self.make_connection, proxies, self._dumped)
        return TlsListener(
            listener,
            self._certificate.context,
            self.make_connection,
            self.on_handshake_failed,
            handshake_timeout=lambda: self.read_timeout,
            shutdown_timeout=STOP_GRACE_SECONDS,
            proxies=proxies,
            wrap=self._dumped,
        )

    def _dumped(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        """Return what writes a connection's packets to a file in front of its protocol, if that is wanted."""
        prefix = self.dump_prefix
        if not prefix:
            return protocol
        context = self._certificate.context if self._certificate is not None else None
        return dumped_connection(self.loop, protocol, prefix, is_server=True, tls=context)

    def _on_proxy_failed(self, address: object, error: Exception) -> None:
        # A proxy that only checks whether the server runs disconnects at once, every few seconds.
        write = self.log.debug if isinstance(error, ConnectionResetError) else self.log.info
        write("[conn %s] closed (%s)", join_host_port(*peer_of(address)), error)

    def on_handshake_failed(self, address: object, error: Exception) -> None:
        """Called with the address of a client that does not speak TLS, or rejects the certificate."""
        log = self.log.child(f"conn {join_host_port(*peer_of(address))}")
        log.info("closed (TLS handshake failed: %s)", describe_close(error))

    async def _wait_for_connections(self) -> None:
        """Give connections time to send their last bytes, then abort the rest."""
        if self._connections:
            all_lost = self._all_lost = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(all_lost.wait(), STOP_GRACE_SECONDS)
            for connection in list(self._connections):
                connection.abort("the server stopped")
            with contextlib.suppress(TimeoutError):  # it takes a turn of the loop
                await asyncio.wait_for(all_lost.wait(), STOP_GRACE_SECONDS)
        if self._listener is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._listener.wait_closed(), STOP_GRACE_SECONDS)

    # Housekeeping

    def _end_round(self, now: float) -> None:
        try:
            self.on_second(now)
        except Exception:
            self.on_internal_error()
        is_renewing = self._renewal is not None and not self._renewal.done()
        if self._certificate is not None and not is_renewing and self._certificate.is_check_due(now):
            self._renewal = self.loop.create_task(self._renew(self._certificate))

    def on_internal_error(self) -> None:
        """Log and count the exception that is being handled, a bug."""
        self.log.exception("internal error")
        self.internal_errors += 1

    async def _renew(self, certificate: ServerCertificate) -> None:
        """Use a renewed certificate for new connections; if it cannot be loaded, log that and keep the old one."""
        try:
            has_changed = await asyncio.to_thread(certificate.renew)
        except (OSError, ssl.SSLError) as error:
            self.log.warning("the new certificate cannot be used: %s", error)
        else:
            if has_changed:
                if isinstance(self._listener, TlsListener):
                    self._listener.context = certificate.context
                self.log.info("the certificate was reloaded")
