"""Changes of the configuration as values: they can be applied to the running one, and written into a file.

Their names are those of the API, which may not be those of the file: ``dialect`` says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from polycast.config import convert, dump
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import LEGACY, dialect_of
from polycast.config.dialects.views import view_of
from polycast.config.names import ALL_PATHS
from polycast.config.schema import Configuration
from polycast.errors import ConfigurationError


class SetKeys(msgspec.Struct, frozen=True):
    """Change global keys; ``paths`` is ignored, as in rtsp-simple-server's API."""

    values: Mapping[str, Any]
    dialect: Dialect = LEGACY

    def apply(self, configuration: Configuration) -> Configuration:
        return dump.update(configuration, self.values, self.dialect)


class AddPath(msgspec.Struct, frozen=True):
    """Add a path that does not exist."""

    name: str
    values: Mapping[str, Any]
    dialect: Dialect = LEGACY

    def apply(self, configuration: Configuration) -> Configuration:
        return dump.add_path(configuration, self.name, self.values, self.dialect)


class EditPath(msgspec.Struct, frozen=True):
    """Change keys of a path that exists."""

    name: str
    values: Mapping[str, Any]
    dialect: Dialect = LEGACY

    def apply(self, configuration: Configuration) -> Configuration:
        return dump.edit_path(configuration, self.name, self.values, self.dialect)


class RemovePath(msgspec.Struct, frozen=True):
    """Remove a path that exists."""

    name: str

    def apply(self, configuration: Configuration) -> Configuration:
        return dump.remove_path(configuration, self.name)


class ReplacePath(msgspec.Struct, frozen=True):
    """Give a path exactly these keys; it is added if it does not exist."""

    name: str
    values: Mapping[str, Any]
    dialect: Dialect = LEGACY

    def apply(self, configuration: Configuration) -> Configuration:
        return dump.replace_path(configuration, self.name, self.values, self.dialect)


class SetPathDefaults(msgspec.Struct, frozen=True):
    """Change keys of ``pathDefaults``, and of the paths that have their values."""

    values: Mapping[str, Any]
    dialect: Dialect = LEGACY

    def apply(self, configuration: Configuration) -> Configuration:
        return dump.set_path_defaults(configuration, self.values, self.dialect)


class ReplacePaths(msgspec.Struct, frozen=True):
    """Replace all paths by exactly these."""

    paths: Mapping[str, Mapping[str, Any] | None]
    dialect: Dialect = LEGACY

    def apply(self, configuration: Configuration) -> Configuration:
        if not isinstance(self.paths, Mapping):
            raise ConfigurationError("not a map")
        own, view = dialect_of(configuration.dialect), view_of(self.dialect)
        of_all = sorted(name for name in self.paths if dump.loaded_name_in(own, name) == ALL_PATHS)
        if len(of_all) > 1:
            raise ConfigurationError(f"'{of_all[0]}' and '{of_all[1]}' are the same path")
        for name, values in self.paths.items():
            if values is not None and not isinstance(values, Mapping):
                raise ConfigurationError(f"parameter paths, key {name}: not a map")
        paths = {
            dump.loaded_name_in(own, name): convert.parse_path(name, values, view, configuration.path_defaults)
            for name, values in self.paths.items()
        }
        return dump.with_paths(configuration, paths, self.dialect)


Edit = SetKeys | SetPathDefaults | AddPath | EditPath | ReplacePath | RemovePath | ReplacePaths
"""Each has ``apply(configuration)``, which returns the changed one, or raises ConfigurationError."""
