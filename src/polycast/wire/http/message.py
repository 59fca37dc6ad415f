"""An HTTP request, what can happen to one, and the limits of both HTTP versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

Header = tuple[bytes, bytes]
"""Name, in lower case, and value."""

# Bytes of a request target: a path, a file name and a token stay far below.
TARGET_LIMIT: Final = 8 * 1024

# Bytes of a request's headers; browsers with many cookies send a few KiB.
HEADERS_LIMIT: Final = 32 * 1024

# Headers of a request.
HEADER_COUNT_LIMIT: Final = 128


class Request:
    """The head of a request. Bodies mean nothing to a server of files: engines discard them.

    It never changes: one object may stand for the same request of many clients.
    """

    __slots__ = ("fields", "headers", "method", "stream", "target")

    def __init__(self, stream: int, method: str, target: bytes, headers: Sequence[Header]) -> None:
        self.stream = stream
        """Names the request on its connection: the HTTP/2 stream; 0 in HTTP/1.1, where one is answered at a time."""
        self.method = method
        self.target = target
        """As it was sent: usually path and query."""
        self.headers = headers
        """In the order in which they came; ``host`` stands for HTTP/2's ``:authority``, too."""
        self.fields: Mapping[bytes, bytes] = dict(headers)
        """Values by name; of several headers with one name, the last."""


class Reset:
    """The client no longer wants the answer to a request."""

    __slots__ = ("stream",)

    def __init__(self, stream: int) -> None:
        self.stream = stream


Event = Request | Reset
