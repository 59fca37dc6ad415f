"""The OpenAPI document of the API, generated from the configuration schema and the declarations of servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from polycast import _version
from polycast.config.dialects.legacy import LEGACY
from polycast.config.dialects.views import view_of
from polycast.config.fields import Field
from polycast.control.events import EVENTS
from polycast.control.items import PathItem, StatusItem
from polycast.control.schemas import REFERENCES, Json, object_schema
from polycast.hub.stats import Reference

# Structs that the document has once.
_SHARED: Final = frozenset({Reference.__name__})


@dataclass(frozen=True, slots=True)
class Collection:
    """The declaration of a server about its part of the API."""

    name: str
    can_kick: bool
    item: type[Struct]


def build(collections: Iterable[Collection]) -> Json:
    """Return the document for an API with these collections of sessions."""
    paths: Json = {**_configuration_paths(), **_path_paths(), **_other_paths()}
    schemas = _schemas()
    for collection in collections:
        item = f"{collection.name[:1].upper()}{collection.name[1:]}Item"
        schemas[item] = object_schema(collection.item, _SHARED)
        paths[f"/v1/{collection.name}/list"] = {
            "get": _operation(f"list {collection.name}", "Lists all by id.", _items(item), {"404"})
        }
        if collection.can_kick:
            paths[f"/v1/{collection.name}/kick/{{id}}"] = {
                "post": _operation(
                    f"kick one of {collection.name}",
                    "Closes one by its id.",
                    None,
                    {"404"},
                    parameters=[_parameter("id")],
                )
            }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Polycast API",
            "version": _version.__version__,
            "description": "Monitors and controls a running server. Changes are in effect when the response arrives.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "http://127.0.0.1:9997"}],
        "security": [{}, {"basic": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "Required if apiUser or apiPass is set."}
            },
            "schemas": schemas,
        },
    }


def _configuration_paths() -> Json:
    text = "The response is empty."
    name = [_parameter("name")]
    changed = {"400", "409", "413", "408"}
    conf = _reference("PathConfInput")
    return {
        "/v1/config/get": {
            "get": _operation("get the configuration", "All keys with their effective values.", _reference("Conf"))
        },
        "/v1/config/status": {
            "get": _operation(
                "get the state of the configuration",
                "Whether the last change (of the file, or through the API) was applied, and if not, why.",
                _reference("ConfStatus"),
            )
        },
        "/v1/config/set": {
            "post": _operation(
                "change global keys",
                f"`paths` is ignored. {text}",
                None,
                changed,
                body=_reference("ConfInput"),
            )
        },
        "/v1/config/paths/add/{name}": {
            "post": _operation("add a path", text, None, changed, parameters=name, body=conf)
        },
        "/v1/config/paths/edit/{name}": {
            "post": _operation(
                "change keys of a path",
                f"The entry `all` has the name `~^.*$`; both are accepted. {text}",
                None,
                changed,
                parameters=name,
                body=conf,
            )
        },
        "/v1/config/paths/remove/{name}": {"post": _operation("remove a path", text, None, changed, parameters=name)},
        "/v1/config/paths/replace": {
            "post": _operation(
                "replace all paths at once",
                f"The body contains the new paths by name. Unchanged paths keep their publisher and readers. {text}",
                None,
                changed,
                body={"type": "object", "additionalProperties": {"anyOf": [conf, {"type": "null"}]}},
            )
        },
    }


def _path_paths() -> Json:
    path = object_schema(PathItem, _SHARED)
    named = {
        "type": "object",
        "properties": {"name": {"type": "string"}, **path["properties"]},
        "required": ["name", *path["required"]],
    }
    return {
        "/v1/paths/list": {"get": _operation("list paths", "Lists the existing paths by name.", _items("Path"))},
        "/v1/paths/get/{name}": {
            "get": _operation("get a path", "One path.", named, {"404", "400"}, parameters=[_parameter("name")])
        },
    }


def _other_paths() -> Json:
    events = "; ".join(f"`{name}`: {meaning}" for name, meaning in EVENTS.items())
    stream = _operation(
        "listen to events",
        "Server-sent events about paths, sessions and the configuration, with a JSON object as data. "
        f"{events} A client that is too slow gets `overflow` and is disconnected.",
        None,
        {"503"},
    )
    stream["responses"]["200"]["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    return {
        "/v1/events": {"get": stream},
        "/v1/openapi.json": {"get": _operation("get this document", "This document.", {"type": "object"})},
    }


def _operation(
    summary: str,
    description: str,
    schema: Json | None,
    errors: Iterable[str] = (),
    *,
    parameters: list[Json] | None = None,
    body: Json | None = None,
) -> Json:
    responses: Json = {"200": {"description": "Done."}}
    if schema is not None:
        responses["200"]["content"] = {"application/json": {"schema": schema}}
    for status in sorted({"401", "403", "429", *errors}):
        responses[status] = {
            "description": _ERRORS[status],
            "content": {"application/json": {"schema": _reference("Error")}},
        }
    operation: Json = {
        "operationId": "".join(word.capitalize() if index else word for index, word in enumerate(summary.split())),
        "summary": summary,
        "description": description,
        "responses": responses,
    }
    if parameters is not None:
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = {"content": {"application/json": {"schema": body}}}
    return operation


_ERRORS: Final = {
    "400": "The request is invalid.",
    "401": "Credentials are required.",
    "403": "The web site or the host name of the request is not allowed, or it would change commands.",
    "404": "Not found.",
    "408": "The body did not arrive in time.",
    "409": "The change is valid but cannot be applied or saved; nothing has changed.",
    "413": "The body is too large.",
    "429": "Too many attempts with wrong credentials from this address.",
    "503": "Too many clients.",
}


def _schemas() -> Json:
    view = view_of(LEGACY)
    globals_, paths = view.fields.values(), view.path_fields.values()
    conf = _object({field.key: _output(field) for field in globals_})
    conf["properties"]["paths"] = {"type": "object", "additionalProperties": _reference("PathConf")}
    conf["required"].append("paths")
    return {
        "Error": _object({"error": {"type": "string", "description": "The reason for the error."}}),
        "Conf": conf,
        "ConfInput": _input(globals_, {"paths": {"description": "Ignored."}}),
        "PathConf": _object({field.key: _output(field) for field in paths}),
        "PathConfInput": _input(paths),
        "ConfStatus": object_schema(StatusItem),
        "Reference": object_schema(Reference),
        "Path": object_schema(PathItem, _SHARED),
    }


def _output(field: Field) -> Json:
    """The schema of output: one form for each kind of value."""
    value = field.kind.dump(field.default)
    if isinstance(value, bool):
        schema: Json = {"type": "boolean"}
    elif isinstance(value, int):
        schema = {"type": "integer"}
    elif isinstance(value, list):
        schema = {"type": "array", "items": field.kind.schema.get("items", {"type": "string"})}
    elif "anyOf" in field.kind.schema:
        schema = dict(field.kind.schema)
    else:
        schema = {"type": "string"}
    return {**schema, "description": field.description}


def _input(fields: Iterable[Field], more: Json | None = None) -> Json:
    """The schema of input: every form allowed in the configuration file, null for the default."""
    properties = {
        field.key: {"anyOf": [dict(field.kind.schema), {"type": "null"}], "description": field.description}
        for field in fields
    }
    return {"type": "object", "properties": {**properties, **(more or {})}, "additionalProperties": False}


def _object(properties: Mapping[str, object]) -> Json:
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def _items(schema: str) -> Json:
    return _object({"items": {"type": "object", "additionalProperties": _reference(schema)}})


def _reference(schema: str) -> Json:
    return {"$ref": REFERENCES + schema}


def _parameter(name: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": "May contain slashes." if name == "name" else "",
        "schema": {"type": "string"},
    }
