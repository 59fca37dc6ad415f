"""The routes of API v3."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from polycast._version import __version__
from polycast.config.dialects.registry import MEDIAMTX, dialect_of
from polycast.config.dialects.views import view_of
from polycast.config.edits import Edit
from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration
from polycast.config.values import Duration
from polycast.control.contract import ClusterNode, ClusterPath, MediaServer, Path, SessionServer, Traffic
from polycast.control.errors import RequestError
from polycast.control.event_stream import event_response
from polycast.control.events import EventHub
from polycast.control.openapi_parts import Collection
from polycast.control.requests import read_map
from polycast.control.routing import Endpoint, name_in, routes_of
from polycast.control.settings import MakeEdit
from polycast.control.slices import in_slices
from polycast.control.v3 import configuration, movement, nodes, openapi, recordings, state
from polycast.control.v3.answers import checked_id, json_answer, ok, on_http_error, on_request_error, page_of, parsed_id
from polycast.control.v3.items import InfoFields, PathFields, fields_of
from polycast.errors import ConfigurationError
from polycast.hub.errors import PathError
from polycast.items import ForwardItem
from polycast.record.requests import TooManyRequests


class ApiV3:
    """Answers requests about the running server. It queries the application at each request."""

    def __init__(
        self,
        media_server: MediaServer,
        traffic: Traffic,
        events: EventHub,
        change: Callable[[MakeEdit], Awaitable[None]],
    ) -> None:
        """``change`` applies an edit of the configuration; it raises RequestError."""
        self._media_server = media_server
        self._traffic = traffic
        self._events = events
        self._change = change
        self._started = datetime.now(UTC).astimezone()
        if media_server.cluster is not None:
            media_server.cluster.answer_paths(lambda: msgspec.json.encode(self._own_paths()))

    def application(self) -> Starlette:
        """Return the ASGI application, whose paths begin behind ``/v3``."""

        return Starlette(
            routes=routes_of(self, ENDPOINTS),
            exception_handlers={HTTPException: on_http_error, RequestError: on_request_error},
        )

    async def get_info(self, _: Request) -> Response:
        return json_answer(InfoFields(version=f"v{__version__}", started=self._started))

    async def refresh_keys(self, _: Request) -> Response:
        await self._media_server.refresh_keys()
        return ok()

    async def stream_events(self, _: Request) -> Response:
        return event_response(self._events, is_v3=True)

    async def get_openapi(self, _: Request) -> Response:
        declared = [Collection.of(server) for server in self._media_server.servers.values()]
        return json_answer(await asyncio.to_thread(openapi.build, declared))

    # Configuration

    async def get_globals(self, _: Request) -> Response:
        return json_answer(configuration.global_settings(self._media_server.configuration))

    async def patch_globals(self, request: Request) -> Response:
        values = await read_map(request)
        return await self._changed(lambda running: configuration.set_globals(running, values))

    async def get_path_defaults(self, _: Request) -> Response:
        return json_answer(configuration.path_defaults(self._media_server.configuration))

    async def patch_path_defaults(self, request: Request) -> Response:
        values = await read_map(request)
        return await self._changed(lambda _: configuration.set_path_defaults(values))

    async def list_path_settings(self, request: Request) -> Response:
        running = self._media_server.configuration
        describe = partial(configuration.path, running)
        return await page_of(request, configuration.names(running), describe, _fields_of_path_settings())

    async def get_path_settings(self, request: Request) -> Response:
        found = configuration.path(self._media_server.configuration, _name(request))
        if found is None:
            raise RequestError(404, "path configuration not found")
        return json_answer(found)

    async def add_path(self, request: Request) -> Response:
        return await self._change_path(request, configuration.add_path)

    async def patch_path(self, request: Request) -> Response:
        return await self._change_path(request, configuration.edit_path)

    async def replace_path(self, request: Request) -> Response:
        return await self._change_path(request, configuration.replace_path)

    async def replace_paths(self, request: Request) -> Response:
        paths = await read_map(request)
        return await self._changed(lambda running: configuration.replace_paths(running, paths))

    async def delete_path(self, request: Request) -> Response:
        name = _name(request)
        return await self._changed(lambda running: configuration.delete_path(running, name))

    async def _change_path(
        self, request: Request, make: Callable[[Configuration, str, Mapping[str, Any]], Edit]
    ) -> Response:
        name, values = _name(request), await read_map(request)
        return await self._changed(lambda running: make(running, name, values))

    async def _changed(self, make: MakeEdit) -> Response:
        await self._change(make)
        return ok()

    # Paths and sessions

    async def list_paths(self, request: Request) -> Response:
        if request.query_params.get("cluster") == "1":
            items = await nodes.paths_of_cluster(self._media_server, self._own_paths())
            return await page_of(request, items, lambda item: item, fields_of(PathFields))
        paths = sorted(self._media_server.hub, key=lambda path: path.name)
        return await page_of(request, paths, self._describe, fields_of(PathFields))

    def _own_paths(self) -> list[PathFields]:
        return [self._describe(path) for path in self._media_server.hub if not path.is_copy]

    async def list_nodes(self, request: Request) -> Response:
        return await page_of(request, self._media_server.nodes, msgspec.to_builtins, fields_of(ClusterNode))

    async def list_node_paths(self, request: Request) -> Response:
        cluster = self._media_server.cluster
        owners = cluster.owners if cluster is not None else ()
        return await page_of(request, owners, msgspec.to_builtins, fields_of(ClusterPath))

    async def get_node(self, request: Request) -> Response:
        return json_answer(nodes.find(self._media_server, _name(request)))

    async def drain_node(self, request: Request) -> Response:
        await nodes.drain(self._media_server, _name(request), is_draining=True)
        return ok()

    async def resume_node(self, request: Request) -> Response:
        await nodes.drain(self._media_server, _name(request), is_draining=False)
        return ok()

    async def get_path(self, request: Request) -> Response:
        path = self._media_server.hub.paths.get(_name(request))
        if path is None:
            raise RequestError(404, "path not found")
        return json_answer(self._describe(path))

    def _describe(self, path: Path) -> PathFields:
        return state.describe_path(self._media_server, path, self._traffic)

    async def move_camera(self, request: Request) -> Response:
        path = self._media_server.hub.paths.get(_name(request))
        if path is None:
            raise RequestError(404, "path not found")
        wanted = movement.read_movement(request.query_params)
        if path.source is None:
            raise RequestError(400, "the path has no source")
        try:
            await path.source.move(wanted)
        except PathError as error:
            raise RequestError(400, str(error)) from error
        return ok()

    async def list_forwards(self, request: Request) -> Response:
        items = self._media_server.forwarding.items(self._path_in_query(request))
        return await page_of(request, items, msgspec.to_builtins, fields_of(ForwardItem))

    async def get_forward(self, request: Request) -> Response:
        wanted = checked_id(request.query_params.get("id", ""))
        items = self._media_server.forwarding.items(self._path_in_query(request))
        found = next((item for item in items if item.id == wanted), None)
        if found is None:
            raise RequestError(404, "forward destination not found")
        return json_answer(found)

    def _path_in_query(self, request: Request) -> Path:
        name = request.query_params.get("path", "")
        if not name:
            raise RequestError(400, "invalid path")
        path = self._media_server.hub.paths.get(name)
        if path is None:
            raise RequestError(404, "path not found")
        return path

    # Recordings

    async def list_recordings(self, request: Request) -> Response:
        found = await asyncio.to_thread(recordings.list_recordings, self._media_server.configuration)
        return await page_of(request, found, lambda item: item, ("name",))

    async def get_recordings(self, request: Request) -> Response:
        name = _name(request)
        return json_answer(await asyncio.to_thread(recordings.get_recordings, name, self._entry_of(name)))

    async def delete_segment(self, request: Request) -> Response:
        name = request.query_params.get("path", "")
        start = request.query_params.get("start", "")
        await asyncio.to_thread(recordings.delete_segment, name, start, self._entry_of(name))
        return ok()

    async def delete_period(self, request: Request) -> Response:
        name, start, end = (request.query_params.get(key, "") for key in ("path", "start", "end"))
        entry, open_files = self._entry_of(name), self._media_server.recorder.open_files
        deleted = await asyncio.to_thread(recordings.delete_period, name, start, end, entry, open_files)
        return json_answer(recordings.DeletedFields(deleted=deleted))

    async def start_recording(self, request: Request) -> Response:
        name, duration = _name(request), request.query_params.get("duration", "")
        self._entry_of(name)
        try:
            self._media_server.recorder.start(name, Duration.parse(duration) if duration else None)
        except ConfigurationError as error:
            raise RequestError(400, f"invalid duration: {error}") from None
        except TooManyRequests:
            raise RequestError(400, "too many recordings are asked for") from None
        return ok()

    async def stop_recording(self, request: Request) -> Response:
        if not self._media_server.recorder.stop(_name(request)):
            raise RequestError(404, "no such recording was started")
        return ok()

    def _entry_of(self, name: str) -> PathConfiguration:
        try:
            return self._media_server.hub.find_entry(name)[0].configuration
        except PathError as error:
            raise RequestError(400, str(error)) from error

    async def list_items(self, request: Request) -> Response:
        server, collection = self._server(request)
        items = await state.list_items(server, collection)
        return await page_of(request, items, self._shown, state.fields_of_items(server, collection))

    async def get_item(self, request: Request) -> Response:
        key, wanted = ("path", request.path_params["id"]) if _is_by_name(request) else ("id", parsed_id(request))
        items = state.describe_items(*self._server(request))
        async for item in in_slices(items, self._without_secrets):
            if item.get(key) == wanted:
                return json_answer(item)
        raise RequestError(404, _not_found(request))

    async def kick(self, request: Request) -> Response:
        server, collection = self._server(request)
        if not (server.can_kick if collection == server.collection else collection == server.viewers_collection):
            raise HTTPException(404)
        identifier = state.own_id(server, collection, parsed_id(request))
        if identifier is None or not server.kick(identifier):
            raise RequestError(404, _not_found(request))
        return ok()

    def _shown(self, describe: state.Describe) -> Mapping[str, Any]:
        return self._without_secrets(describe())

    def _without_secrets(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        # Programs for MediaMTX find a session by the token in its query.
        is_as_in_mediamtx = dialect_of(self._media_server.configuration.dialect) is MEDIAMTX
        return item if is_as_in_mediamtx else state.without_secrets(item)

    def _server(self, request: Request) -> tuple[SessionServer, str]:
        """Return the server of a collection, and the collection."""
        collection = str(request.path_params["collection"])
        for server in self._media_server.servers.values():
            if collection in state.collections_of(server):
                return server, collection
        raise HTTPException(404)


@cache
def _fields_of_path_settings() -> frozenset[str]:
    return frozenset({"name", *view_of(MEDIAMTX).path_fields})


def _name(request: Request) -> str:
    name = name_in(request)
    if not name:
        raise RequestError(400, "invalid name")
    return name


def _is_by_name(request: Request) -> bool:
    return str(request.path_params["collection"]).endswith("muxers")


def _not_found(request: Request) -> str:
    collection = str(request.path_params["collection"])
    return next((text for end, text in state.NOT_FOUND.items() if collection.endswith(end)), "item not found")


ENDPOINTS: Final = (
    Endpoint("GET", "/info", ApiV3.get_info),
    Endpoint("POST", "/auth/jwks/refresh", ApiV3.refresh_keys),
    Endpoint("GET", "/config/global/get", ApiV3.get_globals),
    Endpoint("PATCH", "/config/global/patch", ApiV3.patch_globals),
    Endpoint("GET", "/config/pathdefaults/get", ApiV3.get_path_defaults),
    Endpoint("PATCH", "/config/pathdefaults/patch", ApiV3.patch_path_defaults),
    Endpoint("GET", "/config/paths/list", ApiV3.list_path_settings),
    Endpoint("GET", "/config/paths/get/{name:text}", ApiV3.get_path_settings),
    Endpoint("POST", "/config/paths/add/{name:text}", ApiV3.add_path),
    Endpoint("PATCH", "/config/paths/patch/{name:text}", ApiV3.patch_path),
    Endpoint("POST", "/config/paths/replace/{name:text}", ApiV3.replace_path),
    Endpoint("DELETE", "/config/paths/delete/{name:text}", ApiV3.delete_path),
    Endpoint("PUT", "/config/paths", ApiV3.replace_paths),
    Endpoint("GET", "/paths/list", ApiV3.list_paths),
    Endpoint("GET", "/nodes/list", ApiV3.list_nodes),
    Endpoint("GET", "/nodes/paths", ApiV3.list_node_paths),
    Endpoint("GET", "/nodes/get/{name:text}", ApiV3.get_node),
    Endpoint("POST", "/nodes/drain/{name:text}", ApiV3.drain_node),
    Endpoint("POST", "/nodes/resume/{name:text}", ApiV3.resume_node),
    Endpoint("GET", "/paths/get/{name:text}", ApiV3.get_path),
    Endpoint("POST", "/paths/ptz/{name:text}", ApiV3.move_camera),
    Endpoint("GET", "/paths/forward/list", ApiV3.list_forwards),
    Endpoint("GET", "/paths/forward/get", ApiV3.get_forward),
    Endpoint("GET", "/recordings/list", ApiV3.list_recordings),
    Endpoint("GET", "/recordings/get/{name:text}", ApiV3.get_recordings),
    Endpoint("DELETE", "/recordings/deletesegment", ApiV3.delete_segment),
    Endpoint("DELETE", "/recordings/deleteperiod", ApiV3.delete_period),
    Endpoint("POST", "/recordings/start/{name:text}", ApiV3.start_recording),
    Endpoint("POST", "/recordings/stop/{name:text}", ApiV3.stop_recording),
    Endpoint("GET", "/events", ApiV3.stream_events),
    Endpoint("GET", "/openapi.json", ApiV3.get_openapi),
    Endpoint("GET", "/{collection}/list", ApiV3.list_items),
    Endpoint("GET", "/{collection}/get/{id:text}", ApiV3.get_item),
    Endpoint("POST", "/{collection}/kick/{id:text}", ApiV3.kick),
)
"""All endpoints."""
