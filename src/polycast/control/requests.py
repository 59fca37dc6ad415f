"""Parses JSON requests, within limits, and creates JSON responses."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from polycast.control.errors import RequestError


def json_response(value: object, status: int = 200) -> Response:
    """Return a response with a JSON body."""
    return Response(msgspec.json.encode(value), status, media_type="application/json", headers=NOT_STORED)


def error_response(status: int, message: str) -> Response:
    """Return a response with an error text."""
    return json_response({"error": message}, status)


def empty_response() -> Response:
    """Return the response to a successful change."""
    return Response(b"", 200, headers=NOT_STORED)


NOT_STORED: Final = {"Cache-Control": "no-store"}


async def read_map(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body; an empty body is an empty object. Raises RequestError."""
    body = await request.body()
    if not body.strip():
        return {}
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(400, f"invalid JSON: {error}") from None
    if not isinstance(value, dict):
        raise RequestError(400, "invalid JSON: the body must be an object")
    return value
