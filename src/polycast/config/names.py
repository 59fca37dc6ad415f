"""The rules for path names and for path patterns (regular expressions)."""

from __future__ import annotations

import re
from typing import Final

from polycast.errors import ConfigurationError

ALL_PATHS_ALIAS: Final = "all"
ALL_PATHS: Final = "~^.*$"
"""What the entry ``all`` is called once it is loaded; the API and ``confName`` show this name."""

_PATH_NAME = re.compile(r"[0-9a-zA-Z_\-/.~]+", re.ASCII)
_POSIX_CLASSES: Final = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "digit": "0-9",
    "lower": "a-z",
    "punct": r"!-/:-@\[-`{-\~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": r"0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}


def check_path_name(name: str) -> None:
    """Raise ConfigurationError with the reason when ``name`` cannot be the name of a path."""
    if not name:
        raise ConfigurationError("cannot be empty")
    if name.startswith("/"):
        raise ConfigurationError("can't begin with a slash")
    if name.endswith("/"):
        raise ConfigurationError("can't end with a slash")
    if not _PATH_NAME.fullmatch(name):
        raise ConfigurationError("can contain only alphanumeric characters, underscore, dot, tilde, minus or slash")


def is_pattern(name: str) -> bool:
    """Whether the entry of this name stands for every path that matches a regular expression."""
    return name.startswith("~")


def compile_path_pattern(name: str) -> re.Pattern[str] | None:
    """The compiled expression of a ``~...`` entry, or None for an entry that names one path.

    Use ``search``: as in the reference server, a pattern is anchored only where it says so.
    Raises ConfigurationError when the expression is not valid.
    """
    if not is_pattern(name):
        return None
    expression = name[1:]
    try:
        return re.compile(_python_syntax(expression), re.ASCII)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigurationError(f"invalid regular expression: {expression}") from error


def _python_syntax(expression: str) -> str:
    """Rewrite what RE2, the engine of the reference server, spells differently.

    These are POSIX classes, ``\\z``, ``\\Q..\\E`` and ``(?<name>``.
    """
    pieces: list[str] = []
    position = 0
    class_start = -1  # index of the piece that opened a [...] class, -1 outside
    while position < len(expression):
        rest = expression[position : position + 16]
        character = rest[0]
        if character == "\\":
            piece, length = _escape(expression, position, in_class=class_start >= 0)
        elif class_start >= 0:
            piece, length = _class_member(rest, pieces[-1], first=len(pieces) == class_start + 1)
            if piece == "]":
                class_start = -1
        elif character == "[":
            length = 2 if rest.startswith("[^") else 1
            piece, class_start = rest[:length], len(pieces)
        elif rest.startswith("(?<") and rest[3:4] not in ("=", "!"):
            piece, length = "(?P<", 3
        else:
            piece, length = character, 1
        pieces.append(piece)
        position += length
    return "".join(pieces)


def _escape(expression: str, position: int, *, in_class: bool) -> tuple[str, int]:
    escape = expression[position : position + 2]
    if escape == r"\z" and not in_class:
        return r"\Z", 2
    if escape == r"\Q":
        end = expression.find(r"\E", position)
        end = len(expression) if end < 0 else end
        return re.escape(expression[position + 2 : end]), end + 2 - position
    return escape, len(escape)


def _class_member(rest: str, previous: str, *, first: bool) -> tuple[str, int]:
    """One member of a [...] class; what Python may one day read as a set operation is escaped."""
    posix = re.match(r"\[:([a-z]+):\]", rest)
    if posix and posix[1] in _POSIX_CLASSES:
        return _POSIX_CLASSES[posix[1]], len(posix[0])
    character = rest[0]
    if character == "]":
        return (r"\]", 1) if first else ("]", 1)
    if character in "[&~|" or (character == "-" and previous == "-"):
        return "\\" + character, 1
    return character, 1
