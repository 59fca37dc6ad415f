"""What the HTTP services (API, metrics, profiles) have in common: listener, TLS, credentials, origins, access log."""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from polycast.config.schema import Configuration
from polycast.control.contract import Controlled
from polycast.hub.access import PlainCredentials
from polycast.hub.failures import FailureTracker
from polycast.log import Log
from polycast.net.address import join_host_port, parse_address, peer_of
from polycast.net.http.asgi_server import Application, HttpServer, Receive, Scope, Send

REALM: Final = "polycast"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

# Sent by our own status page and terminal view with what they ask every second, which would fill the log.
POLL_HEADER: Final = b"polycast-poll"

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Listening:
    """The settings of a service that need a new listener when they change."""

    address: str
    is_encrypted: bool
    certificate: str
    key: str


def is_enabled(configuration: Configuration, prefix: str) -> bool:
    """Whether the service whose keys begin with ``prefix`` is wanted."""
    return bool(getattr(configuration, prefix))


def listening(configuration: Configuration, prefix: str) -> Listening:
    """Return where and how the service should listen."""
    is_encrypted = bool(getattr(configuration, f"{prefix}_encryption"))
    return Listening(
        getattr(configuration, f"{prefix}_address"),
        is_encrypted,
        getattr(configuration, f"{prefix}_server_cert") if is_encrypted else "",
        getattr(configuration, f"{prefix}_server_key") if is_encrypted else "",
    )


class Service:
    """One service: an ASGI application behind its own listener."""

    def __init__(
        self,
        name: str,
        prefix: str,
        application: Application,
        controlled: Controlled,
        settings: Listening,
        *,
        logs_requests: bool,
    ) -> None:
        """``prefix`` begins its keys in the configuration, ``name`` stands in the log."""
        self.name = name
        self.prefix = prefix
        self.log = controlled.log.child(name)
        self.settings = settings
        guard = Guard(application, prefix, controlled, self.log, logs_requests=logs_requests)
        host, port = parse_address(self.settings.address)
        encrypted = self.settings.is_encrypted
        self._host = host
        self._http = HttpServer(
            guard,
            host,
            port,
            certificate=self.settings.certificate if encrypted else None,
            key=self.settings.key if encrypted else None,
        )

    @property
    def port(self) -> int:
        """The port it listens on; 0 while it is stopped."""
        return self._http.port

    async def start(self) -> None:
        """Listen. Raises OSError or ssl.SSLError."""
        await self._http.start()
        kind = "HTTPS" if self.settings.is_encrypted else "HTTP"
        self.log.info("listener opened on %s:%d (%s)", self._host, self._http.port, kind)

    async def stop(self) -> None:
        """Close the listener; requests under way get a moment."""
        if self._http.port:
            await self._http.stop()
            self.log.info("listener closed")

    async def renew_certificate(self) -> None:
        """Take changed certificate files; broken ones are reported, and the old ones stay."""
        try:
            if await self._http.renew_certificate():
                self.log.info("the certificate was reloaded")
        except (OSError, ssl.SSLError) as error:
            self.log.warning("the changed certificate is not used: %s", error)


class Guard:
    """Stands before a service's application: who may call it, from which web sites, and what is logged."""

    def __init__(
        self, application: Application, prefix: str, controlled: Controlled, log: Log, *, logs_requests: bool
    ) -> None:
        self._application = application
        self._prefix = prefix
        self._controlled = controlled
        self._log = log
        self._logs_requests = logs_requests
        self._failures = FailureTracker()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        host, port = peer_of(scope.get("client"))
        query = scope.get("query_string", b"").decode("latin-1")
        target = scope["path"] + (f"?{query}" if query else "")
        headers = {name.lower(): value for name, value in scope["headers"]}
        is_routine = scope["method"] == "GET" and POLL_HEADER in headers
        write = self._log.info if self._logs_requests and not is_routine else self._log.debug
        write("[conn %s] %s %s", join_host_port(host, port), scope["method"], target)
        answer = _Answer(send, self._common_headers(headers))
        try:
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await answer.preflight(headers)
            elif not self._is_origin_allowed(scope, headers):
                await answer.error(403, "requests of other web sites are not allowed (apiAllowOrigin)")
            elif await self._is_allowed(host, headers, answer):
                await self._application(scope, receive, answer)
        except asyncio.CancelledError:
            raise
        except Exception:
            self._log.exception("internal error")
            await answer.error(500, "internal error")

    def _common_headers(self, headers: dict[bytes, bytes]) -> list[Header]:
        common = [(b"server", b"polycast"), (b"x-content-type-options", b"nosniff")]
        allowed = self._allowed_origin()
        if allowed:
            common.append((b"access-control-allow-origin", allowed.encode("latin-1", "replace")))
            if allowed != "*":
                common += [(b"vary", b"Origin"), (b"access-control-allow-credentials", b"true")]
        return common

    def _allowed_origin(self) -> str:
        return self._controlled.configuration.api_allow_origin if self._prefix == "api" else ""

    def _is_origin_allowed(self, scope: Scope, headers: dict[bytes, bytes]) -> bool:
        """Whether a request that may change something comes from no web page, from ours, or from an allowed one.

        Without this, every web page that somebody opens on this machine could set a command to be run.
        """
        origin = headers.get(b"origin", b"").decode("latin-1")
        if scope["method"] in SAFE_METHODS or not origin:
            return True
        allowed = self._allowed_origin()
        own = headers.get(b"host", b"").decode("latin-1")
        return allowed in ("*", origin) or (bool(own) and urlsplit(origin).netloc == own)

    async def _is_allowed(self, host: str, headers: dict[bytes, bytes], answer: _Answer) -> bool:
        configuration = self._controlled.configuration
        user = getattr(configuration, f"{self._prefix}_user")
        password = getattr(configuration, f"{self._prefix}_pass")
        if not user and not password:
            return True
        given = _basic_credentials(headers.get(b"authorization", b""))
        if given is not None and given.matches(user, password):
            return True
        if given is not None:
            self._log.info("[conn %s] invalid credentials", host)
            if self._failures.note(host, asyncio.get_running_loop().time()):
                await asyncio.sleep(float(configuration.authentication_failure_pause))
        challenge = (b"www-authenticate", f'Basic realm="{REALM}", charset="UTF-8"'.encode())
        await answer.error(401, "credentials are needed", [challenge])
        return False


class _Answer:
    """Sends with the common headers; knows whether an answer has begun."""

    def __init__(self, send: Send, headers: list[Header]) -> None:
        self._send = send
        self._headers = headers
        self._has_begun = False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._has_begun = True
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        await self._send(message)

    async def error(self, status: int, text: str, headers: list[Header] | None = None) -> None:
        if self._has_begun:
            return
        body = msgspec.json.encode({"error": text})
        await self(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode()),
                    *(headers or ()),
                ],
            }
        )
        await self({"type": "http.response.body", "body": body})

    async def preflight(self, headers: dict[bytes, bytes]) -> None:
        wanted = headers.get(b"access-control-request-headers", b"")
        await self(
            {
                "type": "http.response.start",
                "status": 204,
                "headers": [
                    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
                    (b"access-control-allow-headers", wanted),
                ],
            }
        )
        await self({"type": "http.response.body", "body": b""})


def _basic_credentials(header: bytes) -> PlainCredentials | None:
    scheme, _, token = header.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, _, password = base64.b64decode(token.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return PlainCredentials()
    return PlainCredentials(user, password)
