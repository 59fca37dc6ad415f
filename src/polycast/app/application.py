"""The composition root: creates a server from a configuration, starts it, reconfigures it, stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from polycast.app.cameras import find_cameras
from polycast.app.cluster import CLUSTER_KEYS, ClusterMember
from polycast.app.inputs import Inputs
from polycast.app.introduction import addresses_of, introduce, new_command_problems
from polycast.app.logging import LOG_KEYS, configure_log
from polycast.app.prepare import asks_other_servers, fingerprints_of, import_for, load_pages
from polycast.app.servers import Servers, StartError
from polycast.app.workers import WHEN_TAKEN
from polycast.config import LoadedConfiguration, changed_keys
from polycast.config.schema import Configuration
from polycast.control.console.cameras import CameraItem
from polycast.control.contract import ClusterNode, StreamAddress
from polycast.control.control import Control, ServiceError
from polycast.control.hooks import Hooks, HookVariables
from polycast.control.settings import Loader, Settings
from polycast.errors import ConfigurationError, PolycastError
from polycast.hub.access import AccessControl, AuthenticateCallback
from polycast.hub.hub import Hub
from polycast.hub.other_workers import OtherWorkers
from polycast.items import MetricBlock
from polycast.log import Log, LogOutput
from polycast.net.http_client import HttpClient
from polycast.net.packet_dump import packet_dumps_of
from polycast.net.udp import drops_of
from polycast.protocols import registry
from polycast.protocols.base import Server, ServerContext, Workers
from polycast.protocols.forward_loops import LoopCheck
from polycast.protocols.forwarding import Forwarding
from polycast.protocols.rtsp import RTSP
from polycast.record.recorder import Recorder
from polycast.rtp.header import packet_sizes_for
from polycast.security.addresses import parse_address

if TYPE_CHECKING:
    from polycast.control.contract import WorkerState
    from polycast.control.traffic import Traffic

__all__ = ["Application", "StartError"]

# Seconds between two samples of the streams' bit rates.
RATE_SAMPLE_SECONDS = 1.0


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
        loader: Loader | None = None,
        workers: Workers | None = None,
        other_workers: OtherWorkers | None = None,
    ) -> None:
        """``loader`` reloads the configuration when its file changes; by default, it only reads the file.

        ``workers`` and ``other_workers``: if the process is one of several.
        """
        loop = asyncio.get_running_loop()
        self._loaded = loaded
        self.log = log if log is not None else Log()
        self.settings = Settings(loaded, self._apply, self.log, loader)
        self._log_output = log_output
        self._http_client = HttpClient()
        access = AccessControl(self.configuration, authenticate, fetch=self._http_client.fetch, log=self.log)
        self._inputs = Inputs(loop, lambda: self.configuration, demo_path)
        self.hub = Hub(
            loop=loop,
            log=self.log,
            access=access,
            make_source=self._inputs.source_of,
            make_fallback=self._inputs.fallback_of,
            make_slate=self._inputs.slate_of,
            other_workers=other_workers,
        )
        self._inputs.cluster = ClusterMember(loop, self.hub, self.log, lambda: self.addresses)
        self._hooks = Hooks(
            loop,
            self.log,
            names=HookVariables(path=("RTSP_PATH", "MTX_PATH"), port="RTSP_PORT"),
            port=self._rtsp_port,
            configuration=lambda: self.configuration,
        )
        self.forwarding = Forwarding(LoopCheck(self.hub, self._ports).forwarded_again)
        self.recorder = Recorder(loop, self.log, self.hub.observers, lambda: self.configuration)
        self.hub.observers += (self._hooks, self.recorder, self.forwarding)
        context = ServerContext(loop, self.hub, self.log, self._hooks, workers, lambda: self.control.recorded.windows)
        self._servers = Servers(registry.server_kinds(), context)
        self.control = Control(self)
        self._timer: asyncio.TimerHandle | None = None

    def _ports(self) -> set[int]:
        return {port for server in self.servers.values() for port in server.ports.values()}

    @property
    def configuration(self) -> Configuration:
        """The active configuration."""
        return self.settings.configuration

    @property
    def cluster(self) -> ClusterMember:
        """This server as a node of a cluster."""
        return self._inputs.cluster

    @property
    def servers(self) -> Mapping[str, Server]:
        """The running protocol servers, by name."""
        return self._servers.running

    @property
    def server_names(self) -> Mapping[str, str]:
        """The names of all servers that there are, by their collections in the API."""
        return registry.server_names()

    @property
    def metric_blocks(self) -> list[MetricBlock]:
        """The metrics of all servers that there are under the names of MediaMTX."""
        return registry.metric_blocks()

    @property
    def workers(self) -> Sequence[WorkerState]:
        """None: the server is one process."""
        return ()

    @property
    def dropped_datagrams(self) -> int:
        """Datagrams that the system did not take."""
        return drops_of(asyncio.get_running_loop()).datagrams

    def observe_traffic(self) -> Traffic:
        """Begin to count the traffic of each path."""
        from polycast.control.traffic import Traffic

        traffic = Traffic(self.hub)
        self.hub.observers.append(traffic)
        return traffic

    async def refresh_keys(self) -> None:
        """Fetch the keys of tokens again."""
        await self.hub.access.refresh_keys()

    async def find_cameras(self, hosts: Sequence[str], user: str, password: str) -> Sequence[CameraItem]:
        """Find cameras for the console; see `MediaServer.find_cameras`."""
        return await find_cameras(self._http_client, hosts, user, password)

    async def thumbnail(self, path: str) -> bytes:
        """Raise PolycastError: no stream is in another process."""
        raise PolycastError(f"path '{path}' has no stream")

    async def refresh(self) -> None:
        """Do nothing: everything is known."""

    @property
    def addresses(self) -> Mapping[str, StreamAddress]:
        """Where streams can be read, by the names of the running servers."""
        return addresses_of(self.servers, self.configuration)

    @property
    def nodes(self) -> Sequence[ClusterNode]:
        """The nodes of the cluster, this one included; none without a cluster."""
        return self.cluster.nodes

    async def start(self) -> None:
        """Start everything. Raises StartError, after stopping what was started."""
        await self._introduce()
        try:
            await asyncio.to_thread(import_for, self.configuration)
            await self._prepare_inputs()
            await self._prepare_http_client(self.configuration)
            self.hub.access.prefetch()
            self.hub.configure(self.configuration.paths, packet_sizes_for(self.configuration.udp_max_payload_size))
            await self.cluster.start(self.configuration)
            await self._servers.start(self.configuration)
            await self._start_control()
            self._hooks.open()
        except BaseException:
            await self.stop("the server could not be started")
            raise
        self._timer = asyncio.get_running_loop().call_later(RATE_SAMPLE_SECONDS, self._sample_rates)
        asyncio.get_running_loop().run_in_executor(None, load_pages, self.configuration)

    async def _introduce(self) -> None:
        await introduce(self._loaded, self.log, self._log_output)

    async def _prepare_inputs(self) -> None:
        try:
            await asyncio.to_thread(self._inputs.prepare, self.configuration)
        except ConfigurationError as error:
            raise StartError(str(error)) from error

    async def reload(self, configuration: Configuration) -> None:
        """Apply a new configuration: only what it changes is restarted.

        Raises StartError if a server cannot be started with it, ConfigurationError for a file that cannot be used; the
        old configuration then remains active.
        """
        await self.settings.replace(configuration)

    async def _apply(self, new: Configuration) -> None:
        old = self.configuration
        changed = changed_keys(old, new)
        if "workers" in changed:
            self.log.warning(WHEN_TAKEN)
        await asyncio.to_thread(import_for, new)
        await asyncio.to_thread(load_pages, new)
        await asyncio.to_thread(self._inputs.prepare, new)
        changes_log = changed & LOG_KEYS
        if changes_log:
            await configure_log(self._log_output, new)
        try:
            restarted = await self._servers.restart(old, new, changed)
            try:
                await self.control.apply(new)
            except ServiceError as error:
                await self._servers.restore(restarted, old)
                raise StartError(str(error)) from error
        except StartError:
            if changes_log:
                await configure_log(self._log_output, old)
            raise
        if changed & CLUSTER_KEYS:
            await self.cluster.restart(old, new)
        await self._prepare_http_client(new)
        sizes = packet_sizes_for(new.udp_max_payload_size)
        entries = await asyncio.to_thread(self.hub.entries_of, new.paths, sizes)
        self.hub.access.configure(new)
        if changed & {"authMethod", "authJWTJWKS", "authJWTJWKSFingerprint"}:
            self.hub.access.prefetch()
        await self.hub.reconfigure(entries)  # nothing may wait in between: credentials belong to both
        await self._http_client.keep(fingerprints_of(new))
        for problem in await asyncio.to_thread(new_command_problems, old, new):
            self.log.warning("%s", problem)
        for server in self.servers.values():
            server.apply(new)
        self.recorder.cleaner.apply()

    async def _prepare_http_client(self, configuration: Configuration) -> None:
        if asks_other_servers(configuration):
            await self._http_client.prepare()

    async def _start_control(self) -> None:
        try:
            await self.control.start(self.configuration)
        except ServiceError as error:
            raise StartError(str(error)) from error
        self.settings.start_watching()
        self.recorder.cleaner.start()
        self.recorder.uploader.start()

    async def stop(self, reason: str = "the server stops") -> None:
        """Stop everything, in reverse order."""
        if self._timer is not None:
            self._timer.cancel()
        await self.settings.close()
        await self.control.stop()
        await self._servers.stop(reason)
        await self.cluster.stop(reason)
        self.hub.close(reason)
        await asyncio.gather(self._inputs.wait_for_end(), self.forwarding.wait_for_end())
        await self.recorder.close()
        await asyncio.gather(self._hooks.close(), self.control.close())
        self.hub.access.close()
        await self._http_client.close()
        await packet_dumps_of(asyncio.get_running_loop()).finish()

    def _rtsp_port(self) -> int:
        listener = RTSP.listeners[0]
        server = self.servers.get(RTSP.name)
        return (
            server.ports[listener.key] if server is not None else parse_address(listener.address(self.configuration))[1]
        )

    def _sample_rates(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(RATE_SAMPLE_SECONDS, self._sample_rates)
        now = asyncio.get_running_loop().time()
        for path in self.hub:
            if path.stream is not None:
                path.stream.meter.sample(path.stream.bytes_received, now)
