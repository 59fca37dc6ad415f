"""The web pages of HLS and WebRTC, their assets, and the scripts for embedding, as HTTP responses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from polycast.net.http.file import ResponseFactory
from polycast.web import CONTENT_SECURITY_POLICY, Asset, asset, page, preload
from polycast.wire.http.message import Header, Request
from polycast.wire.http.response import Response

POLICY_HEADER: Final[Header] = (b"content-security-policy", CONTENT_SECURITY_POLICY.encode())
"""What every page is sent with."""


class Pages:
    """Serves pages and assets. They are loaded at the first request, in a thread, so that streams are not delayed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, origin: str) -> None:
        self._loop = loop
        self._responses = ResponseFactory(origin)
        self._loaded: asyncio.Future[None] | None = None

    def allow_origin(self, origin: str) -> None:
        """Use another ``Access-Control-Allow-Origin`` from now on."""
        self._responses = ResponseFactory(origin)

    async def page(self, request: Request, name: str, depth: int) -> Response:
        """Return a page for an address ``depth`` folders below the root."""
        await self.load()
        return self._respond(request, page(name, depth), headers=(POLICY_HEADER,))

    async def asset(self, request: Request, name: str, *, cache: str = "") -> Response:
        """Return a file that pages load, or 404. ``cache``: another ``Cache-Control`` than for the pages here."""
        await self.load()
        found = asset(name)
        return self._respond(request, found, cache=cache) if found else self._responses.text(404, "not found")

    async def load(self) -> None:
        """Wait until pages and assets are loaded."""
        if self._loaded is None:
            self._loaded = self._loop.run_in_executor(None, preload)
        if not self._loaded.done():
            await asyncio.shield(self._loaded)

    def _respond(self, request: Request, found: Asset, *, cache: str = "", headers: Sequence[Header] = ()) -> Response:
        return self._responses.file(
            found.body,
            found.content_type,
            cache=cache or found.cache_control,
            etag=found.etag,
            is_compressible=True,
            packed=found.gzip_body,
            headers=headers,
        ).respond(request)
