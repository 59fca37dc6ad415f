"""The page that shows a day of recordings, and what it loads."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from polycast.playback.requests import RequestError
from polycast.web import ASSETS_FOLDER, CONTENT_SECURITY_POLICY, RECORDINGS_PAGE, Asset, asset, page

ASSETS = f"/{ASSETS_FOLDER}/{{name:path}}"
"""Where the files are that the page loads."""


async def get_page(request: Request) -> Response:
    """Answer with the page."""
    found = await asyncio.to_thread(page, RECORDINGS_PAGE)
    return _response(request, found, {"Content-Security-Policy": CONTENT_SECURITY_POLICY})


async def get_asset(request: Request) -> Response:
    """Answer with a file that the page loads. Raises RequestError if there is none of that name."""
    found = await asyncio.to_thread(asset, request.path_params["name"])
    if found is None:
        raise RequestError(404, "not found")
    return _response(request, found, {})


def _response(request: Request, found: Asset, headers: dict[str, str]) -> Response:
    headers |= {"ETag": found.etag, "Cache-Control": found.cache_control, "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == found.etag:
        return Response(b"", 304, headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.gzip_body, media_type=found.content_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(found.body, media_type=found.content_type, headers=headers)
