"""Requests of a content delivery network, which knows a secret, and decides itself who may watch."""

from __future__ import annotations

import secrets
from typing import Final

from polycast.net.http.file import IMMUTABLE
from polycast.wire.hls.muxer import INDEX_NAME
from polycast.wire.hls.resource import CONTENT_TYPE_PLAYLIST
from polycast.wire.http.message import Request
from polycast.wire.http.response import Response

_INDEX_SECONDS: Final = 30
"""For which the multivariant playlist may be kept; it only changes with the codecs."""


def knows_secret(request: Request, secret: str) -> bool:
    """Return whether a request contains the secret; never if that is empty."""
    given = request.fields.get(b"authorization")
    return bool(secret and given is not None) and secrets.compare_digest(given or b"", f"Bearer {secret}".encode())


def for_cdn(response: Response, name: str, segment_seconds: int) -> Response:
    """Return a response that shared caches may store although the request has credentials (RFC 9111 section 3.5).

    ``segment_seconds``: how long a media playlist may be kept; 0 if it has to be asked for each time.
    """
    kept = dict(response.headers)
    if response.status not in (200, 206, 304):
        return response
    cache = IMMUTABLE
    if kept.get(b"content-type") == CONTENT_TYPE_PLAYLIST.encode():
        seconds = _INDEX_SECONDS if name == INDEX_NAME else segment_seconds
        cache = f"max-age={seconds}" if seconds else "no-cache"
    own = (b"cache-control", b"content-length")
    headers = [field for field in response.headers if field[0] not in own]
    return Response(response.status, [*headers, (b"cache-control", f"public, {cache}".encode())], response.body)
