"""From the fields of an HTTP/2 request to a `Request` (RFC 9113 section 8)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from polycast.wire.http.message import HEADER_COUNT_LIMIT, TARGET_LIMIT, Header, Request

_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_OF_ONE_CONNECTION: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)

# RFC 9113 section 8.2.1, and the characters that RFC 9110 section 5.6.2 lets a name have.
_NAME: Final = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
_FORBIDDEN_IN_VALUES: Final = b"\0\r\n"
_PATH: Final = re.compile(rb"[!-~\x80-\xff]+")


class MalformedRequest(Exception):
    """The fields are not a request (RFC 9113 section 8.1.1). It does not leave the engine."""


def make_request(stream: int, fields: Iterable[tuple[bytes, bytes]]) -> tuple[Request, int | None]:
    """Return the request and its ``content-length``, None where it has none. Raises MalformedRequest."""
    pseudo: dict[bytes, bytes] = {}
    headers: list[Header] = []
    length: int | None = None
    for name, value in fields:
        if name.startswith(b":"):
            if headers or name not in _PSEUDO or name in pseudo:
                raise MalformedRequest(f"misplaced or unknown field {name!r}")
            pseudo[name] = value
            continue
        check_field(name, value)
        if name == b"content-length":
            if not value.isdigit() or len(value) > 18:
                raise MalformedRequest("invalid content-length")
            length = int(value)
        headers.append((name, value))
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if not _NAME.fullmatch(method.lower()) or not _PATH.fullmatch(path) or not pseudo.get(b":scheme"):
        raise MalformedRequest("a pseudo-header field is missing or invalid")
    if len(path) > TARGET_LIMIT or len(headers) > HEADER_COUNT_LIMIT:
        raise MalformedRequest("too long")
    if b":authority" in pseudo:
        check_field(b"host", pseudo[b":authority"])
        headers.append((b"host", pseudo[b":authority"]))
    return Request(stream, method.decode("latin-1"), path, headers), length


def check_field(name: bytes, value: bytes) -> None:
    """Raises MalformedRequest for what may not stand in a request (RFC 9113 section 8.2)."""
    if not _NAME.fullmatch(name):
        raise MalformedRequest(f"invalid field name {name!r}")
    if name in _OF_ONE_CONNECTION or (name == b"te" and value != b"trailers"):
        raise MalformedRequest(f"field {name!r} is for HTTP/1.1")
    if value.translate(None, _FORBIDDEN_IN_VALUES).strip(b" \t") != value:
        raise MalformedRequest(f"invalid value of field {name!r}")
