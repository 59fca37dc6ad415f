"""The web pages of the HLS server (a player for each path, a list of the live paths), of the WebRTC server (pages to
watch and to publish) and of the playback server (recordings), and their assets.

Nothing is loaded from other servers, so they work offline. Files are read once, when first requested.

Where they are served, relative to the server's root::

    /<path>/                      page(PLAYER_PAGE, depth), depth = number of segments in <path>; WATCH_PAGE for WebRTC
    /<path>/publish               page(PUBLISH_PAGE, depth), WebRTC only
    /                             page(INDEX_PAGE, 0), or page(START_PAGE, 0) if the list is disabled;
                                  page(RECORDINGS_PAGE, 0) for playback
    /_polycast/<name>             asset(name), name may contain one slash
    /_polycast/paths.json         not in this module: a JSON array that the index page requests every few seconds

Pages only use relative addresses, so they also work below a prefix of a reverse proxy.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from html import escape
from importlib import resources

PLAYER_PAGE = "player.html"
INDEX_PAGE = "index.html"
START_PAGE = "start.html"
WATCH_PAGE = "watch.html"
PUBLISH_PAGE = "publish.html"
RECORDINGS_PAGE = "recordings.html"
PAGES = (PLAYER_PAGE, INDEX_PAGE, START_PAGE, WATCH_PAGE, PUBLISH_PAGE, RECORDINGS_PAGE)

ASSETS_FOLDER = "_polycast"
"""First segment of the addresses of all assets; no path of a stream may start with it."""

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        # Media Source objects and the demuxer's worker thread have blob: addresses.
        "media-src 'self' blob:",
        "worker-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
"""Value of the Content-Security-Policy header for the pages. Without frame-ancestors, so that any site can embed
them."""

_CONTENT_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}

_ASSETS = (
    "common.css",
    "player.css",
    "player.js",
    "options.js",
    "codecs.js",
    "probe.js",
    "problems.js",
    "source.js",
    "supervisor.js",
    "controls.js",
    "statistics.js",
    "index.css",
    "index.js",
    "watch.css",
    "watch.js",
    "reader.js",
    "publish.css",
    "publish.js",
    "publisher.js",
    "recordings.css",
    "recordings.js",
    "timeline.js",
    "favicon.svg",
    "hls.min.js",
    "hls.LICENSE.txt",
    "apache-2.0.LICENSE.txt",
)

_REVALIDATE = "no-cache"
_FOREVER = "public, max-age=31536000, immutable"

# Pages are cached for this many path depths; deeper ones are created for each request.
_CACHED_DEPTHS = 32


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent. ``etag`` is weak, because it identifies both the plain and the compressed body."""

    body: bytes
    gzip_body: bytes
    content_type: str
    etag: str
    cache_control: str


def asset(name: str) -> Asset | None:
    """Return the file ``name``, or None if there is none.

    With the version as a prefix (``version() + "/player.js"``, as the pages request it), it may be cached forever;
    without it, or with that of another release, the browser must revalidate it.
    """
    folder, _, file = name.rpartition("/")
    if file not in _ASSETS or "/" in folder:
        return None
    found = _load(file)
    return found if folder == version() else replace(found, cache_control=_REVALIDATE)


@lru_cache(maxsize=_CACHED_DEPTHS)
def page(name: str, depth: int = 0) -> Asset:
    """Return a page (one of PAGES) for an address ``depth`` folders below the server's root."""
    if name not in PAGES:
        raise ValueError(f"no such page: {name}")
    root = "../" * depth or "./"
    text = _read(name).decode()
    text = text.replace("{{assets}}", f"{root}{ASSETS_FOLDER}/{version()}").replace("{{depth}}", str(depth))
    return _make(name, text.encode(), _REVALIDATE)


def page_with_problem(depth: int, problem: str) -> bytes:
    """Return the player page with the reason why the stream cannot be read: a JSON object for the page's script."""
    body = page(PLAYER_PAGE, depth).body
    return body.replace(b"<html ", b'<html data-problem="%s" ' % escape(problem).encode(), 1)


@cache
def version() -> str:
    """Return the version of the assets, which is the folder in their addresses."""
    digest = hashlib.sha256()
    for name in _ASSETS:
        digest.update(_read(name))
    return digest.hexdigest()[:12]


def preload() -> None:
    """Read and compress everything, which takes about 50 ms; after that, the functions above return at once."""
    version()
    for file in _ASSETS:
        _load(file)
    for name in PAGES:
        _read(name)


@cache
def _load(file: str) -> Asset:
    return _make(file, _read(file), _FOREVER)


def _make(name: str, body: bytes, cache_control: str) -> Asset:
    return Asset(
        body=body,
        gzip_body=gzip.compress(body, 6, mtime=0),
        content_type=_CONTENT_TYPES[name.rpartition(".")[2]],
        etag=f'W/"{hashlib.sha256(body).hexdigest()[:20]}"',
        cache_control=cache_control,
    )


@cache
def _read(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()
