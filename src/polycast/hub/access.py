"""Who may publish and read: address lists, user and password, and the external authentication server."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from polycast.config.path_schema import PathConfiguration
from polycast.config.redact import redact
from polycast.hub.errors import AccessDenied, Denial
from polycast.hub.failures import FailureTracker
from polycast.hub.refusals import Refusals
from polycast.log import Log
from polycast.security.addresses import is_in_networks
from polycast.security.credentials import secret_matches

# Maximum number of concurrent requests to the external server; more are queued.
EXTERNAL_CONCURRENCY = 64

# Valid credentials that are remembered, so that guesses from the same address do not delay them.
MAXIMUM_PROVEN = 10_000


class Action(StrEnum):
    """What a client wants to do on a path."""

    PUBLISH = "publish"
    READ = "read"


class Credentials(Protocol):
    """The credentials of a client; each protocol has its own form."""

    def matches(self, user: str, password: str) -> bool:
        """Whether they match these credentials of the configuration, which may start with ``sha256:``."""
        ...

    def plain(self) -> tuple[str, str]:
        """Return (user, password) in plain text, two empty strings if they are not known."""
        ...

    @property
    def user(self) -> str:
        """The given user name; not verified."""
        ...

    @property
    def is_given(self) -> bool:
        """Whether there are any."""
        ...


@dataclass(frozen=True, slots=True)
class PlainCredentials:
    """User and password in plain text, as in URLs and HTTP Basic."""

    user: str = ""
    password: str = ""

    def matches(self, user: str, password: str) -> bool:
        return secret_matches(user, self.user) & secret_matches(password, self.password)

    def plain(self) -> tuple[str, str]:
        return self.user, self.password

    @property
    def is_given(self) -> bool:
        return bool(self.user or self.password)


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """A request for permission."""

    action: Action
    path: str
    query: str
    """The raw query of the URL, without ``?``."""
    address: str
    """IP address of the client."""
    credentials: Credentials
    asks_again: bool = False
    """Whether a client without credentials is challenged: its first request does not count as an attempt."""


AuthenticateCallback = Callable[[AccessRequest], bool | Awaitable[bool]]
"""A Python function that replaces the external authentication server."""

PostJson = Callable[[str, bytes], Awaitable[int]]
"""Sends JSON to an address of the external authentication server; returns the HTTP status of the answer.

Raises OSError with a text for the log."""


def lets_anybody_publish(path: PathConfiguration) -> bool:
    """Return whether anyone may publish according to the configuration of a path; an external server may still
    refuse."""
    return not (path.publish_user or path.publish_ips)


def lets_anybody_read(path: PathConfiguration) -> bool:
    """Return whether anyone may read according to the configuration of a path; an external server may still refuse."""
    return not (path.read_user or path.read_ips)


class AccessControl:
    """Decides on `AccessRequest`. A slow or unavailable external server delays only the client that waits for it."""

    def __init__(
        self,
        external_url: str = "",
        timeout: float = 5.0,
        callback: AuthenticateCallback | None = None,
        *,
        post: PostJson | None = None,
        failure_pause: float = 0.0,
        log: Log | None = None,
    ) -> None:
        """``timeout`` and ``failure_pause`` are in seconds. ``post`` is required with an external server."""
        self._callback = callback
        self._post = post
        self._log = log
        self.refusals = Refusals()
        """Those for missing or wrong credentials and for addresses, over all protocols."""
        self._failures = FailureTracker()
        self._proven: OrderedDict[int, None] = OrderedDict()
        """Hashes of valid (address, user, password)."""
        self._slots = asyncio.Semaphore(EXTERNAL_CONCURRENCY)
        self.is_external = False
        """Whether the external server or a callback decides, which needs credentials in plain text."""
        self.configure(external_url, timeout, failure_pause)

    def configure(self, external_url: str, timeout: float, failure_pause: float) -> None:
        """Apply changed settings; pending requests continue with the old ones."""
        if external_url and self._post is None:
            raise ValueError("an external authentication server needs something that sends requests")
        self._external_url = external_url
        self._timeout = timeout
        self._failure_pause = failure_pause
        self.is_external = bool(external_url) or self._callback is not None

    async def check(self, request: AccessRequest, path: PathConfiguration) -> None:
        """Return if the client is allowed; raise AccessDenied if not. Order: external, address, credentials.

        A client that guesses repeatedly gets a delayed answer, whether its credentials are valid or not.
        """
        asks_for_credentials = self.is_external or bool(
            path.publish_user if request.action is Action.PUBLISH else path.read_user
        )
        try:
            await self._decide(request, path)
        except AccessDenied as denied:
            self._log_denial(request, denied)
            if request.credentials.is_given and denied.denial is not Denial.ADDRESS:
                now = time.monotonic()
                if self._failures.count(request.address, now):
                    await self._wait_for_turn(request, now)
            raise
        if asks_for_credentials and request.credentials.is_given:
            await self._accept(request)

    async def _decide(self, request: AccessRequest, path: PathConfiguration) -> None:
        if self._callback is not None:
            await self._check_callback(self._callback, request)
        if self._external_url and self._post is not None:
            await self._check_external(self._post, request)
        if request.action is Action.PUBLISH:
            networks, user, password = path.publish_ips, path.publish_user, path.publish_pass
        else:
            networks, user, password = path.read_ips, path.read_user, path.read_pass
        if networks and not is_in_networks(request.address, networks):
            raise AccessDenied(f"IP '{request.address}' not allowed", Denial.ADDRESS)
        if user and not request.credentials.matches(user, password):
            raise AccessDenied("invalid credentials", Denial.CREDENTIALS)

    # Guessing

    async def _accept(self, request: AccessRequest) -> None:
        """Accept valid credentials. From an address that guesses, new ones are delayed, so that the response time
        reveals nothing; other clients at the same address (a company, a proxy) can use those that were valid before.
        """
        key = hash((request.address, request.credentials.user, request.credentials.plain()))
        now = time.monotonic()
        if key not in self._proven and self._failures.is_guessing(request.address, now):
            await self._wait_for_turn(request, now)
        self._proven[key] = None
        self._proven.move_to_end(key)
        if len(self._proven) > MAXIMUM_PROVEN:
            self._proven.popitem(last=False)

    async def _wait_for_turn(self, request: AccessRequest, now: float) -> None:
        seconds = self._failures.turn(request.address, now, self._failure_pause)
        if seconds is None:
            raise AccessDenied("too many failed attempts from this address", Denial.CREDENTIALS)
        await asyncio.sleep(seconds)

    def _log_denial(self, request: AccessRequest, denied: AccessDenied) -> None:
        if self._log is None:
            return
        log = self._log.child(f"path {request.path}")
        user = f" as user '{request.credentials.user}'" if request.credentials.user else ""
        if request.asks_again and not request.credentials.is_given and denied.denial is not Denial.ADDRESS:
            log.debug("%s is asked for credentials to %s", request.address, request.action)
        else:
            reason = f"{request.action} {request.credentials.is_given} {denied.detail}"
            suffix = self.refusals.log_suffix(request.address, request.path, reason, time.monotonic())
            if suffix is not None:
                log.warning("%s may not %s%s: %s%s", request.address, request.action, user, denied.detail, suffix)

    # External decisions

    async def _check_callback(self, callback: AuthenticateCallback, request: AccessRequest) -> None:
        try:
            answer = callback(request)
            allowed = await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            raise AccessDenied(
                "the authenticate function failed", Denial.EXTERNAL, f"the authenticate function failed: {error!r}"
            ) from error
        if not allowed:
            raise AccessDenied("refused by the authenticate function", Denial.EXTERNAL)

    async def _check_external(self, post: PostJson, request: AccessRequest) -> None:
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
                status = await post(self._external_url, body)
        except TimeoutError:
            raise self._external_denial(f"no answer within {self._timeout:g} s") from None
        except OSError as error:
            raise self._external_denial(str(error)) from error
        if not 200 <= status <= 299:
            raise self._external_denial(f"bad status code: {status}")

    def _external_denial(self, reason: str) -> AccessDenied:
        return AccessDenied(
            f"external authentication failed: {reason}",
            Denial.EXTERNAL,
            f"external authentication failed: {reason} ({redact(self._external_url)})",
        )
