"""The API's document: it says what the code does, and the answers are what it says."""

from __future__ import annotations

import copy
import html
import re
from pathlib import Path
from typing import Any

import pytest
from tests.control.support import running
from tests.support.rtp import key_unit, rtp

from polycast.app.openapi_document import document, document_of_v3, text
from polycast.control.api import ENDPOINTS
from polycast.control.console.editor import ENDPOINTS as ENDPOINTS_OF_EDITOR
from polycast.control.console.endpoints import ENDPOINTS as ENDPOINTS_OF_CONSOLE
from polycast.control.pages.api_reference import reference_page
from polycast.control.v3.items import types_of_collections
from polycast.control.v3.routes import ENDPOINTS as ENDPOINTS_OF_V3
from polycast.items import SessionItem

DOCS = Path(__file__).resolve().parents[2] / "docs"
DOCUMENTS = {"v1": document(), "v3": document_of_v3()}
PAGES = {("GET", "/"), ("GET", "/docs"), ("GET", "/static/{name}")}


@pytest.mark.parametrize(("version", "name"), [("v1", "openapi.json"), ("v3", "openapi-v3.json")])
def test_the_document_in_docs_is_up_to_date(version: str, name: str) -> None:
    assert (DOCS / name).read_text() == text(DOCUMENTS[version]), "run: python -m polycast.app.openapi_document docs/"


SERVED = {
    "v1": {(row.method, row.path) for row in (*ENDPOINTS, *ENDPOINTS_OF_CONSOLE, *ENDPOINTS_OF_EDITOR)} - PAGES,
    "v3": {(row.method, f"/v3{row.path}") for row in ENDPOINTS_OF_V3},
}


@pytest.mark.parametrize("version", DOCUMENTS)
def test_document_and_code_have_the_same_endpoints(version: str) -> None:
    own = "config|nodes|paths|recordings|events|openapi|auth|server"
    of_servers = re.compile(rf"/{version}/(?!{own})[a-z]+/(list|get|kick)(/{{name}})?")
    documented = {
        (
            method.upper(),
            of_servers.sub(lambda found: f"/{version}/{{collection}}/{found[1]}{'/{id}' if found[2] else ''}", path),
        )
        for path, operations in DOCUMENTS[version]["paths"].items()
        for method in operations
    }
    assert documented == {(method, path.replace(":text}", "}")) for method, path in SERVED[version]}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in re.findall(r"#/components/schemas/(\w+)", text(document)):
        assert name in schemas


def test_a_protocol_declares_the_fields_of_its_items_in_v3() -> None:
    def undeclared(item: SessionItem) -> dict[str, Any]:
        return {"more": item.path}

    with pytest.raises(TypeError, match="must declare the TypedDict that it returns"):
        types_of_collections("sessions", SessionItem, undeclared, "", "")


def test_the_page_has_every_operation_and_field() -> None:
    page = html.unescape(re.sub(r"<[^>]*>", "", reference_page(DOCUMENTS)))
    for whole in DOCUMENTS.values():
        for path, operations in whole["paths"].items():
            for method, operation in operations.items():
                assert f"{method.upper()} {path} {operation['summary']}" in page
        for name, schema in whole["components"]["schemas"].items():
            assert name in page
            for key, value in schema.get("properties", {}).items():
                assert key in page
                assert value.get("description", "").replace("`", "") in page
    assert "http://" not in re.sub(r">[^<]*<", "><", reference_page(DOCUMENTS)), "it must work offline"


def test_links_of_the_page_lead_somewhere() -> None:
    page = reference_page(DOCUMENTS)
    anchors = re.findall(r' id="([^"]+)"', page)
    assert len(anchors) == len(set(anchors)) > 60
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(anchors)


async def test_the_page_is_served_with_all_that_it_needs() -> None:
    async with running() as server:
        page = await server.api.get("/docs")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "GET</b> <code>/v3/rtspsessions/list</code>" in page.text
        assert "<script" not in page.text
        for address in re.findall(r'<link rel="stylesheet" href="([^"]+)"', page.text):
            assert (await server.api.get(f"/{address}")).headers["content-type"] == "text/css; charset=utf-8"
        for address in re.findall(r'<a href="([^#"]+)"', page.text):
            assert (await server.api.get(f"/{address}")).status_code == 200, address


def test_the_page_shows_text_as_text() -> None:
    changed = copy.deepcopy(DOCUMENTS["v1"])
    changed["paths"]["/v1/config/get"]["get"]["description"] = "<script>alert(1)</script>"
    page = reference_page({"v1": changed})
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def complaints(value: Any, schema: dict[str, Any], schemas: dict[str, Any], where: str = "") -> list[str]:
    """Return where a value breaks its schema; the keywords that the document uses are known here."""
    known = {"$ref", "anyOf", "type", "enum", "properties", "required", "items", "additionalProperties"}
    notes = {"description", "format", "minimum", "pattern", "deprecated"}
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


BY_ID = {path for path in DOCUMENTS["v3"]["paths"] if path.endswith(("/get/{id}", "/forward/get"))}
"""Asked for each item of their lists."""

QUERIES = {"/v3/paths/forward/list": "?path=live", "/v3/paths/forward/get": "?path=live&id={id}"}


@pytest.mark.parametrize("version", DOCUMENTS)
async def test_answers_are_as_documented(version: str) -> None:
    cam = {"source": "redirect", "sourceRedirect": "rtsp://h/p"}
    live = {"forward": [{"dest": "rtsp://127.0.0.1:9/x"}]}
    async with running(paths={"all": {}, "cam": cam, "live": live}, hlsAlwaysRemux=True) as server:
        publisher = await server.publisher("live")
        reader = await server.reader("live")
        publisher.send_frame(0, rtp(1, key_unit()))
        await reader.packets(1)
        await server.changed("/v1/config/set", {"logLevel": "debug"})  # so that there is an earlier configuration
        served = await server.get(f"/{version}/openapi.json")
        schemas = served["components"]["schemas"]
        checked = 0
        for path, operations in served["paths"].items():
            if "get" not in operations or path.endswith("/events") or path in BY_ID:
                continue
            if "image/jpeg" in operations["get"]["responses"]["200"]["content"]:
                continue  # tests/control/test_console.py
            if path == "/v3/nodes/get/{name}":
                continue  # it needs a cluster: tests/control/test_nodes.py
            name = "cam" if "/config/" in path else "live"
            if path == "/v3/hlsmuxers/get/{name}":
                await server.until(lambda: server.app.servers["HLS"].items())
            value = await server.get(path.replace("{name}", name).replace("{number}", "1") + QUERIES.get(path, ""))
            for item in value.get("items", ()) if path.endswith("/list") and version == "v3" else ():
                by_id = path.removesuffix("list") + ("get" if "forward" in path else "get/{id}")
                if by_id in BY_ID:
                    schema = served["paths"][by_id]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
                    one = by_id.format(id=item["id"]) + QUERIES.get(by_id, "").format(id=item["id"])
                    assert complaints(await server.get(one), schema, schemas) == []
                    checked += 1
            schema = operations["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            assert complaints(value, schema, schemas) == []
            checked += 1
        assert checked >= {"v1": 8, "v3": 19}[version]
        error = (await server.api.get(f"/{version}/paths/get/none")).json()
        assert complaints(error, schemas["Error"], schemas) == []


def test_the_checker_finds_mistakes() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x"]}}, "required": ["a"]}
    assert complaints({"a": 1, "b": "x"}, schema, {}) == []
    for wrong in ({}, {"a": "1"}, {"a": 1, "b": "y"}, {"a": 1, "c": 1}, []):
        assert complaints(wrong, schema, {}), wrong
