"""What is wrong with the commands of a configuration, as far as it can be seen before they run."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from polycast.config.fields import path_fields
from polycast.config.names import ALL_PATHS, ALL_PATHS_ALIAS
from polycast.config.schema import Configuration
from polycast.control.commands import expand

# A program name with variables is only known when the command runs.
_VARIABLE: Final = "$"

# What only a shell understands, when it is not quoted: && || | & ; < > >> 2>file 2>&1
_SHELL_OPERATOR: Final = re.compile(r"\|\|?|&&?|;|<|[0-9&]?>>?([&/.\w].*)?", re.ASCII)


def command_problems(configuration: Configuration) -> Iterator[str]:
    """Yield a line for each command that cannot run, or will not do what it seems to do."""
    commands = [("runOnConnect", configuration.run_on_connect)]
    for name, path in configuration.paths.items():
        shown = ALL_PATHS_ALIAS if name == ALL_PATHS else name
        commands += [
            (f"path '{shown}': {key}", getattr(path, field.name))
            for key, field in path_fields().items()
            if key.startswith("runOn") and isinstance(getattr(path, field.name), str)
        ]
    exists = lru_cache(lambda program: shutil.which(program) is not None)  # many paths have the same command
    for where, command in commands:
        if not command:
            continue
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
