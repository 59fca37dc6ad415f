"""The API's document: it says what the code does, and the answers are what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.control.support import running
from tests.support.rtp import key_unit, rtp

from polycast.app.openapi_document import document, text
from polycast.control.api import ENDPOINTS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
PAGES = {("GET", "/"), ("GET", "/static/{name}")}


def test_the_document_in_docs_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == text(), "run: python -m polycast.app.openapi_document docs/"


def test_document_and_code_have_the_same_endpoints() -> None:
    documented = {
        (method.upper(), re.sub(r"/v1/(?!config|paths|events|openapi)[a-z]+/(list|kick)", r"/v1/{collection}/\1", path))
        for path, operations in document()["paths"].items()
        for method in operations
    }
    served = {(row.method, re.sub(r":path}", "}", row.path)) for row in ENDPOINTS} - PAGES
    assert documented == served


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for item in document()["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))


def test_references_lead_somewhere() -> None:
    whole = document()
    schemas = whole["components"]["schemas"]
    for name in re.findall(r"#/components/schemas/(\w+)", text()):
        assert name in schemas


def complaints(value: Any, schema: dict[str, Any], schemas: dict[str, Any], where: str = "") -> list[str]:
    """Return where a value breaks its schema; the keywords that the document uses are known here."""
    known = {"$ref", "anyOf", "type", "enum", "properties", "required", "items", "additionalProperties"}
    notes = {"description", "format", "minimum", "pattern"}
    assert set(schema) <= known | notes, schema
    if "$ref" in schema:
        return complaints(value, schemas[schema["$ref"].rpartition("/")[2]], schemas, where)
    if "anyOf" in schema and all(complaints(value, option, schemas, where) for option in schema["anyOf"]):
        return [f"{where}: {value!r} is none of {schema['anyOf']}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r} is not in {schema['enum']}"]
    python = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(value is None if name == "null" else isinstance(value, python[name]) for name in types):
        return [f"{where}: {value!r} is not of {types}"]
    found: list[str] = []
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f"{where}: {key} is missing" for key in schema.get("required", ()) if key not in value]
        for key, item in value.items():
            if key in properties:
                found += complaints(item, properties[key], schemas, f"{where}.{key}")
            elif isinstance(schema.get("additionalProperties"), dict):
                found += complaints(item, schema["additionalProperties"], schemas, f"{where}.{key}")
            elif properties:
                found.append(f"{where}: {key} is not in the document")
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            found += complaints(item, schema["items"], schemas, f"{where}[{index}]")
    return found


async def test_answers_are_as_documented() -> None:
    async with running(paths={"all": {}, "cam": {"source": "redirect", "sourceRedirect": "rtsp://h/p"}}) as server:
        publisher = await server.publisher("live")
        reader = await server.reader("live")
        publisher.send_frame(0, rtp(1, key_unit()))
        await reader.packets(1)
        served = await server.get("/v1/openapi.json")
        schemas = served["components"]["schemas"]
        checked = 0
        for path, operations in served["paths"].items():
            if "get" not in operations or path == "/v1/events":
                continue
            value = await server.get(path.replace("{name}", "live"))
            schema = operations["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            assert complaints(value, schema, schemas) == []
            checked += 1
        assert checked >= 8
        error = (await server.api.get("/v1/paths/get/none")).json()
        assert complaints(error, schemas["Error"], schemas) == []


def test_the_checker_finds_mistakes() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x"]}}, "required": ["a"]}
    assert complaints({"a": 1, "b": "x"}, schema, {}) == []
    for wrong in ({}, {"a": "1"}, {"a": 1, "b": "y"}, {"a": 1, "c": 1}, []):
        assert complaints(wrong, schema, {}), wrong
