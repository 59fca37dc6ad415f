"""Handles HTTP requests, after checking that the client is allowed to read."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Final, Protocol
from urllib.parse import quote

import msgspec

from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import MEDIAMTX, dialect_of
from polycast.config.schema import Configuration
from polycast.errors import LocalProtocolError, MissingDependency
from polycast.hub.access_request import AccessRequest, Action, PlainCredentials
from polycast.hub.errors import AccessDenied, PathError
from polycast.hub.path import Path
from polycast.hub.refusals import Refusals
from polycast.hub.stats import Reference
from polycast.log import Log
from polycast.media.track import Track
from polycast.net.address import join_host_port
from polycast.net.http.file import IMMUTABLE, VOLATILE, HttpFile, ResponseFactory
from polycast.net.http.hosts import authority_of, host_of, host_refusal, is_host_allowed
from polycast.net.http.origins import allowed_origins
from polycast.net.http.request import MAXIMUM_USER_AGENT, http_credentials, user_agent_of
from polycast.net.http.tasks import RequestTasks
from polycast.net.http.transaction import BODY_LIMIT, Transaction
from polycast.protocols.base import ServerContext
from polycast.protocols.folders import absolute_folder, is_from_proxy
from polycast.protocols.hls.audience import Audience, Client, Visit, Visits
from polycast.protocols.hls.cdn import for_cdn, knows_secret
from polycast.protocols.hls.configuration import HlsConfiguration, HlsVariant
from polycast.protocols.hls.paths import absence, list_paths
from polycast.protocols.hls.reasons import (
    LOGGED_REASONS,
    Problem,
    access_problem,
    codec_problem,
    host_problem,
    path_problem,
    refuse,
    refuse_page,
    skipped_header,
    stall_problem,
)
from polycast.protocols.hls.recorded import ENTRY_NAMES, RecordedFiles
from polycast.protocols.hls.remuxer import MAXIMUM_WAITING, TIMED_OUT, Lookup, Remuxer
from polycast.protocols.hls.reports import reference_of
from polycast.protocols.hls.target import MAXIMUM_PATH, ResourceKey, Target, read_target
from polycast.protocols.hls.viewers import (
    CONDITIONS,
    COOKIE_CHECK,
    QUERY_FIELD,
    Viewer,
    Viewers,
    as_private,
    cookie,
    cookies_of,
    field_of,
    plain_query,
    query_for,
    secrets_of,
    with_cookie,
    with_query,
)
from polycast.protocols.http_streams.files import StreamFile
from polycast.protocols.http_streams.streams import HttpStreams
from polycast.protocols.pages import POLICY_HEADER, Pages
from polycast.web import ASSETS_FOLDER, INDEX_PAGE, PLAYER_PAGE, START_PAGE, page, page_with_problem
from polycast.wire.hls.dash import MANIFEST_NAME
from polycast.wire.hls.options import Variant
from polycast.wire.hls.resource import CONTENT_TYPE_PLAYLIST, Refusal, Resource
from polycast.wire.http.message import Request
from polycast.wire.http.response import Response

PATHS_DOCUMENT: Final = "paths.json"
MAXIMUM_TASKS: Final = 2 * MAXIMUM_WAITING
"""Requests that wait for something at the same time, such as those that another worker holds until a part is there."""
TASKS_PER_TURN: Final = 4
"""Requests that begin to wait in one turn of the loop: in a few hundred microseconds."""


class Host(Protocol):
    """The server, as the handler uses it."""

    log: Log
    context: ServerContext
    configuration: Configuration
    streams: HttpStreams
    recorded: RecordedFiles
    remuxers: dict[str, Remuxer]
    """The muxers that run, or wait for a publisher to come back, by path name."""
    now: Callable[[], float]
    """Monotonic seconds."""

    @property
    def name(self) -> str:
        """In logs, and for other workers."""
        ...

    settings: HlsConfiguration
    """The settings of HLS as they are now."""

    async def make_remuxer(self, path_name: str, address: str, file: str) -> Remuxer:
        """Return the muxer of a path for the request for a file, of a client with this IP address.

        Raises PathError, or LocalProtocolError when HLS can carry none of the tracks.
        """
        ...

    def on_visit_begun(self, visit: Visit) -> None:
        """A viewer has come, whose stream may have no muxer yet."""
        ...

    def on_visit_ended(self, visit: Visit) -> None:
        """A viewer has left."""
        ...

    def on_internal_error(self) -> None:
        """Log and count the exception that is being handled."""


class RequestHandler:
    """Answers requests: at once if possible; a task is only started if something has to be waited for."""

    body_limit = BODY_LIMIT

    def __init__(self, server: Host) -> None:
        self._server = server
        self._log = server.log
        self._hub = server.context.hub
        self._remuxers = server.remuxers
        self._tasks = RequestTasks(server.context.loop, MAXIMUM_TASKS, per_turn=TASKS_PER_TURN)
        self._origins = allowed_origins(server.settings.hls_allow_origins)
        self._responses = ResponseFactory(self._origins.fixed)
        self.visits = Visits(server.on_visit_begun, server.on_visit_ended)
        self.viewers = Viewers(self.visits)
        """Viewers with a session."""
        self.audience = Audience(self.visits)
        """Viewers without one."""
        self._refusals = Refusals()
        self._pages = Pages(server.context.loop, self._origins.fixed)

    @property
    def _dialect(self) -> Dialect:
        return dialect_of(self._server.configuration.dialect)

    @property
    def _is_as_in_mediamtx(self) -> bool:
        """Whether answers have the form that programs for MediaMTX know."""
        return self._dialect is MEDIAMTX

    def allow_origins(self, origins: tuple[str, ...]) -> None:
        """Allow pages of other sites from now on."""
        self._origins = allowed_origins(origins)
        self._responses = ResponseFactory(self._origins.fixed)
        self._pages.allow_origin(self._origins.fixed)
        for remuxer in self._remuxers.values():
            remuxer.forget_answers()
        self._server.recorded.forget()

    def handle(self, transaction: Transaction) -> None:
        """Answer a request, now or later."""
        transaction.origins = self._origins
        try:
            response = self._answer(transaction)
        except Exception:
            response = self._internal_error()
        if response is not None:
            transaction.respond(response)

    def _answer(self, transaction: Transaction) -> Response | None:
        """Return the response; None if it follows later."""
        target = read_target(transaction.request.target)
        key = target.resource
        method = transaction.request.method
        settings = self._server.settings
        if target.stream_file is not None and settings.http_streams and method in ("GET", "HEAD"):
            self._run(transaction, partial(self._stream, transaction, target, target.stream_file))
            return None
        workers = self._server.context.workers
        if workers is not None and (method == "GET" or method == "HEAD"):
            owner = workers.owner_of(target.folder, transaction)
            if owner is not None:
                self._run(transaction, partial(workers.pass_on, owner, self._server.name, transaction))
                return None
        if key is not None and key[0] == MANIFEST_NAME and not settings.dash:
            key = None
        if key is not None and (method == "GET" or method == "HEAD"):
            remuxer = self._remuxers.get(target.folder)
            is_cdn = bool(settings.hls_cdn_secret) and self._is_cdn(transaction, key)
            is_free = is_cdn or (remuxer is not None and remuxer.is_public) or self._is_known(transaction, target)
            if remuxer is None or not is_free or target.is_recorded:
                self._run(transaction, partial(self._file, transaction, target, key, is_cdn=is_cdn))
                return None
            if (is_cdn or remuxer.is_public) and not self._join(transaction, target, is_cdn=is_cdn):
                return self._sent_away()
            found = remuxer.request(key, transaction, transaction.started)
            return self._file_response(transaction.request, remuxer, found) if found is not None else None
        if method == "OPTIONS":
            return self._preflight(transaction.request)
        if method not in ("GET", "HEAD") or len(target.path) > MAXIMUM_PATH:
            return self._not_found()
        return self._other(transaction, target)

    def _other(self, transaction: Transaction, target: Target) -> Response | None:
        """Answer a request that is not for a file of a muxer."""
        first, _, rest = target.path.lstrip("/").partition("/")
        if first == ASSETS_FOLDER or not first:
            return self._shared(transaction, rest)
        name = target.path.rpartition("/")[2]
        if name:
            if target.path == "/favicon.ico":
                return self._not_found()
            if self._is_as_in_mediamtx and not is_from_proxy(transaction.request):
                return self._responses.empty(302, [(b"location", absolute_folder(target.path, target.query))])
            query = f"?{target.query}" if target.query else ""
            # Relative, so that it also works behind a proxy that serves this server in a folder.
            return self._responses.empty(301, [(b"location", f"{quote(name)}/{query}".encode())])
        self._run(transaction, partial(self._page, transaction, target))
        return None

    def _run(self, transaction: Transaction, answer: Callable[[], Coroutine[None, None, Response | None]]) -> None:
        """Answer later, from a task; its coroutine returns None if the request is answered elsewhere."""
        if self._tasks.is_full:
            transaction.respond(self._responses.text(503, "too many requests"))
            return
        self._tasks.start(transaction, partial(self._finish, transaction, answer))

    async def _finish(
        self, transaction: Transaction, answer: Callable[[], Coroutine[None, None, Response | None]]
    ) -> None:
        try:
            response = await answer()
        except Exception:
            response = self._internal_error()
        if response is not None:
            transaction.respond(response)

    def _not_found(self) -> Response:
        return self._responses.text(404, "not found")

    def _internal_error(self) -> Response:
        self._server.on_internal_error()
        return self._responses.text(500, "internal error")

    def _preflight(self, request: Request) -> Response:
        wanted = request.fields.get(b"access-control-request-headers", b"")
        if self._is_as_in_mediamtx:
            headers = (b"access-control-allow-headers", wanted or b"Authorization, Range")
            return self._responses.empty(204, [(b"access-control-allow-methods", b"OPTIONS, GET"), headers])
        allowed = [
            (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"), (b"access-control-allow-headers", wanted),
        ]  # fmt: skip
        return self._responses.empty(200, allowed)

    # Pages

    def _shared(self, transaction: Transaction, name: str) -> Response | None:
        """Answer a request for the list of paths, or for a file of the pages."""
        if name and name != PATHS_DOCUMENT:
            self._run(transaction, partial(self._pages.asset, transaction.request, name))
            return None
        is_listed = self._server.settings.hls_index
        if name:
            return self._list_paths(transaction.request) if is_listed else self._not_found()
        self._run(
            transaction,
            partial(self._pages.page, transaction.request, INDEX_PAGE, 0) if is_listed else self._start_page,
        )
        return None

    async def _start_page(self) -> Response:
        """Explain where streams are; the status is that of rtsp-simple-server, which has no page here."""
        await self._pages.load()
        return self._responses.document(404, b"text/html; charset=utf-8", page(START_PAGE).body, [POLICY_HEADER])

    async def _page(self, transaction: Transaction, target: Target) -> Response:
        request = transaction.request
        depth = target.folder.count("/") + 1
        allowed = await self._authorize(transaction, self._access_request(transaction, target))
        if isinstance(allowed, Problem):
            problem: Problem | None = allowed
        elif target.folder in self._remuxers:
            problem = None
        else:
            problem = absence(self._hub, target.folder, self._server.configuration)
        if problem is None or (problem is not allowed and self._is_as_in_mediamtx):
            # The page of a stream that does not exist yet exists in MediaMTX; it asks for the reason itself.
            return await self._pages.page(request, PLAYER_PAGE, depth)
        self._log_refusal(transaction, target, problem)
        if b"text/html" not in request.fields.get(b"accept", b""):
            return refuse(self._responses, request, problem, self._dialect)
        await self._pages.load()
        body = page_with_problem(depth, msgspec.json.encode(problem).decode())
        return refuse_page(self._responses, problem, body, [POLICY_HEADER], self._dialect)

    def _list_paths(self, request: Request) -> Response:
        """List the live paths that anybody may read; those with credentials are not listed."""
        listed = (path for path in self._hub if path.stream is not None and self.is_public(path))
        body = list_paths(listed, Variant(self._server.settings.hls_variant.value))
        return self._responses.file(body, "application/json", is_compressible=True).respond(request)

    # Files of muxers

    def is_public(self, path: Path) -> bool:
        return self._hub.access.is_open(Action.READ, path.name, path.configuration)

    async def _file(
        self, transaction: Transaction, target: Target, key: ResourceKey, *, is_cdn: bool
    ) -> Response | None:
        """Answer a request for a file that needs authorisation first, or a muxer."""
        path_name = target.folder
        refusal = None if is_cdn else await self._admit(transaction, target, key)
        if refusal is not None:
            return refusal
        request = transaction.request
        remuxer = self._remuxers.get(path_name)
        if remuxer is None:
            if not key[0].endswith((".m3u8", MANIFEST_NAME)):
                return self._responses.text(404, "there is no such file")
            workers = self._server.context.workers
            other = await workers.place(path_name) if workers is not None else None
            if workers is not None and other is not None:
                return await workers.pass_on(other, self._server.name, transaction)
            try:
                remuxer = await self._server.make_remuxer(path_name, transaction.client, key[0])
            except (PathError, LocalProtocolError) as error:
                self._log.debug("%s: %s", target.path, error)
                problem = self._problem_of(error, path_name)
                self._log_refusal(transaction, target, problem)
                return refuse(self._responses, request, problem, self._dialect)
        if transaction.receiver is None and not self._join(transaction, target, is_cdn=is_cdn):
            return self._sent_away()
        if target.is_recorded:
            recorded = await self._server.recorded.find(remuxer, key, self._server, self)
            return self._file_response(request, remuxer, recorded)
        found = remuxer.request(key, transaction, self._server.now())
        return self._file_response(request, remuxer, found) if found is not None else None

    async def _stream(self, transaction: Transaction, target: Target, file: StreamFile) -> Response | None:
        """Answer a request for a whole stream, or for a picture of it."""
        request, access = transaction.request, self._access_request(transaction, target)
        allowed = await self._authorize(transaction, access)
        if isinstance(allowed, Problem):
            self._log_refusal(transaction, target, allowed)
            return refuse(self._responses, request, allowed, self._dialect)
        peer = join_host_port(transaction.client, transaction.peer[1])
        visit = Visit(target.folder, peer, access.query, allowed, user_agent_of(request))
        try:
            return await self._server.streams.open(transaction, file, visit, self._responses)
        except MissingDependency as error:
            self._log.error("%s", error)
            return self._responses.text(503, "pictures of this stream cannot be made here")
        except LocalProtocolError as error:
            problem = Problem(status=404, detail=str(error))
        except PathError as error:
            problem = path_problem(error, self._hub.paths.get(target.folder))
        self._log_refusal(transaction, target, problem)
        return refuse(self._responses, request, problem, self._dialect)

    def _problem_of(self, error: PathError | LocalProtocolError, path_name: str) -> Problem:
        path = self._hub.paths.get(path_name)
        if isinstance(error, PathError):
            return path_problem(error, path)
        tracks = path.stream.descriptions if path is not None and path.stream is not None else ()
        return codec_problem(str(error), tracks, self._server.configuration)

    def deliver(self, remuxer: Remuxer, transactions: Sequence[Transaction], found: Lookup) -> None:
        """Answer requests that have waited for the same resource."""
        request = response = None
        for transaction in transactions:
            if transaction.request is not request or response is None:
                request = transaction.request
                try:
                    response = self._file_response(request, remuxer, found)
                except Exception:  # the other requests must still be answered
                    response = self._internal_error()
            elif not isinstance(found, Refusal):
                remuxer.counters.bytes_sent += len(response.body)
            try:
                transaction.respond(response)
            except Exception:
                self._server.on_internal_error()
                transaction.connection.abort("internal error")

    def _file_response(self, request: Request, remuxer: Remuxer, found: Lookup) -> Response:
        if isinstance(found, Refusal):
            problem = Problem(status=found.status, detail=found.reason)
            if found is TIMED_OUT:
                problem = stall_problem(found.status, found.reason, self._server.now() - remuxer.last_delivery)
            return refuse(self._responses, request, problem, self._dialect)
        response = found.respond(request)
        remuxer.counters.bytes_sent += len(response.body)
        return response

    def prepare(self, resource: Resource, name: str, skipped: Sequence[Track] = ()) -> HttpFile:
        """Return a file of a muxer with its headers."""
        # A name is never reused for different content, so it is the best entity tag. Playlists have their own.
        if resource.immutable:
            return self._responses.file(resource.body, resource.content_type, cache=IMMUTABLE, etag=f'"{name}"')
        is_playlist = resource.content_type == CONTENT_TYPE_PLAYLIST
        return self._responses.file(
            resource.body,
            resource.content_type,
            cache=VOLATILE,
            is_compressible=is_playlist,
            headers=skipped_header(skipped),
        )

    # Viewers

    def references(self, path_name: str) -> list[Reference]:
        """Return the names of the viewers of a stream in the API."""
        return [reference_of(visit) for visit in self.visits.of(path_name)]

    def _is_cdn(self, transaction: Transaction, key: ResourceKey) -> bool:
        """Return whether a request for a file comes from the content delivery network, and prepare the response.

        Only if there is a secret that such a network knows.
        """
        settings = self._server.settings
        if not knows_secret(transaction.request, settings.hls_cdn_secret):
            return False
        is_low_latency = settings.hls_variant is HlsVariant.LOW_LATENCY
        seconds = 0 if is_low_latency else int(settings.hls_segment_duration)
        transaction.rewrite = lambda response: for_cdn(response, key[0], seconds)
        return True

    def _join(self, transaction: Transaction, target: Target, *, is_cdn: bool) -> bool:
        """Count a request as one of a viewer without a session; return False if that viewer was kicked.

        The first request for the multivariant playlist begins another visit. A content delivery network is one viewer.
        """
        client = (target.folder, "", b"") if is_cdn else self._client_of(transaction, target)
        visit = self.audience.find(client, transaction.started)
        if visit is None or (visit.is_kicked and target.path.rpartition("/")[2] in ENTRY_NAMES):
            peer = join_host_port(transaction.client, transaction.peer[1])
            query, agent = plain_query(target.query), user_agent_of(transaction.request)
            visit = Visit(target.folder, peer, query, "", agent, is_cdn=is_cdn)
            self.audience.add(client, visit, transaction.started)
        elif visit.is_kicked:
            return False
        transaction.receiver = visit
        return True

    def _client_of(self, transaction: Transaction, target: Target) -> Client:
        """Return what tells the viewer apart. The usual case is quick: it is needed for each file."""
        program = transaction.request.fields.get(b"user-agent", b"")
        if len(program) > MAXIMUM_USER_AGENT:
            program = program[:MAXIMUM_USER_AGENT]
        has_proxies = self._server.settings.hls_trusted_proxies
        address = transaction.client if has_proxies else transaction.connection.peer[0]
        return target.folder, address, program

    def _sent_away(self) -> Response:
        """Return the response to a viewer who was kicked. As in MediaMTX, credentials are not what is missing."""
        return self._responses.text(401, "the session was closed")

    # Authorisation

    def _log_refusal(self, transaction: Transaction, target: Target, problem: Problem) -> None:
        """Log a refusal that is not logged elsewhere: `AccessControl` logs those of credentials and addresses."""
        if problem.reason not in LOGGED_REASONS:
            return
        text = f"{problem.detail} ({', '.join(problem.codecs)})" if problem.codecs else problem.detail
        address, now = transaction.client, self._server.context.loop.time()
        suffix = self._refusals.log_suffix(address, target.folder, text, now)
        if suffix is not None:
            self._log.info(
                "[conn %s] request for path '%s' refused (%d): %s%s",
                address,
                target.folder,
                problem.status,
                text,
                suffix,
            )

    def _is_known(self, transaction: Transaction, target: Target) -> bool:
        """Return whether the viewer was authorised before, and nothing has changed since."""
        secrets = secrets_of(transaction.request, target.query)
        if not secrets:
            return False
        viewer = self.viewers.find(secrets, target.folder, transaction.client, self._server.now())
        if viewer is None or not viewer.is_trusted:
            return False
        self._mark(transaction, target, viewer)
        return True

    def _mark(self, transaction: Transaction, target: Target, viewer: Viewer) -> None:
        """Name the session in the playlist that the viewer gets, if the request did so in its query."""
        transaction.receiver = viewer.visit
        transaction.rewrite = as_private
        is_playlist = target.path.endswith(".m3u8")
        if is_playlist and field_of(target.query, QUERY_FIELD) == viewer.secret:
            self._name_in_addresses(transaction, target, viewer)

    def _name_in_addresses(self, transaction: Transaction, target: Target, viewer: Viewer) -> None:
        """Name the session in the addresses of the playlist that is requested."""
        query = query_for(target.query, viewer.secret)
        transaction.request = transaction.request.without(CONDITIONS)
        transaction.rewrite = lambda response: with_query(response, query)

    async def _admit(self, transaction: Transaction, target: Target, key: ResourceKey) -> Response | None:
        """Return None if the client may have a file, otherwise the response."""
        request = transaction.request
        is_session = self._hub.asks_once(target.folder, Action.READ)
        is_index = key[0] in ENTRY_NAMES
        access = self._access_request(transaction, target)
        if is_session:
            viewer = self.viewers.find(
                secrets_of(request, target.query), access.path, access.address, self._server.now()
            )
            if viewer is None and not is_index:
                viewer = self.viewers.find_same(access, self._server.now())
            if viewer is not None and await self._is_still_allowed(viewer):
                self._mark(transaction, target, viewer)
                return None
            if is_index and not field_of(target.query, COOKIE_CHECK):
                return self._check_cookies(request, target, key[0])
        allowed = await self._authorize(transaction, access)
        if isinstance(allowed, Problem):
            self._log_refusal(transaction, target, allowed)
            return refuse(self._responses, request, allowed, self._dialect)
        if is_session:
            self._welcome(transaction, target, access, allowed)
        return None

    async def _is_still_allowed(self, viewer: Viewer) -> bool:
        """Return whether a viewer may still read; after a change of the settings, that is asked again."""
        if not viewer.is_trusted:
            try:
                await self._hub.authorize(viewer.access)
            except PathError:
                self.viewers.remove(viewer)
                return False
            viewer.is_trusted = True
        return True

    def _check_cookies(self, request: Request, target: Target, name: str) -> Response:
        """Return the redirection that shows whether the player keeps cookies."""
        others = [part for part in target.query.split("&") if part and part.partition("=")[0] != COOKIE_CHECK]
        fields = "&".join(sorted([f"{COOKIE_CHECK}=1", *others]))
        location = f"{name}?{fields}".encode("latin-1", "replace")
        # Relative, so that it also works behind a proxy that serves this server in a folder.
        if self._is_as_in_mediamtx and not is_from_proxy(request):
            location = absolute_folder(target.folder, "") + location
        headers = [(b"location", location), (b"cache-control", b"no-store"), cookie(COOKIE_CHECK, "1")]
        return self._responses.empty(302, headers)

    def _welcome(self, transaction: Transaction, target: Target, access: AccessRequest, user: str) -> None:
        """Begin the session of a viewer, who was authorised as ``user``."""
        is_index = target.path.rpartition("/")[2] in ENTRY_NAMES
        if not (is_index or access.credentials.is_given):
            return
        viewer = self.viewers.add(access, self._server.now(), user, transaction.peer[1])
        transaction.receiver = viewer.visit
        if not is_index:  # it sends credentials with each request
            return
        if COOKIE_CHECK in cookies_of(transaction.request):
            transaction.rewrite = lambda response: with_cookie(response, viewer.secret)
        else:
            self._name_in_addresses(transaction, target, viewer)

    async def _authorize(self, transaction: Transaction, access: AccessRequest) -> str | Problem:
        """Return the name of the user if the client may read, otherwise the reason for refusing it."""
        request = transaction.request
        allowed = self._server.configuration.allowed_hosts
        if not is_host_allowed(request, allowed) and self._hub.is_protected(access.path, Action.READ):
            return host_problem(host_of(authority_of(request)), host_refusal(request))
        try:
            return await self._hub.authorize(access)
        except AccessDenied as denied:
            has_credentials = b"authorization" in request.fields
            return access_problem(denied, access, has_credentials=has_credentials)
        except PathError as error:
            return path_problem(error, self._hub.paths.get(access.path))

    def _access_request(self, transaction: Transaction, target: Target) -> AccessRequest:
        request = transaction.request
        return AccessRequest(
            Action.READ,
            target.folder,
            plain_query(target.query) if QUERY_FIELD in target.query or COOKIE_CHECK in target.query else target.query,
            transaction.client,
            PlainCredentials(*http_credentials(request)),
            asks_again=True,
            protocol="hls",
            user_agent=user_agent_of(request),
        )
