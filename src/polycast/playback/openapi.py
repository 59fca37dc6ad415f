"""The OpenAPI document of the playback server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from polycast import _version
from polycast.playback.thumbnails import DEFAULT_WIDTH, WIDTHS

Json = dict[str, Any]

_ERRORS: Final = {
    "400": "A parameter is missing or invalid, the path is not configured, or the recordings cannot be read.",
    "401": "Credentials are required.",
    "403": "The web site of the request is not allowed.",
    "404": "Nothing was recorded then.",
    "416": "The range is not within the file.",
    "429": "Too many attempts with wrong credentials from this address.",
    "501": "The picture cannot be decoded here.",
    "503": "Too many clients.",
}
_ANY: Final = ("400", "401", "403", "404", "429")
_TIME: Final[Json] = {"type": "string", "format": "date-time"}


def _query(name: str, description: str, schema: Json, *, is_required: bool = False) -> Json:
    return {"name": name, "in": "query", "required": is_required, "description": description, "schema": schema}


_PATH: Final = _query("path", "Name of the path.", {"type": "string"}, is_required=True)
_START: Final = _query("start", "When the period begins.", _TIME, is_required=True)
_DURATION: Final = _query("duration", "In seconds, or as '1h30m'.", {"type": "string", "examples": ["60", "1h30m"]})
_END: Final = _query("end", "When it ends, instead of a duration.", _TIME)


def _get(
    name: str,
    summary: str,
    parameters: list[Json],
    kind: str,
    schema: Json,
    errors: Iterable[str] = (),
    description: str = "",
) -> Json:
    responses: Json = {"200": {"description": "Done.", "content": {kind: {"schema": schema}}}}
    for status in sorted({*_ANY, *errors}):
        responses[status] = {
            "description": _ERRORS[status],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "description": description,
            "parameters": parameters,
            "responses": responses,
        }
    }


def _names() -> Json:
    description = "Paths whose recordings need credentials are left out."
    names: Json = {"type": "array", "items": {"type": "string"}}
    return _get("paths", "list the paths that have recordings", [], "application/json", names, (), description)


def _paths() -> Json:
    file: Json = {"type": "string", "format": "binary"}
    limits = [_query("start", "Nothing before it.", _TIME), _query("end", "Nothing after it.", _TIME)]
    form = _query(
        "format",
        "'fmp4' plays while it is loading; 'mp4' has an index, a known size, and ranges.",
        {"type": "string", "enum": ["fmp4", "mp4"], "default": "fmp4"},
    )
    choices: Json = {"type": "string", "enum": ["end", "skip"], "default": "end"}
    gaps = _query("gaps", "Whether the file ends at a gap, or skips it.", choices)
    width = _query(
        "width",
        "Of the picture, in pixels.",
        {"type": "integer", "minimum": WIDTHS[0], "maximum": WIDTHS[1], "default": DEFAULT_WIDTH},
    )
    moment = _query("time", "The picture is the key frame then, or the last one before.", _TIME, is_required=True)
    return {
        "/list": _get(
            "list",
            "list the periods that are recorded",
            [_PATH, *limits],
            "application/json",
            {"type": "array", "items": {"$ref": "#/components/schemas/Period"}},
        ),
        "/paths": _names(),
        "/get": _get(
            "get",
            "get a period as a file",
            [_PATH, _START, {**_DURATION, "required": True}, form, gaps],
            "video/mp4",
            file,
            ("416", "503"),
        ),
        "/export": _get(
            "export",
            "get a file with exactly the pictures of a period",
            [_PATH, _START, _END, _DURATION],
            "video/mp4",
            file,
            ("416", "503"),
            "MP4 with an index, over gaps, with a name. Either an end or a duration is required.",
        ),
        "/thumbnail": _get(
            "thumbnail", "get a picture of a moment", [_PATH, moment, width], "image/jpeg", file, ("501", "503")
        ),
        "/index.m3u8": _get(
            "playlist",
            "get a period as HLS",
            [_PATH, _START, _END, _DURATION],
            "application/vnd.apple.mpegurl",
            {"type": "string"},
            description="Without an end, it grows while the recording goes on. It has the addresses of all segments.",
        ),
    }


def build() -> Json:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Polycast playback",
            "version": _version.__version__,
            "description": "Lists recordings, and sends any period of them. Times have the form of RFC 3339.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "http://127.0.0.1:9996"}],
        "security": [{}, {"basic": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "Required where a path has credentials."}
            },
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["status", "error"],
                    "properties": {"status": {"const": "error"}, "error": {"type": "string"}},
                },
                "Period": {
                    "type": "object",
                    "required": ["start", "duration", "url"],
                    "properties": {
                        "start": _TIME,
                        "duration": {"type": "number", "description": "In seconds."},
                        "url": {"type": "string", "format": "uri", "description": "Of the period as a file."},
                    },
                },
            },
        },
    }


async def get_document(request: Request) -> Response:
    """Answer with the document."""
    return Response(msgspec.json.encode(build()), media_type="application/json")
