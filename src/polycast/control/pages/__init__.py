"""The pages of the API: the status, and the reference. They are made of files in this folder, and work offline."""

from __future__ import annotations

import hashlib
import html
from functools import cache
from importlib.resources import files
from typing import Final

import msgspec
from msgspec import Struct
from starlette.responses import Response

TYPES: Final = {
    "status.html": "text/html; charset=utf-8",
    "status.css": "text/css; charset=utf-8",
    "status.js": "text/javascript; charset=utf-8",
    "reference.css": "text/css; charset=utf-8",
}

# Scripts and styles only from this server; a preview is loaded from the streaming servers of this host.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Preview(Struct, frozen=True):
    """Where a browser can play the streams: at this host, by their paths."""

    scheme: str
    port: int


class PageData(Struct, frozen=True):
    """What the status page needs to know of the servers."""

    names: dict[str, str]
    """Their names by their collections in the API."""
    preview: Preview | None
    """None: there is no server that runs and has a page."""


def page(data: PageData) -> Response:
    """Return the status page."""
    servers = html.escape(msgspec.json.encode(data).decode()).encode()
    return Response(
        _content("status.html").replace(b"{{servers}}", servers),
        media_type=TYPES["status.html"],
        headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-cache"},
    )


def html_response(text: str) -> Response:
    """Return a page."""
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-cache"}
    return Response(text, media_type=TYPES["status.html"], headers=headers)


def static_file(name: str) -> Response | None:
    """Return a file of the page; None if there is no such file."""
    if name not in TYPES:
        return None
    content = _content(name)
    etag = hashlib.sha256(content).hexdigest()[:16]
    return Response(content, media_type=TYPES[name], headers={"Cache-Control": "no-cache", "ETag": f'"{etag}"'})


def preload() -> None:
    """Read the files, so that no request waits for a disk."""
    for name in TYPES:
        _content(name)


@cache
def _content(name: str) -> bytes:
    return files(__package__).joinpath(name).read_bytes()
