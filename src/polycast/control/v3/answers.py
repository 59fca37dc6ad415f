"""What the routes of API v3 have in common: answers, errors, pages of lists."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from polycast.config.reports import UnknownKeyError
from polycast.control.errors import RequestError
from polycast.control.requests import NOT_STORED
from polycast.control.slices import encoded, in_slices
from polycast.control.v3.filters import filters_of
from polycast.errors import ConfigurationError

DEFAULT_PAGE_SIZE: Final = 100

_MEDIA_TYPE: Final = "application/json; charset=utf-8"
Item = TypeVar("Item")

MAXIMUM_NUMBER: Final = 2**31 - 1
"""Of the page, and of items per page."""

_NUMBER: Final = re.compile(r"[0-9]{1,20}", re.ASCII)


def json_answer(value: object, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type=_MEDIA_TYPE, headers=NOT_STORED)


def error_text(invalid: ConfigurationError) -> str:
    """Return what an answer says of a change that is not valid. MediaMTX's text for settings that do not exist has no
    place and no hint, and programs may compare it."""
    if isinstance(invalid, UnknownKeyError) and not invalid.is_unsupported:
        return invalid.text
    return str(invalid)


def ok() -> Response:
    """Return the answer to a change without a result."""
    return json_answer({"status": "ok"})


def error(status: int, text: str) -> Response:
    """Return an error."""
    return json_answer({"status": "error", "error": text}, status)


async def on_request_error(_: Request, raised: Exception) -> Response:
    """Answer an error of a route."""
    status = raised.status if isinstance(raised, RequestError) else 500
    return error(status, str(raised))


async def on_http_error(_: Request, raised: Exception) -> Response:
    """Answer a request for a route that does not exist; an existing one with another method counts as such."""
    status = raised.status_code if isinstance(raised, HTTPException) else 500
    if status in (404, 405):
        return PlainTextResponse("404 page not found", 404, headers=NOT_STORED)
    return error(status, str(raised))


async def page_of(
    request: Request, items: Sequence[Item], describe: Callable[[Item], Any], fields: Collection[str]
) -> Response:
    """Return the page of a list that the query asks for, of those items that fulfil all of its filters.

    ``describe`` returns an item as the page has it, with ``fields``. Raises RequestError.
    """
    filters = filters_of(request.query_params.getlist("filter"), fields)
    size = _number(request, "itemsPerPage", DEFAULT_PAGE_SIZE)
    if size < 1:
        raise RequestError(400, "invalid items per page")
    start = _number(request, "page", 0) * size
    if filters:
        found = [item async for item in in_slices(items, describe) if all(each.holds(item) for each in filters)]
        count, page = len(found), [item async for item in in_slices(found[start : start + size], encoded)]
    else:
        count, chosen = len(items), items[start : start + size]
        page = [item async for item in in_slices(chosen, lambda item: encoded(describe(item)))]
    return json_answer({"itemCount": count, "pageCount": -(-count // size), "items": page})


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not _NUMBER.fullmatch(text):
        raise RequestError(400, f'strconv.ParseUint: parsing "{text[:32]}": invalid syntax')
    if int(text) > MAXIMUM_NUMBER:
        raise RequestError(400, f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


def parsed_id(request: Request) -> str:
    """Return the UUID in the URL. Raises RequestError."""
    return checked_id(request.path_params["id"])


def checked_id(text: str) -> str:
    """Return a UUID in its usual form. Raises RequestError."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise RequestError(400, f"invalid UUID length: {len(text)}") from None
