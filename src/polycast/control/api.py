"""The HTTP API, version 1."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from polycast.config import to_jsonable
from polycast.config.edits import AddPath, Edit, EditPath, RemovePath, ReplacePaths, SetKeys
from polycast.config.redact import redact_query
from polycast.control import openapi
from polycast.control.command_rule import CommandRule
from polycast.control.console.editor import ENDPOINTS as EDITOR_ENDPOINTS
from polycast.control.console.editor import Editor
from polycast.control.console.endpoints import ENDPOINTS as CONSOLE_ENDPOINTS
from polycast.control.console.endpoints import Console
from polycast.control.contract import MediaServer, Path, SessionServer, Traffic
from polycast.control.errors import RequestError
from polycast.control.event_stream import event_response
from polycast.control.events import EventHub
from polycast.control.items import PathItem, describe_path, describe_status
from polycast.control.openapi_parts import Collection
from polycast.control.pages import html_response, page, static_file
from polycast.control.pages.api_reference import reference_page
from polycast.control.requests import as_request, empty_response, error_response, json_response, read_map
from polycast.control.routing import MAXIMUM_NAME, Endpoint, mounted, name_in, routes_of
from polycast.control.settings import MakeEdit
from polycast.control.slices import encoded, in_slices
from polycast.control.v3 import openapi as openapi_v3
from polycast.control.v3.answers import error_text
from polycast.control.v3.routes import ApiV3
from polycast.errors import ConfigurationError
from polycast.items import SessionItem


class Api:
    """Answers requests about the running server. It queries the application at each request."""

    def __init__(
        self, media_server: MediaServer, traffic: Traffic, events: EventHub, commands: CommandRule, console: Console
    ) -> None:
        self._media_server = media_server
        self._console = console
        self._commands = commands
        self._traffic = traffic
        self._events = events

    def application(self) -> Starlette:
        """Return the ASGI application."""

        v3 = ApiV3(self._media_server, self._traffic, self._events, partial(self._apply, text_of=error_text))
        application = Starlette(
            routes=[
                *routes_of(self._console, CONSOLE_ENDPOINTS),
                *routes_of(Editor(self._media_server.settings, self._commands), EDITOR_ENDPOINTS),
                *routes_of(self, ENDPOINTS),
                mounted("/v3", v3.application()),
            ],
            exception_handlers={HTTPException: _on_http_error, RequestError: _on_request_error},
        )
        application.router.redirect_slashes = False
        return application

    # Configuration

    async def get_configuration(self, _: Request) -> Response:
        # With thousands of paths, this takes tenths of a second.
        return await asyncio.to_thread(lambda: json_response(to_jsonable(self._media_server.configuration)))

    async def get_status(self, _: Request) -> Response:
        return json_response(describe_status(self._media_server.settings))

    async def set_configuration(self, request: Request) -> Response:
        return await self._change(SetKeys(await read_map(request)))

    async def add_path(self, request: Request) -> Response:
        return await self._change(AddPath(name_in(request), await read_map(request)))

    async def edit_path(self, request: Request) -> Response:
        return await self._change(EditPath(name_in(request), await read_map(request)))

    async def remove_path(self, request: Request) -> Response:
        return await self._change(RemovePath(name_in(request)))

    async def replace_paths(self, request: Request) -> Response:
        return await self._change(ReplacePaths(await read_map(request)))

    async def _change(self, edit: Edit) -> Response:
        await self._apply(lambda _: edit)
        return empty_response()

    async def _apply(self, make: MakeEdit, text_of: Callable[[ConfigurationError], str] = str) -> None:
        """Apply a change of the configuration. Raises RequestError, with ``text_of`` an error of the configuration."""
        edit = self._media_server.settings.edit(make, self._commands.check_edit, self._commands.record)
        await as_request(edit, text_of)

    # Paths and sessions

    async def list_paths(self, _: Request) -> Response:
        paths = list(self._media_server.hub.paths.items())
        items = {name: item async for name, item in in_slices(paths, self._named_item)}
        return json_response({"items": items})

    async def get_path(self, request: Request) -> Response:
        name = name_in(request)
        path = self._media_server.hub.paths.get(name)
        if path is None:
            raise RequestError(404, f"path '{name}' does not exist")
        return json_response({"name": name, **msgspec.to_builtins(self._describe(path))})

    def _named_item(self, named: tuple[str, Path]) -> tuple[str, msgspec.Raw]:
        name, path = named
        return name, encoded(self._describe(path))

    def _describe(self, path: Path) -> PathItem:
        return describe_path(path, self._traffic, self._media_server.forwarding.items(path))

    async def list_sessions(self, request: Request) -> Response:
        items = self._server(request).items().items()
        return json_response({"items": {key: item async for key, item in in_slices(items, _named_session)}})

    async def kick_session(self, request: Request) -> Response:
        server = self._server(request)
        session = request.path_params["id"]
        if not server.can_kick:
            raise RequestError(404, f"items of '{server.collection}' can't be kicked")
        if not server.kick(session):
            raise RequestError(404, f"there is no '{session[:MAXIMUM_NAME]}' in '{server.collection}'")
        return empty_response()

    def _server(self, request: Request) -> SessionServer:
        collection = request.path_params["collection"]
        for server in self._media_server.servers.values():
            if server.collection == collection:
                return server
        raise RequestError(404, f"no running server has '{collection[:MAXIMUM_NAME]}'")

    # The rest

    async def stream_events(self, request: Request) -> Response:
        return event_response(self._events, has_log=request.query_params.get("log") == "yes")

    async def get_openapi(self, _: Request) -> Response:
        return json_response(await asyncio.to_thread(openapi.build, self._declared()))

    async def get_page(self, _: Request) -> Response:
        return page()

    async def get_reference(self, _: Request) -> Response:
        declared = self._declared()

        def make() -> str:
            return reference_page({"v3": openapi_v3.build(declared), "v1": openapi.build(declared)})

        return html_response(await asyncio.to_thread(make))

    def _declared(self) -> list[Collection]:
        return [Collection.of(server) for server in self._media_server.servers.values()]

    async def get_static(self, request: Request) -> Response:
        found = static_file(request.path_params["name"], request.headers)
        if found is None:
            raise RequestError(404, "not found")
        return found


def _named_session(named: tuple[str, msgspec.Struct]) -> tuple[str, msgspec.Raw]:
    key, item = named
    return key, encoded(_without_secrets(item))


def _without_secrets(item: msgspec.Struct) -> msgspec.Struct:
    """Return an item without the passwords and tokens of its query."""
    if isinstance(item, SessionItem) and item.query:
        return msgspec.structs.replace(item, query=redact_query(item.query))
    return item


async def _on_http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    response = error_response(status, {404: "not found", 405: "method not allowed"}.get(status, str(error)))
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


async def _on_request_error(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, RequestError) else 500
    return error_response(status, str(error))


ENDPOINTS: Final = (
    Endpoint("GET", "/v1/config/get", Api.get_configuration),
    Endpoint("GET", "/v1/config/status", Api.get_status),
    Endpoint("POST", "/v1/config/set", Api.set_configuration),
    Endpoint("POST", "/v1/config/paths/add/{name:text}", Api.add_path),
    Endpoint("POST", "/v1/config/paths/edit/{name:text}", Api.edit_path),
    Endpoint("POST", "/v1/config/paths/remove/{name:text}", Api.remove_path),
    Endpoint("POST", "/v1/config/paths/replace", Api.replace_paths),
    Endpoint("GET", "/v1/paths/list", Api.list_paths),
    Endpoint("GET", "/v1/paths/get/{name:text}", Api.get_path),
    Endpoint("GET", "/v1/events", Api.stream_events),
    Endpoint("GET", "/v1/openapi.json", Api.get_openapi),
    Endpoint("GET", "/v1/{collection}/list", Api.list_sessions),
    Endpoint("POST", "/v1/{collection}/kick/{id:text}", Api.kick_session),
    Endpoint("GET", "/", Api.get_page),
    Endpoint("GET", "/docs", Api.get_reference),
    Endpoint("GET", "/static/{name}", Api.get_static),
)
"""All endpoints besides those of the console; the OpenAPI document is checked against this table."""
