"""Base of the HTTP services (API, metrics, profiles): listener, TLS, credentials, origins, access log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import msgspec

from polycast.config.dialects.registry import MEDIAMTX, dialect_of
from polycast.config.path_schema import PathConfiguration
from polycast.config.redact import redact
from polycast.config.services import SERVICES, ServiceSettings
from polycast.control.contract import MediaServer
from polycast.hub.access_request import AccessRequest, Action, PlainCredentials
from polycast.hub.errors import AccessDenied, Denial, PathError, PathNotConfigured
from polycast.log import Log
from polycast.net.http.asgi import Application, AsgiHandler
from polycast.net.http.hosts import host_refusal, is_host_allowed, is_origin_allowed
from polycast.net.http.origins import ANY, AllowedOrigins, allowed_origins
from polycast.net.http.request import http_credentials, query_field
from polycast.net.http.server import HttpServer
from polycast.net.http.tasks import RequestTasks
from polycast.net.http.transaction import Transaction
from polycast.wire.http.message import Header, Request
from polycast.wire.http.response import Response

REALM: Final = "polycast"

_METHODS: Final = b"OPTIONS, GET"
_HEADERS: Final = b"Authorization"
_API_METHODS: Final = b"OPTIONS, GET, POST, PATCH, DELETE"
_API_HEADERS: Final = b"Authorization, Content-Type"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_ORIGINS: Final = allowed_origins(())

# Sent by the console and the terminal view with their requests every second, which would fill the log.
POLL_HEADER: Final = b"polycast-poll"

# Sent by the console, which asks for credentials itself: a challenge would open the browser's own window.
CONSOLE_HEADER: Final = b"polycast-console"

# Bytes of a request's body: the configuration of some thousand paths.
MAXIMUM_BODY: Final = 1024 * 1024

# Requests whose credentials are checked at the same time.
MAXIMUM_CHECKS: Final = 1024

# Those from one address: a slow authentication server and one client with many requests must not lock out the others.
MAXIMUM_CHECKS_OF_ADDRESS: Final = MAXIMUM_CHECKS // 4

# Characters of a target in the log.
LOGGED_TARGET: Final = 2048


Target: TypeAlias = tuple[str, PathConfiguration | None]
"""The path that a client needs permission for, and its configuration; an empty name for the service as a whole."""


@dataclass(frozen=True, slots=True)
class Listening:
    """The settings of a service whose change requires a new listener."""

    address: str
    is_encrypted: bool
    certificate: str
    key: str


def listening(settings: ServiceSettings) -> Listening | None:
    """Return where and how a service listens; None if it is disabled."""
    if not settings.is_enabled:
        return None
    certificate, key = (settings.certificate, settings.key) if settings.is_encrypted else ("", "")
    return Listening(settings.address, settings.is_encrypted, certificate, key)


class Service:
    """One service: an ASGI application behind its own listener."""

    def __init__(
        self,
        name: str,
        prefix: str,
        application: Application,
        media_server: MediaServer,
        settings: Listening,
        *,
        logs_requests: bool,
        concerns_paths: bool = False,
    ) -> None:
        """``prefix`` is the prefix of its keys in the configuration, ``name`` is for the log.

        ``concerns_paths``: whether its requests concern paths, so that those decide who may send them.
        """
        self.name = name
        self.prefix = prefix
        self.log = media_server.log.child(name)
        self.settings = settings
        loop = asyncio.get_running_loop()
        handler = AsgiHandler(application, loop, self.log)
        make_guard = PathGuard if concerns_paths else Guard
        guard = make_guard(handler, prefix, media_server, self.log, loop, logs_requests=logs_requests)
        self.server = HttpServer(
            guard,
            settings.address,
            self.log,
            loop=loop,
            certificate=settings.certificate,
            key=settings.key,
            trusted_proxies=lambda: guard.settings.trusted_proxies,
            dump_prefix=lambda: f"{prefix}_server_conn" if media_server.configuration.dump_packets else "",
        )

    @property
    def port(self) -> int:
        """The port it listens on; 0 while it is stopped."""
        return self.server.port

    async def start(self) -> None:
        """Listen. Raises OSError or ssl.SSLError."""
        await self.server.start()

    async def stop(self) -> None:
        """Close the listener; pending requests get a short time."""
        await self.server.stop("the service stops")


class Guard:
    """Wraps a service's application: authentication, allowed web sites, and the access log."""

    body_limit = MAXIMUM_BODY
    credentials_needed = "credentials are needed"
    credentials_refused = "these credentials are not valid, or have no permission for this"

    def __init__(
        self,
        application: AsgiHandler,
        prefix: str,
        media_server: MediaServer,
        log: Log,
        loop: asyncio.AbstractEventLoop,
        *,
        logs_requests: bool,
    ) -> None:
        self._application = application
        self._prefix = prefix
        self._action = Action(prefix)
        self._checks = RequestTasks(loop, MAXIMUM_CHECKS, maximum_of_address=MAXIMUM_CHECKS_OF_ADDRESS)
        """Requests whose credentials are being checked."""
        self._media_server = media_server
        self._log = log
        self._logs_requests = logs_requests

    def handle(self, transaction: Transaction) -> None:
        request = transaction.request
        self._log_request(transaction)
        common = self._common_headers(request)
        refusal = self._refusal(request, common)
        if refusal is not None:
            transaction.respond(refusal)
        elif request.method == "OPTIONS" and b"access-control-request-method" in request.fields:
            transaction.respond(self._preflight(request, common))
        else:
            self._authenticate(transaction, common)

    def _log_request(self, transaction: Transaction) -> None:
        request = transaction.request
        is_routine = request.method == "GET" and (POLL_HEADER in request.fields or self._is_file(request))
        write = self._log.info if self._logs_requests and not is_routine else self._log.debug
        target = redact(request.target[:LOGGED_TARGET].decode("latin-1"))
        write("[conn %s] %s %s", transaction.client_name, request.method, target)

    def _common_headers(self, request: Request) -> list[Header]:
        common = [(b"server", b"polycast"), (b"x-content-type-options", b"nosniff")]
        return common + self._allowed_origins(request).headers(request)

    def _refusal(self, request: Request, common: Sequence[Header]) -> Response | None:
        """Return the response to requests that may come from a web page of another site."""
        if not is_host_allowed(request, self._media_server.configuration.allowed_hosts):
            return self._error(403, host_refusal(request), common)
        if request.method not in SAFE_METHODS and not is_origin_allowed(request, self._allowed_origins(request)):
            text = f"requests from other web sites are not allowed (see {self._prefix}AllowOrigins)"
            return self._error(403, text, common)
        return None

    @property
    def settings(self) -> ServiceSettings:
        """The settings of the service as they are now."""
        return SERVICES[self._prefix](self._media_server.configuration)

    def _allowed_origins(self, request: Request) -> AllowedOrigins:
        origins = allowed_origins(self.settings.allow_origins)
        is_default = origins.fixed == ANY and self._media_server.configuration.dialect == MEDIAMTX.name
        is_of_mediamtx = request.target == b"/" or request.target.startswith(b"/v3/")
        if is_default and self._action is Action.API and not is_of_mediamtx:
            # There, every site may read what the API of MediaMTX tells: no passwords. API v1 has the whole file.
            return _NO_ORIGINS
        return origins

    def _authenticate(self, transaction: Transaction, common: Sequence[Header]) -> None:
        """Pass the request on at once if anybody may use the service, otherwise after a check."""
        target = self._target(transaction.request)
        if target is None or self._media_server.hub.access.is_open(self._action, *target):
            self._pass_on(transaction, common)
        elif self._checks.is_full_for(transaction.client):
            transaction.respond(self._error(503, "too many requests", common))
        else:
            self._checks.start(transaction, partial(self._check, transaction, target, common))

    def _target(self, request: Request) -> Target | None:
        """Return what the client needs permission for; None if for nothing."""
        # The files of the console tell nothing of this server; with them, it asks for credentials.
        is_page = request.target.partition(b"?")[0] == b"/"
        is_open = (is_page or self._is_file(request)) and self._action is Action.API and request.method in SAFE_METHODS
        return None if is_open else ("", None)

    def _is_file(self, request: Request) -> bool:
        """Return whether a request asks for a file that the console loads."""
        return self._action is Action.API and request.target.startswith(b"/static/")

    async def _check(self, transaction: Transaction, target: Target, common: Sequence[Header]) -> None:
        request = transaction.request
        path, configuration = target
        query = _query_of(request).decode("latin-1")
        credentials = PlainCredentials(*http_credentials(request))
        access = AccessRequest(self._action, path, query, transaction.client, credentials, asks_again=True)
        try:
            await self._media_server.hub.access.check(access, configuration)
        except AccessDenied as denied:
            if denied.denial is Denial.LIMIT:
                transaction.respond(self._error(429, str(denied), common))
            elif CONSOLE_HEADER in request.fields:
                is_known = await self._media_server.hub.access.is_known(access)
                transaction.respond(self._refusal_for_console(access, common, is_known=is_known))
            else:
                self._refuse_credentials(transaction, common, is_given=access.credentials.is_given)
        except Exception:
            self._log.exception("internal error")
            transaction.respond(self._error(500, "internal error", common))
        else:
            transaction.task = None
            self._pass_on(transaction, common)

    def _pass_on(self, transaction: Transaction, common: Sequence[Header]) -> None:
        if transaction.request.is_truncated:
            transaction.respond(self._error(413, f"the body is larger than {self.body_limit} bytes", common))
        else:
            self._application.handle(transaction, common)

    def _preflight(self, request: Request, common: Sequence[Header]) -> Response:
        methods, headers = (_API_METHODS, _API_HEADERS) if self._action is Action.API else (_METHODS, _HEADERS)
        if self._action is Action.API and request.fields[b"access-control-request-method"] == b"PUT":
            methods += b", PUT"
        allowed = [
            (b"access-control-allow-methods", methods),
            (b"access-control-allow-headers", request.fields.get(b"access-control-request-headers", headers)),
        ]
        return Response(204, [*allowed, *common])

    def _refuse_credentials(self, transaction: Transaction, common: Sequence[Header], *, is_given: bool) -> None:
        dialect = dialect_of(self._media_server.configuration.dialect)
        if dialect is MEDIAMTX:
            # It asks only those who gave none, so that browsers show the error for wrong ones.
            given = any(http_credentials(transaction.request))
            challenge = [] if given else [(b"www-authenticate", f'Basic realm="{dialect.realm}"'.encode())]
            body = msgspec.json.encode({"status": "error", "error": "authentication error"})
            response = Response(401, [(b"content-type", b"application/json; charset=utf-8"), *challenge, *common], body)
        else:
            challenge = [(b"www-authenticate", f'Basic realm="{REALM}", charset="UTF-8"'.encode())]
            text = self.credentials_refused if is_given else self.credentials_needed
            response = self._error(401, text, [*challenge, *common])
        transaction.respond(response)

    def _refusal_for_console(self, access: AccessRequest, common: Sequence[Header], *, is_known: bool) -> Response:
        if is_known:
            user = access.credentials.user
            text = f"{f'the user {user!r}' if user else 'this user'} has no permission to use the API (action: api)"
            return self._error(403, text, common)
        given = access.credentials.is_given
        return self._error(401, "these credentials are not valid" if given else self.credentials_needed, common)

    def _error(self, status: int, text: str, headers: Sequence[Header]) -> Response:
        body = msgspec.json.encode(self._describe(text))
        return Response(status, [(b"content-type", b"application/json"), *headers], body)

    def _describe(self, error: str) -> dict[str, str]:
        return {"error": error}


class PathGuard(Guard):
    """The same for a service whose requests concern paths: their configuration decides who may send them.

    The path is in the query (``?path=``). A request without a path, or with an invalid one, passes: the application
    finds the path with the same function, and tells nothing of any path then. Errors have the form of MediaMTX's.
    """

    credentials_needed = credentials_refused = "authentication error"

    def _refusal(self, request: Request, common: Sequence[Header]) -> Response | None:
        try:
            name = query_field(_query_of(request), "path")
        except ValueError as error:
            return self._error(400, str(error), common)
        # as for the streams of a path: the name only matters where credentials or addresses protect it
        if name and not self._media_server.hub.is_protected(name, self._action):
            return None
        return super()._refusal(request, common)

    def _target(self, request: Request) -> Target | None:
        name = query_field(_query_of(request), "path")
        try:
            entry, _ = self._media_server.hub.find_entry(name)
        except PathNotConfigured:
            return name, None
        except PathError:
            return None
        return name, entry.configuration

    def _describe(self, error: str) -> dict[str, str]:
        return {"status": "error", "error": error}


def _query_of(request: Request) -> bytes:
    return request.target.partition(b"?")[2]
