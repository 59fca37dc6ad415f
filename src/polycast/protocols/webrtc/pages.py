"""The pages for publishing and watching, and the scripts for embedding."""

from __future__ import annotations

import asyncio

from polycast.net.http.file import ResponseFactory
from polycast.web import ASSETS_FOLDER, CONTENT_SECURITY_POLICY, Asset, asset, page, preload
from polycast.wire.http.message import Header, Request
from polycast.wire.http.response import Response

_POLICY = CONTENT_SECURITY_POLICY.encode()
_SCRIPT_CACHE = "max-age=3600"


class Pages:
    """Serves pages and scripts. They are loaded at the first request, in a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, origin: str) -> None:
        self._loop = loop
        self._responses = ResponseFactory(origin)
        self._loaded: asyncio.Future[None] | None = None

    def allow_origin(self, origin: str) -> None:
        """Use another ``Access-Control-Allow-Origin`` from now on."""
        self._responses = ResponseFactory(origin)

    async def page(self, request: Request, name: str, folder: str) -> Response:
        """Return a page for an address in ``folder``, such as ``cameras/door``."""
        await self._load()
        headers = [(b"content-security-policy", _POLICY)]
        return self._respond(request, page(name, folder.count("/") + 1), headers)

    async def script(self, request: Request, name: str) -> Response:
        """Return a script for other pages to embed."""
        await self._load()
        found = asset(name)
        if found is None:
            return self._responses.text(404, "not found")
        return self._respond(request, found, cache=_SCRIPT_CACHE)

    async def asset(self, request: Request, folder: str, name: str) -> Response | None:
        """Return a file that the pages load; None if the folder is not one of theirs."""
        root, _, version = folder.partition("/")
        if root != ASSETS_FOLDER:
            return None
        await self._load()
        found = asset(f"{version}/{name}" if version else name)
        return self._respond(request, found) if found is not None else self._responses.text(404, "not found")

    def _respond(
        self, request: Request, found: Asset, headers: list[Header] | None = None, cache: str = ""
    ) -> Response:
        return self._responses.file(
            found.body,
            found.content_type,
            cache=cache or found.cache_control,
            etag=found.etag,
            is_compressible=True,
            packed=found.gzip_body,
            headers=headers or [],
        ).respond(request)

    async def _load(self) -> None:
        if self._loaded is None:
            self._loaded = self._loop.run_in_executor(None, preload)
        if not self._loaded.done():
            await asyncio.shield(self._loaded)
