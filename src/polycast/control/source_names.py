"""Names the function in which a line of a source file stands; a record of allocations has only files and lines."""

from __future__ import annotations

import ast
import sys
from functools import lru_cache
from typing import Final

# Files whose functions are remembered.
_REMEMBERED_FILES: Final = 2_000

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def modules_by_file() -> dict[str, str]:
    """Return the dotted name of every module that is loaded, by its file."""
    return {
        file: name
        for name, module in list(sys.modules.items())
        if (file := getattr(module, "__file__", None)) is not None
    }


def function_at(file: str, line: int, modules: dict[str, str]) -> tuple[str, int]:
    """Return the qualified name, and the first line, of the function that a line belongs to."""
    module = modules.get(file, file)
    best = ("<module>", 1)
    for first, last, name in _functions(file):
        if first <= line <= last:
            best = (name, first)  # functions inside come later in the list
    return f"{module}.{best[0]}", best[1]


@lru_cache(_REMEMBERED_FILES)
def _functions(file: str) -> list[tuple[int, int, str]]:
    """Return (first line, last line, qualified name) of every function, outer ones before those inside them."""
    try:
        with open(file, "rb") as source:
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):
        return []
    found: list[tuple[int, int, str]] = []
    pending: list[tuple[ast.AST, str]] = [(tree, "")]
    while pending:
        node, prefix = pending.pop()
        for child in ast.iter_child_nodes(node):
            inner = prefix
            if isinstance(child, _Definition):
                inner = f"{prefix}{child.name}."
                if not isinstance(child, ast.ClassDef):
                    found.append((child.lineno, child.end_lineno or child.lineno, f"{prefix}{child.name}"))
                    inner += "<locals>."
            pending.append((child, inner))
    return sorted(found, key=lambda entry: (entry[0], -entry[1]))
