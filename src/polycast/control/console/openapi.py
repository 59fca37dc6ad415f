"""The endpoints of the console in the OpenAPI document of API v1."""

from __future__ import annotations

from polycast.control.console.cameras import CameraItem
from polycast.control.console.editor import CheckItem, SchemaItem, TextItem, VersionItem
from polycast.control.console.history import ServerHistory, StreamHistory
from polycast.control.console.log_ring import LogLine
from polycast.control.console.status import ServerStatus
from polycast.control.openapi_parts import CHANGE, object_of, operation, parameter
from polycast.control.schemas import Json, object_schema


def console_paths() -> Json:
    """Return the operations by address."""
    name = [parameter("name")]
    lines = object_of({"lines": {"type": "array", "items": object_schema(LogLine)}})
    thumbnail = operation(
        "get a picture of a path",
        "A small JPEG picture of the stream, made of its next key frame, a few seconds old at most. Needs PyAV (the "
        "extra `media`).",
        None,
        {"400", "404", "503"},
        parameters=name,
    )
    thumbnail["responses"]["200"]["content"] = {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "/v1/server/status": {
            "get": operation("get the state of the server", "What runs, and what it uses.", object_schema(ServerStatus))
        },
        "/v1/server/history": {
            "get": operation(
                "get the history of the server",
                "Samples of the last hour, the oldest first.",
                object_schema(ServerHistory),
            )
        },
        "/v1/server/log": {
            "get": operation(
                "get the log",
                "The last 2,000 lines since the API was started, the oldest first. Those that follow are events with "
                "the name `log`, for clients that ask for `/v1/events?log=yes`.",
                lines,
            )
        },
        "/v1/paths/history/{name}": {
            "get": operation(
                "get the history of a path",
                "Samples of the last hour, the oldest first.",
                object_schema(StreamHistory),
                {"400", "404"},
                parameters=name,
            )
        },
        "/v1/paths/thumbnail/{name}": {"get": thumbnail},
        "/v1/cameras/find": {"post": _search()},
        **_editor_paths(),
    }


def _search() -> Json:
    text: Json = {"type": "string"}
    hosts: Json = {"type": "array", "items": text, "description": "Addresses to search; empty: the whole network."}
    return operation(
        "find cameras",
        "Asks ONVIF cameras for their streams. It takes about three seconds; one search runs at a time (409).",
        object_of({"items": {"type": "array", "items": object_schema(CameraItem)}}),
        {"400", "408", "409", "413"},
        body={"type": "object", "properties": {"hosts": hosts, "user": text, "password": text}},
    )


def _editor_paths() -> Json:
    text = object_schema(TextItem)
    given = {"text": {"type": "string"}}
    digest: Json = {
        "type": "string",
        "description": "That of the text that was edited; 409 if there is another one now.",
    }
    return {
        "/v1/config/schema": {
            "get": operation("get the settings that there are", "With their descriptions.", object_schema(SchemaItem))
        },
        "/v1/config/text": {
            "get": operation(
                "get the configuration as text",
                "The configuration file, or the settings in effect if they are not those of a file.",
                text,
                {"409"},
            )
        },
        "/v1/config/check": {
            "post": operation(
                "check a configuration",
                "Says what is wrong with a text, and changes nothing.",
                object_schema(CheckItem),
                {"400", "408", "413"},
                body=object_of(given),
            )
        },
        "/v1/config/replace": {
            "post": operation(
                "replace the configuration",
                "Puts a text in the place of the configuration, and writes it into the file with `apiPersist`.",
                None,
                CHANGE,
                body={"type": "object", "properties": {**given, "digest": digest}, "required": ["text"]},
            )
        },
        **_version_paths(text),
        "/v1/auth/hash": {
            "post": operation(
                "hash a password",
                "Returns what settings can contain instead of a password: `argon2:` and a hash (argon2id).",
                object_of({"hash": {"type": "string"}}),
                {"400", "408", "413"},
                body=object_of({"password": {"type": "string"}}),
            )
        },
    }


def _version_paths(text: Json) -> Json:
    number = {**parameter("number"), "schema": {"type": "integer"}}
    versions = object_of({"items": {"type": "array", "items": object_schema(VersionItem)}})
    return {
        "/v1/config/versions/list": {
            "get": operation(
                "list earlier configurations", "The last ten that were replaced, the latest first.", versions
            )
        },
        "/v1/config/versions/get/{number}": {
            "get": operation("get an earlier configuration", "As text.", text, {"404"}, parameters=[number])
        },
        "/v1/config/versions/restore/{number}": {
            "post": operation(
                "restore an earlier configuration",
                "Puts it in the place of the present one, which is kept as well.",
                None,
                {*CHANGE, "404"},
                parameters=[number],
            )
        },
    }
