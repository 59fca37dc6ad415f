"""Finds the function of a source line, because records of allocations only have files and lines."""

from __future__ import annotations

import re
import sys
from array import array
from functools import lru_cache
from typing import Final

# Files whose definitions are cached.
_CACHED_FILES: Final = 2_000

_DEFINITION = re.compile(r"(\s*)(?:async\s+)?(?:def|class)\s+(\w+)")


def modules_by_file() -> dict[str, str]:
    """Return the dotted name of every loaded module, by its file."""
    return {
        file: name
        for name, module in list(sys.modules.items())
        if (file := getattr(module, "__file__", None)) is not None
    }


def function_at(file: str, line: int, modules: dict[str, str]) -> tuple[str, int]:
    """Return the qualified name and the first line of the function that contains a line.

    Found by indentation rather than by parsing: this runs while all allocations are recorded, and must be fast.
    """
    names: list[str] = []
    first = 1
    indents, definitions = _indents(file)
    if 0 < line <= len(indents):
        limit = indents[line - 1]
        for number in range(line, 0, -1):
            indent, name = indents[number - 1], definitions.get(number)
            # The line of a definition belongs to it, because defaults and frames are created there.
            if name and (indent < limit or number == line):
                first = first if names else number
                names.insert(0, name)
                limit = indent
                if not indent:
                    break
    return f"{modules.get(file, file)}.{'.'.join(names) or '<module>'}", first


@lru_cache(_CACHED_FILES)
def _indents(file: str) -> tuple[array[int], dict[int, str]]:
    """Return the indentation of each line, and the names that lines define, by their numbers.

    One object for all lines: what is kept here appears in the next profile, and must not be most of it.
    """
    try:
        with open(file, encoding="utf-8", errors="replace") as source:
            lines = source.read().split("\n")
    except OSError:
        return array("I"), {}
    indents = array("I", (len(line) - len(line.lstrip()) for line in lines))
    definitions = {
        number: definition[2]
        for number, line in enumerate(lines, 1)
        if ("def " in line or "class " in line) and (definition := _DEFINITION.match(line)) is not None
    }
    return indents, definitions
