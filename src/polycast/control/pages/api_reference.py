"""The reference of the API as a page: made of the OpenAPI documents, without scripts and other servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from polycast.control.schemas import REFERENCES, Json

_HEAD: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Polycast API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="static/reference.css">
</head>
<body>
"""


def reference_page(documents: Mapping[str, Json]) -> str:
    """Return the page of OpenAPI documents, by the names of their versions: ``v3``."""
    parts = [_HEAD, "<header><h1>Polycast API</h1><nav>"]
    parts += [
        f'<a href="#{escape(name)}">{escape(document["info"]["title"])}</a>' for name, document in documents.items()
    ]
    parts.append('<a href="./">Status</a></nav></header>\n<main>\n')
    for name, document in documents.items():
        parts += _Version(name, document).parts()
    parts.append("</main>\n</body>\n</html>\n")
    return "".join(parts)


class _Version:
    """One document."""

    def __init__(self, name: str, document: Json) -> None:
        self._name = name
        self._document = document

    def parts(self) -> Iterator[str]:
        info = self._document["info"]
        yield f'<section id="{escape(self._name)}"><h2>{escape(info["title"])}</h2><p>{escape(info["description"])} '
        yield f'<a href="{escape(self._name)}/openapi.json">OpenAPI document</a></p>\n'
        for path, operations in self._document["paths"].items():
            for method, operation in operations.items():
                yield from self._operation(method.upper(), path, operation)
        yield "<h3>Schemas</h3>\n"
        for name, schema in self._document["components"]["schemas"].items():
            yield f'<details id="{self._anchor(name)}"><summary><code>{escape(name)}</code></summary>'
            yield from self._schema(schema)
            yield "</details>\n"
        yield "</section>\n"

    def _anchor(self, schema: str) -> str:
        return escape(f"{self._name}-{schema}")

    def _operation(self, method: str, path: str, operation: Json) -> Iterator[str]:
        identifier = escape(f"{self._name}-{operation['operationId']}")
        yield f'<details id="{identifier}"><summary><b class="{method.lower()}">{method}</b> '
        yield f"<code>{escape(path)}</code> {escape(operation['summary'])}</summary>"
        if operation["description"]:
            yield f"<p>{_text(operation['description'])}</p>"
        if parameters := operation.get("parameters"):
            yield "<h4>Parameters</h4>"
            yield from self._table({each["name"]: {**each["schema"], **_described(each)} for each in parameters})
        if body := operation.get("requestBody"):
            yield "<h4>Body</h4>"
            yield from self._content(body["content"])
        yield "<h4>Answers</h4><dl>"
        for status, response in operation["responses"].items():
            yield f"<dt>{status}</dt><dd>{_text(response['description'])}"
            yield from self._content(response.get("content", {}))
            yield "</dd>"
        yield "</dl></details>\n"

    def _content(self, content: Json) -> Iterator[str]:
        for media_type, body in content.items():
            schema = body["schema"]
            yield f" <span>{escape(media_type)}: {self._type(schema)}</span>"
            if "properties" in schema:
                yield from self._schema(schema)

    def _schema(self, schema: Json) -> Iterator[str]:
        if "properties" in schema:
            yield from self._table(schema["properties"])
        else:
            yield f"<p>{self._type(schema)}</p>"

    def _table(self, properties: Json) -> Iterator[str]:
        yield "<table><tbody>"
        for name, schema in properties.items():
            yield f'<tr><th scope="row"><code>{escape(name)}</code></th><td>{self._type(schema)}</td><td>'
            yield "Deprecated. " if schema.get("deprecated") else ""
            yield f"{_text(schema.get('description', ''))}</td></tr>"
        yield "</tbody></table>"

    def _type(self, schema: Json) -> str:
        """Return the type of a value in words."""
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(REFERENCES)
            return f'<a href="#{self._anchor(name)}">{escape(name)}</a>'
        if "anyOf" in schema:
            return " or ".join(self._type(option) for option in schema["anyOf"])
        if "enum" in schema:
            return " or ".join(f"<code>{escape(_value(value))}</code>" for value in schema["enum"])
        types = schema.get("type", "any")
        names = [types] if isinstance(types, str) else types
        return " or ".join(self._named(name, schema) for name in names)

    def _named(self, name: str, schema: Json) -> str:
        if name == "array":
            return f"list of {self._type(schema.get('items', {}))}"
        values = schema.get("additionalProperties")
        if name == "object" and isinstance(values, dict):
            return f"map of {self._type(values)}"
        if name == "object" and "properties" in schema:
            inside = ", ".join(f"{escape(key)}: {self._type(value)}" for key, value in schema["properties"].items())
            return f"object of {inside}"
        return escape(f"{name} ({schema['format']})" if name != "null" and "format" in schema else name)


def _described(value: Json) -> Json:
    return {"description": value["description"]} if value.get("description") else {}


def _value(value: Any) -> str:
    return value if isinstance(value, str) else {True: "true", False: "false"}.get(value, str(value))


def _text(text: str) -> str:
    """Return a description, with what is between backquotes as code."""
    parts = escape(text, quote=False).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
