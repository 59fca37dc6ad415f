"""Makes a `Request` from the fields of an HTTP/2 request (RFC 9113 section 8)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from polycast.wire.http.message import HEADER_COUNT_LIMIT, SECRETS, TARGET_LIMIT, Header, Request, is_authority

_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_OF_ONE_CONNECTION: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)

# RFC 9113 section 8.2.1, and the characters that RFC 9110 section 5.6.2 allows in a name.
_NAME: Final = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
_FORBIDDEN_IN_VALUES: Final = b"\0\r\n"
_PATH: Final = re.compile(rb"/[!-~\x80-\xff]*")

# Only these are served; behind a proxy that terminates TLS, ``https`` arrives over plain connections.
_SCHEMES: Final = frozenset({b"http", b"https"})


# Bytes of a value whose check is cached: clients send the same fields with each request.
_CACHED_SIZE: Final = 256


class MalformedRequest(Exception):
    """The fields are not a request (RFC 9113 section 8.1.1). It does not leave the engine."""


def make_request(stream: int, fields: Iterable[tuple[bytes, bytes]]) -> tuple[Request, int | None]:
    """Return the request and its ``content-length``, None if it has none. Raises MalformedRequest."""
    pseudo: dict[bytes, bytes] = {}
    headers: list[Header] = []
    length: int | None = None
    host: bytes | None = None
    for name, value in fields:
        if name.startswith(b":"):
            if headers or name not in _PSEUDO or name in pseudo:
                raise MalformedRequest(f"misplaced or unknown field {name!r}")
            pseudo[name] = value
            continue
        check_field(name, value)
        if name == b"content-length":
            if not value.isdigit() or len(value) > 18 or (length is not None and length != int(value)):
                raise MalformedRequest("invalid content-length")
            length = int(value)
        elif name == b"host":
            if host is not None:
                raise MalformedRequest("several fields 'host'")
            host = value
        headers.append((name, value))
    _check_target(pseudo)
    if len(headers) > HEADER_COUNT_LIMIT:
        raise MalformedRequest("too long")
    authority = _authority(pseudo.get(b":authority"), host)
    if host is None:
        headers.append((b"host", authority))
    return Request(stream, pseudo[b":method"].decode("latin-1"), pseudo[b":path"], headers), length


def _check_target(pseudo: dict[bytes, bytes]) -> None:
    """Check the pseudo-header fields (RFC 9113 section 8.3.1). CONNECT, without scheme and path, is for proxies."""
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if not _NAME.fullmatch(method.lower()) or method == b"CONNECT":
        raise MalformedRequest("the method is missing or invalid")
    if pseudo.get(b":scheme", b"").lower() not in _SCHEMES:
        raise MalformedRequest("the scheme is missing or is not http or https")
    if not _PATH.fullmatch(path) and not (path == b"*" and method == b"OPTIONS"):
        raise MalformedRequest("the path is missing or invalid")
    if len(path) > TARGET_LIMIT:
        raise MalformedRequest("too long")


def _authority(authority: bytes | None, host: bytes | None) -> bytes:
    """Return the authority of the request. ``host`` and ``:authority`` must agree (RFC 9113 section 8.3.1)."""
    found = host if authority is None else authority
    if not found or not is_authority(found):
        raise MalformedRequest("the authority is missing or invalid")
    if host is not None and authority is not None and host.lower() != authority.lower():
        raise MalformedRequest("'host' and ':authority' differ")
    return found


def check_field(name: bytes, value: bytes) -> None:
    """Raise MalformedRequest for a field that is not allowed in a request (RFC 9113 section 8.2)."""
    if len(value) > _CACHED_SIZE or name in SECRETS or not _is_valid(name, value):
        _check_field(name, value)


def _check_field(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise MalformedRequest(f"invalid field name {name!r}")
    if name in _OF_ONE_CONNECTION or (name == b"te" and value != b"trailers"):
        raise MalformedRequest(f"field {name!r} is for HTTP/1.1")
    if value.translate(None, _FORBIDDEN_IN_VALUES).strip(b" \t") != value:
        raise MalformedRequest(f"invalid value of field {name!r}")


@lru_cache(maxsize=512)
def _is_valid(name: bytes, value: bytes) -> bool:
    try:
        _check_field(name, value)
    except MalformedRequest:
        return False
    return True
