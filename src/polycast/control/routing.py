"""Tables of endpoints, from which the routes of an application are made."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from polycast.control.errors import RequestError

MAXIMUM_NAME: Final = 1_024
"""Characters of a name in a URL; path names are shorter."""

Owner = TypeVar("Owner")


class _AnyText(PathConvertor):
    """The rest of a URL, including line breaks, which Starlette's ``path`` does not match."""

    regex = r"(?s:.*)"


register_url_convertor("text", _AnyText())


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[Owner]):
    """A row of a table; the handler is a method of ``Owner``."""

    method: str
    path: str
    """With ``{name}`` for a part of the URL, and ``{name:text}`` for the rest of it."""
    handler: Callable[[Owner, Request], Awaitable[Response]]


def routes_of(owner: Owner, endpoints: Iterable[Endpoint[Owner]]) -> list[Route]:
    """Return the routes of a table, whose handlers are called with ``owner``."""
    return [Route(each.path, _bound(owner, each), methods=[each.method]) for each in endpoints]


def mounted(prefix: str, application: ASGIApp) -> Mount:
    """Return the route of an application that answers all URLs with a prefix."""
    mount = Mount(prefix, application)
    mount.path_regex = re.compile(rf"^{re.escape(prefix)}/(?P<path>{_AnyText.regex})$")
    return mount


def _bound(owner: Owner, endpoint: Endpoint[Owner]) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        return await endpoint.handler(owner, request)

    return handle


def name_in(request: Request) -> str:
    """Return the name in the URL. Raises RequestError if it is too long."""
    name: str = request.path_params["name"]
    if len(name) > MAXIMUM_NAME:
        raise RequestError(400, f"the name is longer than {MAXIMUM_NAME} characters")
    return name
