"""The HTTP services (API, metrics, profiles, playback), started and stopped according to the configuration."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration
from polycast.config.services import SERVICES
from polycast.control.command_rule import CommandRule
from polycast.control.contract import MediaServer, Traffic
from polycast.control.service import Listening, Service, listening
from polycast.errors import PolycastError
from polycast.hub.access_request import Action
from polycast.net.http.asgi import Application
from polycast.security.addresses import parse_address

if TYPE_CHECKING:
    from polycast.config.webhooks import EventName
    from polycast.control.console.parts import ConsoleParts
    from polycast.control.events import EventHub
    from polycast.control.lag import LoopLag
    from polycast.control.pprof import Profiles
    from polycast.control.webhooks import Webhooks
    from polycast.playback.windows import Recorded


class ServiceError(PolycastError):
    """A service could not be started. The text is for the user."""


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    prefix: str
    make: Callable[[Control], Application]
    logs_requests: bool = False
    concerns_paths: bool = False


class Control:
    """API, metrics and profiles. Their modules are imported when the first one is started."""

    def __init__(self, media_server: MediaServer) -> None:
        self._media_server = media_server
        self._loop = asyncio.get_running_loop()
        self.services: dict[str, Service] = {}
        """The running services, by the prefix of their keys: ``api``, ``metrics``, ``pprof``, ``playback``."""
        self._traffic: Traffic | None = None
        self._events: EventHub | None = None
        self._webhooks: Webhooks | None = None
        self._lag: LoopLag | None = None
        self._profiles: Profiles | None = None
        self._recorded: Recorded | None = None
        self._commands = CommandRule()
        self._background: set[asyncio.Task[None]] = set()
        self._console: ConsoleParts | None = None

    @property
    def ports(self) -> dict[str, int]:
        """The ports that the services listen on, by configuration key."""
        return {f"{prefix}Address": service.port for prefix, service in self.services.items()}

    async def start(self, configuration: Configuration) -> None:
        """Start the enabled services. Raises ServiceError."""
        await self.apply(configuration)

    async def apply(self, configuration: Configuration) -> None:
        """Start, stop and restart services according to a new configuration.

        Raises ServiceError; then the previous services keep running. Credentials and origins need no restart.
        """
        if self._background:
            await asyncio.wait(self._background)
        changed: list[tuple[_Kind, Service | None]] = []
        unused: list[Service] = []
        try:
            for kind in _KINDS:
                old = self.services.get(kind.prefix)
                wanted = listening(SERVICES[kind.prefix](configuration))
                if (old.settings if old is not None else None) == wanted:
                    continue
                changed.append((kind, old))
                if await self._change(kind, old, wanted) and old is not None:
                    unused.append(old)
        except ServiceError:
            await self._undo(changed)
            raise
        for service in unused:
            # In the background: the service may be answering the request that changed the configuration.
            self._run_in_background(service.stop())
        self._release_unused()
        await self._apply_webhooks(configuration)

    async def _apply_webhooks(self, configuration: Configuration) -> None:
        if self._webhooks is None and not configuration.webhooks:
            return
        if self._webhooks is None:
            from polycast.control.webhooks import Webhooks

            self._webhooks = Webhooks(self._media_server.log)
        await self._webhooks.configure(configuration.webhooks)
        self.events.set_listener(self._webhooks.emit if configuration.webhooks else None)

    async def stop(self) -> None:
        """Stop all services."""
        if self._events is not None:
            self._events.close()
        services, self.services = self.services, {}
        if self._recorded is not None:
            self._recorded.windows.close()
        self._release_unused()
        await asyncio.gather(*(service.stop() for service in services.values()))
        if self._background:
            await asyncio.wait(self._background)

    async def close(self) -> None:
        """Stop telling about events; after everything else has stopped."""
        if self._events is not None:
            self._events.set_listener(None)
            self._media_server.settings.listeners.remove(self._events.on_configuration)
            self._media_server.hub.observers.remove(self._events)
            self._events = None
        if self._webhooks is not None:
            webhooks, self._webhooks = self._webhooks, None
            await webhooks.close()

    async def _change(self, kind: _Kind, old: Service | None, wanted: Listening | None) -> bool:
        """Start the new service; return whether to stop the old one."""
        if wanted is None:
            del self.services[kind.prefix]
            return True
        service = self._make(kind, wanted)
        if old is not None and old.port == parse_address(wanted.address)[1]:
            # The old service uses the same port. It is free when the old one has answered its current request.
            self.services.pop(kind.prefix)
            self._run_in_background(self._take_over(kind, old, service))
            return False
        await _start(service, kind.name)
        self.services[kind.prefix] = service
        return True

    async def _take_over(self, kind: _Kind, old: Service, new: Service) -> None:
        await old.stop()
        for service in (new, self._make(kind, old.settings)):
            try:
                await _start(service, kind.name)
            except ServiceError as error:
                old.log.error("%s", error)
                continue
            self.services[kind.prefix] = service
            return

    async def _undo(self, changed: list[tuple[_Kind, Service | None]]) -> None:
        for kind, old in changed:
            new = self.services.pop(kind.prefix, None)
            if old is not None:
                self.services[kind.prefix] = old
            if new is not None and new is not old:
                await new.stop()

    def _make(self, kind: _Kind, settings: Listening) -> Service:
        return Service(
            kind.name,
            kind.prefix,
            kind.make(self),
            self._media_server,
            settings,
            logs_requests=kind.logs_requests,
            concerns_paths=kind.concerns_paths,
        )

    def _run_in_background(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # What the services share

    @property
    def traffic(self) -> Traffic:
        """Totals by path, counted from the first time they are needed."""
        if self._traffic is None:
            self._traffic = self._media_server.observe_traffic()
        return self._traffic

    @property
    def lag(self) -> LoopLag:
        """The lag of the event loop, measured from now on."""
        if self._lag is None:
            from polycast.control.lag import LoopLag

            self._lag = LoopLag(self._loop)
        self._lag.start()
        return self._lag

    @property
    def events(self) -> EventHub:
        """What is told about events."""
        if self._events is None:
            from polycast.control.events import EventHub

            self._events = EventHub(self._media_server)
            self._media_server.hub.observers.append(self._events)
            self._media_server.settings.listeners.append(self._events.on_configuration)
        return self._events

    def tell(self, name: EventName, data: Mapping[str, object], in_v3: Mapping[str, object] = {}) -> None:
        """Tell about an event of a worker, if anybody listens. ``in_v3``: what is different for clients of API v3."""
        if self._events is not None:
            self._events.emit(name, in_v3, **data)

    def api(self) -> Application:
        """Return the application of the API."""
        from polycast.control.api import Api

        if self._console is None:
            from polycast.control.console.parts import ConsoleParts

            self._console = ConsoleParts(self._media_server, self.traffic, self.lag)
            self._console.log.listener = self.events.on_log_line
        self._console.start()
        console = self._console.endpoints(lambda: self.ports)
        api = Api(self._media_server, self.traffic, self.events, self._commands, console)
        return refreshed(api.application(), self._media_server)

    def metrics(self) -> Application:
        """Return the application of the metrics."""
        from polycast.control.metrics.application import application

        return refreshed(application(self._media_server, self.traffic, self.lag), self._media_server)

    def pprof(self) -> Application:
        """Return the application of the profiles."""
        from polycast.control.pprof import Profiles

        if self._profiles is None:
            self._profiles = Profiles()
        return self._profiles.application()

    def playback(self) -> Application:
        """Return the application of the playback server."""
        from polycast.playback.application import Playback

        log = self._media_server.log.child("playback")
        return Playback(
            self.recorded.recordings, self._path_configuration, log, self._recorded_paths, self._is_open
        ).application()

    def _recorded_paths(self) -> set[str]:
        from polycast.record.entries import Entries

        return Entries(self._media_server.configuration.paths).names()

    def _is_open(self, name: str) -> bool:
        return not self._media_server.hub.is_protected(name, Action.PLAYBACK)

    @property
    def recorded(self) -> Recorded:
        """The recordings, for all servers that serve them."""
        from polycast.playback.windows import Recorded

        if self._recorded is None:
            log = self._media_server.log.child("playback")
            self._recorded = Recorded(lambda name: self._path_configuration(name).record_path, log)
        return self._recorded

    def _path_configuration(self, name: str) -> PathConfiguration:
        return self._media_server.hub.find_entry(name)[0].configuration

    def _release_unused(self) -> None:
        if "playback" not in self.services and self._recorded is not None and not self._recorded.windows.is_used:
            self._recorded.close()
            self._recorded = None
        if "api" not in self.services and self._console is not None:
            self._console.stop()
        if not {"api", "metrics"} & self.services.keys() and self._lag is not None:
            self._lag.stop()
        if "pprof" not in self.services and self._profiles is not None:
            self._profiles.close()


def refreshed(application: Application, media_server: MediaServer) -> Application:
    """Return an application whose requests are answered with what is true when they arrive."""

    async def refresh_first(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await media_server.refresh()
        await application(scope, receive, send)

    return refresh_first


_KINDS: Final = (
    _Kind("metrics", "metrics", Control.metrics),
    _Kind("pprof", "pprof", Control.pprof),
    _Kind("playback", "playback", Control.playback, concerns_paths=True),
    _Kind("API", "api", Control.api, logs_requests=True),
)


async def _start(service: Service, name: str) -> None:
    try:
        await service.start()
    except (OSError, ssl.SSLError) as error:
        raise ServiceError(f"[{name}] {error.strerror or error}") from error
