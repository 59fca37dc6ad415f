"""The composition root: makes a server out of a configuration, starts it, gives it new settings, stops it."""

from __future__ import annotations

import asyncio
import ssl

from polycast import __version__
from polycast.config import LoadedConfiguration, changed_keys, unavailable_keys
from polycast.config.schema import Configuration
from polycast.errors import PolycastError
from polycast.hub.access import AccessControl, AuthenticateCallback
from polycast.hub.hub import Hub
from polycast.hub.path import Path, Source
from polycast.log import Log, LogOutput
from polycast.protocols.base import Server, ServerContext, ServerKind
from polycast.protocols.registry import SERVER_KINDS

# Seconds between two samples of the streams' bit rates.
RATE_SAMPLE_SECONDS = 1.0


class StartError(PolycastError):
    """A server could not be started: a port is taken, a certificate cannot be read. The text is for the user."""


class Application:
    """A whole server: hub, protocol servers, logging. Lives on one event loop."""

    def __init__(
        self,
        loaded: LoadedConfiguration,
        *,
        log: Log | None = None,
        log_output: LogOutput | None = None,
        authenticate: AuthenticateCallback | None = None,
        demo_path: str | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._loaded = loaded
        self.configuration: Configuration = loaded.configuration
        self.log = log if log is not None else Log()
        self._log_output = log_output
        self._demo_path = demo_path
        access = AccessControl(
            self.configuration.external_authentication_url,
            float(self.configuration.external_authentication_timeout),
            authenticate,
        )
        self.hub = Hub(loop=self._loop, log=self.log, access=access, make_source=self._make_source)
        self.servers: dict[str, Server] = {}
        """The protocol servers that run, by name."""
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Open everything. Raises StartError; what was opened by then is closed again."""
        self._configure_log(self.configuration)
        self.log.info("polycast v%s", __version__)
        for warning in (*self._loaded.warnings, *unavailable_keys(self.configuration, self._loaded.given)):
            self.log.warning("%s", warning)
        try:
            self.hub.configure(self.configuration.paths)
            for kind in SERVER_KINDS:
                await self._start_server(kind, self.configuration)
        except BaseException:
            await self.stop("the server could not be started")
            raise
        self._timer = self._loop.call_later(RATE_SAMPLE_SECONDS, self._sample_rates)

    async def reload(self, configuration: Configuration) -> None:
        """Take a new configuration: only what it changes is restarted. Raises StartError."""
        old, self.configuration = self.configuration, configuration
        changed = changed_keys(old, configuration)
        if changed & {"logLevel", "logDestinations", "logFile"}:
            self._configure_log(configuration)
        self.hub.access.configure(
            configuration.external_authentication_url, float(configuration.external_authentication_timeout)
        )
        restarted = [kind for kind in SERVER_KINDS if changed & kind.restart_keys]
        for kind in reversed(restarted):
            server = self.servers.pop(kind.name, None)
            if server is not None:
                await server.stop("the configuration changed")
        self.hub.configure(configuration.paths)
        for server in self.servers.values():
            server.apply(configuration)
        for kind in restarted:
            await self._start_server(kind, configuration)

    async def stop(self, reason: str = "the server stops") -> None:
        """Close everything, in the other order."""
        if self._timer is not None:
            self._timer.cancel()
        for server in reversed(list(self.servers.values())):
            await server.stop(reason)
        self.servers = {}
        self.hub.close(reason)
        await self.hub.access.close()

    def _make_source(self, path: Path) -> Source | None:
        if path.name == self._demo_path:
            from polycast.demo_source import DemoPublisher  # needs PyAV, and time

            return DemoPublisher(path, self._loop)
        return None

    async def _start_server(self, kind: ServerKind, configuration: Configuration) -> None:
        if not kind.is_enabled(configuration):
            return
        server = kind.create(ServerContext(self._loop, self.hub, self.log), configuration)
        try:
            await server.start()
        except (OSError, ssl.SSLError) as error:
            await server.stop("the server could not be started")
            raise StartError(f"[{kind.name}] {error.strerror or error}") from error
        self.servers[kind.name] = server

    def _configure_log(self, configuration: Configuration) -> None:
        if self._log_output is None:
            return
        destinations = [destination.value for destination in configuration.log_destinations]
        try:
            self._log_output.configure(configuration.log_level.value, destinations, configuration.log_file)
        except OSError as error:
            raise StartError(f"the log cannot be opened: {error}") from error

    def _sample_rates(self) -> None:
        self._timer = self._loop.call_later(RATE_SAMPLE_SECONDS, self._sample_rates)
        now = self._loop.time()
        for path in self.hub:
            if path.stream is not None:
                path.stream.rate.sample(path.stream.bytes_received, now)
