"""``authMethod: jwt``: a signed token says who its owner is and what the owner may do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from polycast.config.authentication import Action, Permission, permits
from polycast.hub.access_request import AccessRequest
from polycast.hub.errors import AccessDenied, Denial
from polycast.hub.exclusions import ExcludingMethod
from polycast.hub.key_server import KeyServer, KeysUnavailableError


class _ClaimedPermission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A permission in a token."""

    action: Action
    path: str = ""


class TokenMethod(ExcludingMethod):
    """Verifies tokens, and finds permissions in them."""

    def __init__(
        self,
        keys: KeyServer,
        *,
        claim: str,
        exclude: Sequence[Permission],
        issuer: str,
        audience: str,
        leeway: float,
    ) -> None:
        """``claim`` is the name of the claim with the permissions, ``leeway`` the tolerance of times in seconds."""
        self._keys = keys
        self._claim = claim
        super().__init__(exclude)
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway

    async def check(self, request: AccessRequest, token: str) -> str:
        """Return the user's name, which is the subject of the token, if the client is allowed. Raises AccessDenied."""
        if self.is_open(request.action, request.path):
            return ""
        if not token:
            raise AccessDenied("JWT not provided", Denial.CREDENTIALS)
        claims = await self._verify(token)
        if not permits(self._permissions(claims), request.action, request.path):
            raise _denied("user doesn't have permission to perform action")
        subject = claims.get("sub")
        return subject if isinstance(subject, str) else ""

    async def is_known(self, request: AccessRequest, token: str) -> bool:
        """Return whether the token is valid."""
        try:
            await self._verify(token)
        except AccessDenied:
            return False
        return True

    async def _verify(self, token: str) -> Mapping[str, Any]:
        from polycast.security.tokens import TokenError, UnknownKeyError  # its libraries are large

        rules: Any = {"issuer": self._issuer, "audience": self._audience, "leeway": self._leeway}
        try:
            keys = await self._keys.keys()
            try:
                return keys.verify(token, **rules)
            except UnknownKeyError:
                newer = await self._keys.newer_keys(keys)
                if newer is None:
                    raise
                return newer.verify(token, **rules)
        except TokenError as error:
            raise _denied(f"the JWT is not valid: {error}") from None
        except KeysUnavailableError as error:
            raise AccessDenied("the JWT cannot be verified", Denial.UNDECIDED, str(error)) from None

    def _permissions(self, claims: Mapping[str, Any]) -> list[Permission]:
        value = claims.get(self._claim)
        if value is None:
            raise _denied(f"claim '{self._claim}' not found inside JWT")
        try:
            if isinstance(value, str):
                items = msgspec.json.decode(value, type=list[_ClaimedPermission])
            else:
                items = msgspec.convert(value, list[_ClaimedPermission])
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise _denied(f"claim '{self._claim}' is not a list of permissions") from None
        return [Permission(action=item.action, path=item.path) for item in items]


def _denied(detail: str) -> AccessDenied:
    return AccessDenied("invalid credentials", Denial.CREDENTIALS, detail)
