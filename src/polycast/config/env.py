"""Settings from environment variables: ``RTSP_HLSVARIANT``, ``RTSP_PATHS_CAM1_SOURCE``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from polycast.config.convert import given_path_key
from polycast.config.fields import Field, configuration_fields, path_fields, replace
from polycast.config.kinds import BOOLEAN
from polycast.config.schema import Configuration, PathConfiguration
from polycast.config.similar import closest
from polycast.config.spelling import environment_name
from polycast.config.values import InvalidValueError
from polycast.errors import ConfigurationError

PREFIX: Final = "RTSP_"
PATHS_PREFIX: Final = "RTSP_PATHS_"
KEY_VARIABLE: Final = "RTSP_CONFKEY"
_OTHER_VARIABLES: Final = frozenset({KEY_VARIABLE, "RTSP_PATH", "RTSP_PORT"})
"""Variables with the prefix that are not settings: the key of an encrypted file, and those passed to commands."""


class EnvironmentResult(msgspec.Struct, frozen=True):
    """The configuration with the variables applied."""

    configuration: Configuration
    variables: Mapping[str, str]
    """The variable of each key that was set; keys in the form of ``convert.given_keys``."""
    warnings: list[str]


def apply_environment(configuration: Configuration, environment: Mapping[str, str]) -> EnvironmentResult:
    """Apply the variables; existing paths are changed, not replaced. Raises ConfigurationError."""
    variables = {name: environment[name] for name in sorted(environment) if name.startswith(PREFIX)}
    settings: dict[str, Any] = {}
    used = set(_OTHER_VARIABLES)
    given: dict[str, str] = {}
    for field in configuration_fields().values():
        variable = environment_name(field.key)
        if variable in variables:
            settings[field.name] = _parse(variable, field, variables[variable])
            used.add(variable)
            given[field.key] = variable
    paths = dict(configuration.paths)
    for variable in variables:
        if variable.startswith(PATHS_PREFIX) and _apply_to_paths(paths, variable, variables[variable], given):
            used.add(variable)
    warnings = [_unused(name) for name in variables if name not in used]
    return EnvironmentResult(replace(configuration, **settings, paths=paths), given, warnings)


def _unused(variable: str) -> str:
    similar = closest(variable, map(environment_name, configuration_fields()))
    hint = f" (did you mean {similar}?)" if similar and not variable.startswith(PATHS_PREFIX) else ""
    return f"environment variable {variable} is not a setting{hint}"


def _apply_to_paths(paths: dict[str, PathConfiguration], variable: str, text: str, given: dict[str, str]) -> bool:
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
    paths[name] = msgspec.structs.replace(path, **{field.name: _parse(variable, field, text)})
    given[given_path_key(name, field.key)] = variable
    return True


def _path_fields_by_variable() -> dict[str, Field]:
    return {key.upper(): field for key, field in path_fields().items()}


def _parse(variable: str, field: Field, text: str) -> Any:
    try:
        return field.kind.parse(text)
    except ConfigurationError as error:
        shown = InvalidValueError(f"invalid value '{text}' (write yes or no)") if field.kind is BOOLEAN else error
        shown.place = variable
        raise shown from None
