"""The rule of ``authInternalUsers``: users with passwords, addresses and permissions."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.config.authentication import ANYBODY, InternalUser
from polycast.hub.access_request import AccessRequest, Action
from polycast.hub.argon2 import Argon2Verifier
from polycast.hub.errors import AccessDenied, Denial
from polycast.security.addresses import is_in_networks
from polycast.security.credentials import is_argon2, secret_matches


class InternalUsers:
    """``authMethod: internal``: finds the user that a request belongs to."""

    needs_plain = False

    def __init__(self, users: Sequence[InternalUser], argon2: Argon2Verifier) -> None:
        self._users = users
        self._argon2 = argon2

    def is_open(self, action: Action, path: str) -> bool:
        """Return whether anybody may do this, from everywhere and without credentials."""
        return any(user.user == ANYBODY and not user.ips and user.may(action, path) for user in self._users)

    def asks_for_credentials(self, request: AccessRequest) -> bool:
        """Return whether credentials decide about a request: nobody may do this without them, but somebody with."""
        candidates = self._candidates(request)
        return bool(candidates) and all(user.user != ANYBODY for user in candidates)

    def _candidates(self, request: AccessRequest) -> list[InternalUser]:
        return [
            user
            for user in self._users
            if user.may(request.action, request.path) and (not user.ips or is_in_networks(request.address, user.ips))
        ]

    async def check(self, request: AccessRequest, token: str) -> str:
        """Return the name that the client has sent, if one of the users may do this, from this address, and the client
        is this user.

        Raises AccessDenied, or TooManyVerifications.
        """
        candidates = self._candidates(request)
        for user in candidates:
            if user.user == ANYBODY or await knows(request, user.user, user.pass_, self._argon2):
                return request.credentials.user
        detail = "invalid credentials"
        if not candidates:
            is_address = any(user.may(request.action, request.path) for user in self._users)
            detail = f"IP '{request.address}' not allowed" if is_address else "no user may do this"
        raise AccessDenied("invalid credentials", Denial.CREDENTIALS, detail)

    async def is_known(self, request: AccessRequest, token: str) -> bool:
        """Return whether the credentials are those of a user. Raises TooManyVerifications."""
        for user in self._users:
            if user.user != ANYBODY and await knows(request, user.user, user.pass_, self._argon2):
                return True
        return False


async def knows(request: AccessRequest, user: str, password: str, argon2: Argon2Verifier) -> bool:
    """Return whether a client has sent this user and password of the configuration. An empty password is any password.

    Raises TooManyVerifications.
    """
    credentials = request.credentials
    if credentials.matches(user, password):
        return True
    given_user, given_password = credentials.plain()
    if password and not is_argon2(user) and not is_argon2(password):
        return False

    async def matches(configured: str, given: str) -> bool:
        if is_argon2(configured):
            return bool(given) and await argon2.verify(configured, given, request.address)
        return secret_matches(configured, given)

    return await matches(user, given_user or credentials.user) and (
        not password or await matches(password, given_password)
    )
