"""The rules for path names and for path patterns (regular expressions)."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final

from polycast.config.re2 import ExpressionError, Pattern, compile_expression
from polycast.errors import ConfigurationError

ALL_PATHS_ALIAS: Final = "all"
ALL_PATHS: Final = "~^.*$"
"""The canonical name of the entry ``all``; the API and ``confName`` show this name."""

ALL_OTHERS: Final = "all_others"
"""What MediaMTX calls it."""

_PATH_NAME = re.compile(r"[0-9a-zA-Z_\-/.~]+", re.ASCII)

MAXIMUM_NAME: Final = 512  # characters; the time for matching a pattern grows with the name


def check_path_name(name: str) -> None:
    """Raise ConfigurationError with the reason if ``name`` cannot be the name of a path."""
    if not name:
        raise ConfigurationError("cannot be empty")
    if name.startswith("/"):
        raise ConfigurationError("can't begin with a slash")
    if name.endswith("/"):
        raise ConfigurationError("can't end with a slash")
    if not _PATH_NAME.fullmatch(name):
        raise ConfigurationError("can contain only alphanumeric characters, underscore, dot, tilde, minus or slash")
    # Commands and recordings use it in file names.
    if any(segment in (".", "..") for segment in name.split("/")):
        raise ConfigurationError("can't contain dot path segments")
    if len(name) > MAXIMUM_NAME:
        raise ConfigurationError(f"can't be longer than {MAXIMUM_NAME} characters")


def loaded_name(name: str, names_of_all: Collection[str] = (ALL_PATHS_ALIAS,)) -> str:
    """Return the canonical name of an entry of ``paths``; ``names_of_all`` are what its dialect calls `ALL_PATHS`."""
    return ALL_PATHS if name in names_of_all else name


def is_pattern(name: str) -> bool:
    """Whether the entry of this name stands for every path that matches a regular expression."""
    return name.startswith("~")


def compile_path_pattern(name: str) -> Pattern | None:
    """The compiled expression of a ``~...`` entry, or None for an entry that names one path.

    Use ``search``: as in rtsp-simple-server, a pattern is anchored only by ``^`` and ``$``.
    Raises ConfigurationError if the expression is not valid.
    """
    return _compiled(name[1:]) if is_pattern(name) else None


@lru_cache(maxsize=4096)
def _compiled(expression: str) -> Pattern:
    try:
        return compile_expression(expression)
    except ExpressionError as error:
        raise ConfigurationError(f"invalid regular expression: {expression} ({error})") from error
