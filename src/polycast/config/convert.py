"""Converts plain values (of a YAML file or a JSON body) to the typed configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from polycast.config.dialects.base import Dialect
from polycast.config.dialects.views import View, view_of
from polycast.config.fields import Field, replace
from polycast.config.names import ALL_PATHS, loaded_name
from polycast.config.path_schema import OwnSettings
from polycast.config.reports import Report, SettingKey, raise_error
from polycast.config.schema import Configuration, PathConfiguration
from polycast.config.suggest import unknown_key
from polycast.config.unsupported import check_unsupported
from polycast.config.yaml_problems import SPACE_IS_MISSING, is_assignment, is_space_missing
from polycast.errors import ConfigurationError

PATHS: Final = "paths"
PATH_DEFAULTS: Final = "pathDefaults"
_OF_THE_FILE: Final = ("dialect", "include")
"""Keys that say how to read the file; they are used before."""


class Key(str):
    """A key with its position in the file, for errors."""

    __slots__ = ("line",)

    line: int


class Reading:
    """What is known about a configuration while it is read, besides its values."""

    def __init__(self, dialect: Dialect, report: Report = raise_error) -> None:
        """``report`` is called with each error; unless it raises, the key concerned keeps its default."""
        self.dialect: Final = dialect
        self.view: Final[View] = view_of(dialect)
        self.report: Final = report
        self.warnings: list[str] = []
        self._written: dict[SettingKey, str] = {}

    def note(self, field: Field, key: str, *within: str) -> None:
        """Note the key under which a setting was given; warn once about a former name."""
        new = self.dialect.replaced.get(key, "")
        if field.is_former:
            self._written[*self._scope(within), field.canonical] = key
            new = self.dialect.key(field.canonical)
        if new:
            self.warn(f"parameter '{key}' is deprecated and has been replaced with '{new}'")

    def note_moved(self, key: str) -> None:
        """Warn once about a global setting that is one of paths now."""
        self.warn(f"parameter '{key}' is deprecated and has been replaced with '{PATH_DEFAULTS}.{key}'")

    def warn(self, text: str) -> None:
        """Add a warning, unless it was added before."""
        if text not in self.warnings:
            self.warnings.append(text)

    def as_written(self, key: SettingKey) -> SettingKey:
        """Return a setting, named by its canonical key, under the name by which it was given."""
        *within, last = key
        return (*within, self._written.get((*self._scope(tuple(within)), last)) or self.dialect.key(last))

    def _scope(self, within: tuple[str, ...]) -> SettingKey:
        return within if len(within) < 2 else (within[0], loaded_name(within[1], self.dialect.names_of_all))


def parse_fields(
    values: Mapping[str, Any],
    view: View,
    *within: str,
    base: Configuration | PathConfiguration,
    reading: Reading | None = None,
) -> dict[str, Any]:
    """The Python names and typed values of the keys in ``values``, where null stands for the value in ``base``.

    They are global settings or those of a path, as ``base``. ``within`` is where they are, for errors, such as
    ``"paths", "cam"``. Without ``reading``, the first error is raised.
    """
    is_path = isinstance(base, PathConfiguration)
    fields = view.path_accepted if is_path else view.accepted
    report = raise_error if reading is None else reading.report
    parsed = {}
    for key in sorted(values, key=lambda key: key in fields and fields[key].is_former):
        field, value = fields.get(key), values[key]
        if field is None:
            error = unknown_key(key, view, of_path=is_path)
            report(error.within(*within) if within else error)
            continue
        if reading is not None:
            reading.note(field, key, *within)
        try:
            parsed[field.name] = field.of(base) if value is None else field.kind.parse(value)
        except ConfigurationError as error:
            errors = (error, *error.others)
        else:
            if parsed[field.name]:
                parsed.update(view.implied.get(key, {}))
            continue
        for each in errors:
            report(_at_line(key, each.within(*within, key)))
    return parsed


def parse_path(
    name: str, values: Mapping[str, Any] | None, view: View, base: PathConfiguration, reading: Reading | None = None
) -> PathConfiguration:
    """``base`` with the settings of one path. Rules between keys are not checked here."""
    return with_settings(base, values or {}, view, name, base, reading)


def with_settings(
    path: PathConfiguration,
    values: Mapping[str, Any],
    view: View,
    name: str,
    base: PathConfiguration,
    reading: Reading | None = None,
) -> PathConfiguration:
    """``path`` with changed settings; one that is null gets the value in ``base``, the defaults, and follows them."""
    parsed = parse_fields(values, view, PATHS, name, base=base, reading=reading)
    known = {key: view.path_accepted[key].name for key in values if key in view.path_accepted}
    given = {name for key, name in known.items() if values[key] is not None}
    given |= {key for key in known if key in view.path_deprecated}
    return msgspec.structs.replace(path, **parsed, given=OwnSettings(path.given - set(known.values()) | given))


def parse_configuration(values: Any, reading: Reading) -> Configuration:
    """The whole configuration. Rules between keys are not checked here."""
    view = reading.view
    known = _known_keys(values, reading)
    paths = known.pop(PATHS, None) or {}
    given_defaults = known.pop(PATH_DEFAULTS, None) or {}
    for key in _OF_THE_FILE:
        known.pop(key, None)
    settings = parse_fields(known, view, base=view.defaults, reading=reading)
    base = view.defaults.path_defaults
    base = msgspec.structs.replace(
        base, **parse_fields(given_defaults, view, PATH_DEFAULTS, base=base, reading=reading)
    )
    parsed = {str(name): parse_path(name, path, view, base, reading) for name, path in paths.items()}
    written = OwnSettings(known.keys() & view.deprecated.keys())
    return replace(view.defaults, **settings, written=written, path_defaults=base, paths=parsed)


def with_new_defaults(
    paths: Mapping[str, PathConfiguration], old: PathConfiguration, changes: Mapping[str, Any]
) -> dict[str, PathConfiguration]:
    """Apply changes of ``pathDefaults``, by Python names, to the paths that have no value of their own."""
    changed = {}
    for name, path in paths.items():
        inherited = {
            key: value
            for key, value in changes.items()
            # Programs make paths without saying which of the values are their own.
            if key not in path.given and getattr(path, key) == getattr(old, key)
        }
        changed[name] = msgspec.structs.replace(path, **inherited)
    return changed


def given_keys(values: Mapping[str, Any]) -> frozenset[str]:
    """The keys that are set in ``values``: ``hlsVariant`` for a global key, ``paths.<name>.<key>`` for a path's key."""
    given = {str(key) for key in values if key not in (PATHS, PATH_DEFAULTS, *_OF_THE_FILE)}
    given.update(f"{PATH_DEFAULTS}.{key}" for key in values.get(PATH_DEFAULTS) or ())
    for name, path in (values.get(PATHS) or {}).items():
        given.update(given_path_key(name, key) for key in path or ())
    return frozenset(given)


def given_path_key(name: str, key: str, names_of_all: tuple[str, ...] = ("all",)) -> str:
    """The name of a path's key in ``given_keys``."""
    return f"{PATHS}.{loaded_name(name, names_of_all)}.{key}"


def _known_keys(values: Any, reading: Reading) -> dict[str, Any]:
    """Return ``values`` without unknown keys, all of which are reported before any value is parsed."""
    if not isinstance(values, Mapping):
        reading.report(ConfigurationError(f"not a map ({_map_hint(values)})"))
        return {}
    found: dict[str, Any] = {}
    moved: dict[str, Any] = {}
    known, dialect = reading.view.accepted, reading.dialect
    for key, value in values.items():
        if key == PATHS:
            found[key] = _known_paths(key, value, reading)
        elif key == PATH_DEFAULTS and dialect.has_path_defaults:
            found[key] = _known_defaults(key, value, reading)
        elif key in known or key in _OF_THE_FILE:
            found[key] = value
        elif key in dialect.moved:
            reading.note_moved(key)
            moved[key] = value
        elif key in dialect.unsupported:
            check_unsupported(key, value, dialect.unsupported[key], reading)
        else:
            reading.report(unknown_key(key, reading.view, is_map=isinstance(value, Mapping)))
    return {**found, PATH_DEFAULTS: {**found.get(PATH_DEFAULTS, {}), **moved}} if moved else found


def _known_defaults(key: str, values: Any, reading: Reading) -> dict[str, Any]:
    if values is not None and not isinstance(values, Mapping):
        reading.report(
            _at_line(key, ConfigurationError("not a map (write settings of paths below it, indented)", (key,)))
        )
        return {}
    return _known_keys_of_path(values or {}, reading, key)


def _known_paths(key: str, paths: Any, reading: Reading) -> dict[str, dict[str, Any]]:
    if paths is None:
        return {}
    if not isinstance(paths, Mapping):
        text = "parameter paths is not a map (write the names of paths below it, indented)"
        reading.report(_at_line(key, ConfigurationError(text)))
        return {}
    found: dict[str, dict[str, Any]] = {}
    aliases = (*reading.dialect.names_of_all, ALL_PATHS)
    for name, path in paths.items():
        if path is not None and not isinstance(path, Mapping):
            hint = _path_hint(name, path, reading.view)
            reading.report(ConfigurationError(f"not a map ({hint})", (PATHS, name)))
            continue
        if len(reading.dialect.names_of_all) > 1 and name in aliases and any(other in found for other in aliases):
            reading.report(ConfigurationError("all_others, all and '~^.*$' are aliases", (PATHS, name)))
            continue
        found[name] = _known_keys_of_path(path or {}, reading, PATHS, name)
    return found


def _known_keys_of_path(values: Mapping[str, Any], reading: Reading, *within: str) -> dict[str, Any]:
    known, unsupported = reading.view.path_accepted, reading.dialect.path_unsupported
    found = {}
    for key, value in values.items():
        if key in known:
            found[key] = value
        elif key in unsupported:
            check_unsupported(key, value, unsupported[key], reading)
        else:
            reading.report(unknown_key(key, reading.view, of_path=True).within(*within))
    return found


def _at_line(key: str, error: ConfigurationError) -> ConfigurationError:
    error.line = error.line or getattr(key, "line", 0)
    return error


def _map_hint(values: Any) -> str:
    form = "write settings as 'key: value', one a line"
    if isinstance(values, str) and is_assignment(values):
        return f"this looks like TOML or INI; {form}"
    return SPACE_IS_MISSING if isinstance(values, str) and is_space_missing(values) else form


def _path_hint(name: str, value: Any, view: View) -> str:
    if name in view.path_fields:
        return f"'{name}' is a setting of a path: indent it more than the name of the path"
    if isinstance(value, str) and "://" in value:
        return "write 'source: ' and the address below it, indented"
    return "write its settings below it, indented"
