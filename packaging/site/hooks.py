"""Hooks of MkDocs: pages that are made from other files, and links to files outside ``docs``.

Documents of the repository itself, such as CONTRIBUTING.md, become pages below ``repository``; other files that pages
link to are copied there. The reference of the API is made from its OpenAPI document.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "bench/README.md")
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
METHODS = ("get", "post", "put", "patch", "delete")

Json = Mapping[str, Any]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in ``docs``."""
    for name in PAGES:
        files.append(File.generated(config, f"repository/{name}", abs_src_path=str(ROOT / name)))
    files.append(File.generated(config, "api-reference.md", content=api_reference()))
    linked = {target for file in files.documentation_pages() for target in outside(file)}
    for target in sorted(linked):
        if target not in PAGES and (ROOT / target).is_file():
            # As text, so that browsers show it.
            content = (ROOT / target).read_text(encoding="utf-8")
            files.append(File.generated(config, f"repository/{target}.txt", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links that leave ``docs``, or that lead there from other documents."""
    here = posixpath.dirname(page.file.src_uri)

    def rewrite(match: re.Match[str]) -> str:
        target = in_repository(page.file.src_uri, match[2])
        if target is None:
            return match[0]
        path, hash_mark, anchor = target.partition("#")
        if path.startswith("docs/"):
            found = path.removeprefix("docs/")
        else:
            found = f"repository/{path}" if path in PAGES else f"repository/{path}.txt"
        if (ROOT / path).is_dir():
            return match[0].replace(match[2], posixpath.relpath("README.md", here or "."))
        return f"{match[1]}{posixpath.relpath(found, here or '.')}{hash_mark}{anchor}{match[3]}"

    return LINK.sub(rewrite, markdown)


def outside(file: File) -> Iterator[str]:
    """Yield the files outside ``docs`` that a page links to, by their names in the repository."""
    for _, link, _ in LINK.findall(file.content_string):
        target = in_repository(file.src_uri, link)
        if target is not None and not target.startswith("docs/"):
            yield target.partition("#")[0]


def in_repository(page: str, link: str) -> str | None:
    """Return the target of a link by its name in the repository; None if the link stays as it is."""
    if ":" in link or link.startswith("#"):
        return None
    is_outside = page.startswith("repository/")
    original = page.removeprefix("repository/") if is_outside else f"docs/{page}"
    path, hash_mark, anchor = link.partition("#")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(original), path))
    if not is_outside and target.startswith("docs/") and target.endswith((".md", ".png", ".svg")):
        return None
    return f"{target}{hash_mark}{anchor}"


def api_reference() -> str:
    """Return the reference of API v3 as Markdown."""
    document = json.loads((ROOT / "docs/openapi-v3.json").read_text(encoding="utf-8"))
    lines = [
        "# API reference",
        "",
        f"{document['info']['description']} This page is made from the OpenAPI document that a running server has at "
        "`/v3/openapi.json`; [API](api.md) explains how to use it.",
        "",
        "## Requests",
        "",
    ]
    for path, operations in document["paths"].items():
        shared = operations.get("parameters", [])
        for method in METHODS:
            if method in operations:
                lines += request(path, method, operations[method], shared)
    lines += ["## Objects", ""]
    for name, schema in document["components"]["schemas"].items():
        lines += [f"### {name}", "", *([schema["description"], ""] if "description" in schema else []), *fields(schema)]
    return "\n".join(lines)


def request(path: str, method: str, operation: Json, shared: list[Json]) -> Iterator[str]:
    """Yield the lines about one request."""
    yield f"### `{method.upper()} {path}`"
    yield ""
    summary = operation.get("summary", "")
    yield f"{summary[:1].upper()}{summary[1:]}. {operation.get('description', '')}".strip()
    yield ""
    parameters = [*shared, *operation.get("parameters", [])]
    if parameters:
        yield "| parameter | in | type | meaning |"
        yield "|---|---|---|---|"
        for each in parameters:
            yield f"| `{each['name']}` | {each['in']} | {kind(each['schema'])} | {cell(each.get('description', ''))} |"
        yield ""
    body = operation.get("requestBody", {}).get("content", {})
    for media_type, content in body.items():
        yield f"Body ({media_type}): {kind(content.get('schema', {}))}"
        yield ""
    yield "| status | response |"
    yield "|---|---|"
    for status, response in operation["responses"].items():
        described = "; ".join(kind(content.get("schema", {})) for content in response.get("content", {}).values())
        yield f"| {status} | {cell(response.get('description', ''))} {f'({described})' if described else ''} |"
    yield ""


def fields(schema: Json) -> Iterator[str]:
    """Yield the table of the fields of an object."""
    properties = schema.get("properties", {})
    if not properties:
        yield f"{kind(schema)}"
        yield ""
        return
    yield "| field | type | meaning |"
    yield "|---|---|---|"
    for name, value in properties.items():
        yield f"| `{name}` | {kind(value)} | {cell(value.get('description', ''))} |"
    yield ""


def kind(schema: Json) -> str:
    """Return the type of a value in words, with a link if it is an object of its own."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return " or ".join(f"`{cell(json.dumps(value))}`" for value in schema["enum"])
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(kind(each) for each in schema[several]))
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}))}"
    types = schema.get("type", "any")
    return " or ".join(types) if isinstance(types, list) else str(types)


def cell(text: str) -> str:
    """Return text for a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
