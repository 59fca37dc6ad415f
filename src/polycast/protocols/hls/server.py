"""The HLS server: a listener for HTTP or HTTPS, and a muxer for each path that is watched."""

from __future__ import annotations

import asyncio
import time
from weakref import WeakKeyDictionary

from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration
from polycast.errors import LocalProtocolError
from polycast.hub.errors import PathError, RedirectedToNode
from polycast.hub.hub import Hub
from polycast.hub.path import Path, PathObserver
from polycast.hub.stream import Stream
from polycast.items import LazyItems, ViewerItem
from polycast.net.http.server import HttpListener
from polycast.protocols.base import ServerContext, ServerKind
from polycast.protocols.hls.audience import IDLE_SECONDS, Visit
from polycast.protocols.hls.configuration import HlsConfiguration
from polycast.protocols.hls.handler import RequestHandler
from polycast.protocols.hls.item import HlsMuxerItem
from polycast.protocols.hls.recorded import RecordedFiles
from polycast.protocols.hls.remuxer import Remuxer
from polycast.protocols.hls.reports import ViewerReports
from polycast.protocols.http_streams.streams import HttpStreams
from polycast.protocols.tcp_server import TcpServer
from polycast.security.addresses import IPNetwork
from polycast.wire.hls.muxer import INDEX_NAME
from polycast.wire.hls.numbering import Numbering

_numberings: WeakKeyDictionary[Hub, Numbering] = WeakKeyDictionary()
"""By hub, which lives as long as the application: a server is replaced when its settings change."""


class HlsServer(TcpServer, HttpListener, PathObserver):
    """Serves every path's stream over HTTP or HTTPS."""

    tells_observer = False
    handler: RequestHandler

    def __init__(self, kind: ServerKind, context: ServerContext, configuration: Configuration) -> None:
        super().__init__(kind, context, configuration)
        self.settings = configuration[HlsConfiguration]
        """The settings of HLS as they are now. Each request looks at them."""
        self.is_encrypted = self.settings.hls_encryption
        self.remuxers: dict[str, Remuxer] = {}
        """The muxers that are running, or waiting for a publisher to return, by path name."""
        self._reports = ViewerReports(context.hub, self.log)
        self.streams = HttpStreams(context.hub, context.loop, self.log)
        self.recorded = RecordedFiles(context.recorded)
        self.handler = RequestHandler(self)
        self._stopping = False
        self._numbering = _numberings.setdefault(context.hub, Numbering())
        self._revivals: dict[str, asyncio.Task[None]] = {}
        """Attempts to restart the path of a waiting muxer."""

    @property
    def dump_name(self) -> str:
        return "hlss" if self.is_encrypted else "hls"

    @property
    def trusted_proxies(self) -> tuple[IPNetwork, ...]:
        return self.settings.hls_trusted_proxies

    # TcpServer

    def on_second(self, now: float) -> None:
        for remuxer in list(self.remuxers.values()):
            remuxer.tick(now, float(self.settings.hls_muxer_close_after))
        self.streams.tick()
        patience = max(IDLE_SECONDS, 3 * float(self.settings.hls_segment_duration))
        self.handler.viewers.forget_idle(now, patience)
        self.handler.audience.forget_idle(now, patience)

    # Server

    async def start(self) -> None:
        await super().start()
        self.context.hub.observers.append(self)
        if self.settings.hls_always_remux:
            for path in self.context.hub:
                self.on_path_ready(path)

    async def stop(self, reason: str) -> None:
        self._stopping = True
        if self in self.context.hub.observers:
            self.context.hub.observers.remove(self)
        for remuxer in list(self.remuxers.values()):
            remuxer.close(reason)
        self.streams.close(reason)
        for task in list(self._revivals.values()):
            task.cancel()
        await super().stop(reason)

    def kick(self, session_id: str) -> bool:
        handler = self.handler
        return handler.viewers.kick(session_id) or handler.audience.kick(session_id) or self.streams.kick(session_id)

    def items(self) -> LazyItems[HlsMuxerItem]:
        return LazyItems({name: remuxer.item for name, remuxer in self.remuxers.items() if remuxer.is_live})

    def viewers(self) -> LazyItems[ViewerItem]:
        visits = [visit for name in self.remuxers for visit in self.handler.visits.of(name)]
        return LazyItems({visit.id: visit.item for visit in [*visits, *self.streams.visits()]})

    def apply(self, configuration: Configuration) -> None:
        allowed = configuration[HlsConfiguration].hls_allow_origins
        if allowed != self.settings.hls_allow_origins:
            self.handler.allow_origins(allowed)
        super().apply(configuration)
        self.settings = configuration[HlsConfiguration]
        self.handler.viewers.distrust()
        for remuxer in self.remuxers.values():
            remuxer.update_access()

    # Requests

    async def make_remuxer(self, path_name: str, address: str, file: str) -> Remuxer:
        """Return the muxer of a path for a request that found none; another request may have created it meanwhile.

        ``address`` is the IP address of the client, ``file`` the requested one.

        Raises PathError, or LocalProtocolError if HLS can carry none of the tracks.
        """
        hub = self.context.hub
        if file == INDEX_NAME:  # other files belong to playlists that were loaded here
            try:
                hub.redirect(path_name, self.name, "https" if self.is_encrypted else "http", f"/{file}")
            except RedirectedToNode as error:
                self.log.info("[conn %s] %s", address, error)
                raise
        path = hub.path(path_name)
        try:
            await path.wait_ready(follows=True)
            remuxer = self.remuxers.get(path_name)
            if remuxer is None or not remuxer.is_live:
                remuxer = self._attach(path, is_automatic=False)
                remuxer.log_created(address)
        finally:
            hub.release(path)
        return remuxer

    # Viewers: readers for those who observe paths, while the stream has a muxer

    def on_visit_begun(self, visit: Visit) -> None:
        remuxer = self.remuxers.get(visit.path)
        if remuxer is not None:
            self._reports.begin(visit, remuxer.path)

    def on_visit_ended(self, visit: Visit) -> None:
        self._reports.end(visit)

    # Paths

    def on_path_ready(self, path: Path) -> None:
        if path.is_copy and self.context.workers is not None:
            return  # the worker that has the stream makes it
        remuxer = self.remuxers.get(path.name)
        is_wanted = self.settings.hls_always_remux if remuxer is None else not remuxer.is_live
        if is_wanted and path.stream is not None:
            # Not from within the publisher's call: a publisher must not fail because of a muxer.
            self.context.loop.call_soon(self._make_automatically, path)

    def on_path_online(self, path: Path) -> None:
        if self.context.workers is not None:  # it may have come from another worker before, for the same readers
            self.on_path_ready(path)

    def on_path_reconfigured(self, path: Path, old: PathConfiguration) -> None:
        remuxer = self.remuxers.get(path.name)
        if remuxer is not None and old.hls_dvr != path.configuration.hls_dvr:
            remuxer.close("hlsDVR has changed")
            if remuxer.is_automatic:
                self.on_path_ready(path)

    def _make_automatically(self, path: Path) -> None:
        remuxer = self.remuxers.get(path.name)
        if path.stream is None or (remuxer is not None and remuxer.is_live) or self._stopping:
            return
        try:
            is_automatic = remuxer.is_automatic if remuxer is not None else True
            self._attach(path, is_automatic=is_automatic).log_created()
        except (LocalProtocolError, PathError) as error:
            self.log.warning("path '%s' is not converted to HLS: %s", path.name, error)

    def _attach(self, path: Path, *, is_automatic: bool) -> Remuxer:
        """Continue the muxer that waits for the path's publisher with the new stream, or create another one."""
        stream = path.stream
        if stream is None:
            raise PathError(f"no one is publishing to path '{path.name}'")
        remuxer = self.remuxers.get(path.name)
        if remuxer is not None and not remuxer.resume(path, stream):
            remuxer.close("the next stream has different codecs")
            remuxer = None
        if remuxer is None:
            remuxer = self._make(path, stream, is_automatic=is_automatic)
        path.attach_reader(remuxer, stream)
        remuxer.begin(stream)
        self.remuxers[path.name] = remuxer
        for visit in self.handler.visits.of(path.name):
            self._reports.begin(visit, path)
        return remuxer

    def _make(self, path: Path, stream: Stream, *, is_automatic: bool) -> Remuxer:
        return Remuxer(
            path,
            stream,
            self.settings,
            numbers=self._numbering.begin(path.name, time.time()),
            loop=self.context.loop,
            log=self.log.child(f"muxer {path.name}"),
            now=self.now,
            responder=self.handler,
            on_closed=self._forget,
            on_wanted=self._revive,
            is_automatic=is_automatic,
        )

    def _revive(self, remuxer: Remuxer) -> None:
        """Restart the on-demand source of the path of a waiting muxer."""
        name = remuxer.path.name
        if name not in self._revivals:
            task = self._revivals[name] = self.context.loop.create_task(self._wait_ready(name))
            task.add_done_callback(lambda _: self._revivals.pop(name, None))

    async def _wait_ready(self, name: str) -> None:
        try:
            path = self.context.hub.path(name)
        except PathError:
            return
        try:
            await path.wait_ready(follows=True)
        except PathError:
            pass
        else:
            self._make_automatically(path)
        finally:
            self.context.hub.release(path)

    def _forget(self, remuxer: Remuxer) -> None:
        name = remuxer.path.name
        self._numbering.end(name, remuxer.next_numbers)
        if self.remuxers.get(name) is remuxer:
            del self.remuxers[name]
            for visit in self.handler.visits.of(name):
                self._reports.end(visit)
