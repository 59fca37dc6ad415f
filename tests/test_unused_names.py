"""What only tests use is not part of the product: every name that src defines is used in src."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src" / "polycast"

# Called by others, by their names.
CALLBACKS = {
    "wire/http/head.py": {"on_url", "on_header", "on_headers_complete"},  # httptools
    "wire/http/http1_reader.py": {
        *("on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body", "on_message_complete"),
    },
    "cluster/key_value.py": {"on_entry", "on_message", "on_snapshot"},  # stores
    "net/layered.py": {"is_reading"},  # asyncio.Transport
    "net/dumped.py": {"is_reading", "get_protocol"},
    "net/http_dump.py": {"extra_attributes", "send_eof"},  # anyio
    "net/tls_transport.py": {"is_reading", "get_protocol"},
}
# Values of standards, kept together with those that are used.
STANDARDS = {"rtp/rtcp.py": {"APPLICATION"}}


def definitions(tree: ast.Module) -> Iterator[str]:
    """Yield the names of functions, methods, classes and constants."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def uses(tree: ast.Module) -> Iterator[str]:
    """Yield the names that are read, also as attributes and as texts for ``getattr``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"\A\w+\Z|\A\w+(?=:)|(?<=:)\w+\Z", node.value)


def unused() -> list[str]:
    """Return ``file: name`` for each name that is only defined. The library's names are for its users."""
    trees = {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")}
    used = Counter(name for tree in trees.values() for name in uses(tree))
    return sorted(
        f"{file}: {name}"
        for file, tree in trees.items()
        if not file.startswith("api/")
        for name in definitions(tree)
        if not used[name] and not name.startswith("__")
        if not any(name in allowed.get(file, ()) for allowed in (CALLBACKS, STANDARDS))
    )


def test_every_name_is_used() -> None:
    assert unused() == []
