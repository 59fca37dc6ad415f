"""The application that serves ``/metrics``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from polycast.config.dialects.registry import LEGACY, MEDIAMTX, POLYCAST
from polycast.control.contract import MediaServer, Traffic
from polycast.control.lag import LoopLag
from polycast.control.metrics import legacy, mediamtx, own
from polycast.control.metrics.exposition import Page, Pauses, Writer
from polycast.control.metrics.sources import Sources
from polycast.control.v3.answers import on_http_error

if TYPE_CHECKING:
    from starlette.types import ASGIApp

# Scripts compare whole lines: 1, not the library's 1.0.
_WHOLE_NUMBER: Final = re.compile(rb"(?m) (-?[0-9]+)\.0$")

_END: Final = b"# EOF\n"


class Metrics:
    """Answers scrapes with the metrics that the dialect of the configuration has, and Polycast's own."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def application(self) -> ASGIApp:
        """Return the ASGI application."""
        handlers = {HTTPException: self._on_http_error}
        return Starlette(routes=[Route("/metrics", self._scrape, methods=["GET"])], exception_handlers=handlers)

    async def _scrape(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        writer = Writer(Pauses(), is_openmetrics=content_type.startswith("application/openmetrics-text"))
        page = _PAGES[self._sources.media_server.configuration.dialect](self._sources, request.query_params)
        for table in page.tables:
            await writer.write(table)
        if page.is_whole:
            for table in own.tables(self._sources):
                await writer.write(table)
            # In a thread, because it reads files.
            text = await asyncio.to_thread(encode, self._process)
            writer.add(_WHOLE_NUMBER.sub(rb" \1", text).removesuffix(_END).decode())
        return Response(writer.end(), headers={"Content-Type": content_type})

    async def _on_http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if self._sources.media_server.configuration.dialect == LEGACY.name:
            return PlainTextResponse(error.detail, error.status_code, headers=error.headers)
        return await on_http_error(request, error)


_PAGES: Final[Mapping[str, Callable[[Sources, Mapping[str, str]], Page]]] = {
    LEGACY.name: legacy.page,
    MEDIAMTX.name: mediamtx.page,
    POLYCAST.name: mediamtx.page,
}
"""By the names of the dialects."""


def application(media_server: MediaServer, traffic: Traffic, lag: LoopLag) -> ASGIApp:
    """Return the ASGI application that serves ``/metrics``."""
    return Metrics(Sources(media_server, traffic, lag)).application()
