"""Who may do what: publish and read a path, and use the HTTP services. The one place that decides for all protocols."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from polycast.config.path_schema import PathConfiguration
from polycast.config.redact import redact
from polycast.config.schema import Configuration
from polycast.config.services import SERVICES
from polycast.hub.access_request import AccessRequest, Action
from polycast.hub.argon2 import Argon2Verifier, TooManyVerifications
from polycast.hub.errors import AccessDenied, Denial
from polycast.hub.failures import FailureTracker
from polycast.hub.internal_users import InternalUsers, knows
from polycast.hub.refusals import Refusals
from polycast.log import Log
from polycast.security.addresses import IPNetwork, is_in_networks

# Maximum number of concurrent requests to the external server; more are queued.
EXTERNAL_CONCURRENCY = 64

# Valid credentials that are remembered, so that guesses from the same address do not delay them.
MAXIMUM_PROVEN = 10_000

AuthenticateCallback = Callable[[AccessRequest], bool | Awaitable[bool]]
"""A Python function that replaces the external authentication server."""

PostJson = Callable[[str, bytes], Awaitable[int]]
"""Sends JSON to an address of the external authentication server; returns the HTTP status of the answer.

Raises OSError with a text for the log."""


@dataclass(frozen=True, slots=True)
class OwnRule:
    """The credentials and addresses that a path, or an HTTP service, has of its own."""

    user: str
    password: str
    networks: tuple[IPNetwork, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether it demands nothing."""
        return not (self.user or self.networks)


class AccessControl:
    """Decides on `AccessRequest`. A slow or unavailable external server delays only the client that waits for it."""

    def __init__(
        self,
        configuration: Configuration | None = None,
        callback: AuthenticateCallback | None = None,
        *,
        post: PostJson | None = None,
        log: Log | None = None,
    ) -> None:
        """``post`` is required with an external server. Without a configuration, its defaults apply."""
        self._callback = callback
        self._post = post
        self._log = log
        self.refusals = Refusals()
        """Those for missing or wrong credentials and for addresses, over all protocols."""
        self._failures = FailureTracker()
        self._proven: OrderedDict[int, None] = OrderedDict()
        """Hashes of valid (address, user, password)."""
        self._slots = asyncio.Semaphore(EXTERNAL_CONCURRENCY)
        self._argon2 = Argon2Verifier()
        self.configure(configuration or Configuration())

    def configure(self, configuration: Configuration) -> None:
        """Apply changed settings; pending requests continue with the old ones."""
        if configuration.external_authentication_url and self._post is None:
            raise ValueError("an external authentication server needs something that sends requests")
        self._configuration = configuration
        self._users = InternalUsers(configuration.auth_internal_users, self._argon2)

    def close(self) -> None:
        """Stop what runs in the background."""
        self._argon2.close()

    @property
    def needs_plain(self) -> bool:
        """Whether credentials are needed in plain text, since somebody else decides on them."""
        return self._is_external

    @property
    def _is_external(self) -> bool:
        """Whether the external server or a callback decides on paths."""
        return bool(self._configuration.external_authentication_url) or self._callback is not None

    def is_open(self, action: Action, path_name: str = "", path: PathConfiguration | None = None) -> bool:
        """Return whether anybody may do this, from everywhere and without credentials, so that `check` can be left out.

        ``path`` is the configuration of the path; None for an HTTP service.
        """
        return not (path is not None and self._is_external) and self.is_unprotected(action, path_name, path)

    def is_unprotected(self, action: Action, path_name: str = "", path: PathConfiguration | None = None) -> bool:
        """Return whether the configuration demands nothing of clients; an external server may still refuse them."""
        return self._own_rule(action, path).is_open and self._users.is_open(action, path_name)

    def _own_rule(self, action: Action, path: PathConfiguration | None) -> OwnRule:
        if path is None:
            service = SERVICES[action.value](self._configuration) if action.value in SERVICES else None
            return OwnRule(service.user, service.password) if service is not None else OwnRule("", "")
        if action is Action.PUBLISH:
            return OwnRule(path.publish_user, path.publish_pass, path.publish_ips)
        return OwnRule(path.read_user, path.read_pass, path.read_ips)

    async def check(self, request: AccessRequest, path: PathConfiguration | None = None) -> None:
        """Return if the client is allowed; raise AccessDenied if not. Order: external, address, credentials.

        ``path`` is the configuration of the path; None for an HTTP service. The attempts of a client that guesses are
        delayed, whether its credentials are valid or not.
        """
        own = self._own_rule(request.action, path)
        is_external = path is not None and self._is_external
        counts = request.credentials.is_given and (
            is_external or bool(own.user) or (own.is_open and self._users.asks_for_credentials(request))
        )
        has_waited = counts and await self._wait_if_guessing(request)
        try:
            if is_external:
                await self._check_external(request)
            await self._check_rule(request, own)
        except AccessDenied as denied:
            self._log_denial(request, denied)
            if request.credentials.is_given and denied.denial not in (Denial.ADDRESS, Denial.LIMIT):
                now = time.monotonic()
                if self._failures.count(request.address, now) and not has_waited:
                    await self._wait_for_turn(request, now)
            raise
        if counts:
            self._remember(request)

    async def _check_rule(self, request: AccessRequest, own: OwnRule) -> None:
        try:
            if own.is_open:
                await self._users.check(request)
                return
            if own.networks and not is_in_networks(request.address, own.networks):
                raise AccessDenied(f"IP '{request.address}' not allowed", Denial.ADDRESS)
            if own.user and not await knows(request, own.user, own.password, self._argon2):
                raise AccessDenied("invalid credentials", Denial.CREDENTIALS)
        except TooManyVerifications as error:
            raise AccessDenied(str(error), Denial.LIMIT) from None

    # Guessing

    async def _wait_if_guessing(self, request: AccessRequest) -> bool:
        """Wait for the turn of an attempt from an address that guesses; return whether that was necessary.

        Valid credentials wait, too, or a quick answer would reveal them; but other clients at the same address (a
        company, a proxy) can use those that were valid before.
        """
        now = time.monotonic()
        if self._key(request) in self._proven or not self._failures.is_guessing(request.address, now):
            return False
        await self._wait_for_turn(request, now)
        return True

    def _remember(self, request: AccessRequest) -> None:
        """Remember valid credentials."""
        key = self._key(request)
        self._proven[key] = None
        self._proven.move_to_end(key)
        if len(self._proven) > MAXIMUM_PROVEN:
            self._proven.popitem(last=False)

    @staticmethod
    def _key(request: AccessRequest) -> int:
        given = request.credentials
        return hash((request.address, given.user, given.plain(), given.token))

    async def _wait_for_turn(self, request: AccessRequest, now: float) -> None:
        pause = float(self._configuration.authentication_failure_pause)
        seconds = self._failures.turn(request.address, now, pause)
        if seconds is None:
            raise AccessDenied("too many failed attempts from this address", Denial.LIMIT)
        await asyncio.sleep(seconds)

    def _log_denial(self, request: AccessRequest, denied: AccessDenied) -> None:
        if self._log is None:
            return
        log = self._log.child(f"path {request.path}") if request.path else self._log
        wish = request.action.value if request.path else f"use the service '{request.action}'"
        user = f" as user '{request.credentials.user}'" if request.credentials.user else ""
        if request.asks_again and not request.credentials.is_given and denied.denial is not Denial.ADDRESS:
            log.debug("%s is asked for credentials to %s", request.address, wish)
        else:
            reason = f"{request.action} {request.credentials.is_given} {denied.detail}"
            suffix = self.refusals.log_suffix(request.address, request.path, reason, time.monotonic())
            if suffix is not None:
                log.warning("%s may not %s%s: %s%s", request.address, wish, user, denied.detail, suffix)

    # External decisions

    async def _check_external(self, request: AccessRequest) -> None:
        if self._callback is not None:
            await self._check_callback(self._callback, request)
        url = self._configuration.external_authentication_url
        if url and self._post is not None:
            await self._check_server(self._post, url, request)

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

    async def _check_server(self, post: PostJson, url: str, request: AccessRequest) -> None:
        user, password = request.credentials.plain()
        body = msgspec.json.encode(
            {
                "ip": request.address,
                "user": user or request.credentials.token,
                "password": password,
                "path": request.path,
                "action": request.action.value,
                "query": request.query,
            }
        )
        timeout = float(self._configuration.external_authentication_timeout)
        try:
            async with asyncio.timeout(timeout), self._slots:
                status = await post(url, body)
        except TimeoutError:
            raise self._external_denial(url, f"no answer within {timeout:g} s") from None
        except OSError as error:
            raise self._external_denial(url, str(error)) from error
        if not 200 <= status <= 299:
            raise self._external_denial(url, f"bad status code: {status}")

    @staticmethod
    def _external_denial(url: str, reason: str) -> AccessDenied:
        return AccessDenied(
            f"external authentication failed: {reason}",
            Denial.EXTERNAL,
            f"external authentication failed: {reason} ({redact(url)})",
        )
