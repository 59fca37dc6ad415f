"""The pages of the API: the console, and the reference. They are made of files in this folder, and work offline."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from starlette.responses import Response

PAGE: Final = "console.html"

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Scripts and styles only from this server; streams are played in frames of the streaming servers of this host.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "frame-src http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-cache",
    "Referrer-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    packed: bytes
    media_type: str
    etag: str


def page() -> Response:
    """Return the page of the console."""
    found = _files()[PAGE]
    return Response(found.body, media_type=found.media_type, headers=_PAGE_HEADERS)


def html_response(text: str) -> Response:
    """Return a page."""
    return Response(text, media_type=_TYPES[".html"], headers=_PAGE_HEADERS)


def static_file(name: str, request_headers: Mapping[str, str]) -> Response | None:
    """Return a file that the pages load; None if there is no such file."""
    found = _files().get(name)
    if found is None or name.endswith(".html"):
        return None
    headers = {"Cache-Control": "no-cache", "ETag": found.etag, "Vary": "Accept-Encoding"}
    if request_headers.get("if-none-match") == found.etag:
        return Response(b"", 304, headers)
    if "gzip" in request_headers.get("accept-encoding", ""):
        return Response(found.packed, media_type=found.media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(found.body, media_type=found.media_type, headers=headers)


def preload() -> None:
    """Read the files, so that no request waits for a disk."""
    _files()


@cache
def _files() -> Mapping[str, _File]:
    return {file.name: _load(file) for file in _found(files(__package__))}


def _found(folder: Traversable) -> Iterator[Traversable]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _found(each)
        elif any(each.name.endswith(suffix) for suffix in _TYPES):
            yield each


def _load(file: Traversable) -> _File:
    body = file.read_bytes()
    suffix = f".{file.name.rpartition('.')[2]}"
    # Weak, because it identifies both the plain and the compressed body.
    etag = f'W/"{hashlib.sha256(body).hexdigest()[:16]}"'
    return _File(body, gzip.compress(body, 6, mtime=0), _TYPES[suffix], etag)
