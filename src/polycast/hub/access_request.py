"""A client's request for permission, and the credentials that came with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import parse_qsl

from polycast.config.authentication import Action
from polycast.security.credentials import secret_matches

__all__ = ["Action", "AccessRequest", "Credentials", "PlainCredentials"]

# Fields of a query that are examined for a token.
_MAXIMUM_FIELDS: Final = 100


class Credentials(Protocol):
    """The credentials of a client; each protocol has its own form."""

    def matches(self, user: str, password: str) -> bool:
        """Whether they match these credentials of the configuration, which may start with ``sha256:``.

        False for those that start with ``argon2:``: they take long to verify, and need `plain`.
        """
        ...

    def plain(self) -> tuple[str, str]:
        """Return (user, password) in plain text, two empty strings if they are not known."""
        ...

    @property
    def user(self) -> str:
        """The given user name; not verified."""
        ...

    @property
    def token(self) -> str:
        """A bearer token (RFC 6750); empty if there is none."""
        ...

    @property
    def is_given(self) -> bool:
        """Whether there are any."""
        ...


@dataclass(frozen=True, slots=True)
class PlainCredentials:
    """User and password in plain text, as in URLs and HTTP Basic; or a bearer token (RFC 6750)."""

    user: str = ""
    password: str = ""
    token: str = ""

    def matches(self, user: str, password: str) -> bool:
        return secret_matches(user, self.user) & secret_matches(password, self.password)

    def plain(self) -> tuple[str, str]:
        return self.user, self.password

    @property
    def is_given(self) -> bool:
        return bool(self.user or self.password or self.token)


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """A request for permission."""

    action: Action
    path: str
    """Name of the path; empty for the HTTP services."""
    query: str
    """The raw query of the URL, without ``?``."""
    address: str
    """IP address of the client."""
    credentials: Credentials
    asks_again: bool = False
    """Whether a client without credentials is challenged: its first request does not count as an attempt."""
    protocol: str = ""
    """As the external server is told; empty for the HTTP services."""
    id: str | None = None
    """The session or connection in the API, if there is one."""
    user_agent: str = ""
    takes_token_from_query: bool = False
    """Whether a token may be part of the URL, since the protocol has no other place for it."""

    def token(self, *, in_query: bool = False) -> str:
        """Return the bearer token, otherwise the password, otherwise ``token`` or ``jwt`` of the query, if it is given
        exactly once; empty if there is none.

        ``in_query``: whether the query is also examined for protocols that have another place for a token.
        """
        token = self.credentials.token or self.credentials.plain()[1]
        if token or not self.query or not (in_query or self.takes_token_from_query):
            return token
        try:
            fields = parse_qsl(self.query, keep_blank_values=True, max_num_fields=_MAXIMUM_FIELDS)
        except ValueError:  # too many
            return ""
        for name in ("token", "jwt"):
            values = [value for key, value in fields if key == name]
            if len(values) == 1:
                return values[0]
        return ""
