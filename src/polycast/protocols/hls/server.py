"""The HLS server: finds or makes the muxer that a request means, after the client has shown that it may read."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from typing import ClassVar, Final
from urllib.parse import quote

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
from polycast.protocols.hls.http import (
    IMMUTABLE,
    MAXIMUM_PATH,
    VOLATILE,
    Header,
    HttpFile,
    HttpRequest,
    HttpResponse,
    file_response,
    parse_request,
    send_response,
    text_response,
)
from polycast.protocols.hls.remuxer import Remuxer
from polycast.web import ASSETS_FOLDER, CONTENT_SECURITY_POLICY, INDEX_PAGE, PLAYER_PAGE, asset, page
from polycast.wire.hls.resource import CONTENT_TYPE_PLAYLIST, Refusal

REALM: Final = "rtsp-simple-server"
PATHS_DOCUMENT: Final = "paths.json"
FILE_SUFFIXES: Final = (".m3u8", ".ts", ".mp4", ".m4s")

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
        self._remuxers: dict[Path, Remuxer] = {}
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
            path.name: {
                "created": rfc3339(remuxer.created),
                # Written as rtsp-simple-server does.
                "lastRequest": remuxer.last_request.astimezone().strftime("%Y-%m-%d %H:%M:%S %z %Z"),
                "bytesSent": remuxer.bytes_sent,
            }
            for path, remuxer in self._remuxers.items()
        }

    def metric_samples(self) -> list[Sample]:
        return [Sample({"name": path.name}, 1) for path in self._remuxers]

    def apply(self, configuration: Configuration) -> None:
        self.configuration = configuration

    @property
    def ports(self) -> dict[str, int]:
        return {"hlsAddress": self._http.port if self._http is not None else 0}

    @property
    def remuxers(self) -> dict[str, Remuxer]:
        """The muxers that run, by path name."""
        return {path.name: remuxer for path, remuxer in self._remuxers.items()}

    # Paths

    def on_path_created(self, path: Path) -> None:
        """Nothing to do."""

    def on_path_closed(self, path: Path) -> None:
        """The reader was closed with the stream."""

    def on_path_ready(self, path: Path) -> None:
        if self.configuration.hls_always_remux and path.stream is not None and path not in self._remuxers:
            # Not from within the publisher's call: who publishes must not fail because of a muxer.
            self.context.loop.call_soon(self._make_automatically, path)

    def on_path_not_ready(self, path: Path) -> None:
        """The reader was closed with the stream."""

    def on_reader_added(self, path: Path, reader: Reader) -> None:
        """Nothing to do."""

    def on_reader_removed(self, path: Path, reader: Reader) -> None:
        """Nothing to do."""

    def _make_automatically(self, path: Path) -> None:
        if path.stream is None or path in self._remuxers or self._stopping:
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
        self._remuxers[path] = remuxer
        return remuxer

    def _forget(self, remuxer: Remuxer) -> None:
        if self._remuxers.get(remuxer.path) is remuxer:
            del self._remuxers[remuxer.path]

    # Requests

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            request = parse_request(scope, self.configuration.hls_trusted_proxies)
            response = await self._answer(request)
        except asyncio.CancelledError:
            raise
        except Exception:
            self.log.exception("internal error")
            self.internal_errors += 1
            response, request = text_response(500, "internal error"), None
        headers = [*response.headers, *self._common_headers()]
        head = request is not None and request.method == "HEAD"
        await send_response(send, HttpResponse(response.status, headers, response.body), head=head)

    def _common_headers(self) -> list[Header]:
        return [
            (b"server", b"polycast"),
            (b"access-control-allow-origin", self.configuration.hls_allow_origin.encode("latin-1", "replace")),
            (b"access-control-allow-credentials", b"true"),
            (b"x-content-type-options", b"nosniff"),
        ]

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        if request.method == "OPTIONS":
            wanted = request.headers.get("access-control-request-headers", "")
            return HttpResponse(
                200,
                [
                    (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
                    (b"access-control-allow-headers", wanted.encode("latin-1", "replace")),
                ],
            )
        if request.method not in ("GET", "HEAD") or len(request.path) > MAXIMUM_PATH:
            return text_response(404, "not found")
        first, _, rest = request.path.lstrip("/").partition("/")
        if first == ASSETS_FOLDER or not first:
            return self._shared(request, rest)
        folder, _, name = request.path.lstrip("/").rpartition("/")
        if name.endswith(FILE_SUFFIXES) and folder:
            return await self._file(request, folder, name)
        if name:
            if request.path == "/favicon.ico":
                return text_response(404, "not found")
            query = f"?{request.query}" if request.query else ""
            # Relative, so that it also holds behind a proxy that serves us in a folder.
            return HttpResponse(301, [(b"location", f"{quote(name)}/{query}".encode())])
        return await self._page(request, folder)

    def _shared(self, request: HttpRequest, name: str) -> HttpResponse:
        """Answer a request for the list of paths, or for a file of the pages."""
        if not name:
            return (
                self._html(request, INDEX_PAGE, 0) if self.configuration.hls_index else text_response(404, "not found")
            )
        if name == PATHS_DOCUMENT:
            return self._list_paths(request) if self.configuration.hls_index else text_response(404, "not found")
        found = asset(name)
        if found is None:
            return text_response(404, "not found")
        return file_response(HttpFile(found.body, found.content_type, found.cache_control, is_text=True), request)

    def _html(self, request: HttpRequest, name: str, depth: int) -> HttpResponse:
        """Return a page that lies ``depth`` folders below the root."""
        found = page(name, depth)
        policy = (b"content-security-policy", CONTENT_SECURITY_POLICY.encode())
        return file_response(
            HttpFile(found.body, found.content_type, VOLATILE, is_text=True, headers=(policy,)), request
        )

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
        return file_response(HttpFile(msgspec.json.encode(items), "application/json", is_text=True), request)

    def _is_public(self, path: Path) -> bool:
        configuration = path.configuration
        return not (configuration.read_user or configuration.read_ips or self.context.hub.access.is_external)

    async def _page(self, request: HttpRequest, path_name: str) -> HttpResponse:
        refusal = await self._authorize(request, path_name)
        return refusal if refusal is not None else self._html(request, PLAYER_PAGE, path_name.count("/") + 1)

    async def _file(self, request: HttpRequest, path_name: str, name: str) -> HttpResponse:
        refusal = await self._authorize(request, path_name)
        if refusal is not None:
            return refusal
        hub = self.context.hub
        try:
            path = hub.path(path_name)
            remuxer = self._remuxers.get(path)
            if remuxer is None:
                if not name.endswith(".m3u8"):
                    hub.release(path)
                    return text_response(404, "not found")
                remuxer = await self._make_for(request, path)
        except (PathError, LocalProtocolError) as error:
            self.log.debug("%s: %s", request.path, error)
            return text_response(404, str(error))
        found = await remuxer.request(name, request.query)
        if isinstance(found, Refusal):
            return text_response(found.status, found.reason)
        remuxer.bytes_sent += len(found.body)
        is_playlist = found.content_type == CONTENT_TYPE_PLAYLIST
        cache = IMMUTABLE if found.immutable else VOLATILE
        return file_response(HttpFile(found.body, found.content_type, cache, is_text=is_playlist), request)

    async def _make_for(self, request: HttpRequest, path: Path) -> Remuxer:
        """Make the muxer of a path for a request that comes first; others may have come meanwhile."""
        hub = self.context.hub
        try:
            await path.wait_ready()
            remuxer = self._remuxers.get(path)
            if remuxer is None:
                remuxer = self._make(path, is_automatic=False)
                remuxer.log_created(request.address)
        finally:
            hub.release(path)
        return remuxer

    async def _authorize(self, request: HttpRequest, path_name: str) -> HttpResponse | None:
        access = AccessRequest(Action.READ, path_name, request.query, request.address, request.credentials)
        try:
            await self.context.hub.authorize(access)
        except AccessDenied as denied:
            given = "authorization" in request.headers
            if given:
                self.log.info("[conn %s] authentication failed: %s", request.address, denied)
                if self._failures.note(request.address, self.now()):
                    await asyncio.sleep(float(self.configuration.authentication_failure_pause))
            challenge = (b"www-authenticate", f'Basic realm="{REALM}"'.encode())
            return text_response(401, "authentication is needed", [challenge])
        except PathError as error:
            return text_response(404, str(error))
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
