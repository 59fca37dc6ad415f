"""JSON schemas of the API's responses, generated from their structs."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

Json = dict[str, Any]

REFERENCES: Final = "#/components/schemas/"

# Keywords in the order of output; the others come first.
_ORDER: Final = ("type", "format", "minimum", "items", "properties", "description", "required", "additionalProperties")


def object_schema(item: type[Struct], shared: frozenset[str] = frozenset()) -> Json:
    """Return the schema of a struct, with those of nested structs inlined.

    Those in ``shared`` are referenced instead: the document contains them once.
    """
    _, found = msgspec.json.schema_components([item], ref_template=REFERENCES + "{name}")
    simple: Json = _simplified(found[item.__name__], found, shared)
    return simple


def _simplified(schema: Any, found: Json, shared: frozenset[str]) -> Any:
    """Return a schema without descriptions of Python classes, and with ``null`` among the types."""
    if isinstance(schema, list):
        return [_simplified(each, found, shared) for each in schema]
    if not isinstance(schema, dict):
        return schema
    name = schema["$ref"].removeprefix(REFERENCES) if "$ref" in schema else None
    if name in found:
        return schema if name in shared else _simplified(found[name], found, shared)
    is_class = "title" in schema
    hidden = {"title", "description", "default"} if is_class else {"default"}
    simple = {key: value for key, value in schema.items() if key not in hidden and key != "properties"}
    simple = {key: _simplified(value, found, shared) for key, value in simple.items()}
    if "properties" in schema:
        simple["properties"] = {key: _simplified(value, found, shared) for key, value in schema["properties"].items()}
    return dict(sorted(_nullable(simple).items(), key=lambda pair: _ORDER.index(pair[0]) if pair[0] in _ORDER else -1))


def _nullable(schema: Json) -> Json:
    """Return ``{"type": [X, "null"]}`` for an optional type."""
    options = schema.get("anyOf", [])
    if len(options) == 2 and options[1] == {"type": "null"} and isinstance(options[0].get("type"), str):
        others = {key: value for key, value in schema.items() if key != "anyOf"}
        return {**options[0], **others, "type": [options[0]["type"], "null"]}
    return schema
