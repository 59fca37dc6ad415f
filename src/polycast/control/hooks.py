"""Starts and stops external commands on events: those of paths, and those for each connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_plus

from polycast.config.dialects.registry import dialect_of
from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration
from polycast.control.commands import Command, CommandPool
from polycast.control.ids import universal_id
from polycast.hub.path import Path, PathObserver
from polycast.hub.stats import Reference
from polycast.hub.stream import Reader
from polycast.log import Log

LAST_COMMANDS_SECONDS: Final = 5.0
"""When the server stops, commands about what has ended (`runOnDisconnect` and so on) may run for this long."""

Variables = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HookVariables:
    """Names of the variables that are passed to commands."""

    path: tuple[str, ...]
    """The path's name is passed under each of them."""
    port: str


class Hooks(PathObserver):
    """Runs the commands. An observer of paths, and of connections."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        *,
        names: HookVariables,
        port: Callable[[], int],
        configuration: Callable[[], Configuration],
    ) -> None:
        self._loop = loop
        self._pool = CommandPool(loop, log)
        self._names = names
        self._port = port
        self._configuration = configuration
        self._running: dict[tuple[str, object], Command] = {}
        self._last: set[Command] = set()
        """Commands that run once, about something that has ended or happened."""
        self._sources: dict[Path, Variables] = {}
        """The variables of what publishes, or published last, on a path that is ready."""
        self._demanded: set[Path] = set()
        """Paths that were demanded and are still in use."""
        self._waiting: dict[Path, None] | None = {}
        """Paths whose first command waits until the listeners are open; None after that."""

    def open(self) -> None:
        """Start the waiting commands: the listeners are open, so commands can reach the server."""
        waiting, self._waiting = self._waiting, None
        for path in waiting or ():
            self._start_on_init(path)
            if path in self._sources:
                self._start_on_available(path)

    async def close(self) -> None:
        """Terminate all commands and wait for them."""
        for command in self._running.values():
            command.stop()
        self._running = {}
        timer = self._loop.call_later(LAST_COMMANDS_SECONDS, self._stop_last)
        await self._pool.close()
        timer.cancel()

    def _stop_last(self) -> None:
        for command in self._last:
            command.stop()

    # PathObserver

    def on_path_created(self, path: Path) -> None:
        configuration = path.configuration
        if not path.is_run_here:
            return
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
                self._start_on_init(path)

    def on_path_closed(self, path: Path) -> None:
        if self._waiting is not None:
            self._waiting.pop(path, None)
        self._stop("runOnInit", path)
        self._end_demand(path)

    def on_path_reconfigured(self, path: Path, old: PathConfiguration) -> None:
        new = path.configuration
        if (
            path.is_run_here
            and new.run_on_init != old.run_on_init
            and (self._waiting is None or path not in self._waiting)
        ):
            self._start_on_init(path)
        if path in self._sources:
            if new.run_on_available != old.run_on_available:
                self._start_on_available(path)
            if new.run_on_online != old.run_on_online and path.is_online:
                self._start_on_online(path)

    def on_path_ready(self, path: Path) -> None:
        if path.is_copy:
            return
        self._sources[path] = _source_variables(path)
        if self._waiting is not None:
            self._waiting[path] = None
        else:
            self._start_on_available(path)

    def on_path_online(self, path: Path) -> None:
        if path.is_copy:
            if path in self._sources:  # another node publishes it now; the readers are the same
                self._end_available(path)
            return
        was_copy = path not in self._sources
        self._sources[path] = _source_variables(path)
        if was_copy:
            self._start_on_available(path)
        self._start_on_online(path)

    def on_path_offline(self, path: Path) -> None:
        if path.is_copy:
            return
        ended = self._stop("runOnOnline", path)
        variables = self._sources.get(path, {})
        self._run_once("runOnOffline", path.configuration.run_on_offline, path, variables, ended)

    def on_path_not_ready(self, path: Path) -> None:
        if path in self._sources:
            self._end_available(path)

    def _end_available(self, path: Path) -> None:
        ended = self._stop("runOnAvailable", path)
        variables = self._available_variables(path)
        self._run_once("runOnUnavailable", path.configuration.run_on_unavailable, path, variables, ended)
        self._sources.pop(path, None)

    def on_reader_added(self, path: Path, reader: Reader) -> None:
        reference = reader.reference()
        if reference.id:  # internal readers have none
            self._start_on_read(path, reader, reference, reader.query)

    def on_reader_removed(self, path: Path, reader: Reader) -> None:
        reference = reader.reference()
        if reference.id:
            self._end_on_read(path, reader, reference, reader.query)

    def on_viewer_added(self, path: Path, viewer: Reference, query: str) -> None:
        if dialect_of(self._configuration().dialect).has_viewer_commands:
            self._start_on_read(path, viewer, viewer, query)

    def on_viewer_removed(self, path: Path, viewer: Reference, query: str) -> None:
        if dialect_of(self._configuration().dialect).has_viewer_commands:
            self._end_on_read(path, viewer, viewer, query)

    def on_segment_created(self, path: Path, file: str) -> None:
        text = path.configuration.run_on_record_segment_create
        self._run_once("runOnRecordSegmentCreate", text, path, {"MTX_SEGMENT_PATH": file})

    def on_segment_completed(self, path: Path, file: str, duration: float) -> None:
        text = path.configuration.run_on_record_segment_complete
        seconds = f"{duration:.9f}".rstrip("0").rstrip(".")
        variables = {"MTX_SEGMENT_PATH": file, "MTX_SEGMENT_DURATION": seconds}
        self._run_once("runOnRecordSegmentComplete", text, path, variables)

    # Connections

    def on_connected(self, connection: object, kind: str, identifier: str, log: Log) -> None:
        """A client has connected; ``log`` is that of its connection."""
        configuration = self._configuration()
        if configuration.run_on_connect:
            self._running["runOnConnect", connection] = self._pool.start(
                "runOnConnect",
                configuration.run_on_connect,
                self._connection_variables(kind, identifier),
                log,
                restarts=configuration.run_on_connect_restart,
            )

    def on_disconnected(self, connection: object, kind: str, identifier: str, log: Log) -> None:
        """A client has disconnected."""
        ended = self._stop("runOnConnect", connection)
        text = self._configuration().run_on_disconnect
        if text:
            self._start_last("runOnDisconnect", text, self._connection_variables(kind, identifier), log, ended)

    def _connection_variables(self, kind: str, identifier: str) -> Variables:
        no_path = dict.fromkeys(self._names.path, "")
        return {
            **no_path,
            self._names.port: str(self._port()),
            "MTX_CONN_TYPE": kind,
            "MTX_CONN_ID": universal_id(identifier),
        }

    # Commands

    def _start_on_init(self, path: Path) -> None:
        configuration = path.configuration
        self._start("runOnInit", path, configuration.run_on_init, path, restarts=configuration.run_on_init_restart)

    def _start_on_available(self, path: Path) -> None:
        configuration = path.configuration
        restarts = configuration.run_on_available_restart
        text, variables = configuration.run_on_available, self._available_variables(path)
        self._start("runOnAvailable", path, text, path, variables, restarts=restarts)

    def _available_variables(self, path: Path) -> Variables:
        """Return the variables of a stream that can be read; one that always can comes from no particular source."""
        return {} if path.configuration.always_available else self._sources.get(path, {})

    def _start_on_online(self, path: Path) -> None:
        configuration = path.configuration
        restarts = configuration.run_on_online_restart
        self._start("runOnOnline", path, configuration.run_on_online, path, self._sources[path], restarts=restarts)

    def _start_on_read(self, path: Path, key: object, reader: Reference, query: str) -> None:
        configuration = path.configuration
        if configuration.run_on_read:
            restarts = configuration.run_on_read_restart
            variables = _reader_variables(reader, query)
            self._start("runOnRead", key, configuration.run_on_read, path, variables, restarts=restarts)

    def _end_on_read(self, path: Path, key: object, reader: Reference, query: str) -> None:
        ended = self._stop("runOnRead", key)
        self._run_once("runOnUnread", path.configuration.run_on_unread, path, _reader_variables(reader, query), ended)

    def _start_on_demand(self, path: Path) -> None:
        configuration = path.configuration
        self._demanded.add(path)
        restarts = configuration.run_on_demand_restart
        self._start("runOnDemand", path, configuration.run_on_demand, path, _demand_variables(path), restarts=restarts)

    def _stop_on_demand(self, path: Path, reason: str) -> None:
        self._end_demand(path)
        path.close_publisher(reason)

    def _end_demand(self, path: Path) -> None:
        ended = self._stop("runOnDemand", path)
        if path in self._demanded:
            self._demanded.remove(path)
            text = path.configuration.run_on_un_demand
            self._run_once("runOnUnDemand", text, path, _demand_variables(path), ended)

    def _start(
        self, event: str, key: object, text: str, path: Path, variables: Variables | None = None, *, restarts: bool
    ) -> None:
        """Start the command of an event, in place of the one that runs."""
        self._stop(event, key)
        if text:
            variables = self._path_variables(path, variables or {})
            self._running[event, key] = self._pool.start(
                self._name_of(event), text, variables, path.log, restarts=restarts
            )

    def _stop(self, event: str, key: object) -> Command | None:
        """Stop the command of an event, and return it."""
        command = self._running.pop((event, key), None)
        if command is not None:
            command.stop()
        return command

    def _run_once(self, event: str, text: str, path: Path, variables: Variables, after: Command | None = None) -> None:
        """Run a command about something that has ended or happened, once the command ``after`` has ended."""
        if text:
            self._start_last(event, text, self._path_variables(path, variables), path.log, after)

    def _start_last(self, event: str, text: str, variables: Variables, log: Log, after: Command | None = None) -> None:
        name = self._name_of(event)
        command = self._pool.start(name, text, variables, log, restarts=False, on_ended=self._last.discard, after=after)
        self._last.add(command)

    def _name_of(self, event: str) -> str:
        """Return what the user calls the setting of an event."""
        return dialect_of(self._configuration().dialect).key(event)

    def _path_variables(self, path: Path, variables: Variables) -> Variables:
        groups = {f"G{number}": group for number, group in enumerate(path.groups, 1)}
        names = dict.fromkeys(self._names.path, path.name)
        return {**names, self._names.port: str(self._port()), **variables, **groups}


def _source_variables(path: Path) -> Variables:
    publisher = path.publisher
    if publisher is None:
        return {}
    reference = publisher.reference()
    return {
        "MTX_SOURCE_TYPE": reference.type,
        "MTX_SOURCE_ID": universal_id(reference.id),
        "MTX_QUERY": quote_plus(publisher.query),
    }


def _reader_variables(reader: Reference, query: str) -> Variables:
    return {
        "MTX_READER_TYPE": reader.type,
        "MTX_READER_ID": universal_id(reader.id),
        "MTX_QUERY": quote_plus(query),
    }


def _demand_variables(path: Path) -> Variables:
    return {"MTX_QUERY": quote_plus(path.on_demand.query if path.on_demand is not None else "")}
