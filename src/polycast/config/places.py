"""Where a setting is written: the line of the file, or the environment variable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from polycast.config.convert import given_path_key
from polycast.config.names import ALL_OTHERS, ALL_PATHS, ALL_PATHS_ALIAS
from polycast.config.yaml_reader import Line
from polycast.errors import ConfigurationError

_NAMES_OF_ALL: Final = (ALL_PATHS_ALIAS, ALL_OTHERS, ALL_PATHS)


def locate(
    error: ConfigurationError, values: Any, variables: Mapping[str, str], name: str, names_of_all: tuple[str, ...]
) -> tuple[int, int]:
    """Set place and line of an error to those of the first of its settings that was set explicitly.

    Returns a value by which errors are sorted: those of the whole file, then by line, then those of variables.

    ``values`` is the content of the file, ``variables`` the environment variable of each setting that was set by one
    (named as in ``convert.given_keys``), ``name`` the name of the file, and ``names_of_all`` those of its dialect.
    """
    if error.place:
        return 2, 0
    for key in error.keys if not error.line else ():
        # A variable overrides the file.
        variable = variables.get(given_path_key(key[1], key[2], names_of_all) if len(key) > 2 else ".".join(key))
        if variable is not None:
            error.place = variable
            return 2, 0
        error.line = _line_of(values, key)
        if error.line:
            break
    file = error.line.file if isinstance(error.line, Line) else name
    error.place = ": ".join(part for part in (file, f"line {error.line}" if error.line else "") if part)
    return min(error.line, 1), error.line


def _line_of(values: Any, key: tuple[str, ...]) -> int:
    line = 0
    for part in key:
        if not isinstance(values, Mapping):
            return 0
        names = _NAMES_OF_ALL if part in _NAMES_OF_ALL and part not in values else (part,)
        written = next((known for known in values if known in names), None)
        if written is None:
            return 0
        line = getattr(written, "line", 0)
        values = values[written]
    return line
