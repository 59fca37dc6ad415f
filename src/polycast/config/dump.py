"""The JSON form of the configuration in the API, and changes in this form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from polycast.config import convert
from polycast.config.fields import configuration_fields, path_fields, replace
from polycast.config.names import ALL_PATHS, ALL_PATHS_ALIAS
from polycast.config.schema import Configuration, PathConfiguration
from polycast.config.validate import validate
from polycast.errors import ConfigurationError


def to_jsonable(configuration: Configuration) -> dict[str, Any]:
    """Every key with its value: sets as sorted lists, durations and sizes as text."""
    values = {key: field.kind.dump(field.of(configuration)) for key, field in configuration_fields().items()}
    values["paths"] = {name: path_to_jsonable(path) for name, path in configuration.paths.items()}
    return values


def path_to_jsonable(path: PathConfiguration) -> dict[str, Any]:
    """Every key of a path with its value."""
    return {key: field.kind.dump(getattr(path, field.name)) for key, field in path_fields().items()}


def from_mapping(values: Mapping[str, Any]) -> Configuration:
    """A configuration from values as in a file or in JSON, including ``paths``. Raises ConfigurationError."""
    return validate(convert.parse_configuration(values))


def update(configuration: Configuration, partial: Mapping[str, Any]) -> Configuration:
    """Change global keys and validate the whole configuration. ``paths`` is ignored, as in the reference API.

    Raises ConfigurationError, also for keys that do not exist.
    """
    changes = {key: value for key, value in _map(partial).items() if key != "paths"}
    settings = convert.parse_fields(changes, configuration_fields())
    return validate(replace(configuration, **settings))


def add_path(configuration: Configuration, name: str, partial: Mapping[str, Any]) -> Configuration:
    """Add the path ``name`` after all others. Raises ConfigurationError, also if it exists."""
    name = _loaded_name(name)
    if name in configuration.paths:
        raise ConfigurationError(f"path '{name}' already exists")
    return _with_paths(configuration, {**configuration.paths, name: convert.parse_path(name, _map(partial))})


def edit_path(configuration: Configuration, name: str, partial: Mapping[str, Any]) -> Configuration:
    """Change the keys of ``partial`` in the path ``name``. Raises ConfigurationError, also if it does not exist."""
    name, path = _existing(configuration, name)
    return _with_paths(configuration, {**configuration.paths, name: convert.edit_path(path, name, _map(partial))})


def remove_path(configuration: Configuration, name: str) -> Configuration:
    """Remove the path ``name``. Raises ConfigurationError if it does not exist."""
    name, _ = _existing(configuration, name)
    return _with_paths(configuration, {key: path for key, path in configuration.paths.items() if key != name})


def _with_paths(configuration: Configuration, paths: dict[str, PathConfiguration]) -> Configuration:
    return validate(msgspec.structs.replace(configuration, paths=paths))


def _existing(configuration: Configuration, name: str) -> tuple[str, PathConfiguration]:
    name = _loaded_name(name)
    path = configuration.paths.get(name)
    if path is None:
        raise ConfigurationError(f"path '{name}' does not exist")
    return name, path


def _loaded_name(name: str) -> str:
    return ALL_PATHS if name == ALL_PATHS_ALIAS else name


def _map(values: Any) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigurationError("not a map")
    return values
