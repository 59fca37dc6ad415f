"""Writes values as YAML text that is read identically by YAML 1.1 and 1.2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

# What parsers of YAML 1.1 or 1.2 do not read as text.
_SPECIAL_WORDS: Final = frozenset({"", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "<<", "="})
_NUMBER_LIKE = re.compile(r"[-+]?[0-9.][0-9_.:eExXoObBa-fA-F+-]*|[-+]?\.(inf|nan)", re.IGNORECASE)
_PLAIN = re.compile(r"(?:[A-Za-z0-9/_.^$()+;=~]|[:](?=[^\s,\]}]))[A-Za-z0-9/_.^$()+;=~*:@%!?&|<>\\-]*", re.ASCII)
_PLAIN_WITH_SPACES = re.compile(r"[A-Za-z0-9/_.][A-Za-z0-9/_. $=+,()-]*", re.ASCII)
_TRUE_WORDS: Final = {True: "yes", False: "no"}


def scalar(value: Any, *, style: str | None = None, words: Mapping[bool, str] = _TRUE_WORDS) -> str:
    """Return a text, number, truth value or null; ``style`` is ``'`` or ``"`` to quote a text that way if it can be."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return words[value]
    if isinstance(value, int | float):
        return str(value)
    text = str(value)
    if style == "'" and _single_quotable(text):
        return _single_quoted(text)
    if style == '"':
        return _double_quoted(text)
    if is_plain(text):
        return text
    if _single_quotable(text) and text.lower() not in _SPECIAL_WORDS:
        return _single_quoted(text)
    return _double_quoted(text)


def is_plain(text: str) -> bool:
    """Whether the text needs no quotes, also within a flow list."""
    if text.lower() in _SPECIAL_WORDS or _is_number_like(text):
        return False
    if text.endswith((":", " ")) or ": " in text or " #" in text:
        return False
    if _PLAIN.fullmatch(text):
        return True
    return "," not in text and _PLAIN_WITH_SPACES.fullmatch(text) is not None


def flow(value: Any) -> str:
    """Return a value on one line: ``[a, b]``, ``{a: b}`` or a scalar."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    # A plain text may start with a colon only outside of brackets.
    return scalar(value, style="'" if isinstance(value, str) and value.startswith(":") else None)


def entry(key: str, value: Any, indent: int, step: int, newline: str) -> str:
    """Return the lines of one key of a block map, with the newline at the end; nested maps become block maps."""
    head = " " * indent + scalar(key) + ":"
    if isinstance(value, Mapping) and value:
        lines = "".join(entry(name, item, indent + step, step, newline) for name, item in value.items())
        return head + newline + lines
    if value is None or (isinstance(value, Mapping) and not value):
        return head + newline
    return f"{head} {flow(value) if isinstance(value, list | tuple | Mapping) else scalar(value)}{newline}"


def _is_number_like(text: str) -> bool:
    # Durations (10s), addresses (127.0.0.1:80) and sizes (50M) are text to every parser.
    if not _NUMBER_LIKE.fullmatch(text):
        return False
    return not re.fullmatch(r"[0-9]+(\.[0-9]+){2,}(:[0-9]+)?", text)


def _single_quotable(text: str) -> bool:
    return text.isprintable()


def _single_quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _double_quoted(text: str) -> str:
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable() and character != "\ufeff":
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
