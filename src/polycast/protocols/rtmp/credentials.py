"""Credentials of a publisher that has logged in."""

from __future__ import annotations

from polycast.security.credentials import is_hashed, secret_matches
from polycast.wire.rtmp.login import Response


class LoginCredentials:
    """Credentials of a client that has proved to know the password without sending it."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def matches(self, user: str, password: str) -> bool:
        """Whether they match those of the configuration. This is impossible with a hashed password."""
        response = self._response
        return secret_matches(user, response.user) and not is_hashed(password) and response.is_made_with(password)

    def plain(self) -> tuple[str, str]:
        return self._response.user, ""

    @property
    def user(self) -> str:
        return self._response.user

    @property
    def token(self) -> str:
        return ""

    @property
    def is_given(self) -> bool:
        return True
