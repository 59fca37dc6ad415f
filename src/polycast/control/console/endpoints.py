"""Answers the requests of the console that the rest of the API has no answers to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from polycast.control.console.cameras import read_search
from polycast.control.console.history import History
from polycast.control.console.log_ring import LogRing
from polycast.control.console.status import describe_server
from polycast.control.console.thumbnails import Thumbnails
from polycast.control.contract import MediaServer, Path
from polycast.control.errors import RequestError
from polycast.control.lag import LoopLag
from polycast.control.requests import NOT_STORED, json_response, read_map
from polycast.control.routing import Endpoint, name_in
from polycast.errors import PolycastError
from polycast.hub.path import Path as PathHere


class Console:
    """Part of API v1."""

    def __init__(
        self,
        media_server: MediaServer,
        lag: LoopLag,
        history: History,
        log: LogRing,
        thumbnails: Thumbnails,
        ports: Callable[[], Mapping[str, int]],
    ) -> None:
        """``ports`` are those of the services, by configuration key."""
        self._media_server = media_server
        self._lag = lag
        self._history = history
        self._log = log
        self._thumbnails = thumbnails
        self._ports = ports
        self._started = time.monotonic()
        self._is_searching = False

    async def get_status(self, _: Request) -> Response:
        port = self._ports().get("playbackAddress")
        status = await asyncio.to_thread(describe_server, self._media_server, self._lag, self._started, port)
        return json_response(status)

    async def get_history(self, _: Request) -> Response:
        return json_response(self._history.of_server())

    async def get_log(self, _: Request) -> Response:
        return json_response({"lines": self._log.lines})

    async def get_path_history(self, request: Request) -> Response:
        return json_response(self._history.of(self._path(request)))

    async def get_thumbnail(self, request: Request) -> Response:
        path = self._path(request)
        if isinstance(path, PathHere):
            picture = await self._thumbnails.get(path)
        else:
            try:
                picture = await self._media_server.thumbnail(path.name)
            except PolycastError as error:
                raise RequestError(404, str(error)) from None
        return Response(picture, media_type="image/jpeg", headers=NOT_STORED)

    async def find_cameras(self, request: Request) -> Response:
        hosts, user, password = read_search(await read_map(request))
        if self._is_searching:
            raise RequestError(409, "another search for cameras has not ended yet")
        self._is_searching = True
        try:
            found = await self._media_server.find_cameras(hosts, user, password)
        except OSError as error:
            raise RequestError(400, str(error)) from None
        finally:
            self._is_searching = False
        return json_response({"items": found})

    def _path(self, request: Request) -> Path:
        name = name_in(request)
        path = self._media_server.hub.paths.get(name)
        if path is None:
            raise RequestError(404, f"path '{name}' does not exist")
        return path


ENDPOINTS: Final = (
    Endpoint("GET", "/v1/server/status", Console.get_status),
    Endpoint("GET", "/v1/server/history", Console.get_history),
    Endpoint("GET", "/v1/server/log", Console.get_log),
    Endpoint("POST", "/v1/cameras/find", Console.find_cameras),
    Endpoint("GET", "/v1/paths/history/{name:text}", Console.get_path_history),
    Endpoint("GET", "/v1/paths/thumbnail/{name:text}", Console.get_thumbnail),
)
"""All endpoints of the console."""
