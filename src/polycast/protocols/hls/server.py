"""The HLS server: finds or makes the muxer that a request means, after the client has shown that it may read."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final
from urllib.parse import quote
from weakref import WeakKeyDictionary

import msgspec

from polycast.config.schema import Configuration
from polycast.errors import LocalProtocolError
from polycast.hub.access import AccessRequest, Action
from polycast.hub.errors import AccessDenied, PathError
from polycast.hub.failures import FailureTracker
from polycast.hub.path import Path
from polycast.hub.stats import Sample, SessionSnapshot, rfc3339
from polycast.hub.stream import Reader
from polycast.net.address import parse_address
from polycast.net.http import HttpServer, Receive, Scope, Send
from polycast.protocols.base import HOUSEKEEPING_SECONDS, Server, ServerContext
from polycast.protocols.hls.remuxer import Remuxer
from polycast.protocols.hls.request import HttpRequest
from polycast.protocols.hls.response import (
    IMMUTABLE,
    VOLATILE,
    Header,
    HttpFile,
    HttpResponse,
    Responder,
    send_response,
)
from polycast.web import ASSETS_FOLDER, CONTENT_SECURITY_POLICY, INDEX_PAGE, PLAYER_PAGE, Asset, asset, page, preload
from polycast.wire.hls.resource import CONTENT_TYPE_PLAYLIST, Refusal, Resource

REALM: Final = "rtsp-simple-server"
PATHS_DOCUMENT: Final = "paths.json"
FILE_SUFFIXES: Final = (".m3u8", ".ts", ".mp4", ".m4s")

# Characters of the longest URL path that is looked at: a path name and a file name are far shorter.
MAXIMUM_PATH: Final = 2048

_POLICY: Final = CONTENT_SECURITY_POLICY.encode()

# Seconds between two looks at the certificate files.
CERTIFICATE_CHECK_SECONDS = 10.0


class HlsServer(Server):
    """Serves every path's stream over HTTP or HTTPS."""

    name = "HLS"
    collection = "hlsmuxers"
    metric = "hls_muxers"
    can_kick = False
    item_schema: ClassVar[Mapping[str, object]] = {
        "created": {"type": "string", "format": "date-time"},
        "lastRequest": {"type": "string", "description": "Time of the last request, with its offset from UTC."},
        "bytesSent": {"type": "integer", "minimum": 0},
    }

    def __init__(self, context: ServerContext, configuration: Configuration) -> None:
        self.context = context
        self.configuration = configuration
        self.log = context.log.child(self.name)
        self.now = time.monotonic
        self._failures = FailureTracker()
        self._remuxers: dict[str, Remuxer] = {}
        self._responder = Responder(configuration.hls_allow_origin)
        self._files: WeakKeyDictionary[Resource, HttpFile] = WeakKeyDictionary()
        """What has been asked for of the muxers' files; each goes with its file."""
        self._pages: asyncio.Future[None] | None = None
        """Done when the pages are loaded."""
        self._http: HttpServer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._next_certificate_check = 0.0
        self._stopping = False

    # Server

    async def start(self) -> None:
        configuration = self.configuration
        host, port = parse_address(configuration.hls_address)
        encrypted = configuration.hls_encryption
        self._http = HttpServer(
            self._serve,
            host,
            port,
            certificate=configuration.hls_server_cert if encrypted else None,
            key=configuration.hls_server_key if encrypted else None,
        )
        await self._http.start()
        self.context.hub.observers.append(self)
        if configuration.hls_always_remux:
            for path in self.context.hub:
                self.on_path_ready(path)
        self._timer = self.context.loop.call_later(HOUSEKEEPING_SECONDS, self._on_timer)
        self.log.info("listener opened on %s:%d (%s)", host, self._http.port, "HTTPS" if encrypted else "HTTP")

    async def stop(self, reason: str) -> None:
        self._stopping = True
        if self in self.context.hub.observers:
            self.context.hub.observers.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        for remuxer in list(self._remuxers.values()):
            remuxer.close(reason)
        if self._renewal is not None:
            self._renewal.cancel()
        if self._http is not None and self._http.port:
            await self._http.stop()
            self.log.info("listener closed")

    def sessions(self) -> list[SessionSnapshot]:
        return []

    def kick(self, session_id: str) -> bool:
        return False

    def describe_sessions(self) -> dict[str, dict[str, object]]:
        return {
            name: {
                "created": rfc3339(remuxer.created),
                # Written as rtsp-simple-server does.
                "lastRequest": remuxer.last_request.astimezone().strftime("%Y-%m-%d %H:%M:%S %z %Z"),
                "bytesSent": remuxer.counters.bytes_sent,
            }
            for name, remuxer in self._remuxers.items()
        }

    def metric_samples(self) -> list[Sample]:
        return [Sample({"name": name}, 1) for name in self._remuxers]

    def apply(self, configuration: Configuration) -> None:
        if configuration.hls_allow_origin != self.configuration.hls_allow_origin:
            self._responder = Responder(configuration.hls_allow_origin)
            self._files.clear()
        self.configuration = configuration

    @property
    def ports(self) -> dict[str, int]:
        return {"hlsAddress": self._http.port if self._http is not None else 0}

    @property
    def remuxers(self) -> Mapping[str, Remuxer]:
        """The muxers that run, by path name."""
        return self._remuxers

    # Paths

    def on_path_created(self, path: Path) -> None:
        """Nothing to do."""

    def on_path_closed(self, path: Path) -> None:
        """The reader was closed with the stream."""

    def on_path_ready(self, path: Path) -> None:
        if self.configuration.hls_always_remux and path.stream is not None and path.name not in self._remuxers:
            # Not from within the publisher's call: who publishes must not fail because of a muxer.
            self.context.loop.call_soon(self._make_automatically, path)

    def on_path_not_ready(self, path: Path) -> None:
        """The reader was closed with the stream."""

    def on_reader_added(self, path: Path, reader: Reader) -> None:
        """Nothing to do."""

    def on_reader_removed(self, path: Path, reader: Reader) -> None:
        """Nothing to do."""

    def _make_automatically(self, path: Path) -> None:
        if path.stream is None or path.name in self._remuxers or self._stopping:
            return
        try:
            self._make(path, is_automatic=True).log_created()
        except (LocalProtocolError, PathError) as error:
            self.log.warning("path '%s' is not converted into HLS: %s", path.name, error)

    def _make(self, path: Path, *, is_automatic: bool) -> Remuxer:
        stream = path.stream
        if stream is None:
            raise PathError(f"no one is publishing to path '{path.name}'")
        remuxer = Remuxer(
            path,
            stream,
            self.configuration,
            log=self.log.child(f"muxer {path.name}"),
            now=self.now,
            on_closed=self._forget,
            is_automatic=is_automatic,
        )
        path.attach_reader(remuxer, stream)
        self._remuxers[path.name] = remuxer
        return remuxer

    def _forget(self, remuxer: Remuxer) -> None:
        if self._remuxers.get(remuxer.path.name) is remuxer:
            del self._remuxers[remuxer.path.name]

    # Requests

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        head = scope["method"] == "HEAD"
        try:
            response = await self._answer(HttpRequest(scope, self.configuration.hls_trusted_proxies), receive)
        except Exception:
            self.log.exception("internal error")
            self.internal_errors += 1
            response = self._responder.text(500, "internal error")
        with contextlib.suppress(TimeoutError):  # who does not take its answer does not get it
            await send_response(send, response, head=head)

    async def _answer(self, request: HttpRequest, receive: Receive) -> HttpResponse:
        if request.method != "GET":
            if request.method == "OPTIONS":
                return self._preflight(request)
            if request.method != "HEAD":
                return self._not_found()
        path = request.path
        if len(path) > MAXIMUM_PATH:
            return self._not_found()
        folder, _, name = path.lstrip("/").rpartition("/")
        if name.endswith(FILE_SUFFIXES) and folder:
            return await self._file(request, folder, name, receive)
        first, _, rest = path.lstrip("/").partition("/")
        if first == ASSETS_FOLDER or not first:
            return await self._shared(request, rest)
        if name:
            if path == "/favicon.ico":
                return self._not_found()
            query = f"?{request.query}" if request.query else ""
            # Relative, so that it also holds behind a proxy that serves us in a folder.
            return self._responder.empty(301, [(b"location", f"{quote(name)}/{query}".encode())])
        return await self._page(request, folder)

    def _not_found(self) -> HttpResponse:
        return self._responder.text(404, "not found")

    def _preflight(self, request: HttpRequest) -> HttpResponse:
        wanted = request.headers.get(b"access-control-request-headers", b"")
        allowed = [
            (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"), (b"access-control-allow-headers", wanted),
        ]  # fmt: skip
        return self._responder.empty(200, allowed)

    async def _shared(self, request: HttpRequest, name: str) -> HttpResponse:
        """Answer a request for the list of paths, or for a file of the pages."""
        if not name or name == PATHS_DOCUMENT:
            if not self.configuration.hls_index:
                return self._not_found()
            return await self._html(request, INDEX_PAGE, 0) if not name else self._list_paths(request)
        await self._load_pages()
        found = asset(name)
        return self._asset(request, found) if found is not None else self._not_found()

    async def _load_pages(self) -> None:
        """Load the pages when they are first asked for, beside the loop: streams go on meanwhile."""
        if self._pages is None:
            self._pages = self.context.loop.run_in_executor(None, preload)
        if not self._pages.done():
            await asyncio.shield(self._pages)

    async def _html(self, request: HttpRequest, name: str, depth: int) -> HttpResponse:
        """Return a page that lies ``depth`` folders below the root."""
        await self._load_pages()
        return self._asset(request, page(name, depth), [(b"content-security-policy", _POLICY)])

    def _asset(self, request: HttpRequest, found: Asset, headers: Sequence[Header] = ()) -> HttpResponse:
        return self._responder.file(
            found.body,
            found.content_type,
            cache=found.cache_control,
            etag=found.etag,
            is_compressible=True,
            packed=found.gzip_body,
            headers=headers,
        ).respond(request)

    def _list_paths(self, request: HttpRequest) -> HttpResponse:
        """List the paths that are live and that anybody may read; those with credentials are not shown to all."""
        items = [
            {
                "name": path.name,
                "ready_since": path.ready_since,
                "tracks": [str(track) for track in path.stream.descriptions],
                "readers": len(path.readers),
            }
            for path in self.context.hub
            if path.stream is not None and self._is_public(path)
        ]
        body = msgspec.json.encode(items)
        return self._responder.file(body, "application/json", is_compressible=True).respond(request)

    def _is_public(self, path: Path) -> bool:
        configuration = path.configuration
        return not (configuration.read_user or configuration.read_ips or self.context.hub.access.is_external)

    async def _page(self, request: HttpRequest, path_name: str) -> HttpResponse:
        refusal = await self._authorize(request, path_name)
        return refusal if refusal is not None else await self._html(request, PLAYER_PAGE, path_name.count("/") + 1)

    async def _file(self, request: HttpRequest, path_name: str, name: str, receive: Receive) -> HttpResponse:
        remuxer = self._remuxers.get(path_name)
        if remuxer is None or not self._is_public(remuxer.path):
            refusal = await self._authorize(request, path_name)
            if refusal is not None:
                return refusal
            remuxer = self._remuxers.get(path_name)
        if remuxer is None:
            if not name.endswith(".m3u8"):
                return self._responder.text(404, "there is no such file")
            try:
                remuxer = await self._make_for(request, path_name)
            except (PathError, LocalProtocolError) as error:
                self.log.debug("%s: %s", request.path, error)
                return self._responder.text(404, str(error))
        found = await remuxer.request(name, request.query, receive)
        if isinstance(found, Refusal):
            return self._responder.text(found.status, found.reason)
        file = self._files.get(found)
        if file is None:
            file = self._files[found] = self._prepare(found, name)
        response = file.respond(request)
        remuxer.counters.bytes_sent += len(response.body)
        return response

    def _prepare(self, found: Resource, name: str) -> HttpFile:
        # A name never comes back with other content, so it is the best of tags. Playlists keep theirs.
        if found.immutable:
            return self._responder.file(found.body, found.content_type, cache=IMMUTABLE, etag=f'"{name}"')
        is_playlist = found.content_type == CONTENT_TYPE_PLAYLIST
        return self._responder.file(found.body, found.content_type, cache=VOLATILE, is_compressible=is_playlist)

    async def _make_for(self, request: HttpRequest, path_name: str) -> Remuxer:
        """Make the muxer of a path for a request that comes first; others may have come meanwhile.

        Raises PathError, or LocalProtocolError when HLS can carry none of the tracks.
        """
        hub = self.context.hub
        path = hub.path(path_name)
        try:
            await path.wait_ready(follows=True)
            remuxer = self._remuxers.get(path_name)
            if remuxer is None:
                remuxer = self._make(path, is_automatic=False)
                remuxer.log_created(request.address)
        finally:
            hub.release(path)
        return remuxer

    async def _authorize(self, request: HttpRequest, path_name: str) -> HttpResponse | None:
        """Return None when the client may read, else what to answer."""
        address = request.address
        access = AccessRequest(Action.READ, path_name, request.query, address, request.credentials)
        try:
            await self.context.hub.authorize(access)
        except AccessDenied as denied:
            if b"authorization" in request.headers:
                self.log.info("[conn %s] authentication failed: %s", address, denied)
                if self._failures.note(address, self.now()):
                    await asyncio.sleep(float(self.configuration.authentication_failure_pause))
            challenge = (b"www-authenticate", f'Basic realm="{REALM}"'.encode())
            return self._responder.text(401, "authentication is needed", [challenge])
        except PathError as error:
            return self._responder.text(404, str(error))
        return None

    # Housekeeping

    def _on_timer(self) -> None:
        self._timer = self.context.loop.call_later(HOUSEKEEPING_SECONDS, self._on_timer)
        now = self.now()
        for remuxer in list(self._remuxers.values()):
            remuxer.tick(now)
        if self.configuration.hls_encryption and now >= self._next_certificate_check:
            self._next_certificate_check = now + CERTIFICATE_CHECK_SECONDS
            if self._renewal is None or self._renewal.done():
                self._renewal = self.context.loop.create_task(self._renew_certificate())

    async def _renew_certificate(self) -> None:
        if self._http is None:
            return
        try:
            if await self._http.renew_certificate():
                self.log.info("the certificate was reloaded")
        except (OSError, ssl.SSLError) as error:
            self.log.warning("the changed certificate is not used: %s", error)
