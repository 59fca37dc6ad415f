"""Generates the API reference of ``docs/library.md`` from the docstrings: ``python -m polycast.api.document docs``."""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import Meta, Struct

import polycast

BEGIN = "<!-- reference: begin (made from the docstrings) -->"
END = "<!-- reference: end -->"

LONGEST_SIGNATURE = 140
"""Characters; longer signatures have one parameter per line."""

SECTIONS: dict[str, tuple[str, ...]] = {
    "Servers and streams": ("Server", "publish", "read", "recordings", "serve"),
    "Writers": ("Writer", "CodedWriter"),
    "Readers and frames": (
        "Reader",
        "together",
        "Together",
        "Clip",
        "RecordingRequest",
        "Recordings",
        "RecordedPeriod",
        "RecordedFrames",
        "VideoFrame",
        "AudioFrame",
        "CodedFrame",
        "Event",
        "EventKind",
    ),
    "Hooks and statistics": ("AuthenticationRequest", "ServerStatistics", "StreamStatistics", "SessionStatistics"),
    "Errors": (
        "PolycastError",
        "ConfigurationError",
        "StartError",
        "NotFound",
        "AccessRefused",
        "PublishRefused",
        "ConnectionFailed",
        "UnsupportedCodec",
        "MissingDependency",
        "ReadTimeout",
        "StreamEnded",
    ),
    "Tracks and codecs": (
        "Track",
        "Codec",
        "H264",
        "H265",
        "AV1",
        "VP8",
        "VP9",
        "MJPEG",
        "MPEG4Audio",
        "Opus",
        "MPEGAudio",
        "AC3",
        "EAC3",
        "FLAC",
        "G711",
        "G722",
        "LPCM",
    ),
}


def reference() -> str:
    """Return the reference as Markdown."""
    parts: list[str] = []
    for title, names in SECTIONS.items():
        parts.append(f"### {title}\n")
        for name in names:
            parts.extend(_describe(name, getattr(polycast, name)))
    return "\n".join(parts)


def updated(text: str) -> str:
    """Return a document with the new reference."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{after}"


def main(directory: str) -> None:
    """Update ``library.md`` in a directory."""
    path = Path(directory) / "library.md"
    path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")


def _describe(name: str, thing: Any) -> Iterator[str]:
    if inspect.isclass(thing):
        yield f"#### `polycast.{name}`{_bases(thing)}\n"
        if name == "Server":
            yield f"```python\n{_signature(name, thing.__init__)}\n```\n"
        elif hasattr(thing, "__dataclass_fields__") and issubclass(thing, polycast.Codec | polycast.Track):
            yield f"`{name}{_compact(inspect.signature(thing))}`\n"
        yield f"{_text(thing)}\n"
        members = list(_members(thing))
        if members:
            yield "\n".join(members) + "\n"
        return
    yield f"#### `polycast.{name}`\n"
    yield f"```python\n{_signature(name, thing)}\n```\n"
    yield f"{_text(thing)}\n"


def _bases(thing: type) -> str:
    names = [base.__name__ for base in thing.__bases__ if issubclass(base, Exception)]
    return f" ({', '.join(names)})" if names else ""


def _members(thing: type) -> Iterator[str]:
    """Yield a list item for each attribute, property and method, in the order of the source."""
    documents: dict[str, str] = {}
    for base in reversed(thing.__mro__):
        if base is thing or base.__name__.startswith("_") or issubclass(base, Struct):
            documents |= _attribute_documents(base)
    for name, document in documents.items():
        yield f"- **`{name}`**: {_join(document)}" if document else f"- **`{name}`**"
    for position, owner in reversed(list(enumerate(thing.__mro__))):
        if not owner.__module__.startswith("polycast") or owner in (Exception, object):
            continue
        if owner is not thing and issubclass(thing, polycast.Codec):
            continue
        for name, member in vars(owner).items():
            if name.startswith("_") or name in documents:
                continue
            if any(name in vars(heir) for heir in thing.__mro__[:position]):
                continue  # described there
            member = getattr(thing, name)
            text = _join(inspect.getdoc(member) or "")
            if isinstance(member, property):
                yield f"- **`{name}`**: {text}"
            elif inspect.isfunction(member) and member.__doc__:
                call = f"{'await ' if inspect.iscoroutinefunction(member) else ''}{name}"
                compact = f"{call}{_compact(inspect.signature(member))}"
                if len(compact) <= LONGEST_SIGNATURE:
                    yield f"- **`{compact}`**: {text}"
                else:
                    block = textwrap.indent(f"```python\n{_signature(call, member)}\n```", "  ")
                    yield f"- **`{call}`**:\n\n{block}\n\n  {text}"


def _attribute_documents(thing: type) -> dict[str, str]:
    """Return the strings after assignments, in the class and in its ``__init__``, by name."""
    found: dict[str, str] = {}
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError):
        return found
    definition = tree.body[0]
    if not isinstance(definition, ast.ClassDef):
        return found
    bodies = [definition.body]
    bodies += [node.body for node in definition.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    for body in bodies:
        for statement, following in zip(body, [*body[1:], ast.Pass()], strict=True):
            name = _assigned_name(statement)
            if name is None or name.startswith("_"):
                continue
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                found[name] = inspect.cleandoc(str(following.value.value))
            elif hasattr(thing, "__dataclass_fields__") and name in thing.__dataclass_fields__:
                found.setdefault(name, "")
    if issubclass(thing, Struct):
        return {info.name: found.get(info.name) or _meaning(info) for info in _own_fields(thing)}
    return found


def _own_fields(struct: type[Struct]) -> list[msgspec.structs.FieldInfo]:
    return [info for info in msgspec.structs.fields(struct) if info.name in vars(struct)["__annotations__"]]


def _meaning(info: msgspec.structs.FieldInfo) -> str:
    """Return the description that a field has for JSON."""
    return next((mark.description or "" for mark in get_args(info.type) if isinstance(mark, Meta)), "")


def _assigned_name(statement: ast.stmt) -> str | None:
    target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
    if isinstance(target, ast.Name):
        return target.id
    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
        return target.attr
    return None


def _signature(name: str, function: Any) -> str:
    """Return a signature with one parameter per line."""
    signature = inspect.signature(function)
    parameters = [f"    {text}," for text in _parameters(signature)]
    return "\n".join([f"{name}(", *parameters, f"){_result(signature)}"])


def _compact(signature: inspect.Signature) -> str:
    return f"({', '.join(_parameters(signature))}){_result(signature)}"


def _result(signature: inspect.Signature) -> str:
    annotation = signature.return_annotation
    return "" if annotation in (None, "None", signature.empty) else f" -> {annotation}"


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    """Yield each parameter as in the source, and the star before keyword-only ones."""
    starred = False
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        annotation = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
        default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
        yield f"{parameter.name}{annotation}{default}"


def _default(value: object) -> str:
    return "..." if "factory" in repr(value) else json.dumps(value) if isinstance(value, str) else repr(value)


def _text(thing: Any) -> str:
    return _markdown(inspect.getdoc(thing) or "")


def _join(text: str) -> str:
    """Return a docstring as one list item."""
    return textwrap.indent(_markdown(text), "  ").lstrip()


def _markdown(text: str) -> str:
    return text.replace("``", "`")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs")
