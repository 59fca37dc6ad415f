"""Who may publish and read: address lists, user and password, and the external authentication server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import inspect
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

from polycast.config.path_schema import PathConfiguration
from polycast.hub.errors import AccessDenied, Denial

if TYPE_CHECKING:
    import httpx2

HASH_PREFIX = "sha256:"

# Requests to the external server that may be under way at once; more wait for their turn.
EXTERNAL_CONCURRENCY = 64


class Action(StrEnum):
    """What a client wants to do on a path."""

    PUBLISH = "publish"
    READ = "read"


class Credentials(Protocol):
    """What a client gave to prove who it is; each protocol has its own form."""

    def matches(self, user: str, password: str) -> bool:
        """Whether they fit these credentials of the configuration, which may begin with ``sha256:``."""
        ...

    def plain(self) -> tuple[str, str]:
        """Return (user, password) in the clear, two empty strings where they are not known."""
        ...


@dataclass(frozen=True, slots=True)
class PlainCredentials:
    """User and password in the clear, as URLs and HTTP Basic carry them."""

    user: str = ""
    password: str = ""

    def matches(self, user: str, password: str) -> bool:
        return secret_matches(user, self.user) & secret_matches(password, self.password)

    def plain(self) -> tuple[str, str]:
        return self.user, self.password


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """One question: may this client do that?"""

    action: Action
    path: str
    query: str
    """The raw query of the URL, without ``?``."""
    address: str
    """IP address of the client."""
    credentials: Credentials


AuthenticateCallback = Callable[[AccessRequest], bool | Awaitable[bool]]
"""A Python function in the place of the external authentication server."""


def secret_matches(configured: str, given: str) -> bool:
    """Compare a credential of the configuration, plain or ``sha256:``, with a given one, in constant time."""
    if configured.startswith(HASH_PREFIX):
        digest = base64.b64encode(hashlib.sha256(given.encode()).digest())
        return hmac.compare_digest(configured[len(HASH_PREFIX) :].encode(), digest)
    return hmac.compare_digest(configured.encode(), given.encode())


def lets_anybody_read(path: PathConfiguration) -> bool:
    """Return whether the configuration of a path asks readers for nothing; an external server may still do so."""
    return not (path.read_user or path.read_ips)


class AccessControl:
    """Answers `AccessRequest`. A slow or dead external server delays only the client that waits for it."""

    def __init__(
        self, external_url: str = "", timeout: float = 5.0, callback: AuthenticateCallback | None = None
    ) -> None:
        self._external_url = external_url
        self._timeout = timeout
        self._callback = callback
        self._client: httpx2.AsyncClient | None = None
        self._slots = asyncio.Semaphore(EXTERNAL_CONCURRENCY)
        self.is_external = bool(external_url) or callback is not None
        """Whether the external server or a callback decides, which needs credentials in the clear."""

    def configure(self, external_url: str, timeout: float) -> None:
        """Take changed settings; requests under way go on with the old ones."""
        self._external_url = external_url
        self._timeout = timeout
        self.is_external = bool(external_url) or self._callback is not None

    async def check(self, request: AccessRequest, path: PathConfiguration) -> None:
        """Return when the client may; raise AccessDenied when not. Order: external, address, credentials."""
        if self._callback is not None:
            await self._check_callback(self._callback, request)
        if self._external_url:
            await self._check_external(request)
        if request.action is Action.PUBLISH:
            networks, user, password = path.publish_ips, path.publish_user, path.publish_pass
        else:
            networks, user, password = path.read_ips, path.read_user, path.read_pass
        if networks:
            address = ipaddress.ip_address(request.address)
            if not any(address in network for network in networks):
                raise AccessDenied(f"IP '{request.address}' not allowed", Denial.ADDRESS)
        if user and not request.credentials.matches(user, password):
            raise AccessDenied("invalid credentials", Denial.CREDENTIALS)

    async def close(self) -> None:
        """Close idle connections to the external server."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def _check_callback(self, callback: AuthenticateCallback, request: AccessRequest) -> None:
        try:
            answer = callback(request)
            allowed = await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            raise AccessDenied(f"the authenticate function failed: {error!r}", Denial.EXTERNAL) from error
        if not allowed:
            raise AccessDenied("refused by the authenticate function", Denial.EXTERNAL)

    async def _check_external(self, request: AccessRequest) -> None:
        user, password = request.credentials.plain()
        body = msgspec.json.encode(
            {
                "ip": request.address,
                "user": user,
                "password": password,
                "path": request.path,
                "action": request.action.value,
                "query": request.query,
            }
        )
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                response = await self._http_client().post(
                    self._external_url, content=body, headers={"Content-Type": "application/json"}
                )
        except TimeoutError:
            raise AccessDenied(
                f"external authentication failed: no answer within {self._timeout:g} s", Denial.EXTERNAL
            ) from None
        except Exception as error:
            raise AccessDenied(
                f"external authentication failed: {error or type(error).__name__}", Denial.EXTERNAL
            ) from error
        if not 200 <= response.status_code <= 299:
            raise AccessDenied(
                f"external authentication failed: bad status code: {response.status_code}", Denial.EXTERNAL
            )

    def _http_client(self) -> httpx2.AsyncClient:
        if self._client is None:
            import httpx2  # imported when first needed: 50 ms

            self._client = httpx2.AsyncClient(timeout=None, trust_env=False)
        return self._client
