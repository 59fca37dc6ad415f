"""What is wrong with the commands of a configuration, as far as it can be seen before they run."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Final

from polycast.config.dialects.registry import dialect_of
from polycast.config.fields import Field, configuration_fields, path_fields
from polycast.config.names import ALL_PATHS
from polycast.config.schema import Configuration, PathConfiguration
from polycast.control.commands import expand

_PREFIX: Final = "run_on_"

# A program name with variables is only known when the command runs.
_VARIABLE: Final = "$"

# What only a shell understands, when it is not quoted: && || | & ; < > >> 2>file 2>&1
_SHELL_OPERATOR: Final = re.compile(r"\|\|?|&&?|;|<|[0-9&]?>>?([&/.\w].*)?", re.ASCII)


def commands_of(settings: Configuration | PathConfiguration) -> Iterator[tuple[str, str]]:
    """Yield the canonical key and the text of each command; of the server's settings, without those of paths."""
    is_path = isinstance(settings, PathConfiguration)
    for field in _path_commands() if is_path else _commands_among(configuration_fields()):
        command = field.of(settings)
        if command:
            yield field.key, command


@cache
def _path_commands() -> tuple[Field, ...]:
    # There may be thousands of paths, each with some fifty keys.
    return _commands_among(path_fields())


def _commands_among(fields: Mapping[str, Field]) -> tuple[Field, ...]:
    return tuple(
        field for field in fields.values() if field.name.startswith(_PREFIX) and isinstance(field.default, str)
    )


def command_problems(configuration: Configuration) -> Iterator[str]:
    """Yield a line for each command that cannot run, or will not do what it seems to do."""
    dialect = dialect_of(configuration.dialect)
    commands = [(dialect.key(key), command) for key, command in commands_of(configuration)]
    for name, path in configuration.paths.items():
        shown = dialect.names_of_all[0] if name == ALL_PATHS else name
        commands += [(f"path '{shown}': {dialect.key(key)}", command) for key, command in commands_of(path)]
    exists = lru_cache(lambda program: shutil.which(program) is not None)  # many paths have the same command
    for where, command in commands:
        try:
            arguments = expand(command, {})
        except ValueError as error:
            yield f"{where}: the command cannot be parsed: {error}"
            continue
        if not arguments:
            yield f"{where}: the command is empty"
            continue
        if _VARIABLE not in arguments[0] and not exists(arguments[0]):
            yield f"{where}: the program '{arguments[0]}' does not exist"
        operator = _shell_operator(command)
        if operator in arguments:
            yield f"{where}: commands run without a shell, so '{operator}' is an argument; use sh -c '...'"


def _shell_operator(command: str) -> str:
    """Return the first unquoted operator of a shell; empty if there is none."""
    try:
        words = shlex.split(command, posix=False)  # keeps the quotes
    except ValueError:
        return ""
    return next((word for word in words if _SHELL_OPERATOR.fullmatch(word)), "")
