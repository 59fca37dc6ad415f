"""Settings from environment variables: ``RTSP_HLSVARIANT``, ``RTSP_PATHS_CAM1_SOURCE``.

Items of a list of maps have variables of their own: ``RTSP_WEBRTCICESERVERS2_0_URL``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from polycast.config.convert import given_path_key
from polycast.config.fields import Field, configuration_fields, path_fields, replace
from polycast.config.kinds import BOOLEAN
from polycast.config.reports import Report, SettingKey, raise_error
from polycast.config.schema import Configuration, PathConfiguration
from polycast.config.similar import closest
from polycast.config.spelling import environment_name
from polycast.config.struct_lists import MAXIMUM_ITEMS, StructListKind
from polycast.config.values import InvalidValueError
from polycast.errors import ConfigurationError

PREFIX: Final = "RTSP_"
PATHS_PREFIX: Final = "RTSP_PATHS_"
KEY_VARIABLE: Final = "RTSP_CONFKEY"
_OTHER_VARIABLES: Final = frozenset({KEY_VARIABLE, "RTSP_PATH", "RTSP_PORT"})
"""Variables with the prefix that are not settings: the key of an encrypted file, and those passed to commands."""
_INDEXES: Final = frozenset(map(str, range(MAXIMUM_ITEMS)))


class EnvironmentResult(msgspec.Struct, frozen=True):
    """The configuration with the variables applied."""

    configuration: Configuration
    variables: Mapping[str, str]
    """The variable of each key that was set; keys in the form of ``convert.given_keys``."""
    warnings: list[str]


def apply_environment(
    configuration: Configuration, environment: Mapping[str, str], report: Report = raise_error
) -> EnvironmentResult:
    """Apply the variables; existing paths are changed, not replaced. ``report`` is called with each error."""
    variables = {name: environment[name] for name in sorted(environment) if name.startswith(PREFIX)}
    settings: dict[str, Any] = {}
    used = set(_OTHER_VARIABLES)
    given: dict[str, str] = {}
    for field in configuration_fields().values():
        variable = environment_name(field.key)
        if variable in variables:
            used.add(variable)
            given[field.key] = variable
            settings[field.name] = _parse(variable, field, variables[variable], (field.key,), report)
        if isinstance(field.kind, StructListKind):
            items = settings.get(field.name, field.of(configuration))
            names = _variables_of_items(variable, field.kind, len(items), variables)
            if names:
                used.update(names)
                settings[field.name] = _with_items(variable, field.kind, items, names, variables, report)
                given.setdefault(field.key, next(iter(names)))
    paths = dict(configuration.paths)
    for variable in variables:
        if variable.startswith(PATHS_PREFIX) and _apply_to_paths(paths, variable, variables[variable], given, report):
            used.add(variable)
    warnings = [_unused(name) for name in variables if name not in used]
    return EnvironmentResult(replace(configuration, **settings, paths=paths), given, warnings)


def _variables_of_items(
    prefix: str, kind: StructListKind[Any], count: int, variables: Mapping[str, str]
) -> dict[str, tuple[int, str]]:
    """Return index and key of each variable ``<prefix>_<index>_<KEY>``: of an existing item, or of one to append."""
    keys = {key.upper(): key for key in kind.keys}
    found: list[tuple[int, str, str]] = []
    for variable in variables:
        number, _, key = variable.removeprefix(f"{prefix}_").partition("_")
        if variable.startswith(f"{prefix}_") and number in _INDEXES and key in keys:
            found.append((int(number), keys[key], variable))
    names = {}
    for index, key, variable in sorted(found):
        if index > count:
            break  # an index is missing before it
        count = max(count, index + 1)
        names[variable] = (index, key)
    return names


def _with_items(
    prefix: str,
    kind: StructListKind[Any],
    items: Any,
    names: Mapping[str, tuple[int, str]],
    variables: Mapping[str, str],
    report: Report,
) -> Any:
    """Return a list of maps with the items changed that variables name."""
    values: list[dict[str, Any]] = kind.dump(items)
    for variable, (index, key) in names.items():
        if index == len(values):
            values.append({})
        values[index][key] = variables[variable]
    try:
        return kind.parse(values)
    except ConfigurationError as error:
        for each in (error, *error.others):
            each.place = f"{prefix}_..."
            report(each)
        return items


def _unused(variable: str) -> str:
    hint = _hint_of_path(variable) if variable.startswith(PATHS_PREFIX) else _did_you_mean("", variable)
    return f"environment variable {variable} is not a setting{hint}"


def _did_you_mean(prefix: str, variable: str) -> str:
    known = _path_fields_by_variable() if prefix else map(environment_name, configuration_fields())
    similar = closest(variable, known)
    return f" (did you mean {prefix}{similar}?)" if similar else ""


def _hint_of_path(variable: str) -> str:
    name, _, key = variable.removeprefix(PATHS_PREFIX).partition("_")
    if key in _path_fields_by_variable():
        return ""
    if "_" in key and key.rpartition("_")[2] in _path_fields_by_variable():
        return " (names of paths in variables cannot contain underscores; use a configuration file)"
    return _did_you_mean(f"{PATHS_PREFIX}{name}_", key)


def _apply_to_paths(
    paths: dict[str, PathConfiguration], variable: str, text: str, given: dict[str, str], report: Report
) -> bool:
    """Apply one ``RTSP_PATHS_<NAME>[_<KEY>]`` variable; False if it is not one."""
    upper_name, _, key = variable.removeprefix(PATHS_PREFIX).partition("_")
    if not upper_name or upper_name != upper_name.upper():
        return False
    name = upper_name.lower()
    path = paths.setdefault(name, PathConfiguration())
    if not key:
        return True
    field = _path_fields_by_variable().get(key)
    if field is None:
        return False
    value = _parse(variable, field, text, ("paths", name, field.key), report)
    paths[name] = msgspec.structs.replace(path, **{field.name: value})
    given[given_path_key(name, field.key)] = variable
    return True


def _path_fields_by_variable() -> dict[str, Field]:
    return {key.upper(): field for key, field in path_fields().items()}


def _parse(variable: str, field: Field, text: str, key: SettingKey, report: Report) -> Any:
    """Return the value of a variable; after an error the default."""
    try:
        return field.kind.parse(text)
    except ConfigurationError as error:
        errors: tuple[ConfigurationError, ...] = (error, *error.others)
    if field.kind is BOOLEAN:
        errors = (InvalidValueError(f"invalid value '{text}' (write yes or no)"),)
    for each in errors:
        each.place = variable
        report(each, key)
    return field.default
