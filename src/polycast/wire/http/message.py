"""HTTP requests and events, and limits that are common to both HTTP versions."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from typing import Final

Header = tuple[bytes, bytes]
"""Name, in lower case, and value."""

# Bytes of a request target: a path, a file name and a token are far shorter.
TARGET_LIMIT: Final = 16 * 1024

# Bytes of a request's headers; browsers with many cookies send a few KiB.
HEADERS_LIMIT: Final = 32 * 1024

# Headers of a request.
HEADER_COUNT_LIMIT: Final = 128

# Bytes of a request's body unless the handler sets another limit: SDP, a few settings.
BODY_LIMIT: Final = 64 * 1024

# Headers with credentials. Requests with one of them are never cached.
SECRETS: Final = frozenset({b"authorization", b"cookie", b"proxy-authorization"})

# host [":" port] of RFC 3986 section 3.2, without user information, which RFC 9110 section 4.2.4 forbids.
_AUTHORITY: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(?::\d{0,5})?")


class Request:
    """A request. It is immutable: one object may represent the same request of many clients."""

    __slots__ = ("body", "fields", "headers", "is_truncated", "method", "stream", "target")

    def __init__(self, stream: int, method: str, target: bytes, headers: Sequence[Header]) -> None:
        self.stream = stream
        """Identifies the request on its connection: the HTTP/2 stream; 0 in HTTP/1.1, where one is answered at a
        time."""
        self.method = method
        self.target = target
        """As sent: usually path and query."""
        self.headers = headers
        """In order; ``host`` also represents HTTP/2's ``:authority``."""
        self.fields: Mapping[bytes, bytes] = dict(headers)
        """Values by name; of several headers with one name, the last."""
        self.body = b""
        self.is_truncated = False
        """Whether the body exceeds the limit and was discarded."""

    def on_stream(self, stream: int) -> Request:
        """Return the same request on another stream; for requests without a body."""
        copy = Request.__new__(Request)
        copy.stream = stream
        copy.method = self.method
        copy.target = self.target
        copy.headers = self.headers
        copy.fields = self.fields
        copy.body = b""
        copy.is_truncated = False
        return copy

    def without(self, names: Container[bytes]) -> Request:
        """Return the same request without some headers; for requests without a body."""
        return Request(
            self.stream, self.method, self.target, [field for field in self.headers if field[0] not in names]
        )

    @property
    def has_secrets(self) -> bool:
        """Whether a header contains credentials."""
        return not SECRETS.isdisjoint(self.fields)


class Reset:
    """The client no longer wants the response to a request."""

    __slots__ = ("stream",)

    def __init__(self, stream: int) -> None:
        self.stream = stream


Event = Request | Reset


def is_authority(value: bytes) -> bool:
    """Return whether a value is valid for ``Host`` or ``:authority``."""
    return _AUTHORITY.fullmatch(value) is not None
