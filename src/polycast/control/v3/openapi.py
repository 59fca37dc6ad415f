"""The OpenAPI document of API v3, generated from the configuration schema and the declarations of servers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from polycast.config.dialects.registry import MEDIAMTX
from polycast.config.dialects.views import view_of
from polycast.control.contract import ClusterNode, ClusterPath
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
from polycast.control.v3.answers import DEFAULT_PAGE_SIZE, MAXIMUM_NUMBER
from polycast.control.v3.items import InfoFields, PathFields, names_of, types_of_collections
from polycast.control.v3.movement import MAXIMUM_PRESET
from polycast.control.v3.recordings import DeletedFields, RecordingFields
from polycast.hub.movement import LONGEST
from polycast.items import ForwardItem

_NAME: Final = [parameter("name")]
_UUID: Final = {"type": "string", "format": "uuid"}
_NOT_RUNNING: Final = "Not found. Plain text: the server is not running, so it has no such list."


def build(collections: Iterable[Collection]) -> Json:
    """Return the document for an API with these collections of sessions."""
    paths: Json = {**_configuration_paths(), **_path_paths(), **_node_paths(), **_recording_paths(), **_other_paths()}
    schemas = _schemas()
    for collection in collections:
        types = types_of_collections(
            collection.name, collection.item, collection.fields, collection.connections, collection.viewers
        )
        for name, its_types in types.items():
            item = _title(name)
            schemas[item] = _schema_of(*its_types)
            can_kick = collection.can_kick if name == collection.name else name == collection.viewers
            paths.update(_collection_paths(name, item, can_kick=can_kick))
    return whole("Polycast API, version 3", paths, schemas)


def _title(name: str) -> str:
    return f"{name[:1].upper()}{name[1:]}Item"


def _schema_of(*types: type) -> Json:
    """Return the schema of an object that has the fields of these types, in their order."""
    properties: Json = {}
    for each in types:
        schema = object_schema(each)
        properties.update({name: schema["properties"][name] for name in names_of(each)})
    return object_of(properties)


def _configuration_paths() -> Json:
    path, its_input = reference("PathConf"), reference("PathConfInput")
    null_stays = "A value of null leaves a setting as it is."
    missing = {*CHANGE, "404"}
    return {
        "/v3/config/global/get": {
            "get": operation("get global settings", "All settings with their values.", reference("GlobalConf"))
        },
        "/v3/config/global/patch": {
            "patch": _change("change global settings", null_stays, reference("GlobalConfInput"), CHANGE)
        },
        "/v3/config/pathdefaults/get": {
            "get": operation("get the defaults of paths", "All settings with their values.", path)
        },
        "/v3/config/pathdefaults/patch": {
            "patch": _change(
                "change the defaults of paths", f"Paths without a value follow. {null_stays}", its_input, CHANGE
            )
        },
        "/v3/config/paths/list": {
            "get": _list("list the settings of paths", "Sorted by name, with the defaults.", "PathConf")
        },
        "/v3/config/paths/get/{name}": {
            "get": operation("get the settings of a path", "With the defaults.", path, {"400", "404"}, parameters=_NAME)
        },
        "/v3/config/paths/add/{name}": {
            "post": _change("add a path", "A path that does not exist yet.", its_input, CHANGE, _NAME)
        },
        "/v3/config/paths/patch/{name}": {
            "patch": _change("change settings of a path", null_stays, its_input, missing, _NAME)
        },
        "/v3/config/paths/replace/{name}": {
            "post": _change(
                "replace the settings of a path",
                "The path has exactly these settings afterwards; it is added if it does not exist.",
                its_input,
                CHANGE,
                _NAME,
            )
        },
        "/v3/config/paths/delete/{name}": {"delete": _change("delete a path", "", None, missing, _NAME)},
        "/v3/config/paths": {
            "put": _change(
                "replace all paths at once",
                "The body contains all paths by name, with the settings that differ from the defaults. Either all of "
                "it takes effect, or nothing. Unchanged paths keep their publisher and readers.",
                {"type": "object", "additionalProperties": {"anyOf": [its_input, {"type": "null"}]}},
                CHANGE,
            )
        },
    }


def _change(
    summary: str, description: str, body: Json | None, errors: Iterable[str], parameters: list[Json] | None = None
) -> Json:
    return operation(summary, description, reference("OK"), errors, parameters=parameters, body=body)


def _path_paths() -> Json:
    forwards = _list(
        "list the destinations of a path", "Where its stream is forwarded to.", "ForwardDest", {"404"}, _OF_PATH
    )
    return {
        "/v3/paths/list": {
            "get": _list("list paths", "The paths that exist, sorted by name.", "Path", parameters=[_CLUSTER])
        },
        "/v3/paths/get/{name}": {
            "get": operation("get a path", "", reference("Path"), {"400", "404"}, parameters=_NAME)
        },
        "/v3/paths/ptz/{name}": {
            "post": _change(
                "move the camera of a path",
                "For paths whose source is an ONVIF camera. With speeds, it moves for some seconds; with a preset, it "
                "moves there; with neither, it stops.",
                None,
                {"400", "404", "408", "413"},
                [*_NAME, *_MOVEMENT],
            )
        },
        "/v3/paths/forward/list": {"get": forwards},
        "/v3/paths/forward/get": {
            "get": operation(
                "get a destination of a path",
                "",
                reference("ForwardDest"),
                {"400", "404"},
                parameters=[*_OF_PATH, _query("id", "", _UUID, is_required=True)],
            )
        },
    }


def _node_paths() -> Json:
    missing = {"400", "404"}
    change = {*missing, "408", "413", "500"}
    return {
        "/v3/nodes/list": {"get": _list("list nodes", "The living nodes of the cluster, sorted by name.", "Node")},
        "/v3/nodes/paths": {
            "get": _list("list the paths of the nodes", "What is published, and on which node.", "NodePath")
        },
        "/v3/nodes/get/{name}": {"get": operation("get a node", "", reference("Node"), missing, parameters=_NAME)},
        "/v3/nodes/drain/{name}": {
            "post": _change(
                "drain a node",
                "It takes no new publishers, and its sources move to other nodes. What is published and read goes on.",
                None,
                change,
                _NAME,
            )
        },
        "/v3/nodes/resume/{name}": {
            "post": _change("end the draining", "The node takes publishers and sources again.", None, change, _NAME)
        },
    }


def _recording_paths() -> Json:
    start = _query("start", "As in the list.", {"type": "string", "format": "date-time"}, is_required=True)
    end = {**start, "name": "end"}
    duration = _query("duration", "After which it ends, such as 30s; further calls prolong it.", {"type": "string"})
    return {
        "/v3/recordings/list": {
            "get": _list("list recordings", "Of the paths that have some, sorted by name.", "Recording", {"500"})
        },
        "/v3/recordings/get/{name}": {
            "get": operation(
                "get the recordings of a path", "", reference("Recording"), {"400", "500"}, parameters=_NAME
            )
        },
        "/v3/recordings/deletesegment": {
            "delete": _change("delete a recorded file", "", None, {"400"}, [*_OF_PATH, start])
        },
        "/v3/recordings/deleteperiod": {
            "delete": operation(
                "delete the files of a period",
                "Those of a path that lie within it as a whole, and are complete.",
                reference("Deleted"),
                {"400"},
                parameters=[*_OF_PATH, start, end],
            )
        },
        "/v3/recordings/start/{name}": {
            "post": _change(
                "record a path",
                "Whatever its setting 'record' is, whenever it has a stream, until it is stopped. The recording begins "
                "with what 'recordBefore' has kept.",
                None,
                {"400", "408", "413"},
                [*_NAME, duration],
            )
        },
        "/v3/recordings/stop/{name}": {
            "post": _change(
                "end what was started",
                "What the settings say is recorded on.",
                None,
                {"400", "404", "408", "413"},
                _NAME,
            )
        },
    }


def _other_paths() -> Json:
    document: Json = {"type": "object"}
    return {
        "/v3/info": {"get": operation("get the version", "", reference("Info"))},
        "/v3/auth/jwks/refresh": {
            "post": operation(
                "fetch the keys again", "The keys of tokens, with authMethod 'jwt'.", reference("OK"), {"408", "413"}
            )
        },
        "/v3/events": {"get": event_stream()},
        "/v3/openapi.json": {"get": operation("get this document", "This document.", document)},
    }


def _collection_paths(name: str, item: str, *, can_kick: bool) -> Json:
    """Return the operations of a collection: sessions, connections, or what has the name of a path."""
    is_by_name = name.endswith("muxers")
    identifier = parameter("name" if is_by_name else "id")
    if not is_by_name:
        identifier["schema"] = _UUID
    key = identifier["name"]
    paths = {
        f"/v3/{name}/list": {"get": _of_server(_list(f"list {name}", "The oldest first.", item))},
        f"/v3/{name}/get/{{{key}}}": {
            "get": _of_server(
                operation(f"get one of {name}", "", reference(item), {"400", "404"}, parameters=[identifier])
            )
        },
    }
    if can_kick:
        paths[f"/v3/{name}/kick/{{{key}}}"] = {
            "post": _of_server(
                operation(
                    f"kick one of {name}",
                    "Closes it.",
                    reference("OK"),
                    {"400", "404", "408", "413"},
                    parameters=[identifier],
                )
            )
        }
    return paths


def _of_server(made: Json) -> Json:
    """Return an operation of a server that may not be running."""
    not_found = made["responses"].setdefault("404", {"content": {}})
    not_found["description"] = _NOT_RUNNING
    not_found["content"]["text/plain"] = {"schema": {"type": "string"}}
    made["responses"] = dict(sorted(made["responses"].items()))
    return made


def _list(
    summary: str, description: str, item: str, errors: Iterable[str] = (), parameters: Iterable[Json] = ()
) -> Json:
    whole_list = object_of(
        {
            "itemCount": {"type": "integer", "description": "Of all pages."},
            "pageCount": {"type": "integer"},
            "items": {"type": "array", "items": reference(item)},
        }
    )
    return operation(summary, description, whole_list, {"400", *errors}, parameters=[*parameters, *_OF_LISTS])


def _query(name: str, description: str, schema: Json, *, is_required: bool = False) -> Json:
    return {"name": name, "in": "query", "required": is_required, "description": description, "schema": schema}


_SPEED: Final = {"type": "number", "minimum": -1, "maximum": 1, "default": 0}
_MOVEMENT: Final = [
    _query("pan", "From -1 (left) to 1 (right), in parts of the highest speed.", _SPEED),
    _query("tilt", "From -1 (down) to 1 (up).", _SPEED),
    _query("zoom", "From -1 (out) to 1 (in).", _SPEED),
    _query(
        "seconds",
        "After which the camera stops by itself.",
        {"type": "number", "minimum": 0, "maximum": LONGEST, "default": 1},
    ),
    _query(
        "preset", "The token of a place that the camera remembers.", {"type": "string", "maxLength": MAXIMUM_PRESET}
    ),
]

_CLUSTER: Final = _query("cluster", "1: the paths of all nodes of the cluster.", {"enum": ["1"]})

_OF_PATH: Final = [_query("path", "", {"type": "string"}, is_required=True)]


_OF_LISTS: Final = [
    _query(
        "itemsPerPage",
        "",
        {"type": "integer", "minimum": 1, "maximum": MAXIMUM_NUMBER, "default": DEFAULT_PAGE_SIZE},
    ),
    _query("page", "From 0.", {"type": "integer", "minimum": 0, "maximum": MAXIMUM_NUMBER, "default": 0}),
    _query(
        "filter",
        "Only items for which this holds: a field, an operator (=, !=, >, >=, < or <=) and a value, such as "
        "`ready=true`, `name=cam*` or `source.type=redirect`. All of several filters must hold.",
        {"type": "array", "items": {"type": "string"}},
    ),
]


def _schemas() -> Json:
    view = view_of(MEDIAMTX)
    name: Json = {"name": {"type": "string", "description": "Ignored."}}
    ok: Json = {"status": {"enum": ["ok"]}}
    error: Json = {
        "status": {"enum": ["error"]},
        "error": {"type": "string", "description": "The reason for the error."},
    }
    path = {field.key: output_of(field) for field in view.path_fields.values()}
    return {
        "OK": object_of(ok),
        "Error": object_of(error),
        "Info": _schema_of(InfoFields),
        "GlobalConf": object_of({field.key: output_of(field) for field in view.fields.values()}),
        "GlobalConfInput": input_of(view.accepted.values()),
        "PathConf": object_of({"name": {"type": "string"}, **path}),
        "PathConfInput": input_of(view.path_accepted.values(), name),
        "Path": _schema_of(PathFields),
        "ForwardDest": _schema_of(ForwardItem),
        "Node": _schema_of(ClusterNode),
        "NodePath": _schema_of(ClusterPath),
        "Recording": _schema_of(RecordingFields),
        "Deleted": _schema_of(DeletedFields),
    }
