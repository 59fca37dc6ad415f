"""Addresses that other HTTP servers name: in redirections and playlists."""

from __future__ import annotations

from typing import Final
from urllib.parse import urljoin, urlsplit, urlunsplit

from polycast.protocols.pull import PullError
from polycast.security.origins import origin_of

MAXIMUM_REDIRECTIONS: Final = 5
"""For one request."""

_SCHEMES: Final = ("http", "https")


def without_credentials(url: str) -> str:
    """Return a URL without user and password: for requests, which have a header for them, and for the log."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def resolve(base: str, reference: str, *, by: str = "a playlist contains") -> str:
    """Return the absolute address of a file in a playlist. Raises PullError if it is not HTTP.

    ``by``: the start of the error text.
    """
    try:
        url = urljoin(base, reference)
        if urlsplit(url).scheme not in _SCHEMES:
            raise PullError(f"{by} an address that is not HTTP: {reference[:200]!r}")
        origin_of(url)
    except ValueError:
        raise PullError(f"{by} the invalid address {reference[:200]!r}") from None
    return url


def redirected(base: str, location: str) -> str:
    """Return the address that the server at ``base`` redirects to, without credentials. Raises PullError if it is not
    HTTP."""
    return without_credentials(resolve(base, location, by="the server redirects to"))
