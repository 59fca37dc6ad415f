"""A whole configuration at once: checked as text, written as text, put in the place of the running one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from polycast.config.convert import PATH_DEFAULTS
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import dialect_of
from polycast.config.dialects.views import view_of
from polycast.config.fields import Field
from polycast.config.load import LoadedConfiguration, load_bytes
from polycast.config.names import ALL_PATHS
from polycast.config.schema import Configuration, PathConfiguration
from polycast.config.yaml_text import entry
from polycast.errors import ConfigurationError

_INDENT: Final = 2

_DIALECT: Final = re.compile(r"^dialect\s*:", re.MULTILINE)
_PLACE: Final = re.compile(r"(?:invalid YAML: )?line (\d+)(?:, column \d+)?: ", re.DOTALL)


class Problem(msgspec.Struct, frozen=True):
    """An error of a text."""

    line: int
    """From 1; 0 if it is in no line of this text."""
    text: str


def load_text(
    text: str, name: str, running: Configuration, environment: Mapping[str, str], known_includes: Sequence[str]
) -> LoadedConfiguration:
    """Read a text as the file ``name`` of a server with a running configuration, which includes ``known_includes``.

    Raises ConfigurationError.
    """
    dialect = None if _DIALECT.search(text) else dialect_of(running.dialect)
    return load_bytes(text.encode(), environment, name, dialect, known_includes=known_includes)


def problems_of(error: ConfigurationError, name: str) -> list[Problem]:
    """Return the errors of a text that `load_text` has refused."""
    return [_problem(text, name) for text in error.report or (str(error),)]


def _problem(text: str, name: str) -> Problem:
    text = text.removeprefix(f"{name}: ") if name else text
    place = _PLACE.match(text)
    return Problem(int(place[1]), text[place.end() :]) if place is not None else Problem(0, text)


def text_of(configuration: Configuration) -> str:
    """Return a configuration as the text of a file in its dialect: what differs from the defaults."""
    dialect = dialect_of(configuration.dialect)
    view = view_of(dialect)
    defaults = view.defaults
    values = {
        key: field.kind.dump(field.of(configuration))
        for key, field in view.fields.items()
        if field.of(configuration) != field.of(defaults)
    }
    if dialect.has_path_defaults:
        of_paths = _difference(view.path_fields, configuration.path_defaults, defaults.path_defaults)
        if of_paths:
            values[PATH_DEFAULTS] = of_paths
    paths = {
        dialect.names_of_all[0] if name == ALL_PATHS else name: _difference(
            view.path_fields, path, configuration.path_defaults
        )
        for name, path in configuration.paths.items()
    }
    lines = [entry(key, value, 0, _INDENT, "\n") for key, value in {**values, "paths": paths}.items()]
    return "".join(lines)


def _difference(fields: Mapping[str, Field], path: PathConfiguration, defaults: PathConfiguration) -> dict[str, Any]:
    return {
        key: field.kind.dump(field.of(path)) for key, field in fields.items() if field.of(path) != field.of(defaults)
    }


def replacement(
    text: str, name: str, running: Configuration, environment: Mapping[str, str], known_includes: Sequence[str]
) -> ReplaceAll:
    """Return the edit that puts a text in the place of the whole configuration. Raises ConfigurationError."""
    return ReplaceAll(load_text(text, name, running, environment, known_includes).configuration, text)


class ReplaceAll(msgspec.Struct, frozen=True):
    """Put a whole configuration in the place of the running one."""

    configuration: Configuration
    text: str
    """What the file will contain."""

    @property
    def dialect(self) -> Dialect:
        """Whose names it has."""
        return dialect_of(self.configuration.dialect)

    def apply(self, _: Configuration) -> Configuration:
        """Return it."""
        return self.configuration
