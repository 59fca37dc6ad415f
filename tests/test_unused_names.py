"""What only tests use is not part of the product: every name that src defines is used in src."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from polycast.config.fields import Field, configuration_fields, path_fields
from polycast.config.services import SERVICES

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


@functools.cache
def names() -> dict[Path, tuple[frozenset[str], tuple[str, ...]]]:
    """Return the names that each module uses, and those that it defines."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        found[path.relative_to(SOURCE)] = frozenset(uses(tree)), tuple(definitions(tree))
    return found


def unused() -> list[str]:
    """Return ``file: name`` for each name that is only defined. The library's names are for its users."""
    used = frozenset().union(*(each for each, _ in names().values()))
    return sorted(
        f"{file}: {name}"
        for file, defined in ((path.as_posix(), defined) for path, (_, defined) in names().items())
        if not file.startswith("api/")
        for name in defined
        if name not in used and not name.startswith("__")
        if not any(name in allowed.get(file, ()) for allowed in (CALLBACKS, STANDARDS))
    )


def test_every_name_is_used() -> None:
    assert unused() == []


def unused_settings(fields: Iterable[Field]) -> list[str]:
    """Return the keys of settings that nothing reads: as an attribute, by their names, or as those of a service."""
    used = frozenset().union(*(each for path, (each, _) in names().items() if "dialects" not in path.parts))
    return sorted(
        field.key
        for field in fields
        if not {field.name, field.key} & used
        if not any(field.key.startswith(prefix) for prefix in SERVICES)
    )


def test_every_setting_has_an_effect() -> None:
    assert unused_settings([*configuration_fields().values(), *path_fields().values()]) == []
    (field,) = [each for each in configuration_fields().values() if each.key == "rtmp"]
    assert unused_settings([msgspec.structs.replace(field, key="rtmpGreeting", name="rtmp_greeting")]) == [
        "rtmpGreeting"
    ]
