"""The head of one HTTP/1 request or response (RFC 9112), after which the connection carries something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import httptools

from polycast.errors import RemoteProtocolError

HEAD_LIMIT: Final = 16 * 1024
"""Bytes of a head; those of tunnels have a few hundred."""

HEADER_COUNT_LIMIT: Final = 64

_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request or of a response."""

    method: str
    """Of a request, else empty."""
    target: str
    """Of a request, else empty."""
    status: int
    """Of a response, else 0."""
    version: str
    """``1.0`` or ``1.1``."""
    headers: Sequence[tuple[str, str]]
    """Names in lower case."""

    @property
    def fields(self) -> Mapping[str, str]:
        """Values by name; of several headers with one name, the first."""
        return dict(reversed(self.headers))

    def words(self, name: str) -> list[str]:
        """Return the comma-separated values of all headers with this name, without the blanks around them."""
        values = [value for key, value in self.headers if key == name]
        return [word.strip() for value in values for word in value.split(",")]

    def values(self, name: str) -> list[str]:
        """Return the values of all headers with this name."""
        return [value for key, value in self.headers if key == name]


class HeadReader:
    """Collects the bytes of a head until it is complete."""

    def __init__(self, *, is_response: bool = False) -> None:
        self._is_response = is_response
        self._buffer = b""
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._is_complete = False

    @property
    def held_size(self) -> int:
        """Number of bytes received so far."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> tuple[Head, bytes] | None:
        """Take bytes; return the head and the bytes after it once it is complete.

        Raises RemoteProtocolError: 431 if it is too long, 505 if its version is not supported, else 400.
        """
        searched = max(0, len(self._buffer) - len(_END))
        self._buffer += data
        end = self._buffer.find(_END, searched, HEAD_LIMIT)
        if end < 0:
            if len(self._buffer) >= HEAD_LIMIT:
                raise RemoteProtocolError(f"HTTP headers larger than {HEAD_LIMIT} bytes", 431)
            return None
        end += len(_END)
        head, rest = self._parse(self._buffer[:end]), self._buffer[end:]
        self._buffer = b""
        return head, rest

    def _parse(self, data: bytes) -> Head:
        parser = httptools.HttpResponseParser(self) if self._is_response else httptools.HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the head is complete
        except httptools.HttpParserError as error:
            if not self._is_complete:  # an upgrade that is a response is an error to httptools
                raise RemoteProtocolError(f"invalid HTTP headers: {error}") from None
        version = parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise RemoteProtocolError(f"HTTP version {version}", 505)
        if len(self._headers) > HEADER_COUNT_LIMIT:
            raise RemoteProtocolError(f"more than {HEADER_COUNT_LIMIT} HTTP headers", 431)
        if isinstance(parser, httptools.HttpResponseParser):
            return Head("", "", parser.get_status_code(), version, self._headers)
        method = parser.get_method().decode("latin-1")
        return Head(method, self._target.decode("latin-1"), 0, version, self._headers)

    # Callbacks of httptools

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_headers_complete(self) -> None:
        self._is_complete = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1").strip()))
