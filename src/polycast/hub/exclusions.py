"""What everybody may do although somebody else decides about the rest (authHTTPExclude, authJWTExclude)."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.config.authentication import Action, Permission, permits
from polycast.hub.access_request import AccessRequest


class ExcludingMethod:
    """Base of the methods of authentication with exclusions."""

    needs_plain = True

    def __init__(self, exclude: Sequence[Permission]) -> None:
        self._exclude = exclude

    def is_open(self, action: Action, path: str) -> bool:
        """Return whether anybody may do this: it is excluded."""
        return permits(self._exclude, action, path)

    def asks_for_credentials(self, request: AccessRequest) -> bool:
        return not self.is_open(request.action, request.path)
