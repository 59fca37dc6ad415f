"""The running protocol servers: started, restarted if a new configuration requires it, restored if that fails."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Set
from typing import Final

from polycast.config.schema import Configuration
from polycast.errors import PolycastError
from polycast.net.listen import open_tcp_listener, open_udp_socket, port_sharing
from polycast.protocols.base import Server, ServerContext, ServerKind
from polycast.protocols.listening import shared_port
from polycast.security.addresses import parse_address

_STOP_REASON: Final = "the configuration changed"


class StartError(PolycastError):
    """The server could not be started: a port is in use, for example. The message is meant for the user."""


class Servers:
    """The servers of an application, by name."""

    def __init__(self, kinds: tuple[ServerKind, ...], context: ServerContext) -> None:
        self._kinds = kinds
        self._context = context
        self.running: dict[str, Server] = {}

    async def start(self, configuration: Configuration) -> None:
        """Start all enabled servers. Raises StartError; those that were started keep running."""
        check_ports(configuration)
        for kind in self._kinds:
            await self._start(kind, configuration)

    async def stop(self, reason: str) -> None:
        """Stop all servers in parallel, because each waits for the last bytes of its connections."""
        await asyncio.gather(*(server.stop(reason) for server in reversed(self.running.values())))
        self.running = {}

    async def restart(self, old: Configuration, new: Configuration, changed: Set[str]) -> list[ServerKind]:
        """Restart the servers affected by the changed keys, and return their kinds.

        Raises StartError if one cannot be started; then the previous servers run again with ``old``.
        """
        restarted = [
            kind
            for kind in self._kinds
            if changed & kind.restart_keys or (kind.name not in self.running and kind.is_enabled(new))
        ]
        check_ports(new)
        await self._check_addresses(restarted, new, changed)
        self._check_packages(new)
        await self._stop(restarted)
        try:
            for kind in restarted:
                await self._start(kind, new)
        except StartError:
            await self.restore(restarted, old)
            raise
        return restarted

    async def restore(self, kinds: list[ServerKind], configuration: Configuration) -> None:
        """Replace the servers of some kinds with ones that have an older configuration."""
        await self._stop(kinds)
        for kind in kinds:
            try:
                await self._start(kind, configuration)
            except StartError as error:
                self._context.log.error("%s", error)

    async def _stop(self, kinds: list[ServerKind]) -> None:
        for kind in reversed(kinds):
            server = self.running.pop(kind.name, None)
            if server is not None:
                await server.stop(_STOP_REASON)

    async def _start(self, kind: ServerKind, configuration: Configuration) -> None:
        if not kind.is_enabled(configuration):
            return
        try:
            server = kind.create(self._context, configuration)
        except OSError as error:
            raise StartError(f"[{kind.name}] {error}") from error
        try:
            await server.start()
        except (OSError, ssl.SSLError) as error:
            await server.stop("the server could not be started")
            raise start_error(kind, configuration, error) from error
        self.running[kind.name] = server

    def _check_packages(self, new: Configuration) -> None:
        """Find packages that only some settings need, also of servers that keep running: settings of paths."""
        for kind in self._kinds:
            missing = kind.find_missing(new) if kind.is_enabled(new) else ""
            if missing:
                raise StartError(f"[{kind.name}] {missing}")

    async def _check_addresses(self, kinds: list[ServerKind], new: Configuration, changed: Set[str]) -> None:
        """Try new addresses before anything is stopped: a port in use must not disconnect anyone."""
        is_shared = port_sharing.get(self._context.loop)
        own_ports = {port for server in self.running.values() for port in server.ports.values()}
        for kind in kinds:
            if not kind.is_enabled(new):
                continue
            for listener in kind.listeners:
                if listener.key not in changed or not listener.is_used(new):
                    continue
                host, port = parse_address(listener.address(new))
                if not port or port in own_ports or (is_shared and not listener.worker_step):
                    continue  # the supervisor of the workers has tried shared ones
                open_socket = open_udp_socket if listener.is_datagram else open_tcp_listener
                try:
                    (await asyncio.to_thread(open_socket, host, port)).close()
                except OSError as error:
                    raise start_error(kind, new, error) from error


def check_ports(configuration: Configuration) -> None:
    """Name two settings with the same port before the system says that it is in use, without saying by what."""
    conflict = shared_port(configuration)
    if conflict:
        raise StartError(conflict)


def start_error(kind: ServerKind, configuration: Configuration, error: OSError | ssl.SSLError) -> StartError:
    """Return the error for the user, with the setting of the address concerned."""
    text = str(error.strerror or error)
    for listener in kind.listeners:
        if f"listen on {listener.address(configuration)}:" in text:
            return StartError(f"[{kind.name}] {listener.key}: {text}")
    return StartError(f"[{kind.name}] {text}")
