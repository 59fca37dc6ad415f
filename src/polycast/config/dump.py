"""The JSON form of the configuration in the API, and changes in this form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from polycast.config import convert
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import LEGACY, dialect_of
from polycast.config.dialects.views import view_of
from polycast.config.fields import replace
from polycast.config.names import ALL_PATHS, ALL_PATHS_ALIAS, loaded_name
from polycast.config.path_schema import OwnSettings
from polycast.config.schema import Configuration, PathConfiguration
from polycast.config.validate import validate
from polycast.errors import ConfigurationError


def to_jsonable(configuration: Configuration, dialect: Dialect = LEGACY) -> dict[str, Any]:
    """Every key with its value: sets as sorted lists, durations and sizes as text."""
    paths = {name: path_to_jsonable(path, dialect) for name, path in configuration.paths.items()}
    return {**global_to_jsonable(configuration, dialect), "paths": paths}


def global_to_jsonable(configuration: Configuration, dialect: Dialect = LEGACY) -> dict[str, Any]:
    """Every key but ``paths`` with its value. With thousands of paths, these take tenths of a second."""
    return {key: field.kind.dump(field.of(configuration)) for key, field in view_of(dialect).fields.items()}


def path_to_jsonable(path: PathConfiguration, dialect: Dialect = LEGACY) -> dict[str, Any]:
    """Every key of a path with its value."""
    return {key: field.kind.dump(getattr(path, field.name)) for key, field in view_of(dialect).path_fields.items()}


def from_mapping(values: Mapping[str, Any], dialect: Dialect = LEGACY) -> Configuration:
    """A configuration from values as in a file or in JSON, including ``paths``. Raises ConfigurationError."""
    return read_mapping(values, dialect)[0]


def read_mapping(values: Mapping[str, Any], dialect: Dialect) -> tuple[Configuration, list[str]]:
    """The same with the warnings, one line each."""
    reading = convert.Reading(dialect)
    configuration = convert.parse_configuration(values, reading)
    return _named(validate, configuration, reading.as_written), reading.warnings


def update(configuration: Configuration, partial: Mapping[str, Any], dialect: Dialect = LEGACY) -> Configuration:
    """Change global keys and validate the whole configuration. ``paths`` is ignored, as in rtsp-simple-server's API.
    Keys that were global once change the defaults of paths.

    Raises ConfigurationError, also for keys that do not exist.
    """
    changes = {key: value for key, value in _map(partial).items() if key != "paths"}
    moved = {key: changes.pop(key) for key in dialect.moved & changes.keys()}
    defaults = view_of(dialect_of(configuration.dialect)).defaults
    settings = convert.parse_fields(changes, view_of(dialect), base=defaults)
    written = OwnSettings(configuration.written | (changes.keys() & view_of(dialect).deprecated.keys()))
    changed = replace(configuration, **settings, written=written)
    return set_path_defaults(changed, moved, dialect) if moved else _validated(changed, dialect)


def add_path(
    configuration: Configuration, name: str, partial: Mapping[str, Any], dialect: Dialect = LEGACY
) -> Configuration:
    """Add the path ``name`` after all others. Raises ConfigurationError, also if it exists."""
    configuration, name = _with_name(configuration, name)
    if name in configuration.paths:
        raise ConfigurationError(f"path '{name}' already exists")
    path = convert.parse_path(name, _map(partial), view_of(dialect), configuration.path_defaults)
    return with_paths(configuration, {**configuration.paths, name: path}, dialect)


def edit_path(
    configuration: Configuration, name: str, partial: Mapping[str, Any], dialect: Dialect = LEGACY
) -> Configuration:
    """Change the keys of ``partial`` in the path ``name``. Raises ConfigurationError, also if it does not exist."""
    name, path = _existing(configuration, name)
    changed = convert.with_settings(path, _map(partial), view_of(dialect), name, configuration.path_defaults)
    return with_paths(configuration, {**configuration.paths, name: changed}, dialect)


def replace_path(
    configuration: Configuration, name: str, partial: Mapping[str, Any], dialect: Dialect = LEGACY
) -> Configuration:
    """Give the path ``name`` exactly the keys of ``partial``, in its place; or add it. Raises ConfigurationError."""
    configuration, name = _with_name(configuration, name)
    path = convert.parse_path(name, _map(partial), view_of(dialect), configuration.path_defaults)
    return with_paths(configuration, {**configuration.paths, name: path}, dialect)


def set_path_defaults(
    configuration: Configuration, partial: Mapping[str, Any], dialect: Dialect = LEGACY
) -> Configuration:
    """Change keys of ``pathDefaults``. A path without a value of its own gets the new one.

    Raises ConfigurationError.
    """
    old = configuration.path_defaults
    base = view_of(dialect_of(configuration.dialect)).defaults.path_defaults
    changes = convert.parse_fields(_map(partial), view_of(dialect), convert.PATH_DEFAULTS, base=base)
    paths = convert.with_new_defaults(configuration.paths, old, changes)
    changed = msgspec.structs.replace(configuration, paths=paths, path_defaults=msgspec.structs.replace(old, **changes))
    return _validated(changed, dialect)


def remove_path(configuration: Configuration, name: str) -> Configuration:
    """Remove the path ``name``. Raises ConfigurationError if it does not exist."""
    name, _ = _existing(configuration, name)
    paths = {key: path for key, path in configuration.paths.items() if key != name}
    return with_paths(configuration, paths, LEGACY)


def with_paths(configuration: Configuration, paths: dict[str, PathConfiguration], dialect: Dialect) -> Configuration:
    """Return a valid configuration with these paths. ``dialect`` is that of the names in errors."""
    return _validated(msgspec.structs.replace(configuration, paths=paths), dialect)


def _validated(configuration: Configuration, dialect: Dialect) -> Configuration:
    return _named(validate, configuration, lambda key: (*key[:-1], dialect.key(key[-1])))


def _named(
    check: Callable[[Configuration], Configuration],
    configuration: Configuration,
    name_of: Callable[[tuple[str, ...]], tuple[str, ...]],
) -> Configuration:
    """Call ``check``; its errors get the names of the settings that the user knows."""
    try:
        return check(configuration)
    except ConfigurationError as error:
        error.keys = tuple(map(name_of, error.keys))
        raise


def _existing(configuration: Configuration, name: str) -> tuple[str, PathConfiguration]:
    name = _loaded_name(configuration, name)
    path = configuration.paths.get(name)
    if path is None:
        raise ConfigurationError(f"path '{name}' does not exist")
    return name, path


def loaded_name_in(dialect: Dialect, name: str) -> str:
    """Return the canonical name of a path that a change names; ``dialect`` is that of the configuration."""
    return loaded_name(name, (ALL_PATHS_ALIAS, *dialect.names_of_all))


def _with_name(configuration: Configuration, name: str) -> tuple[Configuration, str]:
    """Return the canonical name of a path, and the configuration, which has its name if it stands for every name."""
    loaded = _loaded_name(configuration, name)
    if loaded == ALL_PATHS and loaded not in configuration.paths:
        others = configuration.written - {*dialect_of(configuration.dialect).names_of_all}
        configuration = msgspec.structs.replace(configuration, written=OwnSettings({*others, name}))
    return configuration, loaded


def _loaded_name(configuration: Configuration, name: str) -> str:
    return loaded_name_in(dialect_of(configuration.dialect), name)


def _map(values: Any) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigurationError("not a map")
    return values
