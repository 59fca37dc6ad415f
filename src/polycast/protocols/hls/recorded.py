"""The playlist that reaches back over recordings, and its files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from polycast.hub.path import Path
from polycast.net.http.file import HttpFile
from polycast.protocols.base import RecordedStreams
from polycast.protocols.hls.configuration import HlsConfiguration
from polycast.protocols.hls.target import RECORDED_NAME, ResourceKey
from polycast.wire.hls.muxer import INDEX_NAME
from polycast.wire.hls.resource import Refusal, Resource

ENTRY_NAMES: Final = (INDEX_NAME, RECORDED_NAME)
"""What players ask for first."""

_NO_FILE: Final = Refusal(404, "there is no such file")
_NO_WINDOW: Final = Refusal(404, "this path has no DVR playlist (hlsDVR)")


class Host(Protocol):
    """The server."""

    now: Callable[[], float]
    """Monotonic seconds."""

    settings: HlsConfiguration
    """The settings of HLS as they are now."""


class Watched(Protocol):
    """The muxer of the path."""

    path: Path

    def use(self, now: float) -> None:
        """Note that its stream is watched by other means than its own files."""
        ...


class Preparer(Protocol):
    """Makes responses."""

    def prepare(self, resource: Resource, name: str) -> HttpFile:
        """Return a file with its headers."""
        ...


def recorded_playlist(path: Path) -> str:
    """Return the name of the playlist; empty if the path has none."""
    return RECORDED_NAME if path.configuration.hls_dvr else ""


class RecordedFiles:
    """Finds the files for requests."""

    def __init__(self, recorded: Callable[[], RecordedStreams] | None) -> None:
        self._recorded = recorded
        self._prepared: WeakKeyDictionary[Resource, HttpFile] = WeakKeyDictionary()

    async def find(self, watched: Watched, key: ResourceKey, server: Host, preparer: Preparer) -> HttpFile | Refusal:
        """Return the file of a path that a request is for; the playlist once it has what is asked for."""
        watched.use(server.now())
        path = watched.path
        name, directives = key
        length = float(path.configuration.hls_dvr)
        if self._recorded is None or not length:
            return _NO_WINDOW if name == RECORDED_NAME else _NO_FILE
        if isinstance(directives, Refusal):
            return directives
        if name == RECORDED_NAME:
            found = await self._recorded().playlist(
                path.name, length, float(server.settings.hls_segment_duration), directives
            )
        else:
            found = await self._recorded().file(path.name, name)
        if isinstance(found, Refusal):
            return found
        file = self._prepared.get(found)
        if file is None:
            file = self._prepared[found] = preparer.prepare(found, name)
        return file

    def forget(self) -> None:
        """Discard the responses that were prepared."""
        self._prepared.clear()
