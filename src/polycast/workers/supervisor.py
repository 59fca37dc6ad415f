"""The process that users start: configuration, API, metrics and log for all workers. No media passes through it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec
from msgspec import Raw

from polycast.app.cameras import find_cameras
from polycast.app.introduction import addresses_of, introduce, new_command_problems
from polycast.app.logging import LOG_KEYS, configure_log
from polycast.app.prepare import asks_other_servers, fingerprints_of, import_for, load_pages
from polycast.app.servers import StartError
from polycast.app.workers import WHEN_TAKEN, check_workers
from polycast.config import LoadedConfiguration, changed_keys
from polycast.config.schema import Configuration
from polycast.config.webhooks import EventName
from polycast.control.console.cameras import CameraItem
from polycast.control.contract import Cluster, ClusterNode, StreamAddress
from polycast.control.control import Control, ServiceError
from polycast.control.settings import Loader, Settings
from polycast.errors import PolycastError
from polycast.hub.access import AccessControl
from polycast.hub.entries import PathEntries
from polycast.hub.errors import PathError
from polycast.hub.movement import CannotMove, Movement
from polycast.items import MetricBlock
from polycast.log import Log, LogOutput
from polycast.net.http_client import HttpClient
from polycast.protocols import registry
from polycast.record.cleaner import Cleaner
from polycast.record.requests import Requests
from polycast.workers.channel import ChannelError
from polycast.workers.claims import Claims
from polycast.workers.merged import (
    MergedForwarding,
    MergedHub,
    MergedRecorder,
    MergedServer,
    MergedTraffic,
    WorkerNumbers,
)
from polycast.workers.messages import KickSession, MoveCamera, PathEvent, RecordingRequest
from polycast.workers.process import WorkerProcess
from polycast.workers.snapshot import Snapshot
from polycast.workers.state import State
from polycast.workers.workers import Workers

SNAPSHOT_SECONDS: Final = 5.0
"""For a worker to say what it knows."""


class Supervisor:
    """A server with several workers, for the API, the metrics and the command line (`control.contract.MediaServer`)."""

    def __init__(
        self,
        loaded: LoadedConfiguration,
        count: int,
        *,
        log: Log,
        log_output: LogOutput,
        demo_path: str | None = None,
        loader: Loader | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loaded = loaded
        self.log = log
        self._log_output = log_output
        self.settings = Settings(loaded, self._apply, log, loader)
        self._http_client = HttpClient()
        access = AccessControl(self.configuration, None, fetch=self._http_client.fetch, log=log)
        self.hub = MergedHub(access, self._move)
        self._state = State(count)
        cleaner = Cleaner(loop, log, lambda: self.configuration, self._state.open_files)
        self.recorder = MergedRecorder(cleaner, Requests(loop, self._on_recording_requested), self._state.open_files)
        self.forwarding = MergedForwarding()
        self._workers = Workers(count, log, tempfile.mkdtemp(prefix="polycast-"), demo_path, self._attach)
        self._workers.on_ended = self._on_worker_ended
        self._claims = Claims(self._workers.placement.set_load)
        self.control = Control(self)

    @property
    def configuration(self) -> Configuration:
        """The active configuration."""
        return self.settings.configuration

    @property
    def servers(self) -> Mapping[str, MergedServer]:
        """The servers, by name."""
        return self._state.servers

    @property
    def server_names(self) -> Mapping[str, str]:
        """The names of all servers that there are, by their collections in the API."""
        return registry.server_names()

    @property
    def metric_blocks(self) -> list[MetricBlock]:
        """The metrics of all servers that there are under the names of MediaMTX."""
        return registry.metric_blocks()

    @property
    def addresses(self) -> Mapping[str, StreamAddress]:
        """Where streams can be read, by the names of the running servers."""
        return addresses_of(self.servers, self.configuration)

    @property
    def nodes(self) -> Sequence[ClusterNode]:
        """None: a server with several workers is not part of a cluster."""
        return ()

    @property
    def cluster(self) -> Cluster | None:
        """None: see `nodes`."""
        return None

    @property
    def dropped_datagrams(self) -> int:
        """Datagrams that the system did not take."""
        return self._state.dropped_datagrams

    @property
    def workers(self) -> Sequence[WorkerNumbers]:
        """The workers that answered last."""
        return self._state.workers

    def observe_traffic(self) -> MergedTraffic:
        """The workers count it always."""
        return MergedTraffic()

    async def refresh_keys(self) -> None:
        """Fetch the keys of tokens again, in all processes."""
        for process in self._workers.running:
            process.channel.tell("refresh keys")
        await self.hub.access.refresh_keys()

    async def find_cameras(self, hosts: Sequence[str], user: str, password: str) -> Sequence[CameraItem]:
        """Find cameras for the console; see `MediaServer.find_cameras`."""
        return await find_cameras(self._http_client, hosts, user, password)

    async def thumbnail(self, path: str) -> bytes:
        """Return a picture from the worker that has the stream."""
        for process in self._workers.running:
            picture: bytes = await process.channel.call("thumbnail", path, bytes)
            if picture:
                return picture
        raise PolycastError(f"path '{path}' has no stream")

    async def refresh(self) -> None:
        """Ask all workers what they know. Requests that come at the same time share an answer."""
        await self._state.shared(self._refresh)

    async def _refresh(self) -> None:
        answers = await self._workers.call("snapshot", Snapshot, seconds=SNAPSHOT_SECONDS)
        snapshots = {process.number: snapshot for process, snapshot in answers}
        self.hub.update(list(snapshots.values()))
        self.recorder.snapshots = list(snapshots.values())
        self._state.update(snapshots, {process.number: process.pid for process, _ in answers}, self._kick)

    async def start(self) -> None:
        """Start everything. Raises StartError, after stopping what was started."""
        try:
            await introduce(self._loaded, self.log, self._log_output)
            check_workers(self.configuration)
            await asyncio.to_thread(import_for, self.configuration)
            await self._prepare_http_client(self.configuration)
            self.hub.access.prefetch()
            self.hub.entries = PathEntries(self.configuration.paths)
            await self._workers.start(self.configuration)
            await self._start_control()
            self.recorder.cleaner.start()
            await self.refresh()
        except BaseException:
            await self.stop()
            raise
        asyncio.get_running_loop().run_in_executor(None, load_pages, self.configuration)

    async def stop(self) -> None:
        """Stop everything."""
        await self.settings.close()
        await self.control.stop()
        await self._workers.stop()
        self.recorder.requests.close()
        await self.recorder.cleaner.close()
        await self.control.close()
        self.hub.access.close()
        await self._http_client.close()
        await asyncio.to_thread(partial(shutil.rmtree, self._workers.shared.folder, ignore_errors=True))

    async def _start_control(self) -> None:
        try:
            await self.control.start(self.configuration)
        except ServiceError as error:
            raise StartError(str(error)) from error
        self.settings.start_watching()

    async def _prepare_http_client(self, configuration: Configuration) -> None:
        if asks_other_servers(configuration):
            await self._http_client.prepare()

    async def _apply(self, new: Configuration) -> None:
        old = self.configuration
        check_workers(new)
        changed = changed_keys(old, new)
        if "workers" in changed:
            self.log.warning(WHEN_TAKEN)
        await asyncio.to_thread(import_for, new)
        await asyncio.to_thread(load_pages, new)
        if changed & LOG_KEYS:
            await configure_log(self._log_output, new)
        try:
            await self._workers.apply(new)
            try:
                await self.control.apply(new)
            except ServiceError as error:
                await self._workers.apply(old)
                raise StartError(str(error)) from error
        except PolycastError:
            if changed & LOG_KEYS:
                await configure_log(self._log_output, old)
            raise
        await self._prepare_http_client(new)
        entries = await asyncio.to_thread(PathEntries, new.paths)
        self.hub.access.configure(new)
        if changed & {"authMethod", "authJWTJWKS", "authJWTJWKSFingerprint"}:
            self.hub.access.prefetch()
        self.hub.entries = entries
        await self._http_client.keep(fingerprints_of(new))
        for problem in await asyncio.to_thread(new_command_problems, old, new):
            self.log.warning("%s", problem)
        self.recorder.cleaner.apply()

    # Workers

    def _on_recording_requested(self, path: str) -> None:
        self._claims.tell("record", RecordingRequest(path, path in self.recorder.requests))

    async def _recordings(self, _: Raw) -> list[str]:
        return list(self.recorder.requests.names)

    def _attach(self, process: WorkerProcess) -> None:
        process.channel.notices |= {
            "event": partial(self._on_event, process.number),
            "upload": partial(self._claims.tell, "upload"),
        }
        process.channel.calls |= {"place": self._place, "recordings": self._recordings}
        self._claims.attach(process.number, process.channel)

    async def _place(self, body: Raw) -> int:
        path = msgspec.msgpack.decode(body, type=str)
        try:
            entry, _ = self.hub.find_entry(path)
        except PathError:
            return 0
        return self._workers.placement.place(path, entry.configuration)

    def _on_worker_ended(self, number: int) -> None:
        self._claims.on_ended(number)
        self._workers.placement.on_ended(number)
        for path in self._state.paths_ended_with(number):
            self.control.tell(EventName.PATH_CLOSED, {"path": path})

    def _on_event(self, number: int, body: Raw) -> None:
        event = msgspec.msgpack.decode(body, type=PathEvent)
        if event.name is EventName.PATH_CLOSED:
            self._workers.placement.on_closed(event.path, number)
        if not self._state.is_news(number, event):
            return
        data: dict[str, object] = {"path": event.path}
        in_v3: dict[str, object] = {}
        if event.who is not None:
            data["source" if event.name is EventName.PATH_ONLINE else "reader"] = event.who
        if event.file:
            data["file"] = event.file
        if event.name is EventName.SEGMENT_COMPLETED:
            data["duration"] = event.duration
        if event.name is EventName.PATH_READY:
            data["tracks"], in_v3["tracks"] = event.tracks, event.labels
        self.control.tell(event.name, data, in_v3)

    async def _move(self, path: str, movement: Movement) -> None:
        for process in self._workers.running:
            answer: str | None = None
            with suppress(ChannelError):
                answer = await process.channel.call("move", MoveCamera(path, movement), str | None)
            if answer == "":
                return
            if answer:
                raise CannotMove(answer)
        raise CannotMove("the worker that has the source of this path does not answer")

    def _kick(self, number: int, server: str, session_id: str) -> None:
        for process in self._workers.running:
            if process.number == number:
                process.channel.tell("kick", KickSession(server, session_id))
