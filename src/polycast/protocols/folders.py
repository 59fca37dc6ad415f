"""Redirections from the address of a stream to its folder, where its page is."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from polycast.wire.http.message import Request

_SEPARATORS: Final = re.compile(r"[/\\]+")
_OF_PROXIES: Final = (b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip")


def is_from_proxy(request: Request) -> bool:
    """Whether a proxy has passed a request on: it may serve this server in a folder of its own."""
    return any(name in request.fields for name in _OF_PROXIES)


def absolute_folder(path: str, query: str) -> bytes:
    """Return the location of a folder on this server, as MediaMTX gives it.

    ``path`` is decoded. The result never begins with two slashes, which would name another server.
    """
    segments = [quote(part) for part in _SEPARATORS.split(path) if part not in ("", ".", "..")]
    return f"/{'/'.join(segments)}/{f'?{query}' if query else ''}".encode("latin-1", "replace")
