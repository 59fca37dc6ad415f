"""The OpenAPI document of API v1, generated from the configuration schema and the declarations of servers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from polycast.config.dialects.legacy import LEGACY
from polycast.config.dialects.views import view_of
from polycast.control.console.openapi import console_paths
from polycast.control.items import PathItem, StatusItem
from polycast.control.openapi_parts import (
    CHANGE,
    Collection,
    event_stream,
    input_of,
    object_of,
    operation,
    output_of,
    parameter,
    reference,
    whole,
)
from polycast.control.schemas import Json, object_schema
from polycast.hub.stats import Reference

_LOG: Final[Json] = {
    "name": "log",
    "in": "query",
    "required": False,
    "description": "`yes`: also the lines of the log, as events with the name `log`.",
    "schema": {"enum": ["yes", "no"]},
}

# Structs that the document has once.
_SHARED: Final = frozenset({Reference.__name__})


def build(collections: Iterable[Collection]) -> Json:
    """Return the document for an API with these collections of sessions."""
    paths: Json = {**_configuration_paths(), **_path_paths(), **console_paths(), **_other_paths()}
    schemas = _schemas()
    for collection in collections:
        item = f"{collection.name[:1].upper()}{collection.name[1:]}Item"
        schemas[item] = object_schema(collection.item, _SHARED)
        paths[f"/v1/{collection.name}/list"] = {
            "get": operation(f"list {collection.name}", "Lists all by id.", _items(item), {"404"})
        }
        if collection.can_kick:
            paths[f"/v1/{collection.name}/kick/{{id}}"] = {
                "post": operation(
                    f"kick one of {collection.name}",
                    "Closes one by its id.",
                    None,
                    {"404"},
                    parameters=[parameter("id")],
                )
            }
    return whole("Polycast API", paths, schemas)


def _configuration_paths() -> Json:
    text = "The response is empty."
    name = [parameter("name")]
    conf = reference("PathConfInput")
    return {
        "/v1/config/get": {
            "get": operation("get the configuration", "All keys with their effective values.", reference("Conf"))
        },
        "/v1/config/status": {
            "get": operation(
                "get the state of the configuration",
                "Whether the last change (of the file, or through the API) was applied, and if not, why.",
                reference("ConfStatus"),
            )
        },
        "/v1/config/set": {
            "post": operation(
                "change global keys",
                f"`paths` is ignored. {text}",
                None,
                CHANGE,
                body=reference("ConfInput"),
            )
        },
        "/v1/config/paths/add/{name}": {
            "post": operation("add a path", text, None, CHANGE, parameters=name, body=conf)
        },
        "/v1/config/paths/edit/{name}": {
            "post": operation(
                "change keys of a path",
                f"The entry `all` has the name `~^.*$`; both are accepted. {text}",
                None,
                CHANGE,
                parameters=name,
                body=conf,
            )
        },
        "/v1/config/paths/remove/{name}": {"post": operation("remove a path", text, None, CHANGE, parameters=name)},
        "/v1/config/paths/replace": {
            "post": operation(
                "replace all paths at once",
                f"The body contains the new paths by name. Unchanged paths keep their publisher and readers. {text}",
                None,
                CHANGE,
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
        "/v1/paths/list": {"get": operation("list paths", "Lists the existing paths by name.", _items("Path"))},
        "/v1/paths/get/{name}": {
            "get": operation("get a path", "One path.", named, {"404", "400"}, parameters=[parameter("name")])
        },
    }


def _other_paths() -> Json:
    return {
        "/v1/events": {"get": event_stream(parameters=[_LOG])},
        "/v1/openapi.json": {"get": operation("get this document", "This document.", {"type": "object"})},
    }


def _schemas() -> Json:
    view = view_of(LEGACY)
    globals_, paths = view.fields.values(), view.path_fields.values()
    conf = object_of({field.key: output_of(field) for field in globals_})
    conf["properties"]["paths"] = {"type": "object", "additionalProperties": reference("PathConf")}
    conf["required"].append("paths")
    return {
        "Error": object_of({"error": {"type": "string", "description": "The reason for the error."}}),
        "Conf": conf,
        "ConfInput": input_of(globals_, {"paths": {"description": "Ignored."}}),
        "PathConf": object_of({field.key: output_of(field) for field in paths}),
        "PathConfInput": input_of(paths),
        "ConfStatus": object_schema(StatusItem),
        "Reference": object_schema(Reference),
        "Path": object_schema(PathItem, _SHARED),
    }


def _items(schema: str) -> Json:
    return object_of({"items": {"type": "object", "additionalProperties": reference(schema)}})
