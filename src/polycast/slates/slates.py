"""The slates of a server's paths."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration
from polycast.errors import ConfigurationError
from polycast.hub.path import Path
from polycast.hub.slate import Slate
from polycast.slates.clip import ClipError
from polycast.slates.files import FileSlate
from polycast.slates.generated import GeneratedSlate

_FILE: Final = "alwaysAvailableFile"


class Slates:
    """The slates of all paths; those with the same settings share one."""

    def __init__(self) -> None:
        self._slates: dict[Hashable, Slate] = {}

    def prepare(self, configuration: Configuration) -> None:
        """Read what the paths of a configuration need. Raises ConfigurationError for a file that cannot be a slate.

        Reads files: call it in a thread.
        """
        slates: dict[Hashable, Slate] = {}
        for name, path in configuration.paths.items():
            if path.always_available:
                key = _key(path)
                slates[key] = slates.get(key) or self._prepared(name, path)
        self._slates = slates

    def slate_of(self, path: Path) -> Slate | None:
        """Return the slate of a path; None if it is not always available."""
        configuration = path.configuration
        return self._slates.get(_key(configuration)) if configuration.always_available else None

    def _prepared(self, name: str, path: PathConfiguration) -> Slate:
        if not path.always_available_file:
            return GeneratedSlate(path.always_available_tracks)
        known = self._slates.get(_key(path))
        if isinstance(known, FileSlate) and known.is_current:
            return known
        return file_slate(name, path)


def _key(path: PathConfiguration) -> Hashable:
    return path.always_available_file or path.always_available_tracks


def file_slate(name: str, path: PathConfiguration) -> FileSlate:
    """Return the slate of a path with a file. Raises ConfigurationError. Reads the file."""
    try:
        return FileSlate(path.always_available_file)
    except (ClipError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        text = f"invalid '{_FILE}': {reason} ({path.always_available_file})"
        raise ConfigurationError(text, ("paths", name, _FILE)) from error
