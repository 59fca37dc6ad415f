"""The endpoints of the console in the OpenAPI document of API v1."""

from __future__ import annotations

from polycast.control.console.history import ServerHistory, StreamHistory
from polycast.control.console.log_ring import LogLine
from polycast.control.console.status import ServerStatus
from polycast.control.openapi_parts import object_of, operation, parameter
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
    }
