"""Who may do what: publish and read a path, and use the HTTP services. The one place that decides for all protocols."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from polycast.config.authentication import AuthMethod
from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration
from polycast.config.services import SERVICES
from polycast.hub.access_request import AccessRequest, Action
from polycast.hub.argon2 import Argon2Verifier, TooManyVerifications
from polycast.hub.errors import AccessDenied, Denial
from polycast.hub.external_server import ExternalServer, Fetch, HttpMethod
from polycast.hub.failures import FailureTracker
from polycast.hub.internal_users import InternalUsers, knows
from polycast.hub.key_server import KeyServer
from polycast.hub.refusals import Refusals
from polycast.hub.token_method import TokenMethod
from polycast.log import Log
from polycast.security.addresses import IPNetwork, is_in_networks

# Valid credentials that are remembered, so that guesses from the same address do not delay them.
MAXIMUM_PROVEN = 10_000

AuthenticateCallback = Callable[[AccessRequest], bool | Awaitable[bool]]
"""A Python function that replaces the external authentication server."""


class Method(Protocol):
    """A value of ``authMethod``."""

    @property
    def needs_plain(self) -> bool:
        """Whether credentials are needed in plain text."""
        ...

    def is_open(self, action: Action, path: str) -> bool:
        """Return whether anybody may do this, from everywhere and without credentials."""
        ...

    def asks_for_credentials(self, request: AccessRequest) -> bool:
        """Return whether credentials decide about a request."""
        ...

    async def check(self, request: AccessRequest, token: str) -> str:
        """Return the name of the user if the client is allowed.

        Raises AccessDenied, or TooManyVerifications.
        """
        ...

    async def is_known(self, request: AccessRequest, token: str) -> bool:
        """Return whether the credentials are those of a user, whatever that user may do; False if that is not known.

        Raises TooManyVerifications.
        """
        ...


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
        fetch: Fetch | None = None,
        log: Log | None = None,
    ) -> None:
        """``fetch`` is required with an external server or a key server. Without configuration, its defaults apply."""
        self._callback = callback
        self._fetch = fetch
        self._server = ExternalServer(fetch)
        self._key_server: KeyServer | None = None
        self._configuration = configuration or Configuration()
        self._log = log
        self.refusals = Refusals()
        """Those for missing or wrong credentials and for addresses, over all protocols."""
        self._failures = FailureTracker()
        self._proven: OrderedDict[int, None] = OrderedDict()
        """Hashes of valid (address, user, password)."""
        self._argon2 = Argon2Verifier()
        self.configure(self._configuration)

    def configure(self, configuration: Configuration) -> None:
        """Apply changed settings; pending requests continue with the old ones."""
        asks = configuration.external_authentication_url or configuration.auth_method is not AuthMethod.INTERNAL
        if asks and not self._server.can_ask:
            raise ValueError("an external authentication server needs something that sends requests")
        old, self._configuration = self._configuration, configuration
        if _key_server_settings(old) != _key_server_settings(configuration):
            self._stop_key_server()
        self._method = self._make_method(configuration)

    def _make_method(self, configuration: Configuration) -> Method:
        if configuration.auth_method is AuthMethod.INTERNAL:
            return InternalUsers(configuration.auth_internal_users, self._argon2)
        timeout = float(configuration.read_timeout)
        if configuration.auth_method is AuthMethod.HTTP:
            url, fingerprint = configuration.auth_http_address, configuration.auth_http_fingerprint
            return HttpMethod(self._server, url, fingerprint, configuration.auth_http_exclude, timeout)
        if self._key_server is None and self._fetch is not None:
            url, fingerprint = configuration.auth_jwt_jwks, configuration.auth_jwt_jwks_fingerprint
            self._key_server = KeyServer(self._fetch, url, fingerprint, timeout, self._log)
        assert self._key_server is not None
        return TokenMethod(
            self._key_server,
            claim=configuration.auth_jwt_claim_key,
            exclude=configuration.auth_jwt_exclude,
            issuer=configuration.auth_jwt_issuer,
            audience=configuration.auth_jwt_audience,
            leeway=float(configuration.auth_jwt_leeway),
        )

    def prefetch(self) -> None:
        """Fetch in the background what the first client would have to wait for."""
        if self._key_server is not None:
            self._key_server.prefetch()

    async def refresh_keys(self) -> None:
        """Fetch the keys of tokens again, if there are any."""
        if self._key_server is not None:
            await self._key_server.refresh()

    def _stop_key_server(self) -> None:
        server, self._key_server = self._key_server, None
        if server is not None:
            server.close()

    def close(self) -> None:
        """Stop what runs in the background."""
        self._argon2.close()
        self._stop_key_server()

    @property
    def needs_plain(self) -> bool:
        """Whether credentials are needed in plain text, since somebody else decides on them."""
        return self._is_external or self._method.needs_plain

    @property
    def _is_external(self) -> bool:
        """Whether the external server or a callback decides on paths."""
        return bool(self._configuration.external_authentication_url) or self._callback is not None

    def is_open(self, action: Action, path_name: str = "", path: PathConfiguration | None = None) -> bool:
        """Return whether anybody may do this, from everywhere and without credentials, so that `check` can be left out.

        ``path`` is the configuration of the path; None for an HTTP service.
        """
        if path is not None and self._is_external:
            return False
        return self._own_rule(action, path).is_open and self._method.is_open(action, path_name)

    def asks_once(self, action: Action, path_name: str, path: PathConfiguration) -> bool:
        """Return whether ``authMethod`` decides about a path: what it has allowed remains so until the settings change.

        The users of a path, a callback and ``externalAuthenticationURL`` are asked for each request.
        """
        is_decided = self._own_rule(action, path).is_open and not self._is_external
        return is_decided and not self._method.is_open(action, path_name)

    def is_unprotected(self, action: Action, path_name: str = "", path: PathConfiguration | None = None) -> bool:
        """Return whether the configuration demands nothing of clients; an external server may still refuse them."""
        is_elsewhere = path is not None and self._method.needs_plain  # decided by an external server, or a token
        return self._own_rule(action, path).is_open and (is_elsewhere or self._method.is_open(action, path_name))

    def _own_rule(self, action: Action, path: PathConfiguration | None) -> OwnRule:
        if path is None:
            service = SERVICES[action.value](self._configuration) if action.value in SERVICES else None
            return OwnRule(service.user, service.password) if service is not None else OwnRule("", "")
        if action is Action.PUBLISH:
            return OwnRule(path.publish_user, path.publish_pass, path.publish_ips)
        return OwnRule(path.read_user, path.read_pass, path.read_ips)

    async def check(self, request: AccessRequest, path: PathConfiguration | None = None) -> str:
        """Return the name of the user if the client is allowed; raise AccessDenied if not. Order: external, address,
        credentials.

        ``path`` is the configuration of the path; None for an HTTP service. The attempts of a client that guesses are
        delayed, whether its credentials are valid or not.
        """
        own = self._own_rule(request.action, path)
        is_external = path is not None and self._is_external
        token = ""
        if self._method.needs_plain:
            token = request.token(in_query=self._configuration.auth_jwt_in_http_query)
        is_given = request.credentials.is_given or bool(token)
        counts = is_given and (
            is_external or bool(own.user) or (own.is_open and self._method.asks_for_credentials(request))
        )
        has_waited = counts and await self._wait_if_guessing(request)
        try:
            if is_external:
                await self._check_external(request)
            user = await self._check_rule(request, own, token)
        except AccessDenied as denied:
            self._log_denial(request, denied, is_given=is_given)
            if is_given and denied.denial not in (Denial.ADDRESS, Denial.UNDECIDED, Denial.LIMIT):
                now = time.monotonic()
                if self._failures.count(request.address, now) and not has_waited:
                    await self._wait_for_turn(request.address, now)
            raise
        if counts:
            self._remember(request)
        return user

    async def is_known(self, request: AccessRequest) -> bool:
        """Return whether the credentials of a request that `check` has refused are nevertheless those of a user."""
        if not self._own_rule(request.action, None).is_open:
            return False
        token = request.token(in_query=self._configuration.auth_jwt_in_http_query) if self._method.needs_plain else ""
        try:
            return (request.credentials.is_given or bool(token)) and await self._method.is_known(request, token)
        except TooManyVerifications:
            return False

    async def _check_rule(self, request: AccessRequest, own: OwnRule, token: str) -> str:
        try:
            if own.is_open:
                return await self._method.check(request, token)
            if own.networks and not is_in_networks(request.address, own.networks):
                raise AccessDenied(f"IP '{request.address}' not allowed", Denial.ADDRESS)
            if own.user and not await knows(request, own.user, own.password, self._argon2):
                raise AccessDenied("invalid credentials", Denial.CREDENTIALS)
        except TooManyVerifications as error:
            raise AccessDenied(str(error), Denial.LIMIT) from None
        return request.credentials.user

    # Guessing

    async def _wait_if_guessing(self, request: AccessRequest) -> bool:
        """Wait for the turn of an attempt from an address that guesses; return whether that was necessary.

        Valid credentials wait, too, or a quick answer would reveal them; but other clients at the same address (a
        company, a proxy) can use those that were valid before.
        """
        now = time.monotonic()
        if self._key(request) in self._proven or not self._failures.is_guessing(request.address, now):
            return False
        await self._wait_for_turn(request.address, now)
        return True

    async def wait_before_secret(self, address: str) -> None:
        """Wait before a secret is checked that only its protocol can check, such as the key to encrypted media: for the
        turn of the attempt, if the address guesses. Raises AccessDenied if too many wait."""
        now = time.monotonic()
        if self._failures.is_guessing(address, now):
            await self._wait_for_turn(address, now)

    def count_wrong_secret(self, address: str) -> None:
        """Count such a secret that was wrong."""
        self._failures.count(address, time.monotonic())

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

    async def _wait_for_turn(self, address: str, now: float) -> None:
        pause = float(self._configuration.authentication_failure_pause)
        seconds = self._failures.turn(address, now, pause)
        if seconds is None:
            raise AccessDenied("too many failed attempts from this address", Denial.LIMIT)
        await asyncio.sleep(seconds)

    def _log_denial(self, request: AccessRequest, denied: AccessDenied, *, is_given: bool) -> None:
        if self._log is None:
            return
        log = self._log.child(f"path {request.path}") if request.path else self._log
        wish = request.action.value if request.path else f"use the service '{request.action}'"
        user = f" as user '{request.credentials.user}'" if request.credentials.user else ""
        if request.asks_again and not is_given and denied.denial is not Denial.ADDRESS:
            log.debug("%s is asked for credentials to %s", request.address, wish)
        else:
            reason = f"{request.action} {is_given} {denied.detail}"
            suffix = self.refusals.log_suffix(request.address, request.path, reason, time.monotonic())
            if suffix is not None:
                log.warning("%s may not %s%s: %s%s", request.address, wish, user, denied.detail, suffix)

    # External decisions

    async def _check_external(self, request: AccessRequest) -> None:
        if self._callback is not None:
            await self._check_callback(self._callback, request)
        url = self._configuration.external_authentication_url
        if url:
            user, password = request.credentials.plain()
            fields = {
                "ip": request.address,
                "user": user or request.credentials.token,
                "password": password,
                "path": request.path,
                "action": request.action.value,
                "query": request.query,
            }
            timeout = float(self._configuration.external_authentication_timeout)
            await self._server.ask(url, fields, timeout, address=request.address)

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


def _key_server_settings(configuration: Configuration) -> tuple[object, ...]:
    return (
        configuration.auth_method,
        configuration.auth_jwt_jwks,
        configuration.auth_jwt_jwks_fingerprint,
        configuration.read_timeout,
    )
