"""Settings from environment variables: ``MTX_HLSVARIANT``, ``MTX_PATHS_CAM1_SOURCE``, ``RTSP_PROTOCOLS``.

Items of a list of maps have variables of their own: ``MTX_WEBRTCICESERVERS2_0_URL``. The dialect determines the prefix.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import msgspec

from polycast.config.annotations import kind_of
from polycast.config.convert import PATH_DEFAULTS, Reading, given_path_key, with_new_defaults
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.views import View, view_of
from polycast.config.fields import Field, replace
from polycast.config.kinds import BOOLEAN
from polycast.config.names import ALL_PATHS
from polycast.config.path_schema import OwnSettings
from polycast.config.reports import SettingKey
from polycast.config.schema import Configuration, PathConfiguration
from polycast.config.similar import closest
from polycast.config.spelling import environment_name
from polycast.config.struct_lists import MAXIMUM_ITEMS, StructListKind
from polycast.config.unsupported import check_unsupported
from polycast.config.values import InvalidValueError
from polycast.errors import ConfigurationError

KEY_VARIABLES: Final = ("RTSP_CONFKEY", "MTX_CONFKEY", "POLYCAST_CONFKEY")
"""Variables with the key of an encrypted file, in the order in which they are tried."""
KEY_VARIABLE: Final = KEY_VARIABLES[0]

_SIMILARITY: Final = 0.75
"""From which a variable with a prefix that others use as well was probably meant as a setting; 0 to 1."""

_OTHER_NAMES: Final = frozenset(
    {
        *("CONFKEY", "PATH", "PORT", "QUERY", "CONN_TYPE", "CONN_ID", "SOURCE_TYPE", "SOURCE_ID"),
        *("READER_TYPE", "READER_ID", "SEGMENT_PATH", "SEGMENT_DURATION"),
    }
)
"""Variables with a prefix that are not settings: the key of an encrypted file, and those passed to commands."""


class EnvironmentResult(msgspec.Struct, frozen=True):
    """The configuration with the variables applied."""

    configuration: Configuration
    variables: Mapping[str, str]
    """The variable of each key that was set; keys in the form of ``convert.given_keys``."""


def key_variable(environment: Mapping[str, str]) -> str:
    """Return the name of the variable with the key of an encrypted file; empty if there is none."""
    return next((name for name in KEY_VARIABLES if name in environment), "")


def apply_environment(
    configuration: Configuration, environment: Mapping[str, str], reading: Reading
) -> EnvironmentResult:
    """Apply the variables of the dialect; existing paths are changed, not replaced."""
    variables: dict[str, str] = {}
    for prefix in reading.dialect.prefixes:
        if not any(name.startswith(prefix) for name in environment):
            continue  # most have none, and there are hundreds of settings
        applied = _Prefix(prefix, environment, reading)
        configuration = applied.apply(configuration)
        variables.update(applied.given)
    return EnvironmentResult(configuration, variables)


class _Prefix:
    """The variables with one prefix."""

    def __init__(self, prefix: str, environment: Mapping[str, str], reading: Reading) -> None:
        self._prefix = prefix
        self._variables = {name: environment[name] for name in sorted(environment) if name.startswith(prefix)}
        self._reading = reading
        self._view: View = reading.view
        self._used = {prefix + name for name in _OTHER_NAMES}
        self.given: dict[str, str] = {}
        """The variable of each key that was set."""

    def apply(self, configuration: Configuration) -> Configuration:
        """Return the configuration with the variables applied, and add warnings."""
        settings: dict[str, Any] = {}
        for field in self._view.accepted.values():
            self._apply_to(field, configuration, settings)
        configuration = self._apply_path_defaults(replace(configuration, **settings))
        paths = dict(configuration.paths)
        for variable, text in self._variables.items():
            if variable.startswith(self._paths_prefix) and self._apply_to_paths(
                paths, configuration.path_defaults, variable, text
            ):
                self._used.add(variable)
        self._check_unsupported()
        for name in self._variables:
            if name not in self._used and not self._is_of_others(name):
                self._reading.warn(self._unused(name))
        if self._prefix in self._reading.dialect.old_prefixes:
            self._warn_of_old_names()
        return replace(configuration, paths=paths)

    @property
    def _paths_prefix(self) -> str:
        return f"{self._prefix}PATHS_"

    def _apply_to(self, field: Field, configuration: Configuration, settings: dict[str, Any]) -> None:
        variable = environment_name(field.key, self._prefix)
        if variable in self._variables:
            self._used.add(variable)
            self.given[field.key] = variable
            self._reading.note(field, field.key)
            settings[field.name] = self._parse(variable, field, (field.key,))
            if settings[field.name]:
                settings.update(self._view.implied.get(field.key, {}))
        if isinstance(field.kind, StructListKind):
            items = settings.get(field.name, field.of(configuration))
            values = field.kind.dump(items)
            used = _edit_items(variable, field.kind, values, self._variables)
            if used:
                self._used.update(used)
                settings[field.name] = self._parse_items(variable, field.kind, items, values)
                self.given.setdefault(field.key, used[0])

    def _apply_path_defaults(self, configuration: Configuration) -> Configuration:
        """Apply ``<PREFIX>PATHDEFAULTS_<KEY>`` to the defaults and to the paths that do not have another value."""
        if not self._reading.dialect.has_path_defaults:
            return configuration
        changed: dict[str, Any] = {}
        for field in self._view.path_accepted.values():
            variable = environment_name(f"{PATH_DEFAULTS}_{field.key}", self._prefix)
            former = environment_name(field.key, self._prefix)
            if field.key in self._reading.dialect.moved and former in self._variables:
                self._reading.note_moved(field.key)
                self._used.add(variable)
                variable = former
            if variable in self._variables:
                self._used.add(variable)
                self.given[f"{PATH_DEFAULTS}.{field.key}"] = variable
                self._reading.note(field, field.key, PATH_DEFAULTS)
                changed[field.name] = self._parse(variable, field, (PATH_DEFAULTS, field.key))
        for field, kind in self._list_fields():
            variable = environment_name(f"{PATH_DEFAULTS}_{field.key}", self._prefix)
            items = changed.get(field.name, field.of(configuration.path_defaults))
            values = kind.dump(items)
            used = _edit_items(variable, kind, values, self._variables)
            if used:
                self._used.update(used)
                changed[field.name] = self._parse_items(variable, kind, items, values)
                self.given.setdefault(f"{PATH_DEFAULTS}.{field.key}", used[0])
        if not changed:
            return configuration
        old = configuration.path_defaults
        new = msgspec.structs.replace(old, **changed)
        paths = with_new_defaults(configuration.paths, old, changed)
        return replace(configuration, path_defaults=new, paths=paths)

    def _apply_to_paths(
        self, paths: dict[str, PathConfiguration], base: PathConfiguration, variable: str, text: str
    ) -> bool:
        """Apply one ``<PREFIX>PATHS_<NAME>[_<KEY>]`` variable; False if it is not one."""
        upper_name, _, key = variable.removeprefix(self._paths_prefix).partition("_")
        if not upper_name or upper_name != upper_name.upper():
            return False
        name = self._name_in(paths, upper_name.lower())
        if not key:
            paths.setdefault(name, base)
            return True
        field = self._path_fields_by_variable().get(key)
        if field is None:
            return (
                variable in self._used
                or self._apply_to_items(paths, base, name, f"{self._paths_prefix}{upper_name}_")
                or key in {each.upper() for each in self._reading.dialect.path_unsupported}
            )
        self._reading.note(field, field.key, "paths", name)
        value = self._parse(variable, field, ("paths", name, field.key))
        path = paths.get(name, base)
        paths[name] = msgspec.structs.replace(path, **{field.name: value}, given=OwnSettings(path.given | {field.name}))
        self.given[given_path_key(name, field.key, self._reading.dialect.names_of_all)] = variable
        return True

    def _apply_to_items(
        self, paths: dict[str, PathConfiguration], base: PathConfiguration, name: str, prefix: str
    ) -> bool:
        """Apply the variables of items of lists of maps of one path; False if there are none."""
        settings = paths.get(name, base)
        applied = False
        for field, kind in self._list_fields():
            items = field.of(settings)
            values = kind.dump(items)
            variable = prefix + field.key.upper()
            used = _edit_items(variable, kind, values, self._variables)
            if not used or used[0] in self._used:
                continue
            applied = True
            self._used.update(used)
            changed = {field.name: self._parse_items(variable, kind, items, values)}
            paths[name] = settings = msgspec.structs.replace(settings, **changed)
            self.given.setdefault(given_path_key(name, field.key, self._reading.dialect.names_of_all), used[0])
        return applied

    def _list_fields(self) -> list[tuple[Field, StructListKind[Any]]]:
        """Return the settings of paths that are lists of maps, with their kinds."""
        fields = self._view.path_accepted.values()
        return [(field, field.kind) for field in fields if isinstance(field.kind, StructListKind)]

    def _name_in(self, paths: Mapping[str, PathConfiguration], name: str) -> str:
        """Return the name of an entry as the file has it; the one for all paths may have several."""
        names = self._reading.dialect.names_of_all
        if name not in names or len(names) == 1:
            return name
        return next((known for known in paths if known in (*names, ALL_PATHS)), name)

    def _check_unsupported(self) -> None:
        dialect = self._reading.dialect
        for key, setting in dialect.unsupported.items():
            variable = environment_name(key, self._prefix)
            if variable in self._variables:
                self._used.add(variable)
                check_unsupported(
                    key, _list_or_text(self._variables[variable], setting.default), setting, self._reading
                )
            self._used.update(name for name in self._variables if name.startswith(f"{variable}_"))
        for key, setting in dialect.path_unsupported.items():
            for variable, text in self._variables.items():
                if variable.startswith((self._paths_prefix, f"{self._prefix}PATHDEFAULTS_")) and variable.endswith(
                    f"_{key.upper()}"
                ):
                    self._used.add(variable)
                    check_unsupported(key, _list_or_text(text, setting.default), setting, self._reading)

    def _warn_of_old_names(self) -> None:
        dialect = self._reading.dialect
        for key, variable in self.given.items():
            canonical = self._canonical_name(key)
            new = environment_name(canonical.replace(".", "_"), dialect.prefixes[-1])
            self._reading.warn(f"environment variable {variable} is deprecated and has been replaced with {new}")

    def _canonical_name(self, key: str) -> str:
        *within, last = key.split(".") if key.startswith(("paths.", PATH_DEFAULTS)) else [key]
        fields = self._view.path_accepted if within else self._view.accepted
        return ".".join((*within, fields[last].canonical if last in fields else last))

    def _parse_items(self, prefix: str, kind: StructListKind[Any], items: Any, values: list[dict[str, Any]]) -> Any:
        """Return a list of maps of its changed plain values; ``items`` if they are not valid."""
        try:
            return kind.parse(values)
        except ConfigurationError as error:
            for each in (error, *error.others):
                each.place = f"{prefix}_..."
                self._reading.report(each)
            return items

    def _is_of_others(self, variable: str) -> bool:
        """Whether a variable is probably not meant as a setting."""
        dialect = self._reading.dialect
        if not dialect.has_other_variables or self._prefix in dialect.old_prefixes:
            return False
        if variable.startswith(self._paths_prefix):
            return False
        return not closest(variable.removeprefix(self._prefix), _names_of_settings(dialect), _SIMILARITY)

    def _unused(self, variable: str) -> str:
        hint = (
            self._hint_of_path(variable)
            if variable.startswith(self._paths_prefix)
            else self._did_you_mean("", variable, (environment_name(key, self._prefix) for key in self._view.fields))
        )
        return f"environment variable {variable} is not a setting{hint}"

    def _did_you_mean(self, before: str, text: str, known: Any) -> str:
        similar = closest(text, known)
        return f" (did you mean {before}{similar}?)" if similar else ""

    def _hint_of_path(self, variable: str) -> str:
        name, _, key = variable.removeprefix(self._paths_prefix).partition("_")
        known = self._path_fields_by_variable()
        if key in known:
            return ""
        if "_" in key and key.rpartition("_")[2] in known:
            return " (names of paths in variables cannot contain underscores; use a configuration file)"
        return self._did_you_mean(f"{self._paths_prefix}{name}_", key, known)

    def _path_fields_by_variable(self) -> dict[str, Field]:
        return {key.upper(): field for key, field in self._view.path_accepted.items()}

    def _parse(self, variable: str, field: Field, key: SettingKey) -> Any:
        """Return the value of a variable; after an error the default."""
        text = self._variables[variable]
        try:
            return field.kind.from_text(text)
        except ConfigurationError as error:
            errors: tuple[ConfigurationError, ...] = (error, *error.others)
        if field.kind.label == BOOLEAN.label:
            errors = (InvalidValueError(f"invalid value '{text}' (write yes or no)"),)
        for each in errors:
            each.place = variable
            self._reading.report(each, key)
        return field.default


def is_setting_variable(variable: str, dialect: Dialect) -> bool:
    """Whether a variable is a setting of a dialect, with its own prefix."""
    prefix = dialect.prefixes[-1]
    name = variable.removeprefix(prefix)
    if name == variable or name in _OTHER_NAMES:
        return False
    first, separator, _ = name.partition("_")
    known = _names_of_settings(dialect)
    return (name in known and not separator) or (bool(separator) and first in known)


@cache
def _names_of_settings(dialect: Dialect) -> frozenset[str]:
    keys = {*view_of(dialect).accepted, *dialect.moved, *dialect.unsupported, "paths"}
    if dialect.has_path_defaults:
        keys.add(PATH_DEFAULTS)
    return frozenset(key.upper() for key in keys)


def other_variables(dialect: Dialect, others: Mapping[str, Dialect], environment: Mapping[str, str]) -> list[str]:
    """Return a warning for each prefix of another dialect whose variables are set but not read."""
    warnings = []
    for other in others.values():
        prefix = other.prefixes[-1]
        if prefix in dialect.prefixes:
            continue
        names = [name for name in sorted(environment) if is_setting_variable(name, other)]
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            warnings.append(
                f"environment variable {names[0]}{more} is not read, because the dialect is '{dialect.name}': use "
                f"{dialect.prefixes[-1]}..., or start with --dialect {other.name}"
            )
    return warnings


def _list_or_text(text: str, default: Any) -> Any:
    return [item.strip() for item in text.split(",") if item.strip()] if isinstance(default, list) else text


def _edit_items(
    prefix: str, kind: StructListKind[Any], values: list[dict[str, Any]], variables: Mapping[str, str]
) -> list[str]:
    """Change the items of a list of maps that variables name, and return these variables.

    They are ``<prefix>_<index>_<KEY>``, of an existing item or of one to append. A key that is a list of maps itself
    has items in the same way: ``<prefix>_<index>_<KEY>_<index>_<KEY>``.
    """
    used: list[str] = []
    for index in range(MAXIMUM_ITEMS):
        item = values[index] if index < len(values) else {}
        found: list[str] = []
        for key, info in kind.keys.items():
            variable = f"{prefix}_{index}_{key.upper()}"
            if variable in variables:
                item[key] = variables[variable]
                found.append(variable)
            inner, items = kind_of(info), item.get(key, [])
            if isinstance(inner, StructListKind) and isinstance(items, list):
                inside = _edit_items(variable, inner, items, variables)
                if inside:
                    item[key] = items
                    found += inside
        if index == len(values):
            if not found:
                break  # an index is missing before those that may follow
            values.append(item)
        used += found
    return used
