"""Says in words what is wrong with a YAML file, for the commonest messages of the parser.

No text of the file is repeated, since it may be a password.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

_LINE_BREAK: Final = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")  # those that the parser counts
_NO_SPACE: Final = re.compile(r"\s*(- )?\w+:(?!//)[^\s:]", re.ASCII)
_ASSIGNMENT: Final = re.compile(r"^\s*\w+\s*=|^\[[\w. ]+\]\s*$", re.ASCII | re.MULTILINE)
_BEGINS_WITH: Final = re.compile(r"found character '(.{1,2})' that cannot start any token")

SPACE_IS_MISSING: Final = "a space is missing after the colon"
_INDENTATION: Final = "wrong indentation: settings that belong together begin in the same column, with spaces"
_QUOTES: Final = "a text that contains ': ' needs quotes"


class Problem(msgspec.Struct, frozen=True):
    """What is wrong, and where."""

    text: str
    line: int
    """From 1; 0: unknown."""
    column: int = 0
    """From 1; 0: the whole line."""


def lines_of(text: str) -> list[str]:
    """Return the lines as the parser counts them."""
    return _LINE_BREAK.split(text)


def is_assignment(text: str) -> bool:
    """Return whether a text looks like TOML or INI: ``key = value`` or ``[section]``."""
    return _ASSIGNMENT.search(text) is not None


def is_space_missing(line: str) -> bool:
    """Return whether a line is ``key:value``, which YAML reads as one text."""
    return _NO_SPACE.match(line) is not None and ": " not in line


def explain(text: str, error: Any) -> Problem:
    """Return the problem that an error of the parser (a ``MarkedYAMLError``) is about."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Problem(_own_words(error), 0)
    lines = lines_of(text)
    message = str(error.problem or "")
    if message.startswith("mapping values are not allowed"):
        return _unexpected_colon(lines, mark.line, mark.column)
    if message.startswith("could not find expected ':'") and error.context_mark is not None:
        begin = error.context_mark.line
        is_missing = is_space_missing(lines[begin])
        return Problem(SPACE_IS_MISSING if is_missing else "this line is not of the form 'key: value'", begin + 1)
    if "<document start>" in message and is_assignment(text):
        return Problem("this looks like TOML or INI; write 'key: value', one a line", 1)
    first = next((number for number, line in enumerate(lines) if _has_content(line)), 0)
    if "<document start>" in message and is_space_missing(lines[first]):
        return Problem(SPACE_IS_MISSING, first + 1)
    if "unexpected end of stream" in message and "quoted scalar" in str(error.context) and error.context_mark:
        return Problem("the closing quote is missing", error.context_mark.line + 1, error.context_mark.column + 1)
    return Problem(_words(message, lines[mark.line]) or _own_words(error), mark.line + 1, mark.column + 1)


def _words(message: str, line: str) -> str:
    if found := _BEGINS_WITH.match(message):
        if found[1] == "\\t":
            return "a tab; indent with spaces" if not line.strip("\t ") or line[:1].isspace() else "a tab; use spaces"
        return f"a text that begins with {found[1]} needs quotes"
    if "<block end>" in message and "<block mapping start>" in message:
        return _INDENTATION
    if "<block end>" in message and "<scalar>" in message:
        return "unexpected text after a value; a text that contains quotes or begins with them needs quotes around it"
    if "<stream end>" in message:
        return "a closing bracket is missing"
    return ""


def _unexpected_colon(lines: Sequence[str], line: int, column: int) -> Problem:
    """``a: b: c``, or the first setting after a line that YAML takes for the beginning of one text."""
    before = lines[line][:column]
    if ": " in before:
        return Problem(_QUOTES, line + 1, column + 1)
    above = next((number for number in range(line - 1, -1, -1) if _has_content(lines[number])), None)
    if above is not None and is_space_missing(lines[above]):
        return Problem(SPACE_IS_MISSING, above + 1)
    return Problem(_INDENTATION, line + 1, column + 1)


def _has_content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _own_words(error: Any) -> str:
    return " ".join(part for part in (error.problem, error.context) if part)
