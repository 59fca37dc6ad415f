"""Parses JSON requests, within limits, and creates JSON responses."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from polycast.config.persist import PersistError
from polycast.control.errors import RequestError
from polycast.control.turns import TooManyChangesError
from polycast.errors import ConfigurationError, PolycastError


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


async def as_request(change: Awaitable[None], text_of: Callable[[ConfigurationError], str] = str) -> None:
    """Wait for a change of the configuration. Raises RequestError, with ``text_of`` an error of the configuration."""
    try:
        await change
    except PolycastError as error:
        raise _refusal(error, text_of) from None


def _refusal(error: PolycastError, text_of: Callable[[ConfigurationError], str]) -> RequestError:
    # Its frames hold what was sent, and some hold the error: all would stay until cycles are looked for.
    traceback.clear_frames(error.__traceback__)
    if isinstance(error, ConfigurationError):
        return RequestError(400, text_of(error))
    if isinstance(error, TooManyChangesError):
        return RequestError(503, str(error))
    if isinstance(error, PersistError):
        return RequestError(409, str(error))
    return RequestError(409, f"the configuration was not changed: {error}")


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
