"""Parses JSON requests, within limits, and creates JSON responses."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from polycast.config.persist import PersistError
from polycast.config.yaml_reader import MAXIMUM_DEPTH
from polycast.control.errors import RequestError
from polycast.control.turns import TooManyChangesError
from polycast.errors import ConfigurationError, PolycastError

LARGE_BODY: Final = 32 * 1024
"""Bytes of a body above which it is decoded in a thread: with 1 MiB, that takes up to a tenth of a second."""


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
    """Return the JSON object in the body; an empty body is an empty object. Raises RequestError.

    The service limits the size of bodies (`control.service.MAXIMUM_BODY`).
    """
    body = await request.body()
    return await asyncio.to_thread(_decoded, body) if len(body) > LARGE_BODY else _decoded(body)


def _decoded(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        value = msgspec.json.decode(body)
        is_too_deep = _is_too_deep(value)
    except RecursionError:
        is_too_deep = True
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(400, f"invalid JSON: {error}") from None
    if is_too_deep:
        raise RequestError(400, f"invalid JSON: more than {MAXIMUM_DEPTH} levels of objects and lists")
    if not isinstance(value, dict):
        raise RequestError(400, "invalid JSON: the body must be an object")
    return value


def _is_too_deep(value: object) -> bool:
    """Whether a value has more levels than a file may have: values are compared and described recursively."""
    level = [value]
    for _ in range(MAXIMUM_DEPTH):
        containers = (each for each in level if isinstance(each, dict | list))
        level = [part for each in containers for part in (each.values() if isinstance(each, dict) else each)]
    return any(isinstance(each, dict | list) for each in level)
