"""Converts plain values (of a YAML file or a JSON body) to the typed configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from polycast.config.fields import Field, configuration_fields, path_fields, replace
from polycast.config.names import ALL_PATHS, ALL_PATHS_ALIAS
from polycast.config.reports import Report, raise_error
from polycast.config.schema import Configuration, PathConfiguration
from polycast.config.suggest import unknown_key
from polycast.config.yaml_problems import SPACE_IS_MISSING, is_assignment, is_space_missing
from polycast.errors import ConfigurationError


class Key(str):
    """A key with its position in the file, for errors."""

    __slots__ = ("line",)

    line: int


def parse_fields(
    values: Mapping[str, Any], fields: Mapping[str, Field], *within: str, report: Report = raise_error
) -> dict[str, Any]:
    """The Python names and typed values of the keys in ``values``; null stands for the default.

    ``within`` is where they are, for errors, such as ``"paths", "cam"``. ``report`` is called with each error.
    """
    parsed = {}
    for key, value in values.items():
        field = fields.get(key)
        if field is None:
            error = unknown_key(key, of_path=fields is path_fields())
            report(error.within(*within) if within else error)
            continue
        try:
            parsed[field.name] = field.default if value is None else field.kind.parse(value)
        except ConfigurationError as error:
            errors = (error, *error.others)
        else:
            continue
        for each in errors:
            report(each.within(*within, key))
    return parsed


def parse_path(name: str, values: Mapping[str, Any] | None, report: Report = raise_error) -> PathConfiguration:
    """The settings of one path. Rules between keys are not checked here."""
    return PathConfiguration(**parse_fields(values or {}, path_fields(), "paths", name, report=report))


def parse_configuration(values: Any, report: Report = raise_error) -> Configuration:
    """The whole configuration. Rules between keys are not checked here.

    ``report`` is called with each error; unless it raises, the key concerned keeps its default.
    """
    known = _known_keys(values, report)
    paths = known.pop("paths", None) or {}
    settings = parse_fields(known, configuration_fields(), report=report)
    parsed = {str(name): parse_path(name, path, report) for name, path in paths.items()}
    return replace(Configuration(), **settings, paths=parsed)


def edit_path(path: PathConfiguration, name: str, values: Mapping[str, Any]) -> PathConfiguration:
    """``path`` with the keys of ``values`` changed."""
    return msgspec.structs.replace(path, **parse_fields(values, path_fields(), "paths", name))


def given_keys(values: Mapping[str, Any]) -> frozenset[str]:
    """The keys that are set in ``values``: ``hlsVariant`` for a global key, ``paths.<name>.<key>`` for a path's key."""
    given = {str(key) for key in values if key != "paths"}
    for name, path in (values.get("paths") or {}).items():
        given.update(given_path_key(name, key) for key in path or ())
    return frozenset(given)


def given_path_key(name: str, key: str) -> str:
    """The name of a path's key in ``given_keys``."""
    return f"paths.{ALL_PATHS if name == ALL_PATHS_ALIAS else name}.{key}"


def _known_keys(values: Any, report: Report) -> dict[str, Any]:
    """Return ``values`` without unknown keys, all of which are reported before any value is parsed."""
    if not isinstance(values, Mapping):
        report(ConfigurationError(f"not a map ({_map_hint(values)})"))
        return {}
    found: dict[str, Any] = {}
    known = configuration_fields()
    for key, value in values.items():
        if key == "paths":
            found[key] = _known_path_keys(key, value, report)
        elif key in known:
            found[key] = value
        else:
            report(unknown_key(key, is_map=isinstance(value, Mapping)))
    return found


def _known_path_keys(key: str, paths: Any, report: Report) -> dict[str, dict[str, Any]]:
    if paths is None:
        return {}
    if not isinstance(paths, Mapping):
        error = ConfigurationError("parameter paths is not a map (write the names of paths below it, indented)")
        error.line = getattr(key, "line", 0)
        report(error)
        return {}
    known = path_fields()
    found: dict[str, dict[str, Any]] = {}
    for name, path in paths.items():
        if path is not None and not isinstance(path, Mapping):
            report(ConfigurationError(f"not a map ({_path_hint(name, path)})", ("paths", name)))
            continue
        found[name] = {}
        for key, value in (path or {}).items():
            if key in known:
                found[name][key] = value
            else:
                report(unknown_key(key, of_path=True).within("paths", name))
    return found


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
