"""WHIP and WHEP: offers and answers over HTTP (RFC 9725, draft-ietf-wish-whep), and the pages that use them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol
from urllib.parse import parse_qs, quote, unquote

import msgspec

from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import MEDIAMTX, dialect_of
from polycast.config.schema import Configuration
from polycast.errors import RemoteProtocolError
from polycast.hub.access_request import AccessRequest, Action, PlainCredentials
from polycast.hub.errors import AccessDenied, Denial, NoOnePublishing, PathError, PathNotConfigured, RedirectedToNode
from polycast.hub.refusals import Refusals
from polycast.log import Log
from polycast.net.http.file import ResponseFactory
from polycast.net.http.hosts import host_refusal, is_host_allowed
from polycast.net.http.origins import allowed_origins
from polycast.net.http.request import http_credentials, user_agent_of
from polycast.net.http.tasks import MAXIMUM_REQUESTS, RequestTasks
from polycast.net.http.transaction import Transaction
from polycast.protocols.base import ServerContext, worker_of_secret
from polycast.protocols.folders import absolute_folder, is_from_proxy
from polycast.protocols.pages import Pages
from polycast.protocols.webrtc.configuration import WebRtcConfiguration
from polycast.protocols.webrtc.session import Session
from polycast.web import ASSETS_FOLDER, PUBLISH_PAGE, WATCH_PAGE
from polycast.wire.http.message import Header, Request
from polycast.wire.http.response import Response

OFFER_TYPE: Final = "application/sdp"
FRAGMENT_TYPE: Final = "application/trickle-ice-sdpfrag"
BODY_LIMIT: Final = 128 * 1024
"""Bytes of an offer or a fragment; browsers send ten KiB."""

METHODS: Final = b"OPTIONS, GET, POST, PATCH, DELETE"
HEADERS: Final = b"Authorization, Content-Type, If-Match"
REALM: Final = "polycast"

_NOTICE_CHARACTERS: Final = " ;:()'/"
"""What is not percent-encoded in the header for the viewer. A comma is, since it separates the values of a header;
so is everything else, since a publisher may choose the name of a codec."""

_ACTIONS: Final = {"whip": Action.PUBLISH, "whep": Action.READ}
_SCRIPTS: Final = frozenset({"reader.js", "publisher.js"})
"""Scripts that the pages of other servers embed."""
_SCRIPT_CACHE: Final = "max-age=3600"


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a request."""

    path: str
    """Name of the stream's path."""
    last: str
    """What follows the path: ``whip``, ``whep``, ``publish``, the name of a script, or nothing."""
    secret: str
    """The secret of a session, which follows ``whip`` or ``whep``."""
    query: str


def read_target(target: bytes) -> Target:
    """Parse a request target."""
    text, _, query = target.decode("latin-1").partition("?")
    path = unquote(text, errors="replace").lstrip("/")
    folder, _, last = path.rpartition("/")
    parent, _, endpoint = folder.rpartition("/")
    if endpoint in _ACTIONS and parent:
        return Target(parent, endpoint, last, query)
    return Target(folder, last, "", query)


class Host(Protocol):
    """The server, as the handler uses it."""

    log: Log
    context: ServerContext
    configuration: Configuration
    pages: Pages

    @property
    def name(self) -> str:
        """In logs, and for other workers."""
        ...

    @property
    def settings(self) -> WebRtcConfiguration:
        """The settings of WebRTC as they are now."""
        ...

    async def open_viewer(self, path_name: str, offer: bytes, address: str, user: str, query: str) -> Session:
        """Answer the offer of a viewer. Raises PathError or RemoteProtocolError."""
        ...

    async def open_publisher(self, path_name: str, offer: bytes, address: str, user: str, query: str) -> Session:
        """Answer the offer of a publisher. Raises PathError or RemoteProtocolError."""
        ...

    def session_by_secret(self, secret: str) -> Session | None:
        """Return the session with the secret of its URL."""
        ...

    def on_internal_error(self) -> None:
        """Log and count the exception that is being handled."""


class SignallingHandler:
    """Handles requests of the WebRTC server."""

    body_limit = BODY_LIMIT

    def __init__(self, server: Host) -> None:
        self._server = server
        self._log = server.log
        self.allow_origins(server.settings.webrtc_allow_origins)
        self._refusals = Refusals()
        self._tasks = RequestTasks(server.context.loop, MAXIMUM_REQUESTS)

    def allow_origins(self, origins: tuple[str, ...]) -> None:
        """Allow pages of other sites from now on."""
        self._origins = allowed_origins(origins)
        self._responses = ResponseFactory(self._origins.fixed)

    def handle(self, transaction: Transaction) -> None:
        """Answer a request, now or later."""
        transaction.origins = self._origins
        if self._tasks.is_full:
            transaction.respond(self._error(503, "too many requests"))
            return
        self._tasks.start(transaction, partial(self._finish, transaction))

    async def _finish(self, transaction: Transaction) -> None:
        try:
            response = await self._answer(transaction)
        except Exception:
            self._server.on_internal_error()
            response = self._error(500, "internal error")
        transaction.respond(response)

    async def _answer(self, transaction: Transaction) -> Response:
        request = transaction.request
        target = read_target(request.target)
        if request.method == "OPTIONS" and b"access-control-request-method" in request.fields:
            return self._responses.empty(204, _allowed())
        root, _, version = target.path.partition("/")
        if root == ASSETS_FOLDER:
            return await self._server.pages.asset(request, f"{version}/{target.last}" if version else target.last)
        if target.last in _ACTIONS and target.path:
            if target.secret:
                return await self._session(transaction, target)
            return await self._endpoint(transaction, target, _ACTIONS[target.last])
        if request.method in ("GET", "HEAD"):
            return await self._page(transaction, target)
        return self._error(404, "not found")

    # Endpoints

    async def _endpoint(self, transaction: Transaction, target: Target, action: Action) -> Response:
        request = transaction.request
        if request.method not in ("OPTIONS", "POST"):
            return self._error(405, "method not allowed", [(b"allow", b"OPTIONS, POST")])
        workers = self._server.context.workers
        home = workers.home_of(target.path) if workers is not None and action is Action.PUBLISH else None
        if workers is not None and home is not None:
            return await workers.pass_on(home, self._server.name, transaction)
        user = await self._authorize(transaction, target, action)
        if isinstance(user, Response):
            return user
        if request.method == "OPTIONS":
            exposed = (b"access-control-expose-headers", b"Accept-Post, Link")
            accepted = (b"accept-post", OFFER_TYPE.encode())
            return self._responses.empty(204, [*_allowed(), exposed, accepted, *self._ice_links()])
        if _content_type(request) != OFFER_TYPE:
            return self._error(400, "invalid Content-Type")
        if request.is_truncated:
            return self._error(413, f"the offer is larger than {BODY_LIMIT} bytes")
        return await self._open(transaction, target, action, user)

    async def _open(self, transaction: Transaction, target: Target, action: Action, user: str) -> Response:
        server = self._server
        address = transaction.client
        try:
            if action is Action.PUBLISH:
                session = await server.open_publisher(
                    target.path, transaction.request.body, address, user, target.query
                )
            else:
                session = await server.open_viewer(target.path, transaction.request.body, address, user, target.query)
        except RedirectedToNode as error:
            self._log.info("[conn %s] %s", address, error)
            return self._responses.empty(307, [(b"location", error.target.encode())])
        except NoOnePublishing as error:
            self._log.debug("[conn %s] %s", address, error)
            return self._error(404, f"no stream is available on path '{target.path}'{error.cause}")
        except RemoteProtocolError as error:
            self._log_refusal("offer", address, target, str(error))
            return self._error(error.status, str(error))
        except PathError as error:
            self._log_refusal("offer", address, target, str(error))
            return self._error(400, str(error))
        session.user_agent = user_agent_of(transaction.request)
        query = f"?{target.query}" if target.query else ""
        location = f"/{quote(target.path)}/{target.last}/{session.secret}{query}"
        headers = [
            (b"content-type", OFFER_TYPE.encode()),
            (b"access-control-expose-headers", b"ETag, ID, Accept-Patch, Link, Location, Polycast-Notice"),
            (b"etag", b"*"),
            (b"id", session.id.encode()),
            (b"accept-patch", FRAGMENT_TYPE.encode()),
            *self._ice_links(),
            (b"location", location.encode("latin-1", "replace")),
            *((b"polycast-notice", quote(text, safe=_NOTICE_CHARACTERS).encode()) for text in session.notices),
        ]
        return self._responses.plain(201, headers, session.answer)

    # Sessions

    async def _session(self, transaction: Transaction, target: Target) -> Response:
        """Change or end a session; this requires its secret."""
        request = transaction.request
        if request.method not in ("PATCH", "DELETE"):
            return self._error(404, "not found")
        try:
            secret = str(uuid.UUID(target.secret))
        except ValueError:
            return self._error(400, "invalid secret")
        session = self._server.session_by_secret(secret)
        workers = self._server.context.workers
        other = worker_of_secret(secret, workers) if session is None else None
        if workers is not None and other is not None:
            return await workers.pass_on(other, self._server.name, transaction)
        if session is None:
            return self._error(404, "session not found")
        if request.method == "DELETE":
            session.close("closed by the client")
            return self._json(200, {"status": "ok"})
        if _content_type(request) != FRAGMENT_TYPE:
            return self._error(400, "invalid Content-Type")
        if request.is_truncated:
            return self._error(413, f"the fragment is larger than {BODY_LIMIT} bytes")
        try:
            fragment = session.receive_fragment(request.body)
        except RemoteProtocolError as error:
            return self._error(error.status, str(error))
        if fragment is None:
            return self._responses.empty(204, [])
        ufrag = session.peer.ice.credentials.ufrag
        headers = [(b"content-type", FRAGMENT_TYPE.encode()), (b"etag", f'"{ufrag}"'.encode())]
        return self._responses.plain(200, headers, fragment)

    # Pages

    async def _page(self, transaction: Transaction, target: Target) -> Response:
        pages, depth = self._server.pages, target.path.count("/") + 1
        if target.last in _SCRIPTS:
            return await pages.asset(transaction.request, target.last, cache=_SCRIPT_CACHE)
        if target.last == "publish" and target.path:
            user = await self._authorize(transaction, target, Action.PUBLISH)
            return user if isinstance(user, Response) else await pages.page(transaction.request, PUBLISH_PAGE, depth)
        if target.last == "favicon.ico":
            return self._error(404, "not found")
        if target.last:
            if self._dialect is MEDIAMTX and not is_from_proxy(transaction.request):
                location = absolute_folder(f"{target.path}/{target.last}", target.query)
                return self._responses.empty(302, [(b"location", location)])
            query = f"?{target.query}" if target.query else ""
            # Relative, so that it also works behind a proxy that serves this server in a folder.
            return self._responses.empty(302, [(b"location", f"./{quote(target.last)}/{query}".encode())])
        if not target.path:
            return self._error(404, "not found")
        user = await self._authorize(transaction, target, Action.READ)
        return user if isinstance(user, Response) else await pages.page(transaction.request, WATCH_PAGE, depth)

    # Authorisation

    @staticmethod
    def _credentials(request: Request, target: Target) -> PlainCredentials:
        """Return the credentials of the Authorization header, otherwise user and password of the query."""
        if b"authorization" in request.fields:
            return PlainCredentials(*http_credentials(request))
        try:
            values = parse_qs(target.query, keep_blank_values=True, max_num_fields=64)
        except ValueError:  # too many fields
            return PlainCredentials()
        return PlainCredentials(values.get("user", [""])[0], values.get("pass", [""])[0])

    async def _authorize(self, transaction: Transaction, target: Target, action: Action) -> Response | str:
        """Return the name of the user if the client is authorised, otherwise the response."""
        server = self._server
        address = transaction.client
        allowed = server.configuration.allowed_hosts
        if not is_host_allowed(transaction.request, allowed) and server.context.hub.is_protected(target.path, action):
            text = host_refusal(transaction.request)
            self._log_refusal("request", address, target, text)
            return self._error(403, text)
        credentials = self._credentials(transaction.request, target)
        try:
            return await server.context.hub.authorize(
                AccessRequest(
                    action,
                    target.path,
                    target.query,
                    address,
                    credentials,
                    asks_again=True,
                    protocol="webrtc",
                    user_agent=user_agent_of(transaction.request),
                )
            )
        except AccessDenied as denied:
            # `AccessControl` logs those that have credentials, or a wrong address.
            if not credentials.is_given and denied.denial is not Denial.ADDRESS:
                self._log_refusal("request", address, target, "authentication is needed")
            challenge = [(b"www-authenticate", f'Basic realm="{self._dialect.realm or REALM}"'.encode())]
            asks = self._dialect is not MEDIAMTX or not credentials.is_given
            return self._error(401, "authentication error", challenge if asks else [])
        except PathError as error:
            self._log_refusal("request", address, target, str(error))
            is_unknown = isinstance(error, PathNotConfigured) and self._dialect is MEDIAMTX
            return self._error(500 if is_unknown else 404, str(error))

    @property
    def _dialect(self) -> Dialect:
        return dialect_of(self._server.configuration.dialect)

    def _log_refusal(self, what: str, address: str, target: Target, reason: str) -> None:
        suffix = self._refusals.log_suffix(address, target.path, reason, self._server.context.loop.time())
        if suffix is not None:
            self._log.info("[conn %s] %s for path '%s' refused: %s%s", address, what, target.path, reason, suffix)

    # Responses

    def _ice_links(self) -> list[Header]:
        now = time.time()
        return [(b"link", server.link(now)) for server in self._server.settings.ice_servers]

    def _error(self, status: int, text: str, headers: Sequence[Header] = ()) -> Response:
        return self._json(status, {"status": "error", "error": text}, headers)

    def _json(self, status: int, value: object, headers: Sequence[Header] = ()) -> Response:
        fields = [(b"content-type", b"application/json; charset=utf-8"), (b"cache-control", b"no-store"), *headers]
        return self._responses.plain(status, fields, msgspec.json.encode(value))


def _allowed() -> list[Header]:
    return [(b"access-control-allow-methods", METHODS), (b"access-control-allow-headers", HEADERS)]


def _content_type(request: Request) -> str:
    return request.fields.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
