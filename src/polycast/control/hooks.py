"""Starts and stops external commands on events: those of paths, and the one for each connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from polycast.config.dialects.registry import dialect_of
from polycast.config.schema import Configuration
from polycast.control.commands import Command, CommandPool
from polycast.hub.path import Path, PathObserver
from polycast.hub.stream import Reader
from polycast.log import Log


@dataclass(frozen=True, slots=True)
class HookVariables:
    """Names of the variables that are passed to commands."""

    path: str
    port: str
    group: str = "G"
    """Followed by the number of the group."""


class Hooks(PathObserver):
    """Runs the commands. An observer of paths, and of connections."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        *,
        variables: HookVariables,
        port: Callable[[], int],
        configuration: Callable[[], Configuration],
    ) -> None:
        self._pool = CommandPool(loop, log)
        self._names = variables
        self._port = port
        self._configuration = configuration
        self._running: dict[tuple[str, object], Command] = {}
        self._waiting: dict[Path, None] | None = {}
        """Paths whose first command waits until the listeners are open; None after that."""

    def open(self) -> None:
        """Start the waiting commands: the listeners are open, so commands can reach the server."""
        waiting, self._waiting = self._waiting, None
        for path in waiting or ():
            self.on_path_created(path)

    async def close(self) -> None:
        """Terminate all commands and wait for them."""
        for command in self._running.values():
            command.stop()
        self._running = {}
        await self._pool.close()

    # PathObserver

    def on_path_created(self, path: Path) -> None:
        configuration = path.configuration
        if configuration.run_on_demand and path.on_demand is None:
            path.set_on_demand(
                start=lambda: self._start_on_demand(path),
                stop=lambda reason: self._stop_on_demand(path, reason),
                start_timeout=float(configuration.run_on_demand_start_timeout),
                close_after=float(configuration.run_on_demand_close_after),
            )
        if configuration.run_on_init:
            if self._waiting is not None:
                self._waiting[path] = None
            else:
                self._start("runOnInit", path, configuration.run_on_init, path, configuration.run_on_init_restart)

    def on_path_closed(self, path: Path) -> None:
        if self._waiting is not None:
            self._waiting.pop(path, None)
        for event in ("runOnInit", "runOnDemand", "runOnAvailable"):
            self._stop(event, path)

    def on_path_ready(self, path: Path) -> None:
        configuration = path.configuration
        if configuration.run_on_available:
            self._start(
                "runOnAvailable", path, configuration.run_on_available, path, configuration.run_on_available_restart
            )

    def on_path_not_ready(self, path: Path) -> None:
        self._stop("runOnAvailable", path)

    def on_reader_added(self, path: Path, reader: Reader) -> None:
        configuration = path.configuration
        # Readers without an id are internal ones, not clients.
        if configuration.run_on_read and reader.reference().id:
            self._start("runOnRead", reader, configuration.run_on_read, path, configuration.run_on_read_restart)

    def on_reader_removed(self, path: Path, reader: Reader) -> None:
        self._stop("runOnRead", reader)

    # Connections

    def on_connected(self, connection: object, log: Log) -> None:
        """A client has connected; ``log`` is that of its connection."""
        configuration = self._configuration()
        if configuration.run_on_connect:
            variables = {self._names.path: "", self._names.port: str(self._port())}
            self._running["runOnConnect", connection] = self._pool.start(
                "runOnConnect",
                configuration.run_on_connect,
                variables,
                log,
                restarts=configuration.run_on_connect_restart,
            )

    def on_disconnected(self, connection: object) -> None:
        """A client has disconnected."""
        self._stop("runOnConnect", connection)

    # Commands

    def _start_on_demand(self, path: Path) -> None:
        configuration = path.configuration
        self._start("runOnDemand", path, configuration.run_on_demand, path, configuration.run_on_demand_restart)

    def _stop_on_demand(self, path: Path, reason: str) -> None:
        self._stop("runOnDemand", path)
        path.close_publisher(reason)

    def _start(self, event: str, key: object, text: str, path: Path, restarts: bool) -> None:
        self._stop(event, key)
        variables = {
            self._names.path: path.name,
            self._names.port: str(self._port()),
            **{f"{self._names.group}{number}": group for number, group in enumerate(path.groups, 1)},
        }
        name = dialect_of(self._configuration().dialect).key(event)
        self._running[event, key] = self._pool.start(name, text, variables, path.log, restarts=restarts)

    def _stop(self, event: str, key: object) -> None:
        command = self._running.pop((event, key), None)
        if command is not None:
            command.stop()
