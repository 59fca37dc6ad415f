"""Parameters of requests, and errors."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from polycast.config.names import check_path_name
from polycast.errors import ConfigurationError
from polycast.net.http.request import query_field
from polycast.playback.periods import OffsetDateTime, parse_date_time, parse_duration

NOT_STORED: Final = {"Cache-Control": "no-store"}
NOTHING_RECORDED: Final = "no recording segments found"


class RequestError(Exception):
    """The request cannot be served; the text is sent to the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def parameter(request: Request, name: str) -> str:
    """Return a field of the query, empty if it is missing. Raises RequestError for too many fields."""
    try:
        return query_field(request.scope["query_string"], name)
    except ValueError as error:
        raise RequestError(400, str(error)) from None


def path_name(request: Request) -> str:
    """Return the name of the path that a request concerns. Raises RequestError if there is no valid one."""
    name = parameter(request, "path")
    try:
        check_path_name(name)
    except ConfigurationError as error:
        raise RequestError(400, f"invalid path name: {error} ({name})") from None
    return name


def date_time(request: Request, name: str) -> OffsetDateTime:
    """Return a point in time. Raises RequestError if it is missing or invalid."""
    try:
        return parse_date_time(parameter(request, name))
    except ValueError as error:
        raise RequestError(400, f"invalid {name}: {error}") from None


def optional_date_time(request: Request, name: str) -> OffsetDateTime | None:
    """Return a point in time; None if it is missing. Raises RequestError if it is invalid."""
    return date_time(request, name) if parameter(request, name) else None


def duration(request: Request) -> int:
    """Return the duration in nanoseconds. Raises RequestError if it is missing or invalid."""
    try:
        return parse_duration(parameter(request, "duration"))
    except ValueError as error:
        raise RequestError(400, f"invalid duration: {error}") from None


def number(request: Request, name: str) -> int:
    """Return a whole number of at most 19 digits. Raises RequestError if it is missing or invalid."""
    text = parameter(request, name)
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 20):
        raise RequestError(400, f"invalid {name}")
    value = int(text)
    if abs(value) >= 1 << 62:
        raise RequestError(400, f"invalid {name}")
    return value


def unreadable(error: Exception, status: int = 400) -> RequestError:
    """Return the answer if recordings cannot be read. It does not tell where on the server they are."""
    reason = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
    return RequestError(status, f"the recordings cannot be read: {reason}")


def error_response(status: int, text: str) -> Response:
    """Return a response with an error text, in MediaMTX's form."""
    body = msgspec.json.encode({"status": "error", "error": text})
    return Response(body, status, media_type="application/json", headers=NOT_STORED)


async def on_http_error(_: Request, error: Exception) -> Response:
    """Answer a request that is for nothing. Other methods than GET are not found either, as MediaMTX answers them."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    return error_response(404, "not found") if status in (404, 405) else error_response(status, str(error))
