"""Parses request targets: the path of a stream, a file, delivery directives."""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from polycast.protocols.http_streams.files import StreamFile
from polycast.wire.hls.directives import NO_DIRECTIVES, DeliveryDirectives, parse_directives
from polycast.wire.hls.resource import Refusal

_STREAM_FILES: Final = frozenset(StreamFile)
FILE_SUFFIXES: Final = (".m3u8", ".mpd", ".ts", ".mp4", ".m4s")

# Characters of a URL path that are parsed: a path name and a file name are far shorter.
MAXIMUM_PATH: Final = 2048

# Bytes of the longest target that is cached: a path, a file name, three directives and a token.
CACHED_SIZE: Final = 512

RECORDED_NAME: Final = "dvr.m3u8"
"""The playlist that reaches back over recordings, in the folder of the path."""
_RECORDED_PREFIX: Final = "dvr-"
"""Prefix of the names of its files."""

ResourceKey = tuple[str, DeliveryDirectives | Refusal]
"""Identifies a resource of a muxer: the name of a file, and the delivery directives of a playlist."""


class Target:
    """A parsed request target. Equal targets share one object."""

    __slots__ = ("folder", "is_recorded", "path", "query", "resource", "stream_file")

    def __init__(self, target: bytes) -> None:
        path, _, query = target.partition(b"?")
        if not path.startswith(b"/"):
            path = _path_of_absolute_form(path)
        if b"%" in path:
            path = unquote_to_bytes(path)
        self.path = path.decode("utf-8", "replace")
        """Decoded, with its leading slash."""
        self.query = query.decode("latin-1")
        self.folder, _, name = self.path.lstrip("/").rpartition("/")
        """The path without the file; for a muxer's file, the name of the stream's path."""
        self.stream_file: StreamFile | None = StreamFile(name) if self.folder and name in _STREAM_FILES else None
        """The form in which a whole stream is requested; None if it is not."""
        self.is_recorded = name == RECORDED_NAME or name.startswith(_RECORDED_PREFIX)
        """Whether it is the playlist over recordings, or a file of it."""
        self.resource: ResourceKey | None = None
        """None if it is not a file of a muxer."""
        if self.folder and name.endswith(FILE_SUFFIXES) and len(self.path) <= MAXIMUM_PATH:
            is_playlist = name.endswith(".m3u8")
            self.resource = (name, parse_directives(self.query) if is_playlist else NO_DIRECTIVES)


# All viewers of a stream request the same at about the same time.
_cached_target = lru_cache(maxsize=1024)(Target)


def read_target(target: bytes) -> Target:
    """Parse a request target."""
    return _cached_target(target) if len(target) <= CACHED_SIZE else Target(target)


def _path_of_absolute_form(target: bytes) -> bytes:
    """Return the path of ``http://host/path``, as proxies send it (RFC 9112 section 3.2.2); otherwise the target."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return target
    return b"/" + rest.partition(b"/")[2]
