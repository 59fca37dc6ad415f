"""A response, in the forms in which HTTP/1.1 and HTTP/2 send it: built once and shared by all who receive it."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from polycast.wire.http.message import Header

# Bytes of a body that is kept together with its head, so that both are sent in one write: playlists, and parts of up to
# 2 Mbit/s.
SMALL_BODY: Final = 64 * 1024

_BODILESS: Final = frozenset({204, 304})

_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}

_STATUS_INDEXES: Final = {200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}
"""Entries of HPACK's static table that contain a status (RFC 7541 appendix A)."""

_STATUS_NAME_INDEX: Final = 8

_NAME_INDEXES: Final = {
    b"accept-ranges": 18,
    b"access-control-allow-origin": 20,
    b"cache-control": 24,
    b"content-encoding": 26,
    b"content-length": 28,
    b"content-range": 30,
    b"content-type": 31,
    b"date": 33,
    b"etag": 34,
    b"location": 46,
    b"server": 54,
    b"vary": 59,
    b"www-authenticate": 61,
}
"""Entries of HPACK's static table whose name is used here."""


class Response:
    """A whole response, or the head of a response whose body is streamed.

    A whole one may be sent any number of times, on any number of connections.
    """

    __slots__ = ("_date", "_date2", "_head", "_head2", "_whole", "body", "headers", "is_streamed", "status", "variants")

    def __init__(
        self,
        status: int,
        headers: Sequence[Header],
        body: bytes | memoryview = b"",
        *,
        is_streamed: bool = False,
    ) -> None:
        """``headers`` do not need ``content-length`` or ``date``; with ``is_streamed``, the body follows later.

        They contain ``content-length`` only if the body is streamed and its size is known; it must be true.
        """
        self.status = status
        self.body = body
        self.is_streamed = is_streamed
        self.headers: list[Header] = [*headers]
        """All headers but ``date``."""
        if status not in _BODILESS and not is_streamed:
            self.headers.append((b"content-length", b"%d" % len(body)))
        self.variants: dict[str, Response] | None = None
        """Copies with other headers, by the origin of the request, if it determines them."""
        self._date = self._date2 = b""
        self._head = self._head2 = self._whole = b""

    @property
    def has_length(self) -> bool:
        """Whether the headers say how long the body is."""
        return any(name == b"content-length" for name, _ in self.headers)

    def with_headers(self, headers: Sequence[Header]) -> Response:
        """Return a copy with additional headers."""
        own = [field for field in self.headers if self.is_streamed or field[0] != b"content-length"]
        return Response(self.status, [*own, *headers], self.body, is_streamed=self.is_streamed)

    def http1_head(self, date: bytes) -> bytes:
        """Return the status line, the headers (RFC 9112 sections 4, 5) and the empty line; ``date`` is an HTTP-date."""
        if date != self._date:
            self._date = date
            self._whole = b""
            lines = [b"HTTP/1.1 %d %s" % (self.status, _PHRASES.get(self.status, b""))]
            lines += [b"%s: %s" % field for field in self.headers]
            lines += [b"date: " + date, b"", b""]
            self._head = b"\r\n".join(lines)
        return self._head

    def http1_whole(self, date: bytes) -> bytes:
        """Return head and body in one piece; for a `SMALL_BODY`."""
        if date != self._date or not self._whole:
            self._whole = self.http1_head(date) + self.body
        return self._whole

    def http2_head(self, date: bytes) -> bytes:
        """Return the HPACK field block (RFC 7541). It is the same for all connections, because nothing in it is
        indexed."""
        if date != self._date2:
            self._date2 = date
            index = _STATUS_INDEXES.get(self.status)
            status = b"%d" % self.status
            first = bytes((0x80 | index,)) if index else _literal_name(_STATUS_NAME_INDEX) + _string(status)
            fields = [_field(name, value) for name, value in self.headers]
            self._head2 = b"".join([first, *fields, _field(b"date", date)])
        return self._head2


def _field(name: bytes, value: bytes) -> bytes:
    """Return a literal field without indexing (RFC 7541 section 6.2.2)."""
    index = _NAME_INDEXES.get(name)
    start = _literal_name(index) if index is not None else b"\0" + _string(name)
    return start + _string(value)


def _literal_name(index: int) -> bytes:
    return _integer(index, 4)


def _string(text: bytes) -> bytes:
    return _integer(len(text), 7) + text


def _integer(value: int, prefix: int) -> bytes:
    """Return an integer with a prefix of ``prefix`` bits (RFC 7541 section 5.1)."""
    limit = (1 << prefix) - 1
    if value < limit:
        return bytes((value,))
    digits = bytearray((limit,))
    value -= limit
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
