"""Converts plain values (of a YAML file or a JSON body) to the typed configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from polycast.config.fields import Field, configuration_fields, path_fields, replace
from polycast.config.names import ALL_PATHS, ALL_PATHS_ALIAS
from polycast.config.schema import Configuration, PathConfiguration
from polycast.config.suggest import unknown_key
from polycast.config.yaml_problems import SPACE_IS_MISSING, is_assignment, is_space_missing
from polycast.errors import ConfigurationError


class Key(str):
    """A key with its position in the file, for errors."""

    __slots__ = ("line",)

    line: int


def check_keys(values: Any) -> None:
    """Raise ConfigurationError for the first unknown key, in the order of ``values``."""
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"not a map ({_map_hint(values)})")
    known = configuration_fields()
    for key, value in values.items():
        if key == "paths":
            _check_path_keys(key, value)
        elif key not in known:
            raise unknown_key(key, is_map=isinstance(value, Mapping))


def parse_fields(values: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
    """The Python names and typed values of the keys in ``values``; null stands for the default. Keys must be known."""
    parsed = {}
    for key, value in values.items():
        field = fields.get(key)
        if field is None:
            raise unknown_key(key, of_path=fields is path_fields())
        try:
            parsed[field.name] = field.default if value is None else field.kind.parse(value)
        except ConfigurationError as error:
            raise error.within(key) from error.__cause__
    return parsed


def parse_path(name: str, values: Mapping[str, Any] | None) -> PathConfiguration:
    """The settings of one path. Rules between keys are not checked here."""
    return PathConfiguration(**_parse_path_fields(name, values or {}))


def parse_configuration(values: Mapping[str, Any]) -> Configuration:
    """The whole configuration. Rules between keys are not checked here."""
    check_keys(values)
    settings = parse_fields({key: value for key, value in values.items() if key != "paths"}, configuration_fields())
    paths = {str(name): parse_path(name, path) for name, path in (values.get("paths") or {}).items()}
    return replace(Configuration(), **settings, paths=paths)


def edit_path(path: PathConfiguration, name: str, values: Mapping[str, Any]) -> PathConfiguration:
    """``path`` with the keys of ``values`` changed."""
    return msgspec.structs.replace(path, **_parse_path_fields(name, values))


def _parse_path_fields(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return parse_fields(values, path_fields())
    except ConfigurationError as error:
        raise error.within("paths", name) from error.__cause__


def given_keys(values: Mapping[str, Any]) -> frozenset[str]:
    """The keys that are set in ``values``: ``hlsVariant`` for a global key, ``paths.<name>.<key>`` for a path's key."""
    given = {str(key) for key in values if key != "paths"}
    for name, path in (values.get("paths") or {}).items():
        given.update(given_path_key(name, key) for key in path or ())
    return frozenset(given)


def given_path_key(name: str, key: str) -> str:
    """The name of a path's key in ``given_keys``."""
    return f"paths.{ALL_PATHS if name == ALL_PATHS_ALIAS else name}.{key}"


def _check_path_keys(key: str, paths: Any) -> None:
    if paths is None:
        return
    if not isinstance(paths, Mapping):
        error = ConfigurationError("parameter paths is not a map (write the names of paths below it, indented)")
        error.line = getattr(key, "line", 0)
        raise error
    known = path_fields()
    for name, path in paths.items():
        if path is None:
            continue
        if not isinstance(path, Mapping):
            raise ConfigurationError(f"not a map ({_path_hint(name, path)})", ("paths", name))
        for key in path:
            if key not in known:
                raise unknown_key(key, of_path=True).within("paths", name)


def _map_hint(values: Any) -> str:
    form = "write settings as 'key: value', one a line"
    if isinstance(values, str) and is_assignment(values):
        return f"this looks like TOML or INI; {form}"
    return SPACE_IS_MISSING if isinstance(values, str) and is_space_missing(values) else form


def _path_hint(name: str, value: Any) -> str:
    if name in path_fields():
        return f"'{name}' is a setting of a path: indent it more than the name of the path"
    if isinstance(value, str) and "://" in value:
        return "write 'source: ' and the address below it, indented"
    return "write its settings below it, indented"
