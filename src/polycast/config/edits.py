"""Changes of the configuration as values: they can be applied to the running one, and written into a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from polycast.config import convert, dump
from polycast.config.names import ALL_PATHS, ALL_PATHS_ALIAS
from polycast.config.schema import Configuration
from polycast.config.validate import validate
from polycast.errors import ConfigurationError


class SetKeys(msgspec.Struct, frozen=True):
    """Change global keys; ``paths`` is ignored, as in the reference API."""

    values: Mapping[str, Any]

    def apply(self, configuration: Configuration) -> Configuration:
        return dump.update(configuration, self.values)


class AddPath(msgspec.Struct, frozen=True):
    """Add a path that does not exist."""

    name: str
    values: Mapping[str, Any]

    def apply(self, configuration: Configuration) -> Configuration:
        return dump.add_path(configuration, self.name, self.values)


class EditPath(msgspec.Struct, frozen=True):
    """Change keys of a path that exists."""

    name: str
    values: Mapping[str, Any]

    def apply(self, configuration: Configuration) -> Configuration:
        return dump.edit_path(configuration, self.name, self.values)


class RemovePath(msgspec.Struct, frozen=True):
    """Remove a path that exists."""

    name: str

    def apply(self, configuration: Configuration) -> Configuration:
        return dump.remove_path(configuration, self.name)


class ReplacePaths(msgspec.Struct, frozen=True):
    """Replace all paths by exactly these."""

    paths: Mapping[str, Mapping[str, Any] | None]

    def apply(self, configuration: Configuration) -> Configuration:
        if not isinstance(self.paths, Mapping):
            raise ConfigurationError("not a map")
        if ALL_PATHS in self.paths and ALL_PATHS_ALIAS in self.paths:
            raise ConfigurationError(f"'{ALL_PATHS_ALIAS}' and '{ALL_PATHS}' are the same path")
        for name, values in self.paths.items():
            if values is not None and not isinstance(values, Mapping):
                raise ConfigurationError(f"parameter paths, key {name}: not a map")
        paths = {loaded_name(name): convert.parse_path(name, values) for name, values in self.paths.items()}
        return validate(msgspec.structs.replace(configuration, paths=paths))


Edit = SetKeys | AddPath | EditPath | RemovePath | ReplacePaths
"""Each has ``apply(configuration)``, which returns the changed one, or raises ConfigurationError."""


def loaded_name(name: str) -> str:
    """Return the canonical name of an entry of ``paths``: ``all`` is an alias."""
    return ALL_PATHS if name == ALL_PATHS_ALIAS else name
