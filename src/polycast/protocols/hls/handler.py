"""What is answered to a request, after the client has shown that it may read."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import quote
from weakref import WeakKeyDictionary

import msgspec

from polycast.errors import LocalProtocolError
from polycast.hub.access import AccessRequest, Action
from polycast.hub.errors import AccessDenied, PathError
from polycast.hub.path import Path
from polycast.protocols.hls.connection import Exchange
from polycast.protocols.hls.remuxer import Remuxer
from polycast.protocols.hls.request import HttpRequest
from polycast.protocols.hls.response import IMMUTABLE, VOLATILE, HttpFile, Responder
from polycast.web import ASSETS_FOLDER, CONTENT_SECURITY_POLICY, INDEX_PAGE, PLAYER_PAGE, Asset, asset, page, preload
from polycast.wire.hls.resource import CONTENT_TYPE_PLAYLIST, Refusal, Resource
from polycast.wire.http.message import Header
from polycast.wire.http.response import Response

if TYPE_CHECKING:
    from polycast.protocols.hls.server import HlsServer

REALM: Final = "rtsp-simple-server"
PATHS_DOCUMENT: Final = "paths.json"
FILE_SUFFIXES: Final = (".m3u8", ".ts", ".mp4", ".m4s")

# Characters of the longest URL path that is looked at: a path name and a file name are far shorter.
MAXIMUM_PATH: Final = 2048

_POLICY: Final = CONTENT_SECURITY_POLICY.encode()


class RequestHandler:
    """Answers requests. What is there goes out at once; a task runs only for what has to be waited for."""

    def __init__(self, server: HlsServer) -> None:
        self._server = server
        self._log = server.log
        self._hub = server.context.hub
        self._responder = Responder(server.configuration.hls_allow_origin)
        self._files: WeakKeyDictionary[Resource, HttpFile] = WeakKeyDictionary()
        """What has been asked for of the muxers' files; each goes with its file."""
        self._pages: asyncio.Future[None] | None = None
        """Done when the pages are loaded."""

    def allow_origin(self, origin: str) -> None:
        """Use another ``Access-Control-Allow-Origin`` from now on."""
        self._responder = Responder(origin)
        self._files.clear()

    def handle(self, exchange: Exchange) -> None:
        """Answer a request, now or later."""
        try:
            response = self._answer(exchange)
        except Exception:
            response = self._internal_error()
        if response is not None:
            exchange.respond(response)

    def _answer(self, exchange: Exchange) -> Response | None:
        """Return the answer; None when it comes later."""
        request = exchange.request
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
            remuxer = self._server.remuxers.get(folder)
            if remuxer is not None and self._is_public(remuxer.path):
                self._ask(exchange, remuxer, name)
            else:
                self._run(exchange, self._file(exchange, folder, name))
            return None
        first, _, rest = path.lstrip("/").partition("/")
        if first == ASSETS_FOLDER or not first:
            return self._shared(exchange, rest)
        if name:
            if path == "/favicon.ico":
                return self._not_found()
            query = f"?{request.query}" if request.query else ""
            # Relative, so that it also holds behind a proxy that serves us in a folder.
            return self._responder.empty(301, [(b"location", f"{quote(name)}/{query}".encode())])
        self._run(exchange, self._page(request, folder))
        return None

    def _run(self, exchange: Exchange, answer: Coroutine[None, None, Response | None]) -> None:
        """Answer later, from a task; its coroutine returns None when it has left the answer to somebody else."""
        exchange.going_on = task = self._server.context.loop.create_task(self._finish(exchange, answer))
        task.add_done_callback(lambda _: answer.close())  # the client may go before the task has begun

    async def _finish(self, exchange: Exchange, answer: Coroutine[None, None, Response | None]) -> None:
        try:
            response = await answer
        except Exception:
            response = self._internal_error()
        if response is not None:
            exchange.respond(response)

    def _not_found(self) -> Response:
        return self._responder.text(404, "not found")

    def _internal_error(self) -> Response:
        self._server.on_internal_error()
        return self._responder.text(500, "internal error")

    def _preflight(self, request: HttpRequest) -> Response:
        wanted = request.headers.get(b"access-control-request-headers", b"")
        allowed = [
            (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"), (b"access-control-allow-headers", wanted),
        ]  # fmt: skip
        return self._responder.empty(200, allowed)

    # Pages

    def _shared(self, exchange: Exchange, name: str) -> Response | None:
        """Answer a request for the list of paths, or for a file of the pages."""
        if name and name != PATHS_DOCUMENT:
            self._run(exchange, self._shared_file(exchange.request, name))
            return None
        if not self._server.configuration.hls_index:
            return self._not_found()
        if name:
            return self._list_paths(exchange.request)
        self._run(exchange, self._html(exchange.request, INDEX_PAGE, 0))
        return None

    async def _shared_file(self, request: HttpRequest, name: str) -> Response:
        await self._load_pages()
        found = asset(name)
        return self._asset(request, found) if found is not None else self._not_found()

    async def _load_pages(self) -> None:
        """Load the pages when they are first asked for, beside the loop: streams go on meanwhile."""
        if self._pages is None:
            self._pages = self._server.context.loop.run_in_executor(None, preload)
        if not self._pages.done():
            await asyncio.shield(self._pages)

    async def _page(self, request: HttpRequest, path_name: str) -> Response:
        refusal = await self._authorize(request, path_name)
        return refusal if refusal is not None else await self._html(request, PLAYER_PAGE, path_name.count("/") + 1)

    async def _html(self, request: HttpRequest, name: str, depth: int) -> Response:
        """Return a page that lies ``depth`` folders below the root."""
        await self._load_pages()
        return self._asset(request, page(name, depth), [(b"content-security-policy", _POLICY)])

    def _asset(self, request: HttpRequest, found: Asset, headers: Sequence[Header] = ()) -> Response:
        return self._responder.file(
            found.body,
            found.content_type,
            cache=found.cache_control,
            etag=found.etag,
            is_compressible=True,
            packed=found.gzip_body,
            headers=headers,
        ).respond(request)

    def _list_paths(self, request: HttpRequest) -> Response:
        """List the paths that are live and that anybody may read; those with credentials are not shown to all."""
        items = [
            {
                "name": path.name,
                "ready_since": path.ready_since,
                "tracks": [str(track) for track in path.stream.descriptions],
                "readers": len(path.readers),
            }
            for path in self._hub
            if path.stream is not None and self._is_public(path)
        ]
        body = msgspec.json.encode(items)
        return self._responder.file(body, "application/json", is_compressible=True).respond(request)

    # Files of muxers

    def _is_public(self, path: Path) -> bool:
        configuration = path.configuration
        return not (configuration.read_user or configuration.read_ips or self._hub.access.is_external)

    async def _file(self, exchange: Exchange, path_name: str, name: str) -> Response | None:
        """Answer a request for a file that needs a permission first, or a muxer."""
        request = exchange.request
        refusal = await self._authorize(request, path_name)
        if refusal is not None:
            return refusal
        remuxer = self._server.remuxers.get(path_name)
        if remuxer is None:
            if not name.endswith(".m3u8"):
                return self._responder.text(404, "there is no such file")
            try:
                remuxer = await self._server.make_remuxer(request, path_name)
            except (PathError, LocalProtocolError) as error:
                self._log.debug("%s: %s", request.path, error)
                return self._responder.text(404, str(error))
        self._ask(exchange, remuxer, name)
        return None

    def _ask(self, exchange: Exchange, remuxer: Remuxer, name: str) -> None:
        """Ask a muxer for a file; it may make the client wait."""

        on_found = partial(self._on_found, exchange, remuxer, name)
        exchange.going_on = remuxer.request(name, exchange.request.query, on_found)

    def _on_found(self, exchange: Exchange, remuxer: Remuxer, name: str, found: Resource | Refusal) -> None:
        try:
            response = self._file_response(exchange.request, remuxer, name, found)
        except Exception:  # nobody else who waits for the same shall miss it
            response = self._internal_error()
        exchange.respond(response)

    def _file_response(self, request: HttpRequest, remuxer: Remuxer, name: str, found: Resource | Refusal) -> Response:
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

    # Who may read

    async def _authorize(self, request: HttpRequest, path_name: str) -> Response | None:
        """Return None when the client may read, else what to answer."""
        server = self._server
        address = request.address
        access = AccessRequest(Action.READ, path_name, request.query, address, request.credentials)
        try:
            await self._hub.authorize(access)
        except AccessDenied as denied:
            if b"authorization" in request.headers:
                self._log.info("[conn %s] authentication failed: %s", address, denied)
                if server.failures.note(address, server.now()):
                    await asyncio.sleep(server.failure_pause)
            challenge = (b"www-authenticate", f'Basic realm="{REALM}"'.encode())
            return self._responder.text(401, "authentication is needed", [challenge])
        except PathError as error:
            return self._responder.text(404, str(error))
        return None
